"""What holds the motion error: predictions with one thing at a time set to the truth.

    partrm eval --data real --pack real.safetensors
    python benchmarks/motion_error.py real.safetensors --samples 45

One image in its mask's box and one drag, as ``partrm eval --framing mask-box`` takes them; means over the samples. Of
joints of the wrong type amount and axis stay as they are. PSNR is of eight views after the true motion, as predicted
and moved by the mean error of what the first view shows. docs/experiments/run-12.md has the figures.
"""

import argparse
import statistics
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import track
from torch import Tensor

from partrm.evaluation.eval_set import load_eval_set
from partrm.evaluation.runner import Scorer, render_on_white
from partrm.evaluation.samples import OPAQUE, GroundTruth, RunSettings, TrueSurface
from partrm.geometry.cameras import Cameras
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.joints import JointMotion
from partrm.inference.decode import apply_joint_motion, read_motion, reading_of
from partrm.metrics.images import psnr
from partrm.metrics.motion import motion_error_ratio
from partrm.model.checkpoints import load_model

SHIFTS = torch.linspace(-0.3, 0.3, 61)
"""Of the pivot along the view, canonical units."""


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evalset", type=Path, help="written by partrm eval --pack")
    parser.add_argument("--samples", type=int, default=45)
    parser.add_argument("--model", default="base")
    arguments = parser.parse_args()
    scorer = Scorer.of(
        load_eval_set(arguments.evalset), load_model(arguments.model, "cpu"), RunSettings(framing="mask-box")
    )
    rows = [row_of(scorer, number) for number in track(range(arguments.samples), console=Console(stderr=True))]
    console = Console(soft_wrap=True)
    for name in rows[0]:
        values = [row[name] for row in rows]
        console.print(f"{name}: {statistics.fmean(values):.3f}, median {statistics.median(values):.3f}")


def row_of(scorer: Scorer, number: int) -> dict[str, float]:
    """Figures of one sample."""
    batch = scorer.stage.batch([number], scorer.settings, scorer.model.config.image_size_px)
    truth, surface = batch.truths[0], batch.surfaces[0]
    assert surface is not None
    with torch.inference_mode():
        reading = reading_of(scorer.model.articulated(batch.inputs), batch.inputs)
    gaussians, part, joint = read_motion(reading, batch.inputs)
    off = mean_error(reading.gaussians[0], surface)
    return motion_errors(truth, joint, off) | image_errors(truth, gaussians, part, off, batch.cameras[0])


def mean_error(seen: Gaussians, surface: TrueSurface) -> Float[Tensor, "3"]:
    """Where what the first view shows is said to lie, minus where it lies."""
    first = len(seen) // 4
    there = surface.gaussians.opacities[:first] > OPAQUE
    return (seen.means[:first] - surface.gaussians.means[:first])[there].mean(0)


def motion_errors(truth: GroundTruth, joint: JointMotion, off: Float[Tensor, "3"]) -> dict[str, float]:
    """The motion error as predicted, and of joints that are mended."""
    true, T, points = truth.joint, truth.T_after_before, truth.points
    assert true is not None
    assert T is not None
    assert points is not None
    sign = 1.0 if float(joint.axis @ true.axis) >= 0 else -1.0

    def ratio(mended: JointMotion) -> float:
        return float(motion_error_ratio(points, mended.T_after_before, T))

    same = joint.type == true.type
    along = joint.axis.new_tensor([0.0, 0.0, 1.0])
    return {
        "as predicted": ratio(joint),
        "amount": ratio(replace(joint, amount=sign * true.amount) if same else joint),
        "axis": ratio(replace(joint, axis=sign * true.axis) if same else joint),
        "pivot": ratio(replace(joint, pivot=true.pivot)),
        "pivot along the view": min(ratio(replace(joint, pivot=joint.pivot + z * along)) for z in SHIFTS),
        "all by the mean error": ratio(replace(joint, pivot=joint.pivot - off)),
    }


def image_errors(
    truth: GroundTruth, gaussians: Gaussians, part: Tensor, off: Float[Tensor, "3"], cameras: Cameras
) -> dict[str, float]:
    """PSNR after the true motion."""
    T = truth.T_after_before
    assert T is not None

    def seen(shown: Gaussians) -> float:
        after = apply_joint_motion(shown, part, T)
        return float(psnr(render_on_white(after, cameras), truth.after).mean())

    moved = replace(gaussians, means=gaussians.means - off)
    return {"PSNR, true motion": seen(gaussians), "PSNR, moved by the mean error": seen(moved)}


if __name__ == "__main__":
    main()
