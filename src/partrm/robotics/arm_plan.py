"""What an arm makes of a prediction before it moves: where it stands, which grasp it takes, whether it can follow.

Nothing here knows the true object.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from partrm.geometry.joints import JointType
from partrm.robotics.arcs import Arc, Vector
from partrm.robotics.closed_fingers import PushSettings, find_pushes
from partrm.robotics.grasps import Grasp, GraspScene, GraspSettings, find_grasps, inside_gripper
from partrm.robotics.panda import HOME, Kinematics, Reached

SHOULDER_M, WRIST_M, ARM_M = 0.333, 0.21, 0.80
"""Height of the shoulder; from between the finger tips back to the last joint; the straight arm between the two."""

LEFT = 0.25
"""Of a motion that should be over at least so much is believed to be left."""

Unplanned = Literal["no grasp", "out of reach"]
"""Why there is no plan."""


@dataclass(frozen=True)
class BelievedObject:
    """All that an arm knows of an object; object frame, metres: a calibrated camera's, and the size is given."""

    points: Float[np.ndarray, "n 3"]
    """Of its surfaces."""
    moving: np.ndarray
    """[n] which of them are the part's."""
    start: Vector
    """The point of the part that the drag starts on."""
    joint: JointType
    axis: Vector
    """Unit; the motion is right-handed about it or along it."""
    pivot: Vector
    amount: float
    """Of the motion, positive; radians or metres."""
    seen_from: Vector
    """Where the camera stands."""

    def thinned(self, spacing: float) -> "BelievedObject":
        """The same with one point of the part, and one of the rest, in each cell of a grid."""
        cells = np.column_stack([np.floor(self.points / spacing).astype(np.int64), self.moving])
        kept = np.sort(np.unique(cells, axis=0, return_index=True)[1])
        return replace(self, points=self.points[kept], moving=self.moving[kept])

    def arc(self, point: Vector) -> Arc:
        """The way of a point of the part."""
        return Arc.of_joint(self.joint, self.axis, self.pivot, point)

    def length(self, point: Vector) -> float:
        """Of that way, as far as the motion goes (m)."""
        radius = 1.0 / np.linalg.norm(self.arc(point).curvature) if self.joint != JointType.PRISMATIC else 1.0
        return float(self.amount * radius)

    def carried(self, share: float) -> Float[np.ndarray, "4 4"]:
        """``T_object_object`` of the part after a share of the motion."""
        T = np.eye(4)
        if self.joint == JointType.PRISMATIC:
            T[:3, 3] = share * self.amount * self.axis
        else:
            T[:3, :3] = Rotation.from_rotvec(share * self.amount * self.axis).as_matrix()
            T[:3, 3] = self.pivot - T[:3, :3] @ self.pivot
        return T

    def moved(self, T_object_object: Float[np.ndarray, "4 4"], share: float) -> "BelievedObject":
        """The same after a motion of the part, which was a share of what is believed; some of it is always left."""
        points = self.points.copy()
        points[self.moving] = points[self.moving] @ T_object_object[:3, :3].T + T_object_object[:3, 3]
        start = T_object_object[:3, :3] @ self.start + T_object_object[:3, 3]
        return replace(self, points=points, start=start, amount=self.amount * max(1 - share, LEFT))

    def grasp_scene(self) -> GraspScene:
        """What grasps are chosen by."""
        lever = np.ones(len(self.points))
        if self.joint != JointType.PRISMATIC:
            radius = np.linalg.norm(np.cross(self.points - self.pivot, self.axis), axis=1)
            lever = radius / max(float(radius[self.moving].max(initial=0.0)), 1e-9)
        way = self.arc(self.start).tangent
        return GraspScene(self.points, self.moving, self.start, way, lever, self.seen_from)


@dataclass(frozen=True)
class PlanSettings:
    """Where an arm may stand and what it looks ahead at; metres."""

    azimuths_deg: tuple[float, ...] = (0.0, 40.0, -40.0, 80.0, -80.0)
    """Of the base about the held point, from the camera's side."""
    distances: tuple[float, ...] = (0.5, 0.65)
    """From its axis to the held point, level."""
    drops: tuple[float, ...] = (0.25, 0.5)
    """Of its foot below the held point."""
    pregrasp: float = 0.1
    """Straight before the grasp."""
    steps: int = 8
    """Poses along the predicted motion that must be reached."""
    beyond: tuple[float, ...] = (1.6, 1.0)
    """As far as that share of the predicted motion, which most often ends before the true one: the farthest that the
    arm reaches with the best grasp."""
    step_turn: float = 1.0
    """No joint turns farther than that from one of these poses to the next (rad)."""
    spacing: float = 0.005
    """Of the object's points; denser ones are thinned out."""
    link_radius: float = 0.06
    """So near may the middle of a link come to what is seen of the object."""
    tries: int = 8
    """Grasps that are tried from one place, one after the other while none holds, at most."""
    shifts: tuple[float, ...] = (0.025, -0.025)
    """Of the best grasp along the way its fingers close: these count as others."""
    retry_turn: float = 2.0
    """No joint turns farther than that between two of them (rad)."""
    grasps: GraspSettings = field(default_factory=GraspSettings)
    pushes: PushSettings = field(default_factory=PushSettings)


@dataclass(frozen=True)
class PlannedGrasp:
    """A grasp from which the arm can follow the predicted motion."""

    grasp: Grasp
    q_before: Float[np.ndarray, "7"]
    """Joint positions straight before it."""
    q_along: Float[np.ndarray, "steps 7"]
    """Joint positions at equal steps of the motion, the first at the grasp."""
    reach: float
    """Share of the predicted motion at the last of them."""

    def q_after(self, share: float) -> Float[np.ndarray, "7"]:
        """Joint positions expected after a share of the motion."""
        at = float(np.clip(share / self.reach, 0, 1)) * (len(self.q_along) - 1)
        low = min(int(at), len(self.q_along) - 2)
        return self.q_along[low] + (at - low) * (self.q_along[low + 1] - self.q_along[low])


@dataclass(frozen=True)
class ArmPlan:
    """A place for the base, and grasps from which it can follow the predicted motion."""

    T_object_base: Float[np.ndarray, "4 4"]
    grasps: Iterator[PlannedGrasp]
    """The best first; each next one is looked for when it is asked for."""


def plan_arm(
    believed: BelievedObject, kinematics: Kinematics, settings: PlanSettings, failed: Sequence[Grasp] = ()
) -> ArmPlan | Unplanned:
    """The first grasp, by score, and place from which the arm reaches the whole predicted motion; none like those that
    have failed."""
    believed = believed.thinned(settings.spacing)
    planner = Planner(believed, kinematics, settings)
    scene = believed.grasp_scene()
    pushes = find_pushes(scene, lambda point: believed.arc(point).tangent, settings.pushes, planner.free)
    grasps = [*pushes, *find_grasps(scene, settings.grasps, planner.free)]
    grasps = [grasp for grasp in grasps if not any(grasp.is_like(other) for other in failed)]
    if not grasps:
        return "no grasp"
    for grasp in grasps:
        for beyond in settings.beyond:
            for T in places(believed, settings):
                best = planner.feasible(grasp, T, beyond)
                if best is not None:
                    return ArmPlan(T, _and_others(best, grasp, grasps, T, planner))
    return "out of reach"


def _and_others(
    best: PlannedGrasp, grasp: Grasp, grasps: Sequence[Grasp], T: Float[np.ndarray, "4 4"], planner: "Planner"
) -> Iterator[PlannedGrasp]:
    """A grasp, and those that are tried after it from the same place."""
    settings, found = planner.settings, 1
    yield best
    # Another grasp, or this one beside its place: what is predicted is wrong by centimetres.
    for other in [*grasps, *(grasp.shifted(along) for along in settings.shifts)]:
        if found == settings.tries:
            return
        for beyond in settings.beyond if other is not grasp else ():
            again = planner.feasible(other, T, beyond)
            if again is not None:
                if np.abs(again.q_before - best.q_before).max() < settings.retry_turn:
                    found += 1
                    yield again
                break


def places(believed: BelievedObject, settings: PlanSettings) -> Iterator[Float[np.ndarray, "4 4"]]:
    """``T_object_base`` of the places that are tried: upright, facing the held point."""
    away = believed.seen_from - believed.start
    towards_camera = np.arctan2(away[1], away[0])
    for drop in settings.drops:
        for distance in settings.distances:
            for azimuth in np.radians(settings.azimuths_deg) + towards_camera:
                T = np.eye(4)
                T[:3, :3] = Rotation.from_euler("z", azimuth + np.pi).as_matrix()
                T[:3, 3] = believed.start + np.array([distance * np.cos(azimuth), distance * np.sin(azimuth), -drop])
                yield T


class Planner:
    """Checks of grasps and places, with what they share."""

    def __init__(self, believed: BelievedObject, kinematics: Kinematics, settings: PlanSettings) -> None:
        self._believed, self.kinematics, self.settings = believed, kinematics, settings
        self._body = KDTree(believed.points[~believed.moving])
        self._part = KDTree(believed.points[believed.moving])
        self._carried = [believed.carried(share) for share in np.linspace(0, 1, settings.steps)]

    def feasible(self, grasp: Grasp, T_object_base: Float[np.ndarray, "4 4"], beyond: float) -> PlannedGrasp | None:
        """The grasp, as it is or with the fingers exchanged, if the arm reaches all poses from before it."""
        T_base_object = np.linalg.inv(T_object_base)
        shares = np.linspace(0, beyond, round(self.settings.steps * beyond))
        carried = [self._believed.carried(share) for share in shares]
        for turned in (grasp, grasp.flipped):
            poses = [T_base_object @ T @ turned.T_object_gripper for T in carried]
            if self._too_far(poses):
                return None
            before = poses[0].copy()
            before[:3, 3] -= self.settings.pregrasp * before[:3, 2]
            for seed in seeds(before):
                reached = self.kinematics.reach(before, seed)
                if not (reached.there and self.clear(reached, T_object_base, np.eye(4))):
                    continue
                along = self._follows(poses, carried, reached, T_object_base)
                if along is not None:
                    return PlannedGrasp(turned, reached.q, along, beyond)
        return None

    def free(self, grasp: Grasp) -> bool:
        """Whether the gripper comes to a grasp, and stays through the motion, without running into the object."""
        hand, points = grasp.T_object_gripper, self._believed.points
        if self._meets(points, grasp, hand, self.settings.pregrasp):
            return False
        rest = points[~self._believed.moving]
        return not any(self._meets(rest, grasp, T @ hand, 0.0) for T in self._carried[1:])

    def _meets(self, points: np.ndarray, grasp: Grasp, T_object_gripper: np.ndarray, back: float) -> bool:
        settings = self.settings.grasps
        R, at, gripper = T_object_gripper[:3, :3], T_object_gripper[:3, 3], settings.gripper
        beside = np.abs(points @ R[:, 0] - at @ R[:, 0]) < max(gripper.flange_radius, gripper.palm_half_width)
        local = (points[beside] - at) @ R
        inside = inside_gripper(local, grasp.opening, gripper, back)
        return int(np.count_nonzero(inside)) > settings.strays

    def _too_far(self, poses: Sequence[Float[np.ndarray, "4 4"]]) -> bool:
        """Whether the wrist would be farther from the shoulder than the arm is long."""
        wrists = np.stack([T[:3, 3] - WRIST_M * T[:3, 2] for T in poses])
        return bool((np.linalg.norm(wrists - [0, 0, SHOULDER_M], axis=1) > ARM_M).any())

    def _follows(
        self, poses: Sequence[np.ndarray], carried: Sequence[np.ndarray], reached: Reached, T_object_base: np.ndarray
    ) -> np.ndarray | None:
        """Joint positions [steps, 7] in which the arm is at each pose, without a jump; None where it is not."""
        along = []
        for T, T_part in zip(poses, carried, strict=True):
            before, reached = reached.q, self.kinematics.reach(T, reached.q)
            jumps = np.abs(reached.q - before).max() > self.settings.step_turn
            if jumps or not (reached.there and self.clear(reached, T_object_base, T_part)):
                return None
            along.append(reached.q)
        return np.stack(along)

    def clear(self, reached: Reached, T_object_base: np.ndarray, T_part: np.ndarray) -> bool:
        """Whether links keep away from each other and from what is seen of the object after a motion of the part."""
        if self.kinematics.meets_itself(reached.q):
            return False
        links = self.kinematics.skeleton(reached.q) @ T_object_base[:3, :3].T + T_object_base[:3, 3]
        T = np.linalg.inv(T_part)
        on_part = links @ T[:3, :3].T + T[:3, 3]
        radius = self.settings.link_radius
        return bool((self._body.query(links)[0] > radius).all() and (self._part.query(on_part)[0] > radius).all())


def seeds(T_base_gripper: Float[np.ndarray, "4 4"]) -> Iterator[Float[np.ndarray, "7"]]:
    """Joint positions from which a pose is looked for: the resting pose turned towards it, and its neighbours."""
    ahead = np.arctan2(T_base_gripper[1, 3], T_base_gripper[0, 3])
    for shoulder, wrist in ((0.0, 0.0), (0.7, 0.7), (-0.7, -0.7)):
        q = np.array(HOME)
        q[0] = np.clip(ahead + shoulder, -2.8, 2.8)
        q[2], q[6] = -shoulder, HOME[6] + wrist
        yield q
