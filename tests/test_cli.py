import gc
import importlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from partrm import __version__
from partrm.cli import COMMANDS, main
from partrm.commands import without_collecting
from partrm.geometry.cameras import canonical_orbit, save_cameras
from partrm.imaging.images import save_image
from partrm.model.checkpoints import save_checkpoint
from partrm.model.network import TINY, PartRMNetwork

DRAG = "60,60,40,60"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model with random weights and an RGBA image."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("cli")
    save_checkpoint(PartRMNetwork(TINY).state_dict(), TINY, root / "tiny")
    image = torch.rand(4, 128, 128)
    image[3] = 0
    image[3, 30:90, 30:90] = 1
    save_image(image, root / "good.png")
    return root


def run_predict(folder, source, *extra, out=None):
    out = out or folder / "out"
    return main(["predict", str(source), "--model", str(folder / "tiny"), "--device", "cpu", "--out", str(out), *extra])


def only_line(capsys):
    """The one line on stderr of a failure."""
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    assert "Traceback" not in captured.err
    return captured.err


def test_predict_writes_the_results(folder, tmp_path, capsys):
    save_cameras(canonical_orbit(2, 32), tmp_path / "cameras.json")
    out = tmp_path / "deep" / "result"
    arguments = ["--drag", DRAG, "--drag", "61,61,41,61", "--cameras", str(tmp_path / "cameras.json")]
    assert run_predict(folder, folder / "good.png", *arguments, out=out) == 0
    content = json.loads((out / "prediction.json").read_text())
    assert content["drags_px"] == [[60, 60, 40, 60], [61, 61, 41, 61]]
    assert len(list((out / "views").iterdir())) == 2
    assert str(out / "motion.mp4") in capsys.readouterr().out


def test_predict_prints_the_joint_for_scripts(folder, tmp_path, capsys):
    assert run_predict(folder, folder / "good.png", "--drag", DRAG, "--json", out=tmp_path / "out") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == json.loads((tmp_path / "out" / "prediction.json").read_text())["joint"]
    assert str(tmp_path / "out" / "before_after.png") in printed.err


def test_predict_takes_a_plain_photo_and_a_canonical_image(folder, tmp_path):
    photo = np.full((150, 200, 3), 240, dtype=np.uint8)
    photo[40:100, 60:120] = np.random.default_rng(0).integers(0, 150, (60, 60, 3))
    Image.fromarray(photo).save(tmp_path / "photo.jpg")
    assert run_predict(folder, tmp_path / "photo.jpg", "--drag", "90,70,80,70", out=tmp_path / "a") == 0
    code = run_predict(folder, folder / "good.png", "--drag", DRAG, "--framing", "canonical", out=tmp_path / "b")
    assert code == 0
    camera = json.loads((tmp_path / "b" / "prediction.json").read_text())["source"]["camera"]
    assert camera["K"][0][0] == pytest.approx(128 * 50 / 36, rel=1e-4), "the canonical lens, in the user's pixels"
    assert np.allclose(np.array(camera["T_canonical_camera"])[:3, 3], [0, 0, 2.4], atol=1e-4)


def make_source(kind, path, good):
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "corrupt":
        path.write_bytes(good.read_bytes()[:2000])
    elif kind == "tiny":
        Image.new("RGB", (1, 1)).save(path)
    elif kind == "transparent":
        Image.new("RGBA", (64, 64)).save(path)
    elif kind == "animated":
        frames = [Image.new("RGB", (64, 64), (80 * i, 0, 0)) for i in range(3)]  # equal ones would become one
        frames[0].save(path, format="GIF", save_all=True, append_images=frames[1:])
    elif kind == "huge":
        Image.new("1", (12_000, 12_000)).save(path)
    elif kind == "busy":
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    elif kind == "folder":
        path.mkdir()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("can't start new thread"), "no further process or thread can be started"),
        (BlockingIOError(11, "Resource temporarily unavailable"), "ulimit -u"),
        (OSError(24, "Too many open files"), "ulimit -n"),
        (ImportError("libXau.so: failed to map segment from shared object"), "out of memory"),
        (MemoryError(), "out of memory (MemoryError)"),
        (RuntimeError("unable to resize file </torch_1> to the right size: File too large (27)"), "ulimit -f"),
    ],
)
def test_what_the_machine_has_too_little_of_is_said(error, words, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("Failed to load the library") from error

    monkeypatch.setattr(importlib, "import_module", fail)
    assert main(["doctor"]) == 1
    assert words in only_line(capsys)


@pytest.mark.parametrize("name", ["a\nb.png", "a\x1b[31mb.png", "a\udcffb.png", "a\u202eb.png"])
def test_names_that_would_change_a_terminal_are_written_out(name, folder, tmp_path, capsys):
    (tmp_path / name).write_bytes(b"no image")
    for source in (tmp_path / name, tmp_path / f"no{name}"):
        assert run_predict(folder, source, "--drag", DRAG, out=tmp_path / "out") == 1
        said = only_line(capsys)
        assert said[:-1].isprintable()
        assert "b.png: " in said


@pytest.mark.parametrize(
    "kind", ["missing", "empty", "corrupt", "tiny", "transparent", "animated", "huge", "busy", "folder"]
)
def test_bad_source_fails_with_one_line(kind, folder, tmp_path, capsys):
    source = tmp_path / "source.png"
    make_source(kind, source, folder / "good.png")
    assert run_predict(folder, source, "--drag", DRAG, out=tmp_path / "out") == 1
    reason = only_line(capsys)
    assert ("--box" if kind == "busy" else "source.png") in reason
    assert kind != "animated" or "animated" in reason
    assert not list(tmp_path.glob(".out*"))
    assert not (tmp_path / "out").exists(), "bad input leaves nothing"


@pytest.mark.parametrize("kind", ["16-bit", "grey"])
def test_grey_and_16_bit_images_are_taken(kind, folder, tmp_path):
    pixels = np.full((128, 128), 60_000, dtype=np.uint16)
    pixels[30:90, 30:90] = np.random.default_rng(0).integers(0, 30_000, (60, 60))
    Image.fromarray(pixels if kind == "16-bit" else (pixels >> 8).astype(np.uint8)).save(tmp_path / "a.png")
    assert run_predict(folder, tmp_path / "a.png", "--drag", DRAG, out=tmp_path / "out") == 0


@pytest.mark.parametrize("command", ["predict", "export", "parts", "view"])
def test_a_name_that_no_file_can_have_is_one_short_line(command, tmp_path, capsys):
    more = {"view": [], "parts": ["--out", str(tmp_path / "o")]}
    arguments = more.get(command, ["--drag", DRAG, "--out", str(tmp_path / "o")])
    assert main([command, "x" * 5000, *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "File name too long" in line
    assert len(line) < 300


@pytest.mark.parametrize(
    ("drags", "code", "words"),
    [
        (["500,60,40,60"], 1, "outside of the image of 128x128"),
        (["5,5,40,60"], 1, "on the background"),
        (["60,60,60,60"], 2, "same point"),
        (["nan,60,40,60"], 2, "finite"),
        (["60,60,inf,60"], 2, "finite"),
        (["60,60,1e300,60"], 2, "leads out of any image"),
        ([DRAG] * 11, 2, "11 drags"),
        (["60,60,40"], 2, "has 3 values"),
        (["60,60,40,60,7"], 2, "has 5 values"),
        (["a,b,c,d"], 2, "not numbers"),
        ([""], 2, "--drag is empty"),
        ([], 2, "at least one --drag"),
    ],
)
def test_bad_drags_fail_with_one_line(drags, code, words, folder, tmp_path, capsys):
    flags = [part for drag in drags for part in ("--drag", drag)]
    assert run_predict(folder, folder / "good.png", *flags, out=tmp_path / "out") == code
    assert words in only_line(capsys)
    assert not list(tmp_path.glob("out/*"))


def test_brackets_in_paths_are_printed(folder, tmp_path, capsys):
    assert run_predict(folder, folder / "good.png", "--drag", DRAG, out=tmp_path / "res[v2][/x]") == 0
    assert f"pictures: {tmp_path / 'res[v2][/x]' / 'before_after.png'}, " in capsys.readouterr().out


def test_unwritable_output_fails_with_one_line(folder, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert run_predict(folder, folder / "good.png", "--drag", DRAG, out=tmp_path / "file") == 1
    assert "cannot write there" in only_line(capsys)


@pytest.mark.parametrize("kind", ["garbage", "truncated", "missing shard", "no such model", "other network"])
def test_broken_weights_fail_with_one_line(kind, folder, tmp_path, capsys):
    model = tmp_path / "model"
    save_checkpoint(PartRMNetwork(TINY).state_dict(), TINY, model)
    shard = next(model.glob("*.safetensors"))
    if kind == "garbage":
        shard.write_bytes(b"spam" * 1000)
    elif kind == "truncated":
        shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    elif kind == "missing shard":
        shard.unlink()
    elif kind == "other network":
        content = json.loads((model / "config.json").read_text())
        content["network"]["down_channels"] = [64, 64, 64]
        (model / "config.json").write_text(json.dumps(content))
    else:
        model = tmp_path / "nowhere"
    arguments = ["predict", str(folder / "good.png"), "--drag", DRAG, "--out", str(tmp_path / "out")]
    assert main([*arguments, "--model", str(model)]) == 1
    assert model.name in only_line(capsys)


def test_bad_cameras_fail_with_one_line(folder, tmp_path, capsys):
    (tmp_path / "cameras.json").write_text("[]")
    flags = ["--drag", DRAG, "--cameras", str(tmp_path / "cameras.json")]
    assert run_predict(folder, folder / "good.png", *flags, out=tmp_path / "out") == 1
    assert "cameras.json" in only_line(capsys)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without CUDA")
def test_missing_cuda_fails_with_one_line(folder, capsys):
    assert run_predict(folder, folder / "good.png", "--drag", DRAG, "--device", "cuda") == 1
    assert "no CUDA device" in only_line(capsys)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["frobnicate"],
        ["predict"],
        ["predict", "a.png", "--drag", DRAG],
        ["predict", "a.png", "--out", "b", "--hue", "3"],
    ],
)
def test_wrong_arguments_exit_with_2(arguments, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out + captured.err
    assert "Traceback" not in captured.err


def test_debug_shows_the_traceback(folder, tmp_path):
    with pytest.raises(ValueError, match="no such image"):
        run_predict(folder, tmp_path / "none.png", "--drag", DRAG, "--debug", out=tmp_path / "out")


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help_with_examples(command, capsys):
    assert main([command, "--help"]) == 0
    assert f"partrm {command} " in capsys.readouterr().out.split("Examples:")[1]


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_keeps_lists_apart_from_paragraphs(command, capsys):
    """tyro joins a line with the one above it unless it is indented or an empty line stands between."""
    lines = importlib.import_module(COMMANDS[command].module).DESCRIPTION.splitlines()
    joined = [b for a, b in itertools.pairwise(lines) if a.startswith("  ") and b and not b.startswith("  ")]
    assert not joined
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if line.startswith("  ") and line not in shown]


def test_verify_takes_the_packaged_goldens(capsys):
    assert main(["verify", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.count("gradient of") == 10


def test_a_missing_extra_is_named(monkeypatch, capsys):
    monkeypatch.setattr("partrm.commands.find_spec", lambda name: None if name == "accelerate" else object())
    assert main(["train", "--pool", "p.npz", "--out", "o"]) == 1
    assert "accelerate: pip install 'partrm[train]'" in only_line(capsys)


COMPLETE = """source {script} && COMP_WORDS=({line}) COMP_CWORD={last} COMP_LINE="{line}" COMP_POINT=${{#COMP_LINE}}
_tyro_partrm && echo "${{COMPREPLY[@]}}"
"""


def test_garbage_is_collected_again_after_a_short_job_however_it_ends():
    def interrupted():
        with without_collecting():
            with without_collecting():
                assert not gc.isenabled()
            assert not gc.isenabled()
            raise KeyboardInterrupt

    assert gc.isenabled()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert gc.isenabled()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_commands_and_options(tmp_path, capsys):
    assert main(["--tyro-print-completion", "bash"]) == 0
    script = tmp_path / "partrm.bash"
    script.write_text(capsys.readouterr().out)
    for line, wanted in {
        "partrm pre": "predict",
        "partrm predict --dr": "--drag",
        "partrm eval --lp": "--lpips",
    }.items():
        code = COMPLETE.format(script=script, line=line, last=line.count(" "))
        done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
        assert wanted in done.stdout.split(), line


def test_zsh_has_a_completion_and_other_shells_are_refused(capsys):
    assert main(["--tyro-print-completion", "zsh"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("#compdef partrm\n")
    assert all(name in shown for name in COMMANDS)
    for wrong in (["tcsh"], []):
        assert main(["--tyro-print-completion", *wrong]) == 2
        assert "bash or zsh" in only_line(capsys)


def test_a_reader_that_has_enough_ends_it_quietly():
    """As of `partrm … | head`."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "partrm", "verify", "--help"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_help_and_version_are_quick():
    before = os.times()
    shown = subprocess.run([sys.executable, "-m", "partrm", "--help"], capture_output=True, text=True, check=True)
    after = os.times()
    worked = after.children_user + after.children_system - before.children_user - before.children_system
    assert worked < 1.0, "seconds of the processor, however busy the machine is"
    assert all(command in shown.stdout for command in COMMANDS)
    version = subprocess.run([sys.executable, "-m", "partrm", "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.strip() == f"partrm {__version__}"


def test_a_signal_ends_the_process_as_ctrl_c_does(folder, tmp_path):
    arguments = ["predict", str(folder / "good.png"), "--drag", DRAG, "--model", str(folder / "tiny")]
    arguments += ["--out", str(tmp_path / "out")]
    code = f"""
import os, signal, sys
import partrm.inference.prediction as module
from partrm.cli import main
def stopped(*_):
    os.kill(os.getpid(), signal.SIGTERM)
module.save_motion = stopped
sys.exit(main({arguments}))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert run.returncode == 128 + signal.SIGTERM
    assert run.stderr == "partrm predict: stopped by SIGTERM\n"
    assert list(tmp_path.iterdir()) == []


def test_so_does_the_end_of_its_terminal(folder, tmp_path, monkeypatch, capsys):
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup's children ignore it
    monkeypatch.setattr("partrm.inference.prediction.save_motion", lambda *_: os.kill(os.getpid(), signal.SIGHUP))
    try:
        code = run_predict(folder, folder / "good.png", "--drag", DRAG, out=tmp_path / "out")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert code == 128 + signal.SIGHUP
    assert only_line(capsys) == "partrm predict: stopped by SIGHUP\n"
    assert list(tmp_path.iterdir()) == []


def test_a_users_folder_in_out_is_found_before_the_network_runs(folder, tmp_path, capsys, monkeypatch):
    (tmp_path / "views").mkdir()
    (tmp_path / "views" / "000.png").write_text("mine")
    monkeypatch.setattr("partrm.api.PartRM.from_pretrained", None)
    assert run_predict(folder, folder / "good.png", "--drag", DRAG, out=tmp_path) == 1
    assert "views: was not written by partrm" in only_line(capsys)


def help_with(redirection, tmp_path, *words):
    """``partrm --help``, which imports little, in a shell; exit code and what it says on stderr."""
    line = " ".join(["exec", sys.executable, "-m", "partrm", *(words or ["--help"]), redirection])
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, stderr=subprocess.PIPE, text=True, check=False)
    return done.returncode, done.stderr


def test_output_that_nobody_takes_is_no_fault(tmp_path):
    assert help_with(">&-", tmp_path) == (0, "")
    code, words = help_with(">/dev/full", tmp_path)
    assert code == 1
    assert words == "partrm --help: a result: cannot be written (No space left on device)\n"
    read, write = os.pipe()
    os.close(read)
    line = [sys.executable, "-m", "partrm", "--help"]
    done = subprocess.run(line, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_rich_ends_no_command_when_a_pipe_breaks(monkeypatch, capsys):
    def ends(*arguments, **options):
        try:
            raise BrokenPipeError
        except BrokenPipeError:
            sys.exit(1)  # as rich's Console.on_broken_pipe

    monkeypatch.setattr("tyro.cli", ends)
    assert main(["verify"]) == 141
    assert capsys.readouterr().err == ""


def test_a_current_folder_that_is_gone_is_told(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(["verify"]) == 2
    assert capsys.readouterr().err.startswith("partrm verify: the current folder cannot be used (No such file")


def test_help_needs_no_wide_terminal(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "1")
    assert main(["import", "--help"]) == 0
    assert "checkpoint" in capsys.readouterr().out


def test_memory_that_there_is_not_is_told(monkeypatch, capsys):
    def fails(*arguments):
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr("tyro.cli", lambda *arguments, **options: fails())
    assert main(["verify"]) == 1
    assert capsys.readouterr().err.startswith("partrm verify: out of memory (Unable to allocate 9 GiB)")


@pytest.mark.parametrize(
    ("arguments", "what"), [(["a.png", "--out", ""], "--out"), (["a.png", "--out="], "--out"), ([""], "an argument")]
)
def test_empty_arguments_are_refused(capsys, arguments, what):
    """As a path each would be the current folder."""
    assert main(["predict", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"partrm predict: {what} is empty: give a value")


def test_a_value_may_end_in_an_equals_sign(capsys, tmp_path):
    assert main(["predict", str(tmp_path / "none.png"), "--drag", DRAG, f"--out={tmp_path}/x="]) != 0
    assert "none.png" in capsys.readouterr().err


@pytest.mark.parametrize(("drag", "code"), [(DRAG, 0), ("60,60", 2), ("5,5,900,900", 1)])
def test_the_end_of_the_process_skips_nothing_that_is_registered(folder, tmp_path, drag, code):
    words = ["partrm", "predict", str(folder / "good.png"), "--model", str(folder / "tiny"), "--device", "cpu"]
    words += ["--detail", "64", "--out", str(tmp_path / "out"), "--drag", drag]
    lines = ["import atexit, sys", "from partrm.cli import entry", f"sys.argv = {words!r}"]
    script = "; ".join([*lines, "atexit.register(print, 'ended')", "entry()"])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert done.stdout.endswith("ended\n")
    assert (tmp_path / "out").exists() == (code == 0)
