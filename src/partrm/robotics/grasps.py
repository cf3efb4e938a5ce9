"""Where a gripper can take hold of a part: by points of its surface, as a prediction or a depth camera gives them.

A gripper frame has its origin between the finger tips, z the way it approaches, y the way its fingers close. A grasp is
antipodal in the sense that the part, and nothing else, lies between the open fingers, and that the fingers and the hand
find free space beside it: a handle, a knob, a rim, the edge of a panel.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree

from partrm.geometry.transforms import even_directions
from partrm.robotics._kernels import depths
from partrm.robotics.arcs import Vector, across

PLANE_M = 0.1
"""Radius about a place in which the part's plane is laid."""

TILTS_RAD = (0.0, -0.4, 0.4)
"""Against the surface: over an edge about that edge, into the surface about two directions along it."""

EDGES, FACE_TURNS = 12, 8
"""Directions along a surface in which edges are looked for; turns of the fingers about its normal."""

FACE = len(TILTS_RAD) * EDGES
"""Of the orientations at a place, so many go over an edge, first; then come those into the surface."""

FREE = FACE + FACE_TURNS * (2 * len(TILTS_RAD) - 1)
"""From here on they come from everywhere."""


@dataclass(frozen=True)
class Gripper:
    """Sizes of a parallel gripper, metres; those of the Franka hand."""

    openings: tuple[float, ...] = (0.08, 0.045)
    """Between the fingers before they close, the widest first."""
    finger_thickness: float = 0.022
    finger_half_width: float = 0.011
    pad_half_width: float = 0.0085
    finger_length: float = 0.053
    """From the palm to the tips."""
    tip_m: float = 0.009
    """Tips reach so far beyond the origin."""
    palm_half_width: float = 0.033
    palm_half_length: float = 0.104
    """Along y."""
    hand_m: float = 0.066
    """From the palm to the flange."""
    flange_radius: float = 0.055
    flange_m: float = 0.1
    """Length of the flange and the last link."""


@dataclass(frozen=True)
class GraspSettings:
    """What counts as a grasp; metres."""

    radius: float = 0.25
    """Grasps are looked for so near to where the drag starts."""
    places: int = 40
    """Points of the part that are tried."""
    handle: float = 0.04
    places_at_start: int = 12
    """More of them, so near to where the drag starts."""
    directions: int = 26
    """Approaches over the whole sphere, beside those along the surface's normal and edges."""
    turns: int = 4
    """Of the fingers about each of them."""
    clearance: float = 0.004
    """Between the gripper and what it must not touch."""
    min_overlap: float = 0.009
    """So deep must the part lie between the fingers."""
    good_overlap: float = 0.025
    """Deeper is no better."""
    max_lean: float = 1.0
    """Of the surfaces that the fingers close on, against the fingers (tangent); predicted handles have soft slopes."""
    min_points: int = 4
    """Of the part between the fingers."""
    strays: int = 3
    """So many points in the way are taken for noise."""
    kept_at_place: int = 8
    kept: int = 16
    gripper: Gripper = field(default_factory=Gripper)


@dataclass(frozen=True)
class Grasp:
    """A pose of the gripper in which it can close."""

    T_object_gripper: Float[np.ndarray, "4 4"]
    """Object frame, metres."""
    opening: float
    """Between the fingers before they close; 0 of a push, which they make closed."""
    overlap: float
    """How deep the part lies between them."""
    score: float
    """The more the better."""

    @property
    def pushes(self) -> bool:
        """Whether it is a push with closed fingers."""
        return self.opening == 0

    @property
    def flipped(self) -> "Grasp":
        """The same with the fingers exchanged."""
        T = self.T_object_gripper.copy()
        T[:3, :2] *= -1
        return Grasp(T, self.opening, self.overlap, self.score)

    def shifted(self, along: float) -> "Grasp":
        """The same, moved along the way its fingers close (m)."""
        T = self.T_object_gripper.copy()
        T[:3, 3] += along * T[:3, 1]
        return Grasp(T, self.opening, self.overlap, self.score)

    @property
    def approach(self) -> Vector:
        """Unit direction."""
        return self.T_object_gripper[:3, 2]

    def is_like(self, other: "Grasp") -> bool:
        """Whether the two lie within 2 cm and 30 degrees of each other, the fingers exchanged or not."""
        T, T_other = self.T_object_gripper, other.T_object_gripper
        return bool(
            np.linalg.norm(T_other[:3, 3] - T[:3, 3]) < 0.02
            and other.approach @ self.approach > 0.87
            and abs(T_other[:3, 1] @ T[:3, 1]) > 0.87
        )


@dataclass(frozen=True)
class GraspScene:
    """What grasps are chosen by; object frame, metres."""

    points: Float[np.ndarray, "n 3"]
    """Of the surfaces of the object."""
    moving: Bool[np.ndarray, " n"]
    """Which of them are the part's."""
    start: Vector
    """Where the drag starts."""
    way: Vector
    """Unit direction in which the part moves there."""
    lever: Float[np.ndarray, " n"]
    """How far the joint moves each point, as a share of the farthest."""
    seen_from: Vector
    """Where the camera stands."""


def find_grasps(scene: GraspScene, settings: GraspSettings, allowed: Callable[[Grasp], bool]) -> list[Grasp]:
    """The grasps of a part that are allowed, the best first and no two alike.

    None where fingers find no room beside the part.
    """
    part = np.flatnonzero(scene.moving)
    near = part[np.linalg.norm(scene.points[part] - scene.start, axis=1) < settings.radius]
    if not len(near):
        return []
    found: list[Grasp] = []
    tree, part_tree = KDTree(scene.points), KDTree(scene.points[part])
    close = np.linalg.norm(scene.points[near] - scene.start, axis=1) < settings.handle
    tried = spread(scene.points[near], settings.places)
    if close.any():  # what is dragged is most often a handle, which even places miss
        tried = np.union1d(tried, np.flatnonzero(close)[spread(scene.points[near[close]], settings.places_at_start)])
    for index in tried:
        place = scene.points[near[index]]
        around = part[part_tree.query_ball_point(place, PLANE_M)]
        rotations = orientations(scene.points[around], place, scene, settings)
        about = np.array(tree.query_ball_point(place, 0.115))
        for opening in settings.gripper.openings:
            found += fitting(scene, place, about, rotations, opening, settings)
    return distinct(found, settings.kept, allowed)


def spread(points: Float[np.ndarray, "n 3"], count: int) -> Int[np.ndarray, " m"]:
    """Indices of points far apart from each other, the first of which is the first."""
    chosen, distance = [0], np.linalg.norm(points - points[0], axis=1)
    while len(chosen) < min(count, len(points)) and distance.max() > 0:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return np.array(chosen)


def orientations(
    around: Float[np.ndarray, "k 3"], place: Vector, scene: GraspScene, settings: GraspSettings
) -> Float[np.ndarray, "r 3 3"]:
    """Rotations (columns x, y, z) that are tried at a place: over edges, into the surface, and from everywhere."""
    view = place - scene.seen_from
    view = view / np.linalg.norm(view)
    normal = np.linalg.svd(around - around.mean(0), full_matrices=False)[2][-1] if len(around) >= 3 else -view
    inward = normal if normal @ view > 0 else -normal
    # Over an edge, the fingers to both sides of the sheet.
    first, second = across(inward)
    along = turned(first, second, EDGES, 2 * np.pi)[:, None]
    tilt = np.array(TILTS_RAD)[:, None]
    over = (np.cos(tilt) * along + np.sin(tilt) * inward, np.cos(tilt) * inward - np.sin(tilt) * along)
    leant = [np.cos(t) * inward + np.sin(t) * way for way in (first, second) for t in TILTS_RAD[1:]]
    face = np.repeat(np.stack([inward, *leant]), FACE_TURNS, 0)
    fingers = np.tile(turned(first, second, FACE_TURNS, np.pi), (len(leant) + 1, 1))
    fingers -= face * (face * fingers).sum(1, keepdims=True)
    fingers /= np.linalg.norm(fingers, axis=1, keepdims=True)
    directions = even_directions(settings.directions).numpy()
    directions = directions[directions @ view > -0.3]  # from behind nothing is known
    closing = np.stack([turned(*across(d), settings.turns, np.pi) for d in directions])
    approach = np.broadcast_to(directions[:, None], closing.shape)
    z = np.concatenate([over[0].reshape(-1, 3), face, approach.reshape(-1, 3)])
    y = np.concatenate([over[1].reshape(-1, 3), fingers, closing.reshape(-1, 3)])
    return np.stack([np.cross(y, z), y, z], 2)


def turned(first: Vector, second: Vector, count: int, angle: float) -> Float[np.ndarray, "count 3"]:
    """Unit directions from one towards another at right angles, at equal steps of some angle in all (rad)."""
    steps = np.arange(count)[:, None] * angle / count
    return np.cos(steps) * first + np.sin(steps) * second


def fitting(
    scene: GraspScene,
    place: Vector,
    about: Int[np.ndarray, " k"],
    rotations: Float[np.ndarray, "r 3 3"],
    opening: float,
    settings: GraspSettings,
) -> Iterator[Grasp]:
    """Grasps at a place, as deep as the gripper can come."""
    g, s = settings.gripper, settings
    sizes = (
        g.pad_half_width, g.finger_half_width + s.clearance, g.finger_thickness + s.clearance, g.finger_length,
        g.palm_half_width, g.palm_half_length,
    )  # fmt: skip
    local, moving = scene.points[about] - place, scene.moving[about]
    found = depths(local, moving, rotations, 0.5 * opening, sizes, s.clearance, s.strays, s.good_overlap)
    shift, front, tip, end, held, lean, touching = found.T
    fits = np.isfinite(front) & (held >= s.min_points) & (lean < s.max_lean)
    overlap = np.subtract(tip, front, out=np.zeros_like(tip), where=fits)
    fits &= overlap >= s.min_overlap
    view = place - scene.seen_from
    here = about[int(np.linalg.norm(local, axis=1).argmin())]
    score = overlap / s.good_overlap + 0.8 * scene.lever[here] - 2.0 * np.linalg.norm(place - scene.start)
    score += 0.7 * (touching - lean) - 0.2 * (opening < max(g.openings))
    score[FACE:FREE] += 0.3  # what it meets at the end tells how deep it is
    score[FREE:] -= 0.3
    score += 0.4 * np.abs(rotations[:, :, 1] @ scene.way)
    score += 0.3 * np.minimum(rotations[:, :, 2] @ view / np.linalg.norm(view), 0.5)
    for row in np.flatnonzero(fits)[np.argsort(-score[fits])][: s.kept_at_place]:
        T = np.eye(4)
        T[:3, :3] = rotations[row]
        T[:3, 3] = place + rotations[row] @ np.array([0.0, shift[row], end[row] - g.tip_m])
        yield Grasp(T, opening, float(overlap[row]), float(score[row]))


def inside_gripper(
    points: Float[np.ndarray, "n 3"], opening: float, gripper: Gripper, back: float = 0.0
) -> Bool[np.ndarray, " n"]:
    """Which points, in the gripper's frame, its open fingers, its hand or its flange would meet.

    Args:
        points: metres.
        opening: between the fingers; what is between them is not met.
        gripper: its sizes.
        back: the gripper comes straight from so far.
    """
    g = gripper
    x, y, z = np.abs(points[:, 0]), np.abs(points[:, 1]), points[:, 2]
    palm = g.tip_m - g.finger_length
    beside = (y > 0.5 * opening) & (y < 0.5 * opening + g.finger_thickness)
    fingers = (x < g.finger_half_width) & beside & (z > palm) & (z < g.tip_m)
    hand = (x < g.palm_half_width) & (y < g.palm_half_length) & (z <= palm) & (z > palm - g.hand_m - back)
    flange = (np.hypot(x, y) < g.flange_radius) & (z <= palm) & (z > palm - g.hand_m - g.flange_m - back)
    return fingers | hand | flange


def distinct(grasps: list[Grasp], count: int, allowed: Callable[[Grasp], bool]) -> list[Grasp]:
    """The best grasps that are allowed, none like a better one."""
    kept: list[Grasp] = []
    for grasp in sorted(grasps, key=lambda g: -g.score):
        if len(kept) == count:
            break
        if not any(grasp.is_like(other) for other in kept) and allowed(grasp):
            kept.append(grasp)
    return kept
