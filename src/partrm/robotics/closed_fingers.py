"""What closed fingers can meet: straight ways to points well inside the part, to feel it there or to push it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from partrm.robotics.arcs import Vector, across
from partrm.robotics.grasps import Grasp, GraspScene, Gripper, distinct, spread, turned

TURNS = 4
"""Of the gripper about the line of sight: that many are tried, over half a turn."""

FOREMOST = 0.25
"""Of the believed points before the fingers so many lie before the surface that is met: they are uneven."""

DEEP_M = 0.04
"""What lies so far behind the foremost point before the fingers is not met by them."""

MARGIN_M = 0.015
"""So wide about the closed fingers nothing but the part may be seen."""

HAND_FREE_M = 0.03
"""So far must the hand be from what is believed when the fingers meet it."""

BEFORE_M = 0.012
"""So far before the believed surface a push is planned to begin: it is uneven."""

NEAR_M = 0.2
"""Nothing farther from a point is looked at."""

PLANE_M = 0.03
"""Radius about a point in which the part's plane is laid."""


@dataclass(frozen=True)
class Probe:
    """A straight way of the closed fingers, from before to behind the believed surface."""

    T_object_gripper: Float[np.ndarray, "4 4"]
    """Where the fingers would meet the believed surface; z is the way."""
    normal: Vector
    """Of that surface there, away from the camera."""


def probes_at(
    scene: GraspScene, point: Vector, wanted: Callable[[Vector], bool] = lambda normal: True
) -> Iterator[Probe]:
    """Ways of closed fingers that meet the believed part, and nothing else, near a point of it, the hand well behind.

    Along the line of sight; where the hand would meet something first, between it and the surface's normal, or along
    that. Nowhere if the surface's normal is not wanted.
    """
    gripper, sight = Gripper(), point - scene.seen_from
    sight = sight / np.linalg.norm(sight)
    away = np.linalg.norm(scene.points - point, axis=1)
    points, moving = scene.points[away < NEAR_M] - point, scene.moving[away < NEAR_M]
    plane = points[moving & (away[away < NEAR_M] < PLANE_M)]
    normal = np.linalg.svd(plane - plane.mean(0), full_matrices=False)[2][-1] if len(plane) >= 3 else sight
    normal = normal if normal @ sight > 0 else -normal
    if not wanted(normal):
        return
    for z in (sight, sight + normal, normal):
        z = z / np.linalg.norm(z)
        for y in turned(*across(z), TURNS, np.pi):
            T = np.eye(4)
            T[:3, :3] = np.stack([np.cross(y, z), y, z], 1)
            local = points @ T[:3, :3]
            beside = np.abs(local[:, :2]) - gripper.finger_half_width  # closed tips are square
            column, fingers = (beside < MARGIN_M).all(1), (beside < 0).all(1)
            only_part = moving[column][local[column, 2] < local[column, 2].min() + DEEP_M].all()
            ahead = local[fingers, 2]
            meets = float(np.quantile(ahead[ahead < ahead.min() + DEEP_M], FOREMOST))
            hand = (np.abs(local[:, :2]) < [gripper.palm_half_width, gripper.palm_half_length]).all(1)
            if only_part and local[hand, 2].min() + gripper.finger_length > meets + HAND_FREE_M:
                T[:3, 3] = point + (meets - gripper.tip_m) * z
                yield Probe(T, normal)


@dataclass(frozen=True)
class PushSettings:
    """What counts as a push; metres."""

    count: int = 3
    """That are tried, at most."""
    places: int = 40
    """Points of the part that are looked at."""
    along: float = 0.7
    """Cosine between the way that the part goes there and the surface's normal, at least."""


def find_pushes(
    scene: GraspScene, way_at: Callable[[Vector], Vector], settings: PushSettings, allowed: Callable[[Grasp], bool]
) -> list[Grasp]:
    """Where the part goes away from the camera: places at which closed fingers can push it, the best first.

    Args:
        scene: what is believed.
        way_at: unit direction in which the part moves at a point of it.
        settings: what counts.
        allowed: whether a push is.
    """
    part, found = np.flatnonzero(scene.moving), []
    for index in part[spread(scene.points[part], settings.places)] if len(part) else ():
        place = scene.points[index]
        way = way_at(place)
        for probe in probes_at(scene, place, lambda normal, way=way: float(normal @ way) > settings.along):
            score = float((probe.normal + probe.T_object_gripper[:3, 2]) @ way + scene.lever[index])
            T = probe.T_object_gripper.copy()
            T[:3, 3] -= BEFORE_M * T[:3, 2]
            found.append(Grasp(T, 0.0, 0.0, score))
    return distinct(found, settings.count, allowed)
