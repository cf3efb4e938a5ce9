"""``partrm parts`` on objects of several movable parts, procedural ones that training never saw and real ones.

    python benchmarks/parts.py --procedural 60 --real --out parts.json --pictures pictures

An object is posed at random (seven joints of ten closed) before a random camera. A part counts when it fills at least
1 % of the picture about the object. A found part is right when its mask overlaps a true one's by IoU >= .5, the joint
has its type and the axes differ by at most 15 degrees; each true part is found once. Masks and joints are those of the
predictions that come of it; with ``--proposals`` those of the small network alone, which takes a tenth of the time.
docs/export.md has the figures. Thresholds and weights were chosen on ``--seed 3000000``, by ``--proposals --fit``.
"""

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from part_scenes import MULTI_PART, Scene, TruePart, pictured
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from partrm.geometry.joints import JointMotion, JointType
from partrm.imaging.drawing import draw_label, draw_numbered, to_bytes
from partrm.inference import part_search
from partrm.inference.source import single_view
from partrm.metrics.images import composite_on_white
from partrm.metrics.motion import joint_axis_error_rad
from partrm.model.checkpoints import LoadedModel, load_model
from partrm.objects.real_objects import load_real_object, real_object_names
from partrm.procedural import generate

SEED = 2_000_000
"""Of the first object; training uses seeds below 1 000 000, the published evaluation those from there on."""

PICTURE_PX, SIDE = 512, 64
MIN_IOU, MAX_AXIS_DEG = 0.5, 15.0


@dataclass(frozen=True)
class Shown:
    """One part that is found."""

    confidence: float
    evidence: tuple[float, ...]
    """Empty of predictions."""
    mask: Bool[Tensor, "side side"]
    joint: JointMotion


@dataclass(frozen=True)
class FoundRow:
    """What one is right about."""

    confidence: float
    evidence: tuple[float, ...]
    iou: float
    """With the true part that it overlaps most."""
    of: int
    """That part."""
    right: bool


@dataclass(frozen=True)
class SceneRow:
    """One picture."""

    source: str
    name: str
    parts: int
    areas: tuple[float, ...]
    """Of the true parts, shares of the picture."""
    found: tuple[FoundRow, ...]
    seconds: float

    @property
    def right(self) -> set[int]:
        """The true parts that are found."""
        return {row.of for row in self.found if row.right}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--procedural", type=int, default=60)
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--first", type=int, default=0, help="pictures of the procedural ones that others make")
    parser.add_argument("--proposals", action="store_true", help="what the small network says, all of it")
    parser.add_argument("--model", default="base")
    parser.add_argument("--fit", action="store_true", help="fit the weights of the evidence to the proposals")
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    model, rows, console = load_model(arguments.model, "cpu"), [], Console(soft_wrap=True)
    sets = [
        ("procedural", arguments.procedural, procedural_scenes(arguments.procedural, arguments.seed, arguments.first))
    ]
    if arguments.real:
        sets.append(("real", len(real_object_names()), real_scenes()))
    for source, total, scenes in sets:
        for scene in track(scenes, description=source, total=total, console=Console(stderr=True)):
            row, found = search(source, scene, model, arguments.proposals)
            rows.append(row)
            if arguments.pictures is not None:
                arguments.pictures.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture_of(scene, row, found)).save(arguments.pictures / f"{source}_{scene.name}.png")
            arguments.out.write_text(json.dumps([asdict(r) for r in rows], indent=1, allow_nan=False) + "\n")
    for line in summary(rows):
        console.print(line)
    if arguments.fit:
        console.print(fitted(rows))


def procedural_scenes(count: int, seed: int, skipped: int = 0) -> Iterator[Scene]:
    """Objects of the categories in turn that show at least two parts, without the first ``skipped`` of them."""
    made = -skipped
    for index in itertools.count():
        if made == count:
            return
        obj = generate(MULTI_PART[index % len(MULTI_PART)], seed + index)
        if len(obj.movable) > 1:
            scene = pictured(obj, torch.Generator().manual_seed(seed + index), PICTURE_PX, SIDE)
            if len(scene.parts) > 1:
                made += 1
                if made > 0:
                    yield scene


def real_scenes() -> Iterator[Scene]:
    """Every real object once."""
    for index, name in enumerate(real_object_names()):
        yield pictured(load_real_object(name), torch.Generator().manual_seed(index), PICTURE_PX, SIDE)


def search(source: str, scene: Scene, model: LoadedModel, proposals: bool) -> tuple[SceneRow, list[Shown]]:
    """What is found in one picture."""
    views = single_view(scene.picture, model.config.image_size_px, "auto")
    started = time.perf_counter()
    found: list[Shown] = []
    if proposals:
        found = [Shown(p.confidence, p.evidence, p.mask, p.joint) for p in part_search.proposals_in(views, model)]
    else:
        try:
            parts = part_search.find_parts(views, model)
        except part_search.NoPartsError:
            parts = ()
        for part in parts:
            mask = adaptive_avg_pool2d(part.prediction.part_mask[None], SIDE)[0] > 0.5
            found.append(Shown(part.confidence, (), mask, part.prediction.joint))
    seconds = time.perf_counter() - started
    areas = tuple(round(float(part.mask.float().mean()), 4) for part in scene.parts)
    told = tuple(judged(one, scene.parts) for one in found)
    return SceneRow(source, scene.name, len(scene.parts), areas, told, seconds), found


def overlap(a: Bool[Tensor, "h w"], b: Bool[Tensor, "h w"]) -> float:
    """Intersection over union of two masks; 0 where both are empty."""
    return float((a & b).sum() / (a | b).sum().clamp(min=1))


def judged(found: Shown, parts: tuple[TruePart, ...]) -> FoundRow:
    """Whether what is found is a true part."""
    overlaps = [overlap(found.mask, part.mask) for part in parts]
    of = int(np.argmax(overlaps)) if overlaps else -1
    right = False
    if overlaps and overlaps[of] >= MIN_IOU:
        joint, true = found.joint, parts[of].joint
        same = (joint.type == JointType.PRISMATIC) == (true.type == JointType.PRISMATIC)
        right = same and math.degrees(float(joint_axis_error_rad(joint.axis, true.axis))) <= MAX_AXIS_DEG
    evidence = tuple(round(value, 4) for value in found.evidence)
    return FoundRow(found.confidence, evidence, max(overlaps, default=0.0), of, right)


def summary(rows: list[SceneRow]) -> list[str]:
    """Recall and precision of each source, and of parts by size."""
    lines = []
    for source in sorted({row.source for row in rows}):
        own = [row for row in rows if row.source == source]
        parts, found = sum(row.parts for row in own), sum(len(row.right) for row in own)
        told = [one for row in own for one in row.found]
        right, seconds = sum(one.right for one in told), sorted(row.seconds for row in own)
        lines.append(
            f"{source}: {len(own)} pictures, {parts} parts, {found} found (recall {found / parts:.2f}), "
            f"{right} of {len(told)} right (precision {right / max(1, len(told)):.2f}), "
            f"{seconds[len(seconds) // 2]:.1f} s (median), {seconds[-1]:.1f} s (worst)"
        )
        masks = {(i, one.of) for i, row in enumerate(own) for one in row.found if one.iou >= MIN_IOU}
        lines.append(f"  masks of {len(masks)} parts")
        for low, high in ((0.01, 0.02), (0.02, 0.05), (0.05, 1.0)):
            shown = [(n in row.right) for row in own for n, a in enumerate(row.areas) if low <= a < high]
            lines.append(f"  parts of {low:.0%} to {high:.0%} of the picture: {sum(shown)} of {len(shown)}")
    return lines


def fitted(rows: list[SceneRow]) -> str:
    """Logistic weights of the evidence, by Newton's steps with a little ridge."""
    seen = [one for row in rows for one in row.found]
    X = torch.tensor([[1.0, *one.evidence] for one in seen], dtype=torch.float64)
    y = torch.tensor([float(one.right) for one in seen], dtype=torch.float64)
    w = torch.zeros(X.shape[1], dtype=torch.float64)
    ridge = torch.diag(torch.tensor([0.0, *[0.3] * (X.shape[1] - 1)], dtype=torch.float64))
    for _ in range(30):
        p = torch.sigmoid(X @ w)
        hessian = X.T @ ((p * (1 - p))[:, None] * X) + ridge + 1e-6 * torch.eye(len(w), dtype=torch.float64)
        w = w + torch.linalg.solve(hessian, X.T @ (y - p) - ridge @ w)
    named = {name: round(float(value), 2) for name, value in zip(part_search.WEIGHTS, w[1:], strict=True)}
    return f"{named}, bias {float(w[0]):.2f}, of {len(seen)} proposals {int(y.sum())} right"


def picture_of(scene: Scene, row: SceneRow, found: list[Shown]) -> np.ndarray:
    """The true parts beside those found."""
    picture = to_bytes(composite_on_white(scene.picture))
    panels: list[Float[Tensor, "h w"]] = [part.mask.float() for part in scene.parts]
    marks = ["+" if one.right else "-" for one in row.found]
    told = [f"{f.joint.type.name[0]} {f.confidence:.2f}{mark}" for f, mark in zip(found, marks, strict=True)]
    true = draw_label(
        draw_numbered(picture, panels), f"{scene.name}: " + ", ".join(p.joint.type.name[0] for p in scene.parts)
    )
    said = draw_label(draw_numbered(picture, [one.mask.float() for one in found]), ", ".join(told))
    return np.concatenate([true, said], 1)


if __name__ == "__main__":
    main()
