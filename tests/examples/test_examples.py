"""The examples run as written, and what they say of the bundled pictures is what the pictures show."""

import ast
import io
import json
import re
import runpy
import sys
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import pytest
from imageio_ffmpeg import count_frames_and_secs

from partrm import load_ply
from partrm.evaluation.results import load_results
from partrm.model.checkpoints import read_checkpoint
from partrm.objects.urdf import save_urdf
from partrm.procedural import generate

EXAMPLES = Path(__file__).parents[2] / "examples"
BASE = Path(__file__).parents[2] / "src" / "partrm" / "model" / "weights" / "base"
MAX_LINES = 60


pytestmark = [pytest.mark.whole_run, pytest.mark.usefixtures("remembered")]


def run(name: str, *arguments: str) -> str:
    """What an example prints that runs as a script, in this process: importing PyTorch anew costs more than most do."""
    (script,) = EXAMPLES.glob(f"{name}_*.py")
    printed = io.StringIO()
    with mock.patch.object(sys, "argv", [str(script), *arguments]), redirect_stdout(printed):
        runpy.run_path(str(script), run_name="__main__")
    return printed.getvalue()


def test_examples_are_numbered_short_and_say_how_they_are_called():
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert [path.name[:3] for path in scripts] == [f"{n:02d}_" for n in range(1, len(scripts) + 1)]
    for path in scripts:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= MAX_LINES, path.name
        assert f"python examples/{path.name}" in (ast.get_docstring(ast.parse(text)) or ""), path.name


def test_a_door_is_dragged(tmp_path):
    printed = run("01", "--out", str(tmp_path / "door"), "--device", "cpu")
    moved, total = (int(number) for number in re.findall(r"\d+", printed)[:2])
    before, after = (load_ply(tmp_path / "door" / f"gaussians{which}.ply") for which in ("_before", ""))
    assert len(before) == len(after) == total
    assert int(((before.means - after.means).norm(dim=-1) > 1e-4).sum()) == pytest.approx(moved, rel=0.02)
    assert json.loads((tmp_path / "door" / "prediction.json").read_text())["joint"]["type"] == "revolute"


def test_the_joint_of_a_drawer_is_a_slide():
    printed = run("02", "--device", "cpu")
    assert printed.startswith("prismatic")
    axis = [float(number) for number in re.findall(r"-?\d+\.\d+", printed.splitlines()[1])]
    # It comes out towards the camera, which looks from the left and above.
    assert axis[0] > 0.3
    assert axis[1] < -0.1
    assert axis[2] > 0.5


def test_four_posed_views_of_a_refrigerator(tmp_path):
    pytest.importorskip("warp", reason="the views are rendered with warp-lang (extra `data`)")
    printed = run("03", "--out", str(tmp_path / "out"), "--device", "cpu")
    assert int(re.findall(r"^revolute, (\d+) Gaussians move", printed)[0]) > 100
    about = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert about["source"]["views"] == 4
    axis = about["joint"]["axis"]
    assert abs(axis[1]) > 0.9, "a refrigerator's hinge is upright, the cameras look a little down"


def test_a_camera_flies_by_the_motion(tmp_path):
    printed = run("04", "--out", str(tmp_path), "--frames", "5", "--size-px", "96", "--device", "cpu")
    assert printed.startswith("5 frames in")
    assert count_frames_and_secs(str(tmp_path / "flight.mp4"))[0] == 5
    assert len(load_ply(tmp_path / "half_open.ply")) > 1000


def test_samples_of_ones_own_are_evaluated(tmp_path):
    pytest.importorskip("warp", reason="the sample is rendered with warp-lang (extra `data`)")
    printed = run("08", "--out", str(tmp_path))
    assert "the model" in printed
    results = load_results(tmp_path / "evaluation")
    assert results.all.samples == 1
    assert results.all.metrics.model.psnr.mean > 15


def test_an_arm_opens_what_was_predicted(tmp_path):
    pytest.importorskip("mink", reason="the arm's kinematics are solved by mink (extra `robot`)")
    pytest.importorskip("skimage", reason="the asset is meshed with scikit-image (extra `export`)")
    if find_spec("genesis") is None:
        pytest.skip("the arm's model lies in the wheel genesis-world")
    printed = run("06", "--out", str(tmp_path), "--no-video", "--device", "cpu")
    opened = int(re.findall(r"opened (-?\d+)%", printed)[0])
    assert opened >= 90
    assert printed.strip().endswith("open")
    assert (tmp_path / "asset" / "object.xml").is_file()


def test_a_prediction_is_exported_and_a_simulator_opens_it(tmp_path):
    pytest.importorskip("skimage", reason="the asset is meshed with scikit-image (extra `export`)")
    pytest.importorskip("mujoco", reason="MuJoCo simulates it (extra `data`)")
    printed = run("05", "--out", str(tmp_path / "asset"), "--device", "cpu")
    lines = re.findall(r"object\.(\w+): .* at (-?\d\.\d+) of (-?\d\.\d+)", printed)
    assert [name for name, *_ in lines] == ["xml", "urdf"]
    for _, position, end in lines:
        assert abs(float(end)) > 1, "a door opens by more than a radian"
        assert float(position) == pytest.approx(float(end), abs=0.05)


def test_your_urdfs_are_packed_and_trained_on_from_the_bundled_weights(tmp_path):
    pytest.importorskip("warp", reason="training renders its samples with warp-lang (extra `data`)")
    pytest.importorskip("accelerate", reason="training needs accelerate (extra `train`)")
    pytest.importorskip("yourdfpy", reason="URDF files are read by yourdfpy (extra `data`)")
    mine = tmp_path / "mine" / "drawers.urdf"
    mine.parent.mkdir()
    save_urdf(generate("drawers", 5), mine)
    printed = run("07", str(mine), "--out", str(tmp_path), "--steps", "1", "--batch", "1", "--device", "cpu")
    assert "1 objects of 1 categories" in printed
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    (step,) = [row for row in rows if row["group"] == "fine"]
    assert step["gradient"] > 0
    (base, surely), (tuned, still) = re.findall(r"(base|tuned): revolute, [\d.-]+, confidence (\d\.\d+)", printed)
    assert (base, tuned) == ("base", "tuned")
    assert float(still) == pytest.approx(float(surely), abs=0.1), "a step forgets nothing"
    assert read_checkpoint(tmp_path / "run" / "weights")[2] != read_checkpoint(BASE)[2]
