"""The study of benchmarks/ablations.py: a dry run of all variants, and that a second call goes on instead of anew."""

import argparse
import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import pytest

pytest.importorskip("warp", reason="training renders its samples with warp-lang (extra `data`)")
pytest.importorskip("accelerate", reason="training needs accelerate (extra `train`)")

import ablation_scores
import ablations
from ablation_losses import RENDERS_ONLY
from support.boxes import cabinet

from partrm.model.reference import ReferenceNetwork
from partrm.synthesis.mesh_pool import Pool, save_pool
from partrm.training import trainer

pytestmark = pytest.mark.whole_run

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "ablations.py"
VARIANTS = {
    *("both", "motion", "appearance", "joined", "one-scale", "raw-drags", "state-head", "no-votes", "four-views"),
    *("narrow", "wide", "peer"),
}
WITHOUT_PART = {"state-head", "peer"}


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pool") / "boxes.npz"
    save_pool(Pool.from_objects([cabinet(), cabinet()]), path)
    return path


def command_of(pool: Path, out: Path, *options: str) -> list[str]:
    command = [str(SCRIPT), "--pool", str(pool), "--val-pools", str(pool), "--out", str(out), "--preset", "tiny"]
    return [*command, "--device", "cpu", "--samples", "1", *options]


def run(pool: Path, out: Path, *options: str) -> subprocess.CompletedProcess:
    """The command, in this process: importing PyTorch anew costs more than the steps."""
    command = command_of(pool, out, *options)
    printed, said = io.StringIO(), io.StringIO()
    with mock.patch.object(sys, "argv", command), redirect_stdout(printed), redirect_stderr(said):
        try:
            ablations.main()
        except SystemExit as end:
            code = end.code
    if isinstance(code, str):
        code, said = 1, io.StringIO(code)
    return subprocess.CompletedProcess(command, code or 0, printed.getvalue(), said.getvalue())


@pytest.fixture(scope="module")
def study(pool: Path, tmp_path_factory) -> Path:
    """Scored where the table looks; one variant has all settings in the tests below."""
    out, shown = tmp_path_factory.mktemp("study"), (ablation_scores.SETTINGS[0], ablation_scores.SETTINGS[-1])
    with mock.patch.object(ablation_scores, "SETTINGS", shown):
        done = run(pool, out, "--steps", "2")
    assert done.returncode == 0, done.stderr[-2000:]
    return out


def test_every_variant_gets_its_row(study: Path) -> None:
    results = {r["name"]: r for r in json.loads((study / "ablations.json").read_text())}
    assert set(results) == VARIANTS
    for name, result in results.items():
        assert result["status"] == "done"
        assert result["steps"]["taken"] == 2
        assert result["device"]
        figures = result["scores"]["boxes"]["4 views, 10 drags"]
        assert figures["model"]["psnr"] > 0
        assert (figures["model"]["iou"] is None) == (name in WITHOUT_PART)
        assert ("1 view, 1 drag" in result["scores"]["boxes"]) == (name != "peer")
        baseline = results["both"]["scores"]["boxes"]["4 views, 10 drags"]["copy"]
        assert figures["copy"] == baseline, "all variants are scored on the same samples"
    table = (study / "ablations.md").read_text()
    assert all(f"`{name}`" in table for name in VARIANTS)
    assert "copy" in table
    assert "no motion" in table


def test_variants_differ_where_they_say() -> None:
    args = argparse.Namespace(preset="tiny", seed=0, size=32)
    plain = ablations.new_network(args, "both")

    def changed(name: str) -> set[str]:
        """Weights that are no longer there, of another shape, or new."""
        networks = (ablations.new_network(args, name), plain)
        one, other = ({k: tuple(v.shape) for k, v in network.state_dict().items()} for network in networks)
        return {key for key, _ in one.items() ^ other.items()}

    assert all(changed(name) == set() for name in ("both", "motion", "appearance", "joined", "four-views"))
    assert changed("state-head") == changed("no-votes") == {"head.weight", "head.bias"}
    assert {key.split(".")[1] for key in changed("one-scale")} == {"1"}, "32 px have maps of 8 and 4: the finest stays"
    assert {key.split(".")[2] for key in changed("raw-drags")} == {"mlp"}
    widths = {name: ablations.new_network(args, name).config.down_channels for name in ("narrow", "wide")}
    assert widths == {"narrow": (32, 64), "wide": (96, 128)}, "of 64 and 96, in whole attention heads"
    assert isinstance(ablations.new_network(args, "peer"), ReferenceNetwork)
    assert ablations.VARIANTS["appearance"].objective is RENDERS_ONLY


def test_what_is_done_is_kept_and_other_settings_are_refused(study: Path, pool: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in study.glob("*/result.json")}
    again = run(pool, study, "--steps", "2")
    assert again.returncode == 0, again.stderr[-2000:]
    assert before == {path: path.stat().st_mtime_ns for path in study.glob("*/result.json")}
    other = run(pool, study, "--steps", "3", "--only", "both")
    assert other.returncode == 1
    assert "other settings" in other.stderr


def test_a_cut_off_variant_goes_on(pool: Path, tmp_path: Path, monkeypatch) -> None:
    """Stopped at its 5th step by the clock, then finished by the same command."""
    monkeypatch.setattr(trainer, "CLOCK_STEPS", 5)
    options = ("--steps", "6", "--only", "state-head")
    cut = run(pool, tmp_path, *options, "--stop-after", "0")
    assert cut.returncode == 0, cut.stderr[-2000:]
    assert "not done yet: state-head" in cut.stdout
    assert (tmp_path / "state-head" / "checkpoint-0.pt").is_file(), "stopped in its midst"
    last = run(pool, tmp_path, *options)
    assert last.returncode == 0, last.stderr[-2000:]
    result = json.loads((tmp_path / "state-head" / "result.json").read_text())
    assert result["steps"]["taken"] == 6
    assert set(result["scores"]["boxes"]) == {setting.name for setting in ablation_scores.SETTINGS}


def test_a_variant_that_diverges_says_so_and_the_others_go_on(pool: Path, tmp_path: Path) -> None:
    done = run(pool, tmp_path, "--steps", "3", "--lr", "1e30", "--only", "motion", "state-head")
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads((tmp_path / "ablations.json").read_text())
    assert [r["name"] for r in results] == ["motion", "state-head"]
    assert all(r["status"].startswith("diverged") and r["scores"] == {} for r in results)
    assert (tmp_path / "ablations.md").read_text().count("diverged") == 2


def test_equal_seconds_become_steps(pool: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(ablations, "CALIBRATION", (1, 3))
    done = run(pool, tmp_path, "--seconds", "1", "--only", "both")
    assert done.returncode == 0, done.stderr[-2000:]
    plan = json.loads((tmp_path / "both" / "plan.json").read_text())
    result = json.loads((tmp_path / "both" / "result.json").read_text())
    assert min(plan["steps"]) >= 1
    assert all(rate > 0 for rate in plan["steps_per_second"])
    assert result["settings"]["seconds"] == 1
    assert result["seconds"] < 60
