"""Files of exported assets against ``simcheck``: what MuJoCo and PyBullet say of them.

    python benchmarks/assets.py --procedural 20 --real 20 --out assets.json

One view and one drag of the published samples (the real objects need ``make eval-objects``), the real ones spread over
all of them. How near the assets are to the true objects, ``partrm eval --assets`` tells. Needs ``simcheck`` and
``pybullet``. docs/export.md has the figures.
"""

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import simcheck  # pyright: ignore[reportMissingImports]
import torch
from rich.console import Console
from rich.progress import track

from partrm.evaluation.assets import score_asset
from partrm.evaluation.mesh_samples import EvalSet, MeshSamples
from partrm.evaluation.planning import ProceduralPlan
from partrm.evaluation.samples import RunSettings
from partrm.evaluation.session import plan_procedural_set, plan_real_set
from partrm.inference.decode import reading_of
from partrm.model.checkpoints import LoadedModel, load_model

FILES = ("object.urdf", "object.xml")


@dataclass(frozen=True)
class CheckedAsset:
    """One sample."""

    source: str
    object: str
    exported: bool
    errors: dict[str, list[str]]
    """What ``simcheck`` finds in each file."""


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--procedural", type=int, default=20)
    parser.add_argument("--real", type=int, default=20)
    parser.add_argument("--model", default="base")
    parser.add_argument("--keep", type=Path, help="folder to keep the assets in")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    model, rows = load_model(arguments.model, "cpu"), []
    with tempfile.TemporaryDirectory() as scratch:
        keep = arguments.keep or Path(scratch)
        for name, count in (("procedural", arguments.procedural), ("real", arguments.real)):
            if count:
                rows += check_set(name, count, model, keep)
    arguments.out.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    sound = sum(row.exported and not any(row.errors.values()) for row in rows)
    console = Console(soft_wrap=True)
    console.print(f"{sum(row.exported for row in rows)} of {len(rows)} exported, {sound} without an error")
    for line in sorted({error for row in rows for errors in row.errors.values() for error in errors}):
        console.print(line)


def check_set(name: str, count: int, model: LoadedModel, keep: Path) -> list[CheckedAsset]:
    """Rows of the first samples of a set, for the real ones spread over all of them."""
    evalset: EvalSet = plan_procedural_set(ProceduralPlan(count)) if name == "procedural" else plan_real_set()
    numbers = np.unique(np.linspace(0, len(evalset) - 1, min(count, len(evalset))).round().astype(int)).tolist()
    stage = evalset.open("cpu")
    return [
        check_sample(name, stage, number, model, keep / f"{name}_{number:03d}")
        for number in track(numbers, description=name, console=Console(stderr=True))
    ]


def check_sample(source: str, stage: MeshSamples, number: int, model: LoadedModel, folder: Path) -> CheckedAsset:
    """Predict, export and check one sample."""
    batch = stage.batch([number], RunSettings(novel_size_px=16), model.config.image_size_px)
    with torch.inference_mode():
        reading = reading_of(model.articulated(batch.inputs), batch.inputs, close=True)
    metrics = score_asset(stage, number, model, (batch.inputs, reading, 0), batch.truths[0], folder)
    errors = {} if not metrics.exported else {name: errors_of(folder / name) for name in FILES}
    return CheckedAsset(source, stage.label(number).object, bool(metrics.exported), errors)


def errors_of(file: Path) -> list[str]:
    """What ``simcheck`` calls errors."""
    return [f"{f.check}: {f.message}" for f in simcheck.check(str(file)).findings if f.severity == "error"]


if __name__ == "__main__":
    main()
