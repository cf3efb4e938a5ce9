"""PartDrag-4D, built here or downloaded, as pairs of states: which there are, and everything of one of them.

The published script takes, for each mesh, one start state at random, and from each entry of the list in that state all
other states of the same part and distractors. So do we, with a seeded choice.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.datasets.partdrag4d import (
    FARTHEST,
    RENDERS,
    DatasetError,
    EntryName,
    PartDrag4D,
    State,
    check_inputs,
    entries_of,
    files_below,
)
from partrm.evaluation.planning import spread_points
from partrm.evaluation.samples import SURFACE_POINTS, LabelledMesh, WorldSample
from partrm.files import read_bytes
from partrm.geometry.cameras import Cameras
from partrm.geometry.drag_numbers import MAX_DRAGS
from partrm.geometry.joints import JointMotion, JointType
from partrm.geometry.transforms import pose, transform_points
from partrm.inference.joint_fit import fit_rigid, screw_of_rotation
from partrm.objects.named_files import MAX_MESH_BYTES
from partrm.paper.eval_protocol import DRAG_IMAGE_PX, input_line, published_drags

INPUTS = (0, 1, 2, 3)
"""The data set's input views."""

STILL = 1e-5
"""Points that move less than this share of the object's extent count as still."""

MIN_ANGLE_RAD = 1e-3
"""A motion that turns by less is a translation."""

RIGID = 2e-3
"""Most that a point may stray from the part's rigid motion, share of the object's extent."""

SAME_POSE = 1e-3
"""Cameras nearer than this see the same view."""

Protocol = Literal["corrected", "reference"]


@dataclass(frozen=True)
class StatePair:
    """One sample: a source and a target state of one mesh."""

    dataset: PartDrag4D
    source: EntryName
    target: EntryName
    line: int
    """Of the source in the file list, comments counted."""
    protocol: Protocol
    seed: int
    lines: dict[int, EntryName]
    """The file list."""

    @property
    def object(self) -> str:
        return self.source.mesh

    @property
    def category(self) -> str:
        return self.dataset.mesh_folder[self.source.mesh].parent.name

    @property
    def part(self) -> int:
        return self.source.part

    @property
    def transition(self) -> str:
        others = "".join(f"{part}{state}" for part, state in self.source.distractors)
        return f"state {self.source.state} to {self.target.state}" + (f", distractors {others}" if others else "")

    def files(self) -> list[Path]:
        """Everything that the sample is read from."""
        found = []
        for name in (self.source, self.target):
            found += files_below(self.dataset.root / RENDERS / str(name))
            found += [self.dataset.motion_file(name, ending) for ending in (".obj", ".ply")]
        return [*found, self.dataset.motion_file(self.source, "_visible.npy")]

    def draggable(self) -> str | None:
        """Why no drag can show this motion; None where one can."""
        before, after = (self.dataset.points_of(name) for name in (self.source, self.target))
        if len(before) != len(after):
            raise DatasetError(f"{self.source} and {self.target}: their point clouds differ in length")
        moving = moving_points(before, after)
        if not bool(moving.any()):
            return "nothing moves between the states"
        if not bool(moving[self.dataset.visible_of(self.source, len(before))].any()):
            return "the first view shows no point of the moving part"
        return None

    def load(self) -> WorldSample:
        """Everything from disk.

        Raises:
            DatasetError: a file is missing or broken, or the two states do not fit each other.
        """
        before, after = self.dataset.load(self.source), self.dataset.load(self.target)
        if before.images.shape != after.images.shape or len(before.points) != len(after.points):
            raise DatasetError(f"{self.source} and {self.target}: their images or point clouds differ in number")
        for state in (before, after):
            folder = self.dataset.root / RENDERS / str(state.name)
            check_inputs(folder, state.images, INPUTS[: len(state.images)], state.cameras)
            if float(state.cameras.positions[0].norm()) > FARTHEST * extent_of(state.points):
                raise DatasetError(f"{folder}: the first camera is more than {FARTHEST:g} times the object's size away")
        moving = moving_points(before.points, after.points)
        T = motion_between(before.points[moving], after.points[moving], self.source)
        points = before.points[moving]
        chosen = drag_candidates(before, after, moving)
        sample = WorldSample(
            before=before.images,
            after=after.images,
            cameras=before.cameras,
            inputs=INPUTS[: len(before.images)],
            scored=scored_views(before.cameras),
            drag_start=fractions(before, before.points[chosen]),
            drag_end=fractions(before, after.points[chosen]),
            drag_points=before.points[chosen],
            T_after_before=T,
            joint=joint_of(T, points.mean(0)),
            points=points[:: max(1, len(points) // SURFACE_POINTS)],
            solid=solid_of(self.dataset, self.source, self.target),
        )
        return sample if self.protocol == "corrected" else self._as_published(sample, before, after)

    def _as_published(self, sample: WorldSample, before: State, after: State) -> WorldSample:
        """The same sample with the views and drags that the published script takes."""
        shift = after.points - before.points
        # Its test for motion: displacements that sum to zero count as none; hidden points count too.
        moving = (shift.sum(-1).abs() > STILL * extent_of(before.points)).nonzero()[:, 0]
        if len(moving) == 0:
            raise DatasetError(f"{self.source} to {self.target}: the published script finds nothing that moves")
        draw = np.random.default_rng(name_seed(f"{self.source} {self.target}", self.seed)).integers(len(moving))
        point = int(moving[int(draw)])
        end = fractions(before, after.points[[point]])[0] * DRAG_IMAGE_PX
        starts, ends = published_drags(end, sample.drag_start * DRAG_IMAGE_PX)
        return replace(
            sample,
            scored=tuple(range(len(before.images))),
            drag_start=starts / DRAG_IMAGE_PX,
            drag_end=ends / DRAG_IMAGE_PX,
            input_images=torch.stack([self._published_input(before.images, view) for view in sample.inputs]),
            as_published=True,
        )

    def _published_input(self, images: Float[Tensor, "views 4 h w"], view: int) -> Float[Tensor, "4 h w"]:
        line = input_line(self.line, view)
        if line == self.line:
            return images[view]
        if line not in self.lines:
            return images[0]
        return self.dataset.load(self.lines[line]).images[view]


def state_pairs(dataset: PartDrag4D, lines: dict[int, EntryName], protocol: Protocol, seed: int) -> Iterator[StatePair]:
    """All pairs of a file list, in its order.

    Args:
        lines: entries by line number.
    """
    siblings: dict[tuple, list[EntryName]] = defaultdict(list)
    for name in sorted(entries_of(dataset.root), key=lambda entry: entry.state):
        siblings[name.mesh, name.part, name.distractors].append(name)
    states: dict[str, set[int]] = defaultdict(set)
    for name in lines.values():
        states[name.mesh].add(name.state)
    start = {mesh: sorted(some)[name_seed(mesh, seed) % len(some)] for mesh, some in states.items()}
    for line, source in lines.items():
        if source.state == start[source.mesh]:
            for target in siblings[source.mesh, source.part, source.distractors]:
                if target.state != source.state:
                    yield StatePair(dataset, source, target, line, protocol, seed, lines)


def name_seed(name: str, seed: int) -> int:
    """A number that follows from a name and a seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:6], "big")


def extent_of(points: Float[Tensor, "n 3"]) -> float:
    """Diagonal of the bounding box."""
    return float((points.amax(0) - points.amin(0)).norm())


def moving_points(before: Float[Tensor, "n 3"], after: Float[Tensor, "n 3"]) -> Bool[Tensor, " n"]:
    """Points that differ between two states."""
    return (after - before).norm(dim=-1) > STILL * extent_of(before)


def motion_between(before: Float[Tensor, "n 3"], after: Float[Tensor, "n 3"], name: EntryName) -> Float[Tensor, "4 4"]:
    """The rigid motion of the moving points.

    Raises:
        DatasetError: they do not move rigidly.
    """
    if len(before) == 0:
        raise DatasetError(f"{name}: nothing moves between the states")
    R, t = fit_rigid(before.double(), after.double(), torch.ones(len(before), dtype=torch.float64))
    T = pose(R, t).float()
    stray = float((transform_points(T, before) - after).norm(dim=-1).max())
    if stray > RIGID * extent_of(before):
        raise DatasetError(f"{name}: its part does not move rigidly (a point strays by {stray:.3g})")
    return T


def joint_of(T_after_before: Float[Tensor, "4 4"], centre: Float[Tensor, "3"]) -> JointMotion:
    """The joint that a rigid motion is the motion of."""
    T = T_after_before.double()
    axis, pivot, angle = screw_of_rotation(T[:3, :3], T[:3, 3], centre.double())
    if angle >= MIN_ANGLE_RAD:
        return JointMotion(JointType.REVOLUTE, axis.float(), pivot.float(), angle, 1.0)
    shift = (transform_points(T, centre.double()[None])[0] - centre.double()).float()
    return JointMotion(JointType.PRISMATIC, shift / shift.norm(), centre, float(shift.norm()), 1.0)


def drag_candidates(before: State, after: State, moving: Bool[Tensor, " n"]) -> list[int]:
    """Points to drag: of the part, seen by the first view, and in the image afterwards too if there are such."""
    seen = torch.zeros_like(moving)
    seen[before.visible] = True
    index = (moving & seen).nonzero()[:, 0]
    if len(index) == 0:
        raise DatasetError(f"{before.name}: the first view shows no point of the moving part")
    start, end = fractions(before, before.points), fractions(before, after.points)
    inside = index[((end[index] > 0) & (end[index] < 1)).all(-1)]
    return spread_points(start, end, inside if len(inside) >= MAX_DRAGS else index)


def fractions(state: State, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 2"]:
    """Where the first view of a state sees points, fractions of the image."""
    pixels, _ = state.cameras[0].project(points)
    return pixels / state.cameras.width


def scored_views(cameras: Cameras) -> tuple[int, ...]:
    """Views that are no input view, nor stand where an input or an earlier view stands; all, where there are no others.

    The four input views are left out whether the network sees them or not, so that settings can be compared.
    """
    taken, found = list(INPUTS[: len(cameras.fovy_rad)]), []
    for view in range(len(taken), len(cameras.fovy_rad)):
        distance = (cameras.T_world_camera[[*taken, *found]] - cameras.T_world_camera[view]).abs().amax((1, 2))
        if float(distance.min()) > SAME_POSE:
            found.append(view)
    return tuple(found) if found else tuple(taken)


def solid_of(dataset: PartDrag4D, source: EntryName, target: EntryName) -> LabelledMesh:
    """The source's surface, and which of its faces move."""
    meshes = [load_geometry(dataset.motion_file(name, ".obj")) for name in (source, target)]
    (vertices, faces), (moved, _) = meshes
    if len(vertices) != len(moved):
        raise DatasetError(f"{source} and {target}: their meshes differ in their numbers of vertices")
    moves = moving_points(vertices, moved)
    return LabelledMesh(dataset.scale * vertices + dataset.offset, faces, moves[faces].any(-1))


def load_geometry(path: Path) -> tuple[Float[Tensor, "v 3"], Tensor]:
    """Vertices and triangles [f, 3] of an OBJ file, nothing else of it; polygons are cut into fans.

    Raises:
        DatasetError: missing, malformed, or without faces.
    """
    vertices: list[list[float]] = []
    faces: list[Sequence[int]] = []
    try:
        for line in read_bytes(path, MAX_MESH_BYTES).decode("utf-8", errors="replace").splitlines():
            kind, *words = line.split() or [""]
            if kind == "v":
                vertices.append([float(word) for word in words[:3]])
            elif kind == "f":
                corners = [int(word.partition("/")[0]) for word in words]
                corners = [c - 1 if c > 0 else len(vertices) + c for c in corners]
                faces += [(corners[0], *pair) for pair in pairwise(corners[1:])]
        points, triangles = torch.tensor(vertices), torch.tensor(faces, dtype=torch.long)
    except (OSError, ValueError, IndexError, OverflowError, RuntimeError, TypeError) as error:
        raise DatasetError(f"{path}: not a mesh ({' '.join(str(error).split())})") from error
    if not faces or not 0 <= int(triangles.min()) <= int(triangles.max()) < len(vertices):
        raise DatasetError(f"{path}: has no faces, or a face indexes a vertex that does not exist")
    if points.shape[1:] != (3,) or not bool(torch.isfinite(points).all()):
        raise DatasetError(f"{path}: a vertex is not three finite numbers")
    return points, triangles
