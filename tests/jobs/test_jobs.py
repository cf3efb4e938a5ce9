"""Files of jobs: errors by line; every job once, with the same bytes however often the work is killed."""

import json
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.jobs import arguments, tree
from support.ranks import begun, command

import partrm
from partrm.assets import export
from partrm.cli import main
from partrm.inference import part_search, pipeline
from partrm.jobs.jobs_file import read_jobs

pytestmark = [pytest.mark.whole_run, pytest.mark.usefixtures("forking")]

DRAGS = [[60, 60, 40, 60]]


def test_every_job_has_a_folder_and_the_failed_one_a_line(folder, whole):
    names = {f"j{n}" for n in range(5)} - {"j3"}
    files = {f"{n}/{f}" for n in names for f in ("prediction.json", "gaussians.ply", "gaussians_before.ply")}
    assert set(whole) == files | {"batch.json", "failures.jsonl"}
    (failure,) = map(json.loads, (folder / "whole" / "failures.jsonl").read_text().splitlines())
    assert (failure["name"], failure["line"]) == ("j3", 4)
    assert "none.png" in failure["error"]


@pytest.mark.full_size_pictures  # as the processes see them that the fixtures and this test start
def test_killed_work_ends_with_the_same_bytes(folder, whole, tmp_path, in_this_process):
    out = tmp_path / "torn"
    run = begun(command, *arguments(folder, out))
    while run.is_alive() and not list(out.glob("j*")):
        time.sleep(0.005)
    run.kill()
    run.join()
    assert run.exitcode == -signal.SIGKILL
    made = {path: path.stat().st_mtime_ns for path in out.glob("j*")}
    assert 1 <= len(made) < 4
    assert main(arguments(folder, out)) == 1
    assert tree(out) == whole
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_batches_say_their_precision_and_take_no_other(folder, tmp_path, in_this_process, capsys):
    out = tmp_path / "out"
    assert main(arguments(folder, out, "--precision", "bfloat16")) == 1  # a job of the file must fail
    assert json.loads((out / "j0" / "prediction.json").read_text())["precision"] == "bfloat16"
    assert json.loads((out / "batch.json").read_text())["precision"] == "bfloat16"
    made = tree(out)
    capsys.readouterr()
    assert main(arguments(folder, out)) == 1
    assert "holds another batch (precision differs)" in capsys.readouterr().err
    assert tree(out) == made


def test_parts_are_found_and_found_again_to_the_same_bytes(tmp_path, monkeypatch, in_this_process):
    monkeypatch.setattr(part_search, "MAX_PROPOSALS", 1)
    monkeypatch.setattr(pipeline, "OTHERS", ())  # asked once
    monkeypatch.setattr(part_search, "BIAS", 0.0)  # sure of it, however few are looked at
    monkeypatch.setattr(
        export, "export_prediction", lambda _, folder, *__, **told: folder.mkdir() or told_of(folder, told)
    )
    drawers = Path(partrm.__file__).parent / "example_images" / "drawers.png"
    jobs = [{"name": "a", "parts": True}, {"name": "sure", "parts": True, "min_confidence": 1}]
    lines = [json.dumps(job | {"image": str(drawers), "detail": 0}) + "\n" for job in jobs]
    (tmp_path / "jobs.jsonl").write_text("".join(lines))
    words = [
        "predict",
        "--jobs",
        str(tmp_path / "jobs.jsonl"),
        "--out",
        str(tmp_path / "out"),
        "--save",
        "ply",
        "asset",
    ]
    assert main(words) == 1
    made = tree(tmp_path / "out")
    of_prediction = {f"a/part_1/{f}" for f in ("prediction.json", "gaussians.ply", "gaussians_before.ply")}
    of_parts = {f"a/{f}" for f in ("parts.json", "parts.png", "part_1.png", "asset/told.json")}
    assert set(made) == {"batch.json", "failures.jsonl"} | of_parts | of_prediction
    (failure,) = map(json.loads, (tmp_path / "out" / "failures.jsonl").read_text().splitlines())
    assert (failure["name"], failure["line"]) == ("sure", 2)
    assert "no part that moves" in failure["error"]
    about = json.loads((tmp_path / "out" / "a" / "parts.json").read_text())
    assert about["asset"] == "asset"
    assert [(part["mask"], part["prediction"]) for part in about["parts"]] == [("part_1.png", "part_1")]
    (tmp_path / "out" / "a").rename(tmp_path / "first")
    assert main(words) == 1
    assert tree(tmp_path / "out") == made


def told_of(folder, told):
    (folder / "told.json").write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"drag": 1}, "line 2: no option is called 'drag'"),
        ({"drags": [[1, 2, 3]]}, "line 2: drags: give 4 numbers"),
        ({"name": "../x"}, "line 2: name"),
        ({"name": "a"}, "line 2: the name a is that of line 1"),
        ({"name": "A"}, "line 2: the name A is that of line 1 but for capitals"),
        ({"name": "Batch.json"}, "line 2: name 'Batch.json'"),
        ({"detail": 3}, "line 2: detail 3"),
        ({"ensemble": 1}, "line 2: ensemble 1"),
        ({"cutout": "magic"}, "line 2: cutout"),
        ({"mask": "m.png", "box": [0, 0, 9, 9]}, "line 2: mask tells the object"),
        ({"parts": True}, "line 2: both drags and parts"),
        ({"drags": None}, "line 2: neither drags nor parts"),
        ({"parts": False}, "line 2: parts False: give true"),
        ({"parts": True, "drags": None, "min_confidence": 2}, "line 2: confidence 2"),
        ({"parts": True, "drags": None, "ensemble": False}, "line 2: ensemble does not go with parts"),
        ({"min_confidence": 0.5}, "line 2: min_confidence does not go with drags"),
        ({"drags": [[60, 60, 1e300, 60]]}, "line 2: drag 1: it leads out of any image"),
        ({"name": None}, "line 2: name is missing"),
        ({"name": "b\0"}, "line 2: name"),
        ({"name": "/etc"}, "line 2: name"),
        ({"box": [0, 0, 10**400, 9]}, "line 2: int too large"),
        ({"drags": [[1, 2, 10**400, 3]]}, "line 2: int too large"),
    ],
)
def test_wrong_lines_are_named_before_any_work(change, words, tmp_path, capsys):
    lines = [{"name": name, "image": "a.png", "drags": DRAGS} for name in ("a", "b")]
    lines[1] |= change
    (tmp_path / "jobs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["predict", "--jobs", str(tmp_path / "jobs.jsonl"), "--out", str(tmp_path / "o")]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\n", "cannot be read"),
        (b"[" * 100_000, "line 1: nested too deeply"),
        (b'{"name": ' + b"9" * 5000 + b"}", "line 1: Exceeds the limit"),
        (b'{"name": "a", "drags": [[1, 2, 3, 4]], "drags": [[5, 6, 7, 8]]}', "line 1: the key 'drags' is there twice"),
        (b"\n \n", "holds no job"),
    ],
)
def test_files_that_hold_no_jobs_get_one_line(content, words, tmp_path, capsys):
    (tmp_path / "jobs.jsonl").write_bytes(content)
    assert main(["predict", "--jobs", str(tmp_path / "jobs.jsonl"), "--out", str(tmp_path / "o")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert len(line) < 600


def test_only_the_end_of_a_line_ends_a_job(tmp_path):
    """JSON may hold characters as they are that ``str.splitlines`` takes for the end of a line."""
    name = "a\u2028b\x85c.png"
    job = {"name": "a", "image": name, "drags": DRAGS}
    (tmp_path / "jobs.jsonl").write_text(json.dumps(job, ensure_ascii=False) + "\r\n", encoding="utf-8")
    (read,) = read_jobs(tmp_path / "jobs.jsonl")
    assert read.image == str(tmp_path / name)


def test_a_job_whose_image_no_file_can_be_fails_alone(folder, tmp_path, in_this_process):
    jobs = [{"name": name, "image": "p.png", "drags": DRAGS, "detail": 0} for name in ("a", "b", "c")]
    jobs[0]["image"] = jobs[1]["mask"] = "x" * 5000
    (tmp_path / "jobs.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))
    pixels = np.full((128, 128, 3), 250, np.uint8)
    pixels[30:90, 30:90] = 200, 40, 40
    Image.fromarray(pixels).save(tmp_path / "p.png")
    words = ["--jobs", tmp_path / "jobs.jsonl", "--out", tmp_path / "o", "--model", folder / "tiny", "--save", "json"]
    assert main(["predict", *map(str, words)]) == 1
    failures = [json.loads(line) for line in (tmp_path / "o" / "failures.jsonl").read_text().splitlines()]
    assert [failure["name"] for failure in failures] == ["a", "b"]
    assert all("File name too long" in failure["error"] for failure in failures)
    assert (tmp_path / "o" / "c" / "prediction.json").is_file()


def test_a_file_in_the_place_of_a_job_is_not_replaced(folder, whole, tmp_path, in_this_process, capsys):
    out = tmp_path / "o"
    shutil.copytree(folder / "whole", out)
    shutil.rmtree(out / "j1")
    (out / "j1").write_text("mine")
    assert main(arguments(folder, out)) == 1
    assert "o/j1: was not written by partrm" in capsys.readouterr().err
    assert (out / "j1").read_text() == "mine"


def test_another_batch_is_refused(folder, whole, tmp_path, capsys):
    assert main([*arguments(folder, folder / "whole"), "--workers", "1", "--batch", "3"]) == 1
    assert "holds another batch (batch differs)" in capsys.readouterr().err
