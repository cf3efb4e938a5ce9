"""The articulated asset in metres, and how it is made from a prediction."""

import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
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
from partrm.assets.texturing import Texture, bake_texture, see_parts
from partrm.errors import ConfigError, require_ranges
from partrm.geometry.joints import MIN_CONFIDENCE, JointMotion, JointType
from partrm.geometry.transforms import screw_motion
from partrm.objects.articulated_object import ArticulatedObject, Joint, Part
from partrm.objects.materials import Material, Role

RANGE_STEPS = 60
"""Steps in which it is looked how far a part can move beyond the predicted motion."""

HINGE_CELLS = 4.0
"""Distance from a hinge, in cells of the collision grid, within which the body does not stop the part."""

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
        for name, value in (("size", self.size_m), ("density", self.density)):
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} {value:g}: give a positive number")
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
    predicted_amount: float
    """How far the joint of the last part moves by the prediction, rad or m."""
    cleared_share: float
    """Share of the body's collision that gave way to the part."""
    photo_shares: tuple[float | None, ...]
    """Of each part's texture, how much shows the photo; None without a photo."""
    confidence: float
    model_name: str
    model_hash: str
    timings_s: dict[str, float]
    """Seconds of each step."""

    def to_canonical(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Points of the asset's frame (metres) in the prediction's frame."""
        return self.origin_canonical + points @ self.orientation.R_asset_canonical / self.metres_per_unit


def build_asset(predicted: PredictedObject, settings: AssetSettings | None = None, name: str = "object") -> Asset:
    """Make the asset of one prediction.

    Raises:
        AssetError: an uncertain prediction without ``force``, a part without surface, an up without length.
        PackageMissingError: a package of the extra ``export`` is missing.
    """
    settings = settings or AssetSettings()
    joint = predicted.joint
    if joint.confidence < MIN_CONFIDENCE and not settings.force:
        raise AssetError(
            f"the prediction is uncertain (confidence {joint.confidence:.2f}, below {MIN_CONFIDENCE:g}): "
            "try another drag, or export it all the same with force"
        )
    clock = _Clock()
    orientation = estimate_orientation(predicted) if settings.up is None else given_up(settings.up, predicted)
    clock.lap("orientation")
    T = T_asset_canonical(orientation)
    turned = predicted.before.transformed(T.float())
    voxel = extent(turned) / VOXELS
    masks, names = (~predicted.moving, predicted.moving), ("body", "part")
    with ThreadPoolExecutor(len(masks)) as pool:
        solids = list(pool.map(lambda mask, what: mesh_part(turned[mask], voxel, what, FACES), masks, names))
    clock.lap("meshes")
    # The photo's camera lives in units of the prediction: textures come before metres.
    view = None
    if predicted.photo is not None:
        view = see_parts(predicted.photo, predicted.photo.camera.transformed(T.float()), solids)
    with ThreadPoolExecutor(len(solids)) as pool:
        numbers = range(len(solids))
        textures = list(pool.map(lambda n: bake_texture(solids[n], n, view, settings.texture_px), numbers))
    clock.lap("textures")
    scale, shift = _to_metres(solids, settings.size_m)
    body, part = (_scaled(solid, scale, shift) for solid in solids)
    motion = _in_asset(joint, T, scale, shift)
    grid = CellGrid.around([body, part], settings.size_m / CELLS)
    boxes, cells = part_boxes(grid, part), grid.occupied(body)
    limits = _limits(motion, grid, cells, boxes, part, body, settings.range)
    left = cleared(grid, cells, boxes, _poses(motion, *limits, _steps(motion, *limits, part, grid)))
    shapes = _shapes(grid, left, boxes, body, part, settings.collision)
    clock.lap("collision")
    masses = [mass_properties(solid.vertices, solid.faces, settings.density) for solid in (body, part)]
    axis, pivot = motion.axis.double().numpy(), motion.pivot.double().numpy()
    dynamics = joint_dynamics(motion.type, axis, pivot, masses[1])
    clock.lap("physics")
    return Asset(
        object=_articulated(name, [body, part], textures, motion, limits),
        bodies=(RigidBody(shapes[0], masses[0], None), RigidBody(shapes[1], masses[1], dynamics)),
        settings=settings,
        orientation=orientation,
        metres_per_unit=scale,
        origin_canonical=-orientation.R_asset_canonical.T @ shift,
        predicted_amount=motion.amount,
        cleared_share=1 - float(left.sum()) / max(1, int(cells.sum())),
        photo_shares=tuple(None if view is None else t.photo_share for t in textures),
        confidence=joint.confidence,
        model_name=predicted.model_name,
        model_hash=predicted.model_hash,
        timings_s=clock.laps,
    )


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


def _shapes(
    grid: CellGrid, left: np.ndarray, boxes: list[Box], body: SolidPart, part: SolidPart, kind: CollisionKind
) -> tuple[tuple[Box | Hull, ...], tuple[Box | Hull, ...]]:
    """Collision of body and part."""
    if kind == "boxes":
        return tuple(grid.boxes(left)), tuple(boxes)
    return tuple(convex_hulls(body.vertices, body.faces)), tuple(convex_hulls(part.vertices, part.faces))


def _articulated(
    name: str, solids: list[SolidPart], textures: list[Texture], motion: JointMotion, limits: tuple[float, float]
) -> ArticulatedObject:
    x, y, z = motion.axis.tolist()
    a, b, c = motion.pivot.tolist()
    joint = Joint("joint", motion.type, 0, (x, y, z), (a, b, c), *limits)
    parts, materials = [], []
    for slot, (solid, texture) in enumerate(zip(solids, textures, strict=True)):
        slots = np.full(len(solid.faces), slot)
        what, own = ("body", None) if slot == 0 else ("part", joint)
        parts.append(Part(what, solid.vertices, solid.faces, slots, own, texture.corner_uv))
        role = Role.BODY if slot == 0 else Role.MOVING
        materials.append(Material(f"slot_{slot}", (1.0, 1.0, 1.0), role, texture=texture.image))
    return ArticulatedObject(name, "object", tuple(parts), tuple(materials), "partrm:prediction")
