"""What the small network's part is worth to the mask of a dragged one, on pictures like photographs.

    python benchmarks/claims.py val.npz real.npz storage_val.npz kinds_unseen.npz --samples 160 --device cuda

Pools as training takes them (docs/experiments/run-10.md); one drag each, light, lens, noise and cut-outs at random.
Prints the mean IoU of the part's mask on the network's grid by three questions, by the small network's part alone, and
by both as ``predict`` takes them; and how often each has the right joint type. docs/experiments/run-12.md has figures.
"""

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console

from partrm.geometry.joints import JointType
from partrm.inference.ensemble import OTHERS, consult, differ
from partrm.inference.part_maps import claims_on
from partrm.metrics.motion import mask_iou
from partrm.model.checkpoints import load_model
from partrm.model.network import PartRMNetwork
from partrm.synthesis.sampler import OnlineSamples, SampleConfig
from partrm.synthesis.samples import Samples
from partrm.training.trainer import load_pool_for

BATCH = 32


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pools", type=Path, nargs="+")
    parser.add_argument("--samples", type=int, default=160, help="of each pool")
    parser.add_argument("--seed", type=int, default=777)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="base")
    arguments = parser.parse_args()
    network, device = load_model(arguments.model, arguments.device).articulated, torch.device(arguments.device)
    config = SampleConfig(network.config.image_size_px, 1, 1, told_lens=0.2)
    console, every = Console(soft_wrap=True), []
    for pool in arguments.pools:
        data = OnlineSamples(*load_pool_for((pool,), device), seed=arguments.seed)
        rows: list[dict[str, float]] = []
        while len(rows) < arguments.samples:
            rows += answers_to(network, data.draw(config, min(BATCH, arguments.samples)))
        every += rows[: arguments.samples]
        told(console, pool.stem, rows[: arguments.samples])
    told(console, "all", every)


def told(console: Console, name: str, rows: list[dict[str, float]]) -> None:
    """One line of means; those of the small network over samples where it claims a part."""
    values = {key: [row[key] for row in rows if key in row] for key in rows[0] | {"small": 0.0, "small, type": 0.0}}
    text = ", ".join(f"{key} {statistics.fmean(own):.3f} ({len(own)})" for key, own in values.items() if own)
    console.print(f"{name}: {text}")


def answers_to(network: PartRMNetwork, samples: Samples) -> Iterator[dict[str, float]]:
    """Figures of each valid sample."""
    inputs = [samples.inputs[[index]] for index in range(len(samples.valid))]
    with torch.inference_mode():
        consulted, claims = consult(network, inputs, [OTHERS] * len(inputs)), claims_on(network, inputs)
    for index in samples.valid.nonzero()[:, 0].tolist():
        told, claim = consulted[index], claims[index]
        true, shown = samples.targets.moving[index, 0].cpu(), samples.targets.surface[index, 0].cpu()
        agreeing = [told.best, *(answer for answer in told.rest if not differ(answer.joint, told.best.joint))]
        mean = torch.stack([answer.probability for answer in agreeing]).mean(0).cpu()
        kind = JointType(int(samples.joint.type[index]))
        row = {"three questions": float(mask_iou((mean > 0.5) & shown, true))}
        row["type"] = float(told.best.joint.type == kind)
        both = mean
        if claim is not None:
            both = claim.heard(mean, told.best.joint)
            row["small"] = float(mask_iou(claim.probability > 0.5, true))
            row["small, type"] = float(claim.turns == (kind == JointType.REVOLUTE))
        yield row | {"both": float(mask_iou((both > 0.5) & shown, true))}


if __name__ == "__main__":
    main()
