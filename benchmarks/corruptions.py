"""What worse images than renders cost: real objects' samples, disturbed in one way at a time; the motion is scored.

    partrm eval --data real --pack real.st
    python benchmarks/corruptions.py --set real.st --out corruptions.json

IoU of the moving part in the image; motion-error ratio, mean and median; its mean difference to the same samples
as they are, with its standard error; joint types right. Only the inputs differ, what is scored is the same truth (IoU
through another lens: what that lens sees). docs/evaluation.md has the figures.
"""

import argparse
import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from backgrounds import BACKGROUNDS, compressed, photograph
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d, pad

from partrm.evaluation.eval_set import load_eval_set
from partrm.evaluation.mesh_samples import MeshSamples, drag_points, network_input
from partrm.evaluation.runner import batches, first_view_mask
from partrm.evaluation.samples import GroundTruth, RunSettings
from partrm.evaluation.scoring import score_motion
from partrm.geometry.cameras import CANONICAL_FOVY_RAD, Cameras
from partrm.geometry.transforms import transform_points
from partrm.imaging.cutout import cut_out
from partrm.inference.decode import read_motion, run_network
from partrm.metrics.motion import mask_iou
from partrm.model.checkpoints import load_model
from partrm.model.inputs import NetworkInput
from partrm.model.network import PartRMNetwork
from partrm.rendering.meshes import render_meshes, trace_surfaces
from partrm.synthesis.posed_scenes import PosedBatch, moving_mask, random_lights

SETTINGS = RunSettings(novel_size_px=16)
"""The views around are not looked at."""

GREY = 0.82
"""Of the background that rims and JPEG blocks keep."""


@dataclass(frozen=True)
class Scene:
    """A few samples as they are."""

    stage: MeshSamples
    posed: PosedBatch
    numbers: Sequence[int]
    inputs: NetworkInput
    generator: torch.Generator

    def with_first(self, rgb: Tensor | None = None, alpha: Tensor | None = None) -> NetworkInput:
        """Other colours [b, 3, h, w] or opacities [b, 1, h, w] of the first image."""
        images = self.inputs.images.clone()
        if rgb is not None:
            images[:, 0, :3] = rgb.clamp(0, 1)
        if alpha is not None:
            images[:, 0, 3:] = alpha.clamp(0, 1)
        return replace(self.inputs, images=images)

    @property
    def rgb(self) -> Tensor:
        return self.inputs.images[:, 0, :3]

    @property
    def alpha(self) -> Tensor:
        return self.inputs.images[:, 0, 3:]


Disturbance = Callable[[Scene], NetworkInput]


def other_light(scene: Scene) -> NetworkInput:
    posed = replace(scene.posed, lights=random_lights(len(scene.numbers), scene.generator))
    return network_input(scene.stage, posed, scene.numbers, SETTINGS, scene.inputs.images.shape[-1])


@dataclass(frozen=True)
class Lens:
    """Taken through a lens of another vertical field of view, while the network is told of the canonical one."""

    fovy_deg: float

    def cameras(self, scene: Scene, size_px: int) -> Cameras:
        """[b, 1] that took the first images."""
        told = scene.posed.first.resized(size_px)
        wider = math.tan(math.radians(self.fovy_deg) / 2) / math.tan(CANONICAL_FOVY_RAD / 2)
        T = told.T_world_camera.clone()
        T[..., :3, 3] /= wider
        return replace(told, T_world_camera=T, fovy_rad=2 * torch.atan(wider * torch.tan(told.fovy_rad / 2)))

    def __call__(self, scene: Scene) -> NetworkInput:
        size = scene.inputs.images.shape[-1]
        cameras, framing = self.cameras(scene, size), scene.posed.framing
        shown = framing.cameras_to_object(cameras)
        image = render_meshes(scene.stage.scene, scene.posed.instances, shown, scene.posed.lights)[:, 0]
        drags = scene.inputs.drags
        points = drag_points(scene.stage, scene.posed, scene.numbers, drags.start.shape[1])
        moved = transform_points(framing.motion_to_canonical(scene.posed.T_motion), points)
        start, end = (cameras[:, 0].project(p)[0] / size for p in (points, moved))
        return replace(scene.with_first(image[:, :3], image[:, 3:]), drags=replace(drags, start=start, end=end))

    def part_masks(self, scene: Scene, size_px: int) -> Tensor:
        """[b, h, w] where the part is in these images."""
        shown = scene.posed.framing.cameras_to_object(self.cameras(scene, size_px))
        return moving_mask(trace_surfaces(scene.stage.scene, scene.posed.instances, shown), scene.posed.carried)[:, 0]


def exposed(gain: float) -> Disturbance:
    return lambda scene: scene.with_first(scene.rgb * gain)


def noisy(sigma: float) -> Disturbance:
    return lambda scene: scene.with_first(scene.rgb + sigma * torch.randn(scene.rgb.shape, generator=scene.generator))


def coarse(side: int) -> Disturbance:
    """Taken with that many pixels a side."""

    def taken(scene: Scene) -> NetworkInput:
        premultiplied = torch.cat([scene.rgb * scene.alpha, scene.alpha], 1)
        small = interpolate(premultiplied, (side, side), mode="bilinear", antialias=True)
        large = interpolate(small, scene.rgb.shape[-2:], mode="bilinear")
        return scene.with_first(large[:, :3] / large[:, 3:].clamp(min=1e-4), large[:, 3:])

    return taken


def jpeg(quality: int) -> Disturbance:
    """Compressed on grey; the mask is exact."""

    def taken(scene: Scene) -> NetworkInput:
        on_grey = scene.rgb * scene.alpha + GREY * (1 - scene.alpha)
        return scene.with_first(torch.stack([compressed(image.numpy(), quality) for image in on_grey]))

    return taken


def mask_off_by(pixels: int) -> Disturbance:
    """Masks as many pixels too wide, with a rim of grey, or too narrow."""

    def cut(scene: Scene) -> NetworkInput:
        window = 2 * abs(pixels) + 1
        if pixels < 0:
            return scene.with_first(alpha=-max_pool2d(-scene.alpha, window, 1, -pixels))
        wider = max_pool2d(scene.alpha, window, 1, pixels)
        return scene.with_first(scene.rgb * scene.alpha + GREY * (1 - scene.alpha), wider)

    return cut


def remnant(scene: Scene) -> NetworkInput:
    """A disc of the background as wide as a sixth of the image, whose centre is on the outline, counted as object."""
    side = scene.alpha.shape[-1]
    rim = (avg_pool2d(scene.alpha, 3, 1, 1) - 0.5).abs() < 0.2
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    alpha, rgb = scene.alpha.clone(), scene.rgb.clone()
    for row, places in enumerate(rim[:, 0]):
        spots = places.nonzero()
        at = spots[int(torch.randint(len(spots), (1,), generator=scene.generator))]
        disc = (y - at[0]) ** 2 + (x - at[1]) ** 2 < (side / 12) ** 2
        kept = disc & (alpha[row, 0] < 0.5)
        alpha[row, 0][kept] = 1.0
        rgb[row][:, kept] = GREY
    return scene.with_first(rgb, alpha)


def photographed(background: str) -> Disturbance:
    """Before a plain background of ``benchmarks/backgrounds.py``, a JPEG file, cut out as ``predict`` does it."""

    def taken(scene: Scene) -> NetworkInput:
        rng, cuts = np.random.default_rng(0), []
        for rgba in scene.inputs.images[:, 0]:
            room = rgba.shape[-1] // 4  # people leave some about an object
            photographed = photograph(pad(rgba, (room, room, room, room)), BACKGROUNDS[background], rng)
            cuts.append(torch.from_numpy(cut_out(photographed.numpy()))[:, room:-room, room:-room])
        images = torch.stack(cuts)
        return scene.with_first(images[:, :3], images[:, 3:])

    return taken


def drag_off_by(start: float, end: float) -> Disturbance:
    """Drags that start and end as many pixels of 256 beside, in random directions."""

    def pulled(scene: Scene) -> NetworkInput:
        drags = scene.inputs.drags
        shift = [random_directions(drags.start.shape[:2], scene.generator) * pixels / 256 for pixels in (start, end)]
        return replace(scene.inputs, drags=replace(drags, start=drags.start + shift[0], end=drags.end + shift[1]))

    return pulled


def random_directions(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    angle = 2 * math.pi * torch.rand(*shape, generator=generator)
    return torch.stack([angle.cos(), angle.sin()], -1)


ROWS: dict[str, Disturbance] = {
    "as it is": lambda scene: scene.inputs,
    "another light, from anywhere above": other_light,
    "lens of 26° instead of 39.6°": Lens(26.0),
    "lens of 58°": Lens(58.0),
    "lens of 75°": Lens(75.0),
    "underexposed, 0.6 times as bright": exposed(0.6),
    "overexposed, 1.4 times": exposed(1.4),
    "sensor noise of 0.03": noisy(0.03),
    "sensor noise of 0.1": noisy(0.1),
    "taken at 96² pixels": coarse(96),
    "JPEG of quality 20": jpeg(20),
    "mask 2 pixels too narrow": mask_off_by(-2),
    "mask 3 pixels too wide, with a rim": mask_off_by(3),
    "a piece of background in the mask": remnant,
    "JPEG on a grey background with shadow and noise, cut out": photographed("grey, shadow, noise"),
    "drag starts 4 pixels beside": drag_off_by(4.0, 0.0),
    "drag ends 10 pixels beside": drag_off_by(0.0, 10.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", type=Path, required=True, help="that partrm eval --pack wrote")
    parser.add_argument("--model", default="base")
    parser.add_argument("--limit", type=int, help="only the first samples")
    parser.add_argument("--only", nargs="+", choices=list(ROWS), metavar="ROW")
    parser.add_argument("--out", type=Path, help="JSON of every sample's figures")
    args = parser.parse_args()
    if args.limit is not None and args.limit < 1:
        parser.error("--limit: at least 1")
    try:
        stage, model = load_eval_set(args.set).open("cpu"), load_model(args.model)
        articulated = model.articulated
    except ValueError as error:  # ours say what is wrong, in one line
        parser.error(str(error))
    count = min(len(stage.evalset), args.limit or len(stage.evalset))
    names = [name for name in ROWS if not args.only or name in args.only or name == "as it is"]
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for numbers in track(batches(count, 0, stage.device), console=Console(stderr=True), description="samples"):
        batch = stage.batch(numbers, SETTINGS, model.config.image_size_px)
        for name in names:
            scene = Scene(stage, stage.posed(numbers), numbers, batch.inputs, torch.Generator().manual_seed(numbers[0]))
            figures[name] += scored(articulated, scene, ROWS[name], batch.truths)
    print("| input | IoU | motion-error ratio (median) | against the first row | type right |")
    print("| --- | --- | --- | --- | --- |")
    for name in names:
        print(line(name, figures[name], figures["as it is"]))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(figures, indent=1), encoding="utf-8")


def scored(
    network: PartRMNetwork, scene: Scene, disturb: Disturbance, truths: Sequence[GroundTruth]
) -> list[dict[str, float]]:
    """IoU, motion-error ratio and type of some samples, disturbed."""
    inputs = disturb(scene)
    output = run_network(network, inputs)
    masks = [truth.part_mask for truth in truths]
    if isinstance(disturb, Lens):
        masks = list(disturb.part_masks(scene, network.config.image_size_px // 2))
    found = []
    for row, (truth, mask) in enumerate(zip(truths, masks, strict=True)):
        motion = score_motion(truth, read_motion(output, inputs, row)[2])
        iou = float(mask_iou(first_view_mask(output, row), mask))
        found.append({"iou": iou, **{key: motion[key] for key in ("motion_error_ratio", "type_correct")}})
    return found


def line(name: str, rows: list[dict[str, float]], plain: list[dict[str, float]]) -> str:
    """A row of the table."""
    ratios = [row["motion_error_ratio"] for row in rows]
    more = [a - row["motion_error_ratio"] for a, row in zip(ratios, plain, strict=True)]
    error = statistics.stdev(more) / math.sqrt(len(more)) if len(more) > 1 else 0.0
    difference = "" if rows is plain else f"{statistics.mean(more):+.3f} ± {error:.3f}"
    iou, right = (statistics.mean(row[key] for row in rows) for key in ("iou", "type_correct"))
    middle = f"{statistics.mean(ratios):.3f} ({statistics.median(ratios):.2f})"
    return f"| {name} | {iou:.3f} | {middle} | {difference} | {100 * right:.0f} % |"


if __name__ == "__main__":
    main()
