"""Curves of training runs: what was watched on held-out objects, and the loss, over the samples seen.

    python benchmarks/training_curves.py docs/training/base-*.jsonl --out docs/images/training.png

Reads the ``log.jsonl`` of run folders, one after another, as legs of one training; dotted lines are between phases and
legs. From run 8 on the object fills the frame, so that figures before and after do not compare. Needs matplotlib.
"""

import argparse
import json
from itertools import pairwise
from pathlib import Path

POOLS = {
    "val": "unseen procedural",
    "real": "real",
    "new": "unseen, kinds new in the run",
    "held": "kinds not trained on",
    "storage_val": "drawer stacks, one face",
    "kinds_unseen": "kinds never trained on",
}
BATCHES = {"coarse": 128, "fine": 64, "looks": 64, "looks, one GPU": 32}
"""Samples a step of each phase, all processes together."""
OWN_BATCHES = {"base-8": {"looks": 256}, "base-9": {"appearance": 128}}
"""The same of logs whose batches were others."""
WATCHED = {
    "iou": "IoU of the moving part",
    "motion_ratio": "displacement error / displacement",
    "distance": "depth error",
}


def with_samples(logs: dict[str, list[dict]]) -> list[dict]:
    """Rows of all logs with the number of samples seen until each; a log counts steps on, or from 0 again."""
    seen, done, out = 0, 0, []
    for name, rows in logs.items():
        batches = BATCHES | OWN_BATCHES.get(name, {})
        phase = next(row["group"] for row in rows if row["group"] != "validation")
        if rows[0]["step"] < done:
            done = 0
        for row in rows:
            phase = phase if row["group"] == "validation" else row["group"]
            seen, done = seen + max(0, row["step"] - done) * batches[phase], max(done, row["step"])
            out.append(row | {"samples": seen, "leg": f"{name}, {phase}"})
    return out


def main() -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    lines = {path.stem: path.read_text(encoding="utf-8").splitlines() for path in args.logs}
    rows = with_samples({name: [json.loads(line) for line in own] for name, own in lines.items()})
    figure, axes = pyplot.subplots(1, 4, figsize=(15, 3.4), layout="constrained")
    validations = [row for row in rows if row["group"] == "validation"]
    steps = [row for row in rows if row["group"] != "validation"]
    for axis, (name, title) in zip(axes, WATCHED.items(), strict=False):
        for pool, label in POOLS.items():
            points = [(r["samples"] / 1e3, r[f"{pool}/{name}"]) for r in validations if f"{pool}/{name}" in r]
            if points:
                axis.plot(*zip(*points, strict=True), "o-", ms=3, label=label)
        axis.set(title=title, xlabel="thousand samples")
        axis.grid(alpha=0.3)
    axes[2].legend(fontsize="x-small", loc="upper right")
    axes[3].plot([r["samples"] / 1e3 for r in steps], [r["mask"] for r in steps], lw=0.8, label="mask (weight 4)")
    axes[3].plot(
        [r["samples"] / 1e3 for r in steps], [r["distance"] for r in steps], lw=0.8, label="depth (weight 3; later 10)"
    )
    axes[3].set(title="training losses", xlabel="thousand samples", yscale="log")
    axes[3].grid(alpha=0.3)
    axes[3].legend()
    for before, after in pairwise(steps):
        if before["leg"] != after["leg"]:
            for axis in axes:
                axis.axvline(after["samples"] / 1e3, color="grey", lw=0.8, ls=":")
    figure.savefig(args.out, dpi=90)


if __name__ == "__main__":
    main()
