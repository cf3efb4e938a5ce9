"""What firmer guesses of unseen sides give, drawn to the sides of a box or of firmer opacities: PSNR against the truth.

    partrm eval --data real --pack real.safetensors
    python benchmarks/unseen_sides.py real.safetensors --samples 45

The picture in its mask's box and one drag, splats closed as `predict` has them, 8 views around. A box has the axes of
an asset, its sides are quantiles of the body's splats; splats that the picture does not show are drawn to the side that
they point to, where it looks away from the camera. docs/experiments/run-16.md has the figures.
"""

import argparse
import statistics
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Bool
from rich.console import Console
from rich.progress import track
from torch import Tensor

from partrm.assets.orientation import estimate_orientation
from partrm.evaluation.eval_set import load_eval_set
from partrm.evaluation.runner import render_on_white
from partrm.evaluation.samples import RunSettings
from partrm.geometry.cameras import Cameras
from partrm.geometry.flat_faces import shown_to
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.joints import JointMotion
from partrm.inference.decode import read_joints, reading_of, splats_of
from partrm.metrics.images import psnr
from partrm.model.checkpoints import load_model

OUTER, SAMPLE = 0.55, 20_000
"""Largest coordinate in the box from which on a splat is drawn to its side; splats that the quantiles are taken of."""

BOXES, FIRMER = (0.01, 0.03), (2, 4, 10)
"""Quantiles of the boxes' sides; factors of the opacities' log-odds."""


@dataclass(frozen=True)
class Body:
    """What orientation is read off."""

    before: Gaussians
    joints: tuple[JointMotion, ...]


def drawn_to_box(
    splats: Gaussians, part: Bool[Tensor, " n"], joint: JointMotion, camera: Cameras, quantile: float
) -> Gaussians:
    body = ~part
    R = torch.from_numpy(estimate_orientation(Body(splats[body], (joint,))).R_asset_canonical).float()
    points = splats.means @ R.T
    solid = points[body & (splats.opacities > 0.5)]
    order = torch.randperm(len(solid), generator=torch.Generator().manual_seed(0))
    sides = solid[order[:SAMPLE]].sort(0).values
    low, high = sides[int(quantile * len(sides))], sides[int((1 - quantile) * (len(sides) - 1))]
    centre, half = (low + high) / 2, (high - low) / 2
    within = (points - centre) / half
    axis = within.abs().argmax(1, keepdim=True)
    outermost = within.gather(1, axis)
    normal = torch.zeros_like(within).scatter(1, axis, outermost.sign())
    away = (((camera.T_world_camera[:3, 3] @ R.T) - centre - normal * half) * normal).sum(1) <= 0
    moved = body & ~shown_to(camera, splats) & away & (outermost[:, 0].abs() > OUTER)
    drawn = (centre + within.scatter(1, axis, outermost.sign()) * half) @ R
    return replace(splats, means=torch.where(moved[:, None], drawn, splats.means))


def firmer(splats: Gaussians, camera: Cameras, factor: float) -> Gaussians:
    sure = torch.sigmoid(factor * torch.logit(splats.opacities, eps=1e-4))
    return replace(splats, opacities=torch.where(shown_to(camera, splats), splats.opacities, sure))


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evalset", type=Path, help="written by partrm eval --pack")
    parser.add_argument("--samples", type=int, default=45)
    parser.add_argument("--model", default="base")
    args = parser.parse_args()
    model, evalset = load_model(args.model), load_eval_set(args.evalset)
    stage, console, rows = evalset.open(torch.device("cpu")), Console(soft_wrap=True), []
    for number in track(range(min(args.samples, len(evalset))), console=Console(stderr=True)):
        batch = stage.batch([number], RunSettings(framing="mask-box"), model.config.image_size_px)
        with torch.inference_mode():
            reading = reading_of(model.articulated(batch.inputs), batch.inputs, close=True)
        splats, part = splats_of(reading)
        (joint,) = read_joints(reading, batch.inputs)
        camera = batch.inputs.cameras[0, 0]
        ways = {"as it is": splats}
        ways |= {f"box of the {q} quantiles": drawn_to_box(splats, part, joint, camera, q) for q in BOXES}
        ways |= {f"log-odds times {k}": firmer(splats, camera, k) for k in FIRMER}
        views, truth = batch.cameras[0], batch.truths[0].before
        rows.append({name: float(psnr(render_on_white(own, views), truth).mean()) for name, own in ways.items()})
        console.print(number, {name: round(value, 2) for name, value in rows[-1].items()})
    for name in rows[0]:
        more = [row[name] - row["as it is"] for row in rows]
        mean = statistics.fmean(row[name] for row in rows)
        console.print(f"{name}: {mean:.2f} dB, {statistics.fmean(more):+.3f}, better in {sum(m > 0 for m in more)}")


if __name__ == "__main__":
    main()
