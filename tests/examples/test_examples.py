"""The examples run as written, and what they say of the bundled pictures is what the pictures show."""

import ast
import io
import json
import os
import re
import runpy
import subprocess
import sys
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import pytest

from partrm import load_ply

EXAMPLES = Path(__file__).parents[2] / "examples"
MAX_LINES = 60


pytestmark = pytest.mark.whole_run


def run(name: str, *arguments: str) -> str:
    """What an example prints that runs as a script, in this process: importing PyTorch anew costs more than most do."""
    (script,) = EXAMPLES.glob(f"{name}_*.py")
    printed = io.StringIO()
    with mock.patch.object(sys, "argv", [str(script), *arguments]), redirect_stdout(printed):
        runpy.run_path(str(script), run_name="__main__")
    return printed.getvalue()


def run_alone(name: str, *arguments: str) -> str:
    """The same in a process of its own."""
    (script,) = EXAMPLES.glob(f"{name}_*.py")
    command = [sys.executable, str(script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    return done.stdout


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


def test_an_arm_opens_what_was_predicted(tmp_path):
    pytest.importorskip("mink", reason="the arm's kinematics are solved by mink (extra `robot`)")
    pytest.importorskip("skimage", reason="the asset is meshed with scikit-image (extra `export`)")
    if find_spec("genesis") is None:
        pytest.skip("the arm's model lies in the wheel genesis-world")
    printed = run_alone("06", "--out", str(tmp_path), "--no-video", "--device", "cpu")
    opened = int(re.findall(r"opened (-?\d+)%", printed)[0])
    assert opened >= 90
    assert printed.strip().endswith("open")
    assert (tmp_path / "asset" / "object.xml").is_file()


def test_a_tiny_network_trains_and_predicts(tmp_path):
    pytest.importorskip("warp", reason="training renders its samples with warp-lang (extra `data`)")
    pytest.importorskip("accelerate", reason="training needs accelerate (extra `train`)")
    printed = run("07", "--out", str(tmp_path), "--steps", "12")
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["group"] == "coarse"] == [3, 6, 9, 12]
    assert re.search(r"after 12 steps: (revolute|prismatic), confidence [01]\.\d\d", printed)
