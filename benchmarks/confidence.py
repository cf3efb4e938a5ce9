"""How often the joint is right on pictures like photographs, by confidence and agreement; fits ``ensemble.CHANCE``.

    partrm data pool … --out val.npz    (docs/experiments/run-10.md has the pools)
    python benchmarks/confidence.py val.npz real.npz storage_val.npz kinds_unseen.npz --samples 256 --device cuda

Objects as training draws them: random light and lens, noise, JPEG, masks with the errors of cut-outs; one drag; the
lens is told in a fifth. Right is the type, the axis within 15 degrees and a hinge within .1. Calibration errors are of
the confidence itself and of the fit, this by five folds.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from scipy.optimize import minimize

from partrm.geometry.joints import JointMotion, JointType
from partrm.inference.ensemble import DISTINCT_DEG, DISTINCT_PIVOT, OTHERS, conclude, consult, differ
from partrm.metrics.motion import joint_axis_error_rad, pivot_distance
from partrm.model.checkpoints import load_model
from partrm.synthesis.sampler import OnlineSamples, SampleConfig
from partrm.synthesis.samples import Samples
from partrm.training.trainer import load_pool_for

BATCH, FOLDS, BINS = 32, 5, 10


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pools", type=Path, nargs="+")
    parser.add_argument("--samples", type=int, default=256, help="of each pool")
    parser.add_argument("--seed", type=int, default=901)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="base")
    args = parser.parse_args()
    model, device = load_model(args.model, args.device), torch.device(args.device)
    config = SampleConfig(model.articulated.config.image_size_px, 1, 1, told_lens=0.2)
    rows = []
    for pool in args.pools:
        data = OnlineSamples(*load_pool_for((pool,), device), seed=args.seed)
        for _ in range(-(-args.samples // BATCH)):
            rows += answers_to(model.articulated, data.draw(config, BATCH))
    confidence, agreeing, right = np.array(rows, float).T
    logit = np.log(confidence.clip(0.02, 0.999) / (1 - confidence.clip(0.02, 0.999)))
    terms = np.stack([np.ones_like(logit), logit, agreeing], 1)
    fold = np.random.default_rng(0).integers(0, FOLDS, len(right))
    chance = np.empty_like(right)
    for number in range(FOLDS):
        held = fold == number
        chance[held] = 1 / (1 + np.exp(-terms[held] @ fitted(terms[~held], right[~held])))
    console = Console()
    console.print(f"{len(right)} samples, {right.mean():.3f} right; coefficients {fitted(terms, right).round(3)}")
    for name, told in (("confidence", confidence), ("chance", chance)):
        console.print(f"{name}: calibration error {calibration_error(told, right):.3f}")
        for low, high in ((0, 0.5), (0.5, 0.8), (0.8, 0.9), (0.9, 0.95), (0.95, 1.01)):
            within = (told >= low) & (told < high)
            console.print(f"  {low} to {min(high, 1)}: {int(right[within].sum())} of {int(within.sum())}")


def answers_to(network: torch.nn.Module, samples: Samples) -> Iterator[tuple[float, int, bool]]:
    """Of each valid sample the confidence, how many of the other answers agree, and whether the joint is right."""
    count = len(samples.valid)
    with torch.inference_mode():
        told = consult(network, [samples.inputs[[index]] for index in range(count)], [OTHERS] * count)
    for index in samples.valid.nonzero()[:, 0].tolist():
        best, *rest = conclude(told[index])
        agreeing = sum(not differ(answer.joint, best.joint) for answer in rest)
        yield best.joint.confidence, agreeing, is_right(best.joint, samples, index)


def is_right(joint: JointMotion, samples: Samples, index: int) -> bool:
    """Whether a joint is the true one, either way."""
    true = samples.joint
    axis, pivot = true.axis[index].cpu(), true.pivot[index].cpu()
    turned = float(torch.rad2deg(joint_axis_error_rad(joint.axis, axis)))
    away = float(pivot_distance(joint.axis, joint.pivot, axis, pivot)) if joint.type == JointType.REVOLUTE else 0.0
    return int(joint.type) == int(true.type[index]) and turned < DISTINCT_DEG and away < DISTINCT_PIVOT


def fitted(terms: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Coefficients of a logistic regression."""

    def loss(weights: np.ndarray) -> float:
        return float(np.logaddexp(0, -(2 * right - 1) * (terms @ weights)).mean() + 1e-4 * weights @ weights)

    return minimize(loss, np.zeros(terms.shape[1])).x


def calibration_error(told: np.ndarray, right: np.ndarray) -> float:
    """Mean difference of what is told and what is right over ten bins, weighted by their sizes."""
    number = np.minimum((told * BINS).astype(int), BINS - 1)
    bins = [number == value for value in np.unique(number)]
    return float(sum(abs(told[b].mean() - right[b].mean()) * b.mean() for b in bins))


if __name__ == "__main__":
    main()
