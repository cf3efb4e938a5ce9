"""The articulated asset in metres, and how it is made from a prediction."""

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from threading import Thread
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float

from partrm.assets.collision import CELLS, Box, CellGrid, Hull, cleared, convex_hulls, part_boxes
from partrm.assets.density import DensityGrid, extent
from partrm.assets.orientation import Orientation, T_asset_canonical, estimate_orientation, given_up
from partrm.assets.part_meshes import FACES, VOXELS, SolidPart, mesh_part
from partrm.assets.physics import (
    JointDynamics,
    MassProperties,
    joint_dynamics,
    mass_properties,
    reachable,
    usual_length,
)
from partrm.assets.predicted import AssetError, PredictedObject
from partrm.assets.predicted_parts import PredictedParts, as_parts
from partrm.assets.texturing import Texture, bake_texture, see_parts
from partrm.errors import ConfigError, require_ranges
from partrm.geometry.flat_faces import shown_to, with_flat_faces
from partrm.geometry.joints import MIN_CONFIDENCE, JointMotion, JointType
from partrm.geometry.transforms import screw_motion
from partrm.objects.articulated_object import ArticulatedObject, Joint, Part
from partrm.objects.materials import Material, Role

RANGE_STEPS = 60
"""Steps in which it is looked how far a part can move beyond the predicted motion."""

HINGE_CELLS = 4.0
"""Distance from a hinge, in cells of the collision grid, within which the body does not stop the part."""

THREADS = 4
"""Parts that are meshed and textured at once, at most."""

SIZES_M, DENSITIES = (1e-3, 1e4), (1e-3, 1e6)
"""Least and greatest size (metres) and density (kg per cubic metre) of which simulators can make something."""

CollisionKind = Literal["boxes", "hulls"]
RangeKind = Literal["predicted", "auto"]


@dataclass(frozen=True)
class AssetSettings:
    """What a picture does not tell, and how the asset is made."""

    size_m: float = 0.6
    """Diagonal of the object's bounding box as it is in the picture, metres."""
    up: tuple[float, float, float] | None = None
    """Direction in the canonical frame; None estimates it."""
    density: float = 400.0
    """kg per cubic metre of the closed meshes."""
    collision: CollisionKind = "boxes"
    range: RangeKind = "predicted"
    """``predicted``: from the state in the picture to the predicted one; ``auto``: to where the part would meet the
    body, or to the usual end of such joints."""
    fixed_base: bool = True
    """Whether the body is fixed to the world."""
    force: bool = False
    """Export uncertain predictions too."""
    texture_px: int = 1024
    """Side of each part's texture."""

    def __post_init__(self) -> None:
        for name, value, (least, most) in (("size", self.size_m, SIZES_M), ("density", self.density, DENSITIES)):
            if not least <= value <= most:
                raise ConfigError(f"{name} {value:g}: give a positive number, {least:g} to {most:g}")
        require_ranges({"texture": (self.texture_px, 64, 8192)})
        if self.collision not in get_args(CollisionKind):
            raise ConfigError(f"collision {self.collision!r}: give {' or '.join(get_args(CollisionKind))}")
        if self.range not in get_args(RangeKind):
            raise ConfigError(f"range {self.range!r}: give {' or '.join(get_args(RangeKind))}")


@dataclass(frozen=True)
class RigidBody:
    """What one part of the asset is to a simulator; asset's frame at rest, metres."""

    collision: tuple[Box | Hull, ...]
    mass: MassProperties
    dynamics: JointDynamics | None
    """None for the body that stays."""


@dataclass(frozen=True)
class Asset:
    """An object in metres: z up, front towards +x, the floor at z = 0 below the origin; at rest as in the picture."""

    object: ArticulatedObject
    """Textured parts and joints; every part's material slot has its number."""
    bodies: tuple[RigidBody, ...]
    """One a part."""
    settings: AssetSettings
    orientation: Orientation
    metres_per_unit: float
    """Of the canonical frame."""
    origin_canonical: Float[np.ndarray, "3"]
    """Where the asset's origin lies in the canonical frame."""
    predicted_amounts: tuple[float, ...]
    """One a joint: how far it moves by the prediction, rad or m."""
    cleared_share: float
    """Share of the body's collision that gave way to the parts."""
    photo_shares: tuple[float | None, ...]
    """Of each part's texture, how much shows the photo; None without a photo."""
    confidences: tuple[float, ...]
    """One a joint."""
    model_name: str
    model_hash: str
    timings_s: dict[str, float]
    """Seconds of each step."""

    def to_canonical(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Points of the asset's frame (metres) in the prediction's frame."""
        return self.origin_canonical + points @ self.orientation.R_asset_canonical / self.metres_per_unit


def build_asset(
    predicted: PredictedObject | PredictedParts, settings: AssetSettings | None = None, name: str = "object"
) -> Asset:
    """Make the asset of one prediction, or of several that :func:`merge_parts` has merged.

    Raises:
        AssetError: an uncertain prediction without ``force``, a part without surface, an up without length.
        PackageMissingError: a package of the extra ``export`` is missing.
    """
    settings = settings or AssetSettings()
    parts = predicted if isinstance(predicted, PredictedParts) else as_parts(predicted)
    _check_certain(parts, settings)
    clock = _Clock()
    Thread(target=_import_ahead, daemon=True).start()
    orientation = estimate_orientation(parts) if settings.up is None else given_up(settings.up, parts)
    clock.lap("orientation")
    T = T_asset_canonical(orientation)
    turned = parts.before.transformed(T.float())
    voxel = extent(turned) / VOXELS
    names = ("body", *parts.names)
    body = turned[parts.part == 0]
    if parts.photo is not None:
        camera = parts.photo.camera.transformed(T.float())[0]
        body = with_flat_faces(body, shown_to(camera, turned)[parts.part == 0])
    clock.lap("faces")
    with ThreadPoolExecutor(min(len(names), THREADS)) as pool:
        own = [body, *(turned[parts.part == number] for number in range(1, len(names)))]
        tasks = [pool.submit(mesh_part, splats, voxel, what, FACES) for splats, what in zip(own, names, strict=True)]
        solids = [task.result() for task in tasks]
    clock.lap("meshes")
    # The photo's camera lives in units of the prediction: textures come before metres.
    view = None
    if parts.photo is not None:
        view = see_parts(parts.photo, parts.photo.camera.transformed(T.float()), solids)
    with ThreadPoolExecutor(min(len(names), THREADS)) as pool:
        numbers = range(len(solids))
        textures = list(pool.map(lambda n: bake_texture(solids[n], n, view, settings.texture_px), numbers))
    clock.lap("textures")
    scale, shift = _to_metres(solids, settings.size_m)
    solids = [_scaled(solid, scale, shift) for solid in solids]
    motions = [_in_asset(joint, T, scale, shift) for joint in parts.joints]
    contact = _collide(solids, motions, parts.parents, settings)
    clock.lap("collision")
    masses = [mass_properties(solid.vertices, solid.faces, settings.density) for solid in solids]
    dynamics = [
        joint_dynamics(m.type, m.axis.double().numpy(), m.pivot.double().numpy(), mass)
        for m, mass in zip(motions, masses[1:], strict=True)
    ]
    clock.lap("physics")
    return Asset(
        object=_articulated(name, names, solids, textures, motions, parts.parents, contact.limits),
        bodies=tuple(map(RigidBody, contact.shapes, masses, (None, *dynamics))),
        settings=settings,
        orientation=orientation,
        metres_per_unit=scale,
        origin_canonical=-orientation.R_asset_canonical.T @ shift,
        predicted_amounts=tuple(motion.amount for motion in motions),
        cleared_share=contact.cleared_share,
        photo_shares=tuple(None if view is None else t.photo_share for t in textures),
        confidences=tuple(joint.confidence for joint in parts.joints),
        model_name=parts.model_name,
        model_hash=parts.model_hash,
        timings_s=clock.laps,
    )


def _import_ahead() -> None:
    """Import what the masses need while one core has nothing to do; who needs it says when it is missing."""
    with suppress(ImportError):
        import_module("trimesh")


def _check_certain(parts: PredictedParts, settings: AssetSettings) -> None:
    for what, joint in zip(parts.names, parts.joints, strict=True):
        if joint.confidence < MIN_CONFIDENCE and not settings.force:
            of = "" if len(parts.joints) == 1 else f" of {what}"
            raise AssetError(
                f"the prediction{of} is uncertain (confidence {joint.confidence:.2f}, below {MIN_CONFIDENCE:g}): "
                "try another drag, or export it all the same with force"
            )


@dataclass(frozen=True)
class _Contact:
    """What meets what."""

    limits: list[tuple[float, float]]
    """Of each part's joint; 0 is the state in the picture."""
    shapes: list[tuple[Box | Hull, ...]]
    """Of the body and each part."""
    cleared_share: float


def _collide(
    solids: list[SolidPart], motions: list[JointMotion], parents: Sequence[int], settings: AssetSettings
) -> _Contact:
    """Collision and ranges: whatever carries a part gives way to all that the part sweeps."""
    grid = CellGrid.around(solids, settings.size_m / CELLS)
    cells = [grid.occupied(solid) for solid in solids]
    # At rest a cell belongs to one part, the smaller one.
    taken = np.zeros(grid.shape, bool)
    for number in sorted(range(1, len(solids)), key=lambda n: int(cells[n].sum())):
        cells[number] = cells[number] & ~taken
        taken |= cells[number]
    count, whole = len(solids), list(cells)
    limits, boxes = [(0.0, 0.0)] * count, [[] for _ in solids]
    for number in reversed(range(1, count)):
        above, motion, part = parents[number - 1], motions[number - 1], solids[number]
        boxes[number] = part_boxes(grid, part, cells[number])
        limits[number] = _limits(motion, grid, whole[above], boxes[number], part, solids[above], settings.range)
        steps = _steps(motion, *limits[number], part, grid)
        cells[above] = cleared(grid, cells[above], boxes[number], _poses(motion, *limits[number], steps))
    for number in range(1, count):
        # What hangs on a part goes where both joints take it.
        poses, on = None, number
        while on:
            steps = _steps(motions[on - 1], *limits[on], solids[number], grid)
            own = _poses(motions[on - 1], *limits[on], steps)
            poses = own if poses is None else (own[:, None] @ poses[None]).reshape(-1, 4, 4)
            on = parents[on - 1]
        if poses is not None and parents[number - 1]:
            cells[0] = cleared(grid, cells[0], boxes[number], poses)
    shapes: list[tuple[Box | Hull, ...]]
    if settings.collision == "boxes":
        shapes = [tuple(grid.boxes(cells[0])), *(tuple(own) for own in boxes[1:])]
    else:
        shapes = [tuple(convex_hulls(solid.vertices, solid.faces)) for solid in solids]
    return _Contact(limits[1:], shapes, 1 - float(cells[0].sum()) / max(1, int(whole[0].sum())))


class _Clock:
    """Seconds between laps."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name], self._last = now - self._last, now


def _to_metres(solids: list[SolidPart], size_m: float) -> tuple[float, Float[np.ndarray, "3"]]:
    """Scale and shift (before scaling) that put the object on the floor, above the origin, at its size."""
    points = np.concatenate([solid.vertices for solid in solids])
    low, high = points.min(0), points.max(0)
    scale = size_m / float(np.linalg.norm(high - low))
    return scale, -np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])


def _scaled(solid: SolidPart, scale: float, shift: Float[np.ndarray, "3"]) -> SolidPart:
    grid = solid.grid
    moved = DensityGrid(grid.density, grid.colors, scale * (grid.low + shift), scale * grid.voxel)
    return replace(solid, vertices=scale * (solid.vertices + shift), grid=moved)


def _in_asset(
    joint: JointMotion, T: Float[torch.Tensor, "4 4"], scale: float, shift: Float[np.ndarray, "3"]
) -> JointMotion:
    """The joint in metres in the asset's frame, double precision."""
    axis = torch.nn.functional.normalize(T[:3, :3] @ joint.axis.double(), dim=0)
    pivot = scale * (T[:3, :3] @ joint.pivot.double() + torch.from_numpy(shift))
    amount = joint.amount * (scale if joint.type == JointType.PRISMATIC else 1.0)
    return replace(joint, axis=axis, pivot=pivot, amount=amount)


def _poses(motion: JointMotion, start: float, end: float, steps: int) -> Float[np.ndarray, "steps 4 4"]:
    """``T_asset_rest`` of the part at joint positions from ``start`` to ``end``."""
    q = torch.linspace(start, end, steps, dtype=torch.float64)
    prismatic = torch.full((steps,), motion.type == JointType.PRISMATIC)
    return screw_motion(motion.axis.expand(steps, 3), motion.pivot.expand(steps, 3), q, prismatic).numpy()


def _steps(motion: JointMotion, start: float, end: float, part: SolidPart, grid: CellGrid) -> int:
    """So many that no point of the part moves by more than half a cell in one."""
    arm = 1.0
    if motion.type != JointType.PRISMATIC:
        axis, pivot = motion.axis.numpy(), motion.pivot.numpy()
        arm = float(np.linalg.norm(np.cross(part.vertices - pivot, axis), axis=1).max())
    return 2 + math.ceil(abs(end - start) * arm / (0.5 * grid.cell))


def _limits(
    motion: JointMotion,
    grid: CellGrid,
    cells: np.ndarray,
    boxes: list[Box],
    part: SolidPart,
    body: SolidPart,
    kind: RangeKind,
) -> tuple[float, float]:
    """Least and greatest joint position; 0 is the state in the picture."""
    lower, upper = sorted((0.0, motion.amount))
    if kind == "predicted":
        return lower, upper
    usual = usual_length(motion.type, motion.axis.numpy(), body)
    # What the part meets along the predicted motion is an error of the shapes, not a stop.
    free = cleared(grid, cells, boxes, _poses(motion, lower, upper, _steps(motion, lower, upper, part, grid)))
    stops = np.argwhere(free)
    if motion.type != JointType.PRISMATIC:
        # Beside a hinge everything is near: that is no stop.
        away = np.linalg.norm(np.cross(grid.centres(stops) - motion.pivot.numpy(), motion.axis.numpy()), axis=1)
        stops = stops[away > HINGE_CELLS * grid.cell]

    def end(start: float, goal: float) -> tuple[float, bool]:
        """How far the part gets, and whether the body stops it."""
        free_steps = reachable(grid, stops, boxes, _poses(motion, start, goal, RANGE_STEPS))
        return start + (goal - start) * (max(1, free_steps) - 1) / (RANGE_STEPS - 1), free_steps < RANGE_STEPS

    closed, stopped = end(lower, lower - usual)
    # A part that meets nothing on the way back tells no closed end: it stays where the picture has it.
    lower = closed if stopped else lower
    return lower, end(upper, lower + usual)[0] if upper < lower + usual else upper


def _articulated(
    name: str,
    names: Sequence[str],
    solids: list[SolidPart],
    textures: list[Texture],
    motions: list[JointMotion],
    parents: Sequence[int],
    limits: list[tuple[float, float]],
) -> ArticulatedObject:
    parts, materials = [], []
    for slot, (solid, texture) in enumerate(zip(solids, textures, strict=True)):
        slots, own = np.full(len(solid.faces), slot), None
        if slot:
            motion = motions[slot - 1]
            x, y, z = motion.axis.tolist()
            a, b, c = motion.pivot.tolist()
            called = names[slot].replace("part", "joint")
            own = Joint(called, motion.type, parents[slot - 1], (x, y, z), (a, b, c), *limits[slot - 1])
        parts.append(Part(names[slot], solid.vertices, solid.faces, slots, own, texture.corner_uv))
        role = Role.BODY if slot == 0 else Role.MOVING
        materials.append(Material(f"slot_{slot}", (1.0, 1.0, 1.0), role, texture=texture.image))
    return ArticulatedObject(name, "object", tuple(parts), tuple(materials), "partrm:prediction")
