"""Files appear whole or not at all, whatever stops the writer."""

import pytest

from partrm.errors import PartRMError
from partrm.files import OutputError, atomic_write, staged_file, staged_folder


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
