"""``partrm parts`` on objects of several movable parts, procedural ones that training never saw and real ones.

    python benchmarks/parts.py --procedural 60 --real --out parts.json --pictures pictures

An object is posed at random (seven joints of ten closed) before a random camera. A part counts when it fills at least
1 % of the picture about the object. A found part is right when its mask overlaps a true one's by IoU >= .5, the joint
has its type and the axes differ by at most 15 degrees; each true part is found once. Two experiments say what holds it:
``--given drag`` asks with the true drag of every true part, ``--given mask`` with the true masks as proposals and the
head's own directions. docs/export.md has the figures. Thresholds were chosen on ``--seed 3000000``.
"""

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from part_scenes import MULTI_PART, Scene, TruePart, pictured
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor

from partrm.geometry.joints import JointType
from partrm.imaging.drawing import draw_label, draw_numbered, to_bytes
from partrm.inference import part_search
from partrm.inference.part_search import Candidate, Proposal
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

Given = Literal["nothing", "mask", "drag"]


@dataclass(frozen=True)
class FoundRow:
    """A candidate, and what it is right about."""

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
    candidates: tuple[FoundRow, ...]
    """All of them, also those left out."""
    kept: tuple[int, ...]
    """Which of them are found."""
    found: tuple[int, ...]
    """True parts that are found."""
    seconds: float


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--procedural", type=int, default=60)
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--first", type=int, default=0, help="pictures of the procedural ones that others make")
    parser.add_argument("--given", choices=("nothing", "mask", "drag"), default="nothing")
    parser.add_argument("--model", default="base")
    parser.add_argument("--fit", action="store_true", help="fit the weights of the evidence to the candidates")
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
            row, found = search(source, scene, model, arguments.given)
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


def search(source: str, scene: Scene, model: LoadedModel, given: Given) -> tuple[SceneRow, list[Candidate]]:
    """What is found in one picture, or in what the truth proposes."""
    views = single_view(scene.picture, model.config.image_size_px, "auto")
    started = time.perf_counter()
    propose = part_search.propose
    try:
        if given != "nothing":
            part_search.propose = lambda maps, alpha, camera: [
                true_proposal(p, scene, maps, camera, given) for p in scene.parts
            ]
        candidates = part_search.candidates(views, model)
    finally:
        part_search.propose = propose
    sure = [c for c in candidates if given != "nothing" or c.confidence >= part_search.MIN_CONFIDENCE]
    kept = part_search.distinct(sure)
    seconds = time.perf_counter() - started
    told = [judged(candidate, scene.parts) for candidate in candidates]
    numbers = [next(i for i, c in enumerate(candidates) if c is k) for k in kept]
    found = {told[number].of for number in numbers if told[number].right}
    areas = tuple(round(float(part.mask.float().mean()), 4) for part in scene.parts)
    row = SceneRow(
        source, scene.name, len(scene.parts), areas, tuple(told), tuple(numbers), tuple(sorted(found)), seconds
    )
    return row, kept


def true_proposal(part: TruePart, scene: Scene, maps, camera, given: Given) -> Proposal:
    """A true part as a proposal, pulled where the head says or as it truly moves."""
    if given == "drag":
        maps = replace(maps, displacement=scene.displacement)
    start, end = part_search.pull_of(part.mask, maps, camera)
    others = torch.stack([p.mask & ~part.mask for p in scene.parts]).any(0)
    return Proposal(part.mask, float(maps.movable[part.mask].mean()), others, start, end)


def judged(candidate: Candidate, parts: tuple[TruePart, ...]) -> FoundRow:
    """Whether a candidate is a true part."""
    overlaps = [part_search.overlap(candidate.mask, part.mask) for part in parts]
    of = int(np.argmax(overlaps)) if overlaps else -1
    right = False
    if overlaps and overlaps[of] >= MIN_IOU:
        joint, true = candidate.joint, parts[of].joint
        same = (joint.type == JointType.PRISMATIC) == (true.type == JointType.PRISMATIC)
        right = same and math.degrees(float(joint_axis_error_rad(joint.axis, true.axis))) <= MAX_AXIS_DEG
    evidence = tuple(round(value, 4) for value in candidate.evidence)
    return FoundRow(candidate.confidence, evidence, max(overlaps, default=0.0), of, right)


def summary(rows: list[SceneRow]) -> list[str]:
    """Recall and precision of each source, at the threshold and at others."""
    lines = []
    for source in sorted({row.source for row in rows}):
        own = [row for row in rows if row.source == source]
        parts, found = sum(row.parts for row in own), sum(len(row.found) for row in own)
        kept = [row.candidates[number] for row in own for number in row.kept]
        right, seconds = sum(c.right for c in kept), sorted(row.seconds for row in own)
        lines.append(
            f"{source}: {len(own)} pictures, {parts} parts, {found} found (recall {found / parts:.2f}), "
            f"{right} of {len(kept)} right (precision {right / max(1, len(kept)):.2f}), "
            f"{seconds[len(seconds) // 2]:.1f} s (median), {seconds[-1]:.1f} s (worst)"
        )
        masks = {(i, c.of) for i, row in enumerate(own) for c in row.candidates if c.iou >= MIN_IOU}
        joints = {(i, c.of) for i, row in enumerate(own) for c in row.candidates if c.right}
        lines.append(f"  of all candidates: masks of {len(masks)} parts, right joints too {len(joints)}")
        for low, high in ((0.01, 0.02), (0.02, 0.05), (0.05, 1.0)):
            shown = [(n in row.found) for row in own for n, a in enumerate(row.areas) if low <= a < high]
            lines.append(f"  parts of {low:.0%} to {high:.0%} of the picture: {sum(shown)} of {len(shown)}")
    return lines


def fitted(rows: list[SceneRow]) -> str:
    """Logistic weights of the evidence, by Newton's steps with a little ridge."""
    seen = [candidate for row in rows for candidate in row.candidates]
    X = torch.tensor([[1.0, *candidate.evidence] for candidate in seen], dtype=torch.float64)
    y = torch.tensor([float(candidate.right) for candidate in seen], dtype=torch.float64)
    w = torch.zeros(X.shape[1], dtype=torch.float64)
    ridge = torch.diag(torch.tensor([0.0, *[0.3] * (X.shape[1] - 1)], dtype=torch.float64))
    for _ in range(30):
        p = torch.sigmoid(X @ w)
        hessian = X.T @ ((p * (1 - p))[:, None] * X) + ridge + 1e-6 * torch.eye(len(w), dtype=torch.float64)
        w = w + torch.linalg.solve(hessian, X.T @ (y - p) - ridge @ w)
    named = {name: round(float(value), 2) for name, value in zip(part_search.WEIGHTS, w[1:], strict=True)}
    return f"{named}, bias {float(w[0]):.2f}, of {len(seen)} candidates {int(y.sum())} right"


def picture_of(scene: Scene, row: SceneRow, kept: list[Candidate]) -> np.ndarray:
    """The true parts beside those found."""
    picture = to_bytes(composite_on_white(scene.picture))
    panels: list[Float[Tensor, "h w"]] = [part.mask.float() for part in scene.parts]
    marks = ["+" if row.candidates[n].right else "-" for n in row.kept]
    told = [f"{c.joint.type.name[0]} {c.confidence:.2f}{m}" for c, m in zip(kept, marks, strict=True)]
    true = draw_label(
        draw_numbered(picture, panels), f"{scene.name}: " + ", ".join(p.joint.type.name[0] for p in scene.parts)
    )
    found = draw_label(draw_numbered(picture, [c.mask.float() for c in kept]), ", ".join(told))
    return np.concatenate([true, found], 1)


if __name__ == "__main__":
    main()
