"""Where the part really is, along the camera's lines of sight: closed fingers feel it before they take it.

What one image tells of an object is least sure in distance. So the arm goes straight along lines of sight through
points well inside the predicted part until its motors feel something, and the prediction is moved along its lines of
sight by what was felt: every pixel stays where it is. The arm learns nothing else of the true object.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float
from scipy.optimize import least_squares
from scipy.spatial import KDTree

from partrm.geometry.joints import JointType
from partrm.robotics.arcs import Vector, across
from partrm.robotics.arm_plan import BelievedObject, Planner, places, seeds
from partrm.robotics.closed_fingers import Probe, probes_at
from partrm.robotics.grasps import Gripper, spread
from partrm.robotics.panda import Kinematics
from partrm.robotics.simulated_arm import ArmSettings, ObjectState, SimulatedArm, TouchSettings, Watcher

CANDIDATES = 24
"""Points that are looked at for a probe."""

NEARER_M = 0.004
"""By so much, in the mean, must what is met lie nearer to one belief than to another to speak for it."""

FAR_M = 0.03
"""What is met farther from a belief speaks no more against it."""

AGREES = 2.5
"""Standard deviations within which a probe agrees with shift and slope."""


@dataclass(frozen=True)
class Touched:
    """What is believed after the probes."""

    believed: BelievedObject
    probes: int = 0
    """That were made."""
    met: int = 0
    """Of these, that met something."""
    seconds: float = 0.0
    """Simulated."""
    points: Float[np.ndarray, "met 3"] = field(default_factory=lambda: np.zeros((0, 3)))
    """Where something was met, object frame."""

    def speaks_for(self, one: BelievedObject, other: BelievedObject) -> bool:
        """Whether what was met lies on the surfaces of one rather than of the other."""
        if not len(self.points):
            return False
        away_one, away_other = (np.minimum(KDTree(b.points).query(self.points)[0], FAR_M) for b in (one, other))
        return bool(np.mean(away_other - away_one) > NEARER_M)

    def after(self, other: "Touched") -> "Touched":
        """These probes, made after others whose belief was given up."""
        return replace(
            self, probes=self.probes + other.probes, met=self.met + other.met, seconds=self.seconds + other.seconds
        )


@dataclass(frozen=True)
class PlannedProbe:
    """A probe that the arm reaches."""

    probe: Probe
    q_before: Float[np.ndarray, "7"]
    """Joint positions where it starts."""
    q_there: Float[np.ndarray, "7"]
    """And at the believed surface."""


def touched(
    xml: str,
    believed: BelievedObject,
    settings: ArmSettings,
    kinematics: Kinematics,
    watch: Watcher | None = None,
    state: ObjectState | None = None,
) -> Touched:
    """What is believed of an object after the arm has felt the true one.

    The joint is held meanwhile. Where no probe can be made, or none meets anything, nothing is believed otherwise.

    Args:
        xml: the true object (:func:`partrm.robotics.simulated_arm.arm_xml`).
        believed: before.
        settings: of the protocol.
        kinematics: of the arm.
        watch: is shown every step.
        state: of the object's joints; without it, the source state.

    Raises:
        SimulationError: MuJoCo, mink or the arm's model is not there.
    """
    planned = plan_probes(believed, kinematics, settings)
    if planned is None:
        return Touched(believed)
    T_object_base, probes = planned
    s, arm = settings.touch, SimulatedArm(xml, T_object_base, settings, kinematics, watch)
    found: list[tuple[Probe, float]] = []
    points: list[Vector] = []
    arm.begin(probes[0].q_before, 0.0, state)
    for planned_probe in probes:
        probe, start = planned_probe.probe, -s.before
        arm.move_joints(planned_probe.q_before)
        arm.near = planned_probe.q_there
        depth, meets = arm.advance(probe.T_object_gripper, (start, s.behind), s.speed_m_per_s, s.deaf)
        aside = (arm.hand[:3, 3] - probe.T_object_gripper[:3, 3]) @ probe.T_object_gripper[:3, :2]
        if meets and float(np.linalg.norm(aside)) < s.aside:
            found.append((probe, depth))
            points.append(arm.hand[:3, 3] + Gripper().tip_m * arm.hand[:3, 2])
        arm.advance(probe.T_object_gripper, (depth, start), 3 * s.speed_m_per_s)
    mended = mend(believed, found, s) if found else believed
    return Touched(mended, len(probes), len(found), float(arm.data.time), np.reshape(points, (-1, 3)))


def plan_probes(
    believed: BelievedObject, kinematics: Kinematics, settings: ArmSettings
) -> tuple[Float[np.ndarray, "4 4"], list[PlannedProbe]] | None:
    """``T_object_base`` of the place from which the arm reaches most probes, and these; None where there are none."""
    s, thinned = settings.touch, believed.thinned(settings.plan.spacing)
    part = thinned.points[thinned.moving]
    near = part[np.linalg.norm(part - believed.start, axis=1) < s.radius]
    if not (s.probes and len(near)):
        return None
    near = near[np.argsort(np.linalg.norm(near - believed.start, axis=1))]
    scene = thinned.grasp_scene()
    targets = [list(probes_at(scene, point)) for point in near[spread(near, CANDIDATES)]]
    targets = [some for some in targets if some]
    planner, best = Planner(thinned, kinematics, settings.plan), None
    for T_object_base in places(believed, settings.plan):
        probes: list[PlannedProbe] = []
        for some in targets:
            planned = (_reached(probe, T_object_base, planner, s) for probe in some)
            probes += [found for found in planned if found is not None][:1]
            if len(probes) == s.probes:
                return T_object_base, probes
        if probes and (best is None or len(probes) > len(best[1])):
            best = T_object_base, probes
    return best


def _reached(
    probe: Probe, T_object_base: Float[np.ndarray, "4 4"], planner: Planner, settings: TouchSettings
) -> PlannedProbe | None:
    """A probe, if the arm reaches all of its way without a jump."""
    poses = []
    for depth in (-settings.before, 0.0, settings.behind):
        T = np.linalg.inv(T_object_base) @ probe.T_object_gripper
        T[:3, 3] += depth * T[:3, 2]
        poses.append(T)
    for seed in seeds(poses[0]):
        reached = [planner.kinematics.reach(poses[0], seed)]
        for T in poses[1:]:
            if not (reached[-1].there and planner.clear(reached[-1], T_object_base, np.eye(4))):
                break
            reached.append(planner.kinematics.reach(T, reached[-1].q))
        jumps = np.abs(np.diff([r.q for r in reached], axis=0)).max(initial=0.0) > planner.settings.step_turn
        if len(reached) == len(poses) and reached[-1].there and not jumps:
            return PlannedProbe(probe, reached[0].q, reached[1].q)
    return None


def mend(believed: BelievedObject, found: list[tuple[Probe, float]], settings: TouchSettings) -> BelievedObject:
    """Move all that is believed along the lines of sight, by a shift and a slope that fit what was felt.

    Nothing moves where most probes do not agree on these.

    Args:
        believed: before.
        found: probes, and how much farther along its way than expected each met something (m).
        settings: what is known of shift and slope before, and how rough and how sure the surface is.
    """
    eye = believed.seen_from
    away = believed.start - eye
    distance = float(np.linalg.norm(away))
    sides = np.stack(across(away / distance), 1)

    def beside(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 2"]:
        rays = (points - eye) / np.linalg.norm(points - eye, axis=1, keepdims=True)
        return distance * rays @ sides

    met = np.array([probe.T_object_gripper[:3, 3] for probe, _ in found])
    places, rays = beside(met), (met - eye) / np.linalg.norm(met - eye, axis=1, keepdims=True)
    cosines = (rays * np.array([probe.normal for probe, _ in found])).sum(1)
    farther = np.array([depth * probe.T_object_gripper[:3, 2] @ probe.normal for probe, depth in found])
    middle = places.mean(0)
    felt = Felt(places - middle, cosines, farther, settings)
    fitted = felt.shift_and_slope()
    if fitted is None:
        return believed
    low, high = places.min(0), places.max(0)

    def moved(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        more = fitted[0] + (np.clip(beside(points), low, high) - middle) @ fitted[1:]
        return eye + (points - eye) * (1 + more / distance)[:, None]

    return _carried_by(believed, moved)


@dataclass(frozen=True)
class Felt:
    """How much farther than believed a surface is, at places across the lines of sight."""

    places: Float[np.ndarray, "n 2"]
    """Beside the middle of all, metres."""
    cosines: Float[np.ndarray, " n"]
    """Between the line of sight and the surface's normal."""
    farther: Float[np.ndarray, " n"]
    """Along that normal (m)."""
    settings: TouchSettings

    def shift_and_slope(self) -> Float[np.ndarray, "3"] | None:
        """The most probable shift (m) and slope along the lines of sight; None where most places do not agree on them.

        Errors are Cauchy's, what is known before is normal. Probable values can lie apart, so that it is looked for
        from no shift and from each place's own.
        """
        own = self.farther / np.maximum(self.cosines, 0.2)
        found = [
            least_squares(self._residuals, [shift, 0, 0], loss=self._loss)  # pyright: ignore[reportArgumentType]
            for shift in (0.0, *own)
        ]
        best = min(found, key=lambda one: one.cost).x
        agree = np.abs(self._errors(best)) < AGREES
        return best if agree.mean() > 0.5 else None

    def _errors(self, values: Float[np.ndarray, "3"]) -> Float[np.ndarray, " n"]:
        """In standard deviations: beside what is rough, a surface may lie aside, which tells most where it is seen
        edge-on."""
        s = self.settings
        deviation = np.hypot(s.surface, s.beside * np.sqrt(1 - np.minimum(self.cosines, 1) ** 2))
        return ((values[0] + self.places @ values[1:]) * self.cosines - self.farther) / deviation

    def _residuals(self, values: Float[np.ndarray, "3"]) -> Float[np.ndarray, " n_and_3"]:
        """Of the places, then of what is known before."""
        s = self.settings
        return np.concatenate([self._errors(values), values / (s.shift, s.tilt, s.tilt)])

    def _loss(self, squared: Float[np.ndarray, " n_and_3"]) -> Float[np.ndarray, "3 n_and_3"]:
        """Of each squared residual, and its first two derivatives."""
        robust = 1 / (1 + squared)
        rows = np.stack([np.log1p(squared), robust, -(robust**2)])
        prior = slice(len(self.cosines), None)
        rows[:, prior] = squared[prior], np.ones(3), np.zeros(3)
        return rows


def _carried_by(believed: BelievedObject, moved: Callable[[np.ndarray], np.ndarray]) -> BelievedObject:
    """All that is believed, its places moved; a hinge's axis is carried along by two of its points."""
    start, pivot = moved(np.stack([believed.start, believed.pivot]))
    axis = believed.axis
    if believed.joint != JointType.PRISMATIC:
        ends = moved(believed.pivot + 0.1 * np.stack([axis, -axis]))
        axis = (ends[0] - ends[1]) / np.linalg.norm(ends[0] - ends[1])
    return replace(believed, points=moved(believed.points), start=start, pivot=pivot, axis=axis)
