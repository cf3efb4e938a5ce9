"""The study of benchmarks/corruptions.py: undisturbed it says what the evaluation says, and every row disturbs."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("warp", reason="samples are rendered with warp-lang (extra `data`)")

from support.small_evaluation import cabinet_set, untrained_checkpoint

from partrm.evaluation.eval_set import load_eval_set, save_eval_set
from partrm.evaluation.runner import evaluate
from partrm.evaluation.samples import RunSettings
from partrm.model.checkpoints import load_model

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("disturbances")
    save_eval_set(cabinet_set([]), folder / "set.st")
    untrained_checkpoint(folder / "model")
    return folder


def test_undisturbed_samples_have_the_figures_of_the_evaluation(study: Path, monkeypatch, capsys) -> None:
    script, paths = str(BENCHMARKS / "corruptions.py"), {"set": "set.st", "model": "model", "out": "out.json"}
    words = [word for option, name in paths.items() for word in (f"--{option}", str(study / name))]
    monkeypatch.setattr(sys, "argv", [script, *words, "--limit", "3", "--only", "lens of 58°"])
    runpy.run_path(script, run_name="__main__")
    printed = capsys.readouterr().out
    figures = json.loads((study / "out.json").read_text())
    assert set(figures) == {"as it is", "lens of 58°"}
    assert printed.count("\n| ") == 3, "a rule and two rows under the heading"
    settings = RunSettings(limit=3, novel_size_px=16)
    rows = evaluate(load_eval_set(study / "set.st"), load_model(study / "model"), settings, lambda row: None)
    for found, row in zip(figures["as it is"], rows, strict=True):
        assert found == {key: pytest.approx(row.metrics.model[key]) for key in found}


def test_every_row_disturbs_the_image_or_the_drags(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import corruptions

    stage = load_eval_set(study / "set.st").open("cpu")
    numbers = range(2)
    inputs = stage.inputs(numbers, corruptions.SETTINGS, 64)
    posed, opaque = stage.posed(numbers), {}
    for name, disturb in corruptions.ROWS.items():
        scene = corruptions.Scene(stage, posed, numbers, inputs, torch.Generator().manual_seed(0))
        other = disturb(scene)
        image = (other.images - inputs.images).abs().amax((1, 2, 3, 4))
        drags = (other.drags.start - inputs.drags.start).abs() + (other.drags.end - inputs.drags.end).abs()
        assert bool(torch.isfinite(other.images).all())
        assert 0 <= float(other.images.min()) <= float(other.images.max()) <= 1
        changed = (image > 0.02) | (drags.amax((1, 2)) > 0.005)
        assert bool(changed.all()) == (name != "as it is"), name
        assert bool((other.view_valid == inputs.view_valid).all())
        opaque[name] = int((other.images[:, 0, 3] > 0.5).sum())
    assert opaque["mask 2 pixels too narrow"] < opaque["as it is"]
    assert opaque["mask 3 pixels too wide, with a rim"] > opaque["as it is"]
    assert opaque["a piece of background in the mask"] > opaque["as it is"]
