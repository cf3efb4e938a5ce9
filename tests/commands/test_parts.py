"""``partrm parts``: what it writes, and the lines that it ends in."""

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import partrm
from partrm.cli import main
from partrm.commands.parts import parts
from partrm.imaging.images import save_image
from partrm.inference import part_maps, part_search, pipeline

DRAWERS = Path(partrm.__file__).parent / "example_images" / "drawers.png"


@pytest.mark.whole_run
def test_parts_are_numbered_written_and_exported(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(part_search, "MAX_PROPOSALS", 2)
    monkeypatch.setattr(pipeline, "OTHERS", ())  # asked once
    out = tmp_path / "found"
    arguments = ["--min-confidence", "0.1", "--formats", "glb", "--range", "predicted", "--device", "cpu"]
    assert main(["parts", str(DRAWERS), *arguments, "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "part 1: prismatic joint" in told
    about = json.loads((out / "parts.json").read_text())
    assert [part["number"] for part in about["parts"]] == [1, 2]
    assert about["parts"][0]["confidence"] >= about["parts"][1]["confidence"]
    image = np.asarray(Image.open(DRAWERS))
    for part in about["parts"]:
        mask = np.asarray(Image.open(out / part["mask"])) > 127
        assert mask.shape == image.shape[:2]
        x, y = (int(value) for value in part["drag_px"][:2])
        assert mask[y, x]
    assert np.asarray(Image.open(out / "parts.png")).shape == (*image.shape[:2], 3)
    assert about["asset"] == "asset"
    asset = json.loads((out / "asset" / "asset.json").read_text())
    assert len(asset["predicted"]["joints"]) == 2
    assert (out / "asset" / "object.glb").is_file()

    # Another run removes what it no longer writes, and nothing of others.
    monkeypatch.setattr(part_search, "MAX_PROPOSALS", 1)
    again = ["parts", str(DRAWERS), "--min-confidence", "0.1", "--device", "cpu", "--out", str(out), "--no-asset"]
    (out / "asset" / "mine.txt").write_text("mine")
    assert main(again) == 1
    assert "mine.txt: was not written by partrm" in capsys.readouterr().err
    assert len(json.loads((out / "parts.json").read_text())["parts"]) == 2
    (out / "asset" / "mine.txt").unlink()
    assert main(again) == 0
    assert sorted(path.name for path in out.iterdir()) == ["part_1.png", "parts.json", "parts.png"]


def test_nothing_that_moves_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(part_maps, "MIN_MOVABLE", 1.0)
    arguments = ["--no-asset", "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main(["parts", str(DRAWERS), *arguments]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("partrm parts: no part that moves is found")
    assert not (tmp_path / "out").exists()


def test_no_object_is_one_line(tmp_path, capsys):
    save_image(torch.zeros(4, 64, 64), tmp_path / "nothing.png")
    assert main(["parts", str(tmp_path / "nothing.png"), "--no-asset", "--out", str(tmp_path / "out")]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "nothing.png" in line or "no object" in line


def test_the_command_keeps_what_the_package_keeps():
    assert inspect.signature(parts).parameters["min_confidence"].default == part_search.MIN_CONFIDENCE


@pytest.mark.parametrize("value", ["-0.1", "1.5", "nan"])
def test_confidences_out_of_range_are_refused(value, tmp_path, capsys):
    assert main(["parts", str(DRAWERS), "--min-confidence", value, "--out", str(tmp_path / "out")]) == 2
    assert "give 0 to 1" in capsys.readouterr().err
