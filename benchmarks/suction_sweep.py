"""What the suction protocol's settings do to its figures: each changed by itself, on the same samples and predictions.

python benchmarks/suction_sweep.py --set procedural.safetensors --limit 32 --out sweep.md
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from partrm.evaluation.eval_set import load_eval_set
from partrm.evaluation.runner import batches
from partrm.evaluation.samples import RunSettings
from partrm.evaluation.tables import Table, number
from partrm.files import atomic_write
from partrm.model.checkpoints import load_model
from partrm.robotics.manipulation import GUIDES, ManipulationJob, PlannedSample, pulled
from partrm.robotics.report import SUCCESS_SHARES, success
from partrm.robotics.suction import SuctionSettings

USUAL = SuctionSettings()

VARIANTS = {
    "as stated": USUAL,
    "strength 15 N": replace(USUAL, strength_n=15.0),
    "strength 60 N": replace(USUAL, strength_n=60.0),
    "comes off at 1.5 cm": replace(USUAL, slip_m=0.015),
    "comes off at 6 cm": replace(USUAL, slip_m=0.06),
    "timeout 5 s": replace(USUAL, timeout_s=5.0),
    "damping a third": replace(USUAL, resistance=USUAL.resistance.scaled(1 / 3, 1.0, 1.0)),
    "damping three times": replace(USUAL, resistance=USUAL.resistance.scaled(3.0, 1.0, 1.0)),
    "friction three times": replace(USUAL, resistance=USUAL.resistance.scaled(1.0, 3.0, 1.0)),
    "weight three times": replace(USUAL, resistance=USUAL.resistance.scaled(1.0, 1.0, 3.0)),
}


def sweep_row(name: str, settings: SuctionSettings, samples: Sequence[PlannedSample]) -> tuple[str, ...]:
    """Success of every guide under some settings."""
    rows = [pulled(sample, settings) for sample in samples]
    means = [success(rows, guide, SUCCESS_SHARES[0]).mean for guide in GUIDES]
    return (name, *(number(mean) for mean in means if mean is not None))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", type=Path, required=True, help="what partrm eval --pack wrote")
    parser.add_argument("--limit", type=int, default=32)
    parser.add_argument("--model", default="base")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    evalset, model = load_eval_set(given.set), load_model(given.model, "cpu")
    scorer = ManipulationJob(evalset, given.model, RunSettings(limit=given.limit), USUAL).scorer(model)
    some = batches(min(given.limit, len(evalset)), 0, scorer.stage.device)
    samples = [sample for numbers in some for sample in scorer.planned(numbers)]
    rows = []
    for name, settings in VARIANTS.items():
        rows.append(sweep_row(name, settings, samples))
        print(*rows[-1], sep="  ", flush=True)
    title = f"Opened ≥ {SUCCESS_SHARES[0]:.0%}, {len(samples)} samples"
    atomic_write(given.out, "\n".join(Table(title, ("", *GUIDES.values()), tuple(rows)).markdown()))


if __name__ == "__main__":
    main()
