"""Files appear whole or not at all, whatever stops the writer."""

import errno
import fcntl
import json
import os
import resource
import subprocess
import sys
import tracemalloc
from collections import namedtuple

import numpy as np
import pytest
import torch

from partrm.errors import PartRMError
from partrm.files import (
    OutputError,
    alone_in,
    atomic_write,
    check_file,
    check_path,
    check_writable,
    read_bytes,
    read_json,
    staged_file,
    staged_folder,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_text_and_bytes_take_the_place_of_an_older_file(tmp_path):
    path = tmp_path / "a.json"
    atomic_write(path, "earlier")
    atomic_write(path, "Größe")
    assert path.read_bytes() == "Größe".encode()
    atomic_write(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert names(tmp_path) == ["a.json"]


def test_new_files_have_the_rights_of_any_other(tmp_path):
    (tmp_path / "plain").write_text("x")
    atomic_write(tmp_path / "ours", "x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_writer_that_fails_half_way_changes_nothing(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"good")

    def write_half():
        with staged_file(path) as part:
            part.write_bytes(b"half")
            assert path.read_bytes() == b"good"
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_half()
    assert path.read_bytes() == b"good"
    assert names(tmp_path) == ["a.bin"]


def test_what_a_killed_writer_left_does_not_pile_up(tmp_path):
    path = tmp_path / "a.bin"
    with staged_file(path) as left:
        pass_on = left
        left.write_bytes(b"")
    pass_on.write_bytes(b"of a killed writer")
    atomic_write(path, b"good")
    assert path.read_bytes() == b"good"
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("where", ["no such folder", "a folder stands there"])
def test_where_nothing_can_be_written_our_error_says_so(where, tmp_path):
    path = tmp_path / "none" / "a.bin" if where == "no such folder" else tmp_path / "b"
    if where != "no such folder":
        path.mkdir()
    with pytest.raises(OutputError, match="cannot be written") as caught:
        atomic_write(path, "x")
    assert isinstance(caught.value, PartRMError)
    assert str(path) in str(caught.value)


def test_a_staged_folder_drops_what_an_earlier_result_left(tmp_path):
    folder = tmp_path / "model"
    with staged_folder(folder) as first:
        for name in ("s-1-of-2", "s-2-of-2", "kept"):
            (first / name).write_text("old")
    with staged_folder(folder, without=["s-*", "absent"]) as second:
        (second / "s-1-of-1").write_text("new")
    assert names(folder) == ["kept", "s-1-of-1"]
    with staged_folder(folder, without=["s-*"]) as third:
        (third / "s-1-of-1").write_text("newer")
    assert (folder / "s-1-of-1").read_text() == "newer"


@pytest.mark.parametrize(("name", "words"), [
    ("a\0b", "NUL"), ("a\udcff", "not UTF-8"), ("a" * 254, "too long"), ("b/" * 2200, "too long"),
    ("link/x", "link to nothing"),
])  # fmt: skip
def test_paths_that_no_result_can_have_are_found_first(tmp_path, name, words):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for check in (check_path, check_writable):
        with pytest.raises(OutputError, match=words):
            check(f"{tmp_path}/{name}")
    check_writable(tmp_path / "größe" / "x")
    assert names(tmp_path) == ["link"]


def test_results_replace_nothing_but_results(tmp_path):
    out = tmp_path / "out"

    def write(text, without=()):
        with staged_folder(out, without=without, record="a.json") as folder:
            (folder / "views").mkdir()
            (folder / "views" / "0.png").write_text(text)
            (folder / "a.json").write_text(json.dumps({"partrm_version": "1", "text": text}))

    (out / "views").mkdir(parents=True)
    (out / "views" / "0.png").write_text("mine")
    with pytest.raises(OutputError, match="views: was not written by partrm"):
        check_writable(out, ["views"], "a.json")
    with pytest.raises(OutputError, match="views: was not written by partrm"):
        write("1")
    assert names(out) == ["views"]
    (out / "views").rename(out / "others")
    (out / "a.json").write_text('{"mine": 1}')
    with pytest.raises(OutputError, match=r"a\.json: was not written by partrm"):
        write("1")
    (out / "a.json").unlink()
    (out / "old.txt").write_text("of an earlier result")
    write("1")
    check_writable(out, ["views", "a.json"], "a.json")
    write("2", without=["a.json", "old.*"])
    assert names(out) == ["a.json", "others", "views"]
    assert (out / "views" / "0.png").read_text() == "2"
    (out / "views" / "12.png").write_text("of more views")
    write("3")
    assert names(out / "views") == ["0.png"]
    (out / "views" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"notes\.txt: was not written by partrm"):
        write("4")


def test_a_folder_of_the_users_is_never_replaced(tmp_path):
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "out" / "a" / "mine").write_text("x")
    with pytest.raises(OutputError, match="not written by partrm"), staged_folder(tmp_path / "out") as folder:
        (folder / "a").mkdir()
    assert names(tmp_path / "out" / "a") == ["mine"]


def test_what_a_killed_process_left_goes_at_the_next_run(tmp_path):
    code = (
        "import os, signal; from partrm.files import staged_folder;"
        "c = staged_folder('out'); f = c.__enter__(); (f / 'half').write_text('x');"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    (tmp_path / "out").mkdir()
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    (left,) = (tmp_path / "out").iterdir()
    assert left.name.startswith(".partrm.")
    with staged_folder(tmp_path / "out") as own:
        assert not left.exists()
        with staged_folder(tmp_path / "out"):
            assert own.exists(), "of a process that lives"
    assert names(tmp_path / "out") == []


def test_a_full_disk_is_told_with_the_file_and_what_is_missing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(0, 0, 2**20))

    def serialize():
        with staged_folder(tmp_path / "out") as folder:
            (folder / "big.ply").write_text("x")
            raise RuntimeError("serializing: No space left on device")

    with pytest.raises(OutputError, match=rf"^{tmp_path}/out/big.ply: .*No space left.* 1.0 MiB free, more is needed;"):
        serialize()
    monkeypatch.setattr("pathlib.Path.open", full)
    with pytest.raises(OutputError, match=rf"^{tmp_path}/a: .*No space left.* 1.0 MiB free, 4.0 MiB more are needed"):
        atomic_write(tmp_path / "a", bytes(5 * 2**20))
    with pytest.raises(OutputError, match=rf"^{tmp_path}/out/x: "), staged_folder(tmp_path / "out") as folder:
        atomic_write(folder / "x", b"abc")
    assert names(tmp_path) == []


def test_an_array_that_numpy_could_write_in_part_is_told_as_a_full_disk(disk):
    room = disk(64)
    told = rf"^{room}/out/a.npy: .*No space left on device: .* free, more is needed"
    with pytest.raises(OutputError, match=told), staged_folder(room / "out") as folder:
        np.save(folder / "a.npy", np.zeros(100_000))
    assert names(room) == []


def test_only_regular_files_of_bounded_size_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", tmp_path / "pipe", tmp_path):
        with pytest.raises(OSError, match=r"regular file|directory"):
            read_bytes(path, 10)
    (tmp_path / "a").write_bytes(bytes(11))
    with pytest.raises(OSError, match="larger than"):
        read_bytes(tmp_path / "a", 10)
    tracemalloc.start()
    assert len(read_bytes(tmp_path / "a", 2**40)) == 11
    assert tracemalloc.get_traced_memory()[1] < 2**20, "not set aside for the largest that it may be"
    tracemalloc.stop()
    with pytest.raises(OSError, match="no file has such a name"):
        read_bytes("a\0b", 10)
    for text in ("[" * 100_000, "1" * 5000, "{", '{"a": 1, "b": 2, "a": 3}', "\ufeff{}"):
        (tmp_path / "a").write_text(text)
        if text.endswith("{}"):
            assert read_json(tmp_path / "a") == {}
        else:
            with pytest.raises(ValueError, match=r"\w"):
                read_json(tmp_path / "a")


def test_what_the_new_result_lacks_goes_whole_and_nothing_else(tmp_path):
    out = tmp_path / "out"
    without = ("a.json", "old_*", "asset", "asset/object.*", "asset/usd", "asset/usd/object.*")

    def write(*more):
        with staged_folder(out, without=without, record="a.json") as folder:
            (folder / "a.json").write_text('{"partrm_version": "1"}')
            for name in more:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text("x")

    out.mkdir()
    (out / "old_1").write_text("mine")
    write()
    assert names(out) == ["a.json", "old_1"], "no earlier result left it"
    (out / "old_1").unlink()
    write("old_1", "asset/object.glb", "asset/usd/object.usdc")
    (out / "asset" / "notes.txt").write_text("mine")
    (out / "a.json").write_text('{"partrm_version": "0"}')
    with pytest.raises(OutputError, match=r"asset/notes\.txt: was not written by partrm"):
        write()
    assert names(out) == ["a.json", "asset", "old_1"]
    assert '"0"' in (out / "a.json").read_text(), "nothing is replaced where something is refused"
    (out / "asset" / "notes.txt").unlink()
    write()
    assert names(out) == ["a.json"]


def test_nothing_is_removed_behind_a_link(tmp_path):
    out = tmp_path / "out"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "object.glb").write_text("mine")
    out.mkdir()
    (out / "a.json").write_text('{"partrm_version": "1"}')
    (out / "asset").symlink_to(tmp_path / "mine")
    with staged_folder(out, without=("asset/object.*",), record="a.json") as folder:
        (folder / "a.json").write_text('{"partrm_version": "1"}')
    assert names(tmp_path / "mine") == ["object.glb"]


def test_a_pipe_is_no_place_for_a_file(tmp_path):
    """It was replaced, and so would a device have been."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="no regular file is there"):
        atomic_write(tmp_path / "pipe", "x")
    with pytest.raises(OutputError, match="no regular file"):
        check_file(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()
    check_file(tmp_path / "new" / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_files_that_may_not_grow_are_told_by_name(tmp_path):
    """As under ``ulimit -f``; PyTorch hides the reason."""
    least, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, most))
    try:
        words = r"out/a\.bin: cannot be written \(File too large: .*ulimit -f"
        with pytest.raises(OutputError, match=words), staged_folder(tmp_path / "out") as folder:
            (folder / "a.bin").write_bytes(b"x" * 4096)
        with pytest.raises(OSError, match="ulimit -f") as told, staged_file(tmp_path / "a.pt") as part:
            torch.save({"a": torch.zeros(1000)}, part)
        assert told.value.filename == str(tmp_path / "a.pt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (least, most))
    assert names(tmp_path) == []


def test_a_folder_is_held_by_one_command_at_a_time(tmp_path):
    refused = pytest.raises(OutputError, match="out: another command writes there")
    with alone_in(tmp_path / "a" / "out"), alone_in(tmp_path / "a" / "b"), refused, alone_in(tmp_path / "a" / "out"):
        pass
    with alone_in(tmp_path / "a" / "out"):
        pass
    assert names(tmp_path / "a" / "out") == []
    with pytest.raises(KeyError), alone_in(tmp_path / "new"):
        raise KeyError
    assert not (tmp_path / "new").exists(), "nothing was made"


def test_a_disk_that_cannot_hold_folders_keeps_nobody_from_writing(tmp_path, monkeypatch):
    def unable(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unable)
    with alone_in(tmp_path / "out"):
        assert (tmp_path / "out").is_dir()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_text_in_other_widths_is_told_as_such(encoding, tmp_path):
    """Jobs, cameras, recipes, file lists and our own JSON files are read by this."""
    (tmp_path / "a.json").write_text('{"a": 1}', encoding=encoding)
    with pytest.raises(ValueError, match="in UTF-16 or UTF-32; save it as UTF-8"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text('{"a": 1}', encoding="utf-8-sig")
    assert read_json(tmp_path / "a.json") == {"a": 1}
