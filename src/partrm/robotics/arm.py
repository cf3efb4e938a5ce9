"""A Panda that opens a simulated object: approach, close, follow, release.

It is told a plan that was made without the true object. On its way it knows its own joints, the forces of its motors
and how far its fingers are closed, nothing else; that the part is open, or lost, is said by who judges.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.spatial.transform import Rotation

from partrm.geometry.joints import JointType
from partrm.robotics.arm_plan import ArmPlan, BelievedObject, PlannedGrasp, Unplanned, plan_arm
from partrm.robotics.grasps import Grasp
from partrm.robotics.guides import Guide, Plan
from partrm.robotics.panda import Kinematics
from partrm.robotics.simulated_arm import ArmSettings, ObjectState, SimulatedArm, Watcher, arm_xml
from partrm.robotics.simulated_object import SimulationError, Task
from partrm.robotics.touch import Touched, touched

Ending = Literal["open", "no grasp", "out of reach", "missed", "came off", "stuck", "arm at its end", "timeout"]

FAILURES: dict[Ending, str] = {
    "no grasp": "the prediction shows nothing that fingers could hold",
    "out of reach": "no place, of those tried, from which the arm reaches every pose of the predicted motion",
    "missed": "the gripper closed on nothing, at the last grasp that it tried",
    "came off": "the fingers lost the part",
    "stuck": "the gripper stayed behind its guide",
    "arm at its end": "on the way, the guide went where the arm does not reach",
    "timeout": "time was up",
}


@dataclass(frozen=True)
class ArmResult:
    """How far an arm got."""

    opened: float
    """Share of the remaining range at the end: 0 nothing, 1 all; negative where the joint went the other way."""
    ending: Ending
    seconds: float
    """Simulated."""
    grasps: int = 0
    """That were tried."""
    probes: int = 0
    """That the closed fingers made before, to feel where the part is."""
    met: int = 0
    """Of these, that met something."""

    def then(self, other: "ArmResult", felt: Touched) -> "ArmResult":
        """Both, one after the other, with what was felt between them."""
        return ArmResult(
            other.opened,
            other.ending,
            self.seconds + felt.seconds + other.seconds,
            self.grasps + other.grasps,
            self.probes + felt.probes,
            self.met + felt.met,
        )

    @property
    def left(self) -> float:
        """Share of the remaining range that is left, at least 0."""
        return max(0.0, 1.0 - self.opened)

    @property
    def reachable(self) -> bool:
        """Whether the arm had something to hold and could reach the predicted motion."""
        return self.ending not in ("no grasp", "out of reach")


def open_with_arm(
    task: Task,
    believed: BelievedObject,
    settings: ArmSettings,
    kinematics: Kinematics,
    seed: int = 0,
    watch: Watcher | None = None,
) -> ArmResult:
    """Touch, plan by what is believed by then, and open the true object.

    Raises:
        SimulationError: MuJoCo, mink or the arm's model is not there, or the simulation diverged.
    """
    xml, state = arm_xml(task, settings, seed), None
    found, before = ArmResult(0.0, "missed", 0.0), None
    failed: list[Grasp] = []
    for number in range(settings.rounds):
        felt = touched(xml, believed, settings, kinematics, watch, state)
        if before is not None and felt.speaks_for(before, believed):  # what was led was not the part
            believed, felt = before, touched(xml, before, settings, kinematics, watch, state).after(felt)
        plan, believed, failed = _planned((felt.believed, believed), failed, kinematics, settings)
        if not isinstance(plan, ArmPlan):
            return found.then(ArmResult(found.opened, found.ending if number else plan, 0.0), felt)
        run = ArmRun(task, xml, plan, settings, kinematics, seed, watch)
        found = found.then(run.open(believed, state), felt)
        if found.ending in ("open", "timeout"):
            break
        before = believed if run.led else None
        failed = [] if run.led else [*failed, *run.tried]
        believed, state = run.believed, run.arm.state
    return found


def _planned(
    beliefs: Sequence[BelievedObject], failed: list[Grasp], kinematics: Kinematics, settings: ArmSettings
) -> tuple[ArmPlan | Unplanned, BelievedObject, list[Grasp]]:
    """A plan, what it believes, and the failed grasps that it leaves out.

    Args:
        beliefs: after the arm has felt the part, and before: what was felt may be something else.
        failed: grasps that are left out while there are others.
        kinematics: of the arm.
        settings: of the protocol.
    """
    felt, before = beliefs
    options = [(felt, failed)] if failed else []
    options += [(felt, []), (before, [])] if before is not felt else [(felt, [])]
    plan: ArmPlan | Unplanned = "no grasp"
    for believed, without in options:
        plan = plan_arm(believed, kinematics, settings.plan, without)
        if isinstance(plan, ArmPlan):
            return plan, believed, without
    return plan, before, []


class ArmRun:
    """One arm that tries the grasps of its plan."""

    def __init__(
        self,
        task: Task,
        xml: str,
        plan: ArmPlan,
        settings: ArmSettings,
        kinematics: Kinematics,
        seed: int,
        watch: Watcher | None = None,
    ) -> None:
        self._task, self._plan, self._settings, self._kinematics, self._seed = task, plan, settings, kinematics, seed
        self.arm = SimulatedArm(xml, plan.T_object_base, settings, kinematics, watch)
        self.believed: BelievedObject
        """What the arm has learnt of the joint, and where it then believes the part to be."""
        self.led = False
        """Whether its fingers have closed on something, or met it, and led it."""
        self.tried: list[Grasp] = []

    def open(self, believed: BelievedObject, state: ObjectState | None = None) -> ArmResult:
        """Try the plan's grasps until the part is open, was led and lost, or none is left: take, follow, release."""
        arm, tried, opened = self.arm, 0, 0.0
        ending: Ending = "missed"
        self.believed = believed
        for planned in self._plan.grasps:
            if not tried:
                arm.begin(planned.q_before, planned.grasp.opening, state)
            tried += 1
            self.tried.append(planned.grasp)
            arm.hold(True)
            arm.move_joints(planned.q_before)
            arm.near, arm.opening = planned.q_along[0], planned.grasp.opening
            ending, gone = "missed", 0.0
            if self._take(planned.grasp):
                arm.hold(False)
                ending, gone = self._follow(believed, planned)
            opened = arm.moved / self._task.span
            if ending in ("open", "timeout"):
                break
            self._release(planned.grasp)
            if gone > self._settings.lost_m:
                break
        if not np.isfinite(opened) or arm.warnings:
            raise SimulationError(
                f"{self._task.object.name}: the simulation diverged ({arm.warnings} warnings of MuJoCo)"
            )
        return ArmResult(opened, ending, float(arm.data.time), tried)

    def _take(self, grasp: Grasp) -> bool:
        """Close the fingers at the grasp, or a little deeper or less deep; whether something is between them.

        Pads are short: a bar behind them, or before them, is free. A push needs something before the fingers only.
        """
        s, met = self._settings, np.inf
        depth = -s.plan.pregrasp
        if grasp.pushes:
            return self._advance(grasp, depth, s.push_m)[1]
        for goal in s.deeper:
            if goal >= met:
                continue
            self.arm.opening = grasp.opening
            if depth > -s.plan.pregrasp:
                self.arm.wait(0.6)
            depth, meets = self._advance(grasp, depth, goal)
            if meets:
                met = depth
            if self._close():
                return True
        return False

    def _advance(self, grasp: Grasp, start: float, goal: float) -> tuple[float, bool]:
        """Straight from one depth to another (m, beyond the grasp), or until it meets something: where, and whether."""
        s, T = self._settings, grasp.T_object_gripper.copy()
        deaf = max(0.0, -0.5 * s.plan.pregrasp - start)
        depth, meets = self.arm.advance(T, (start, goal), s.approach_m_per_s, deaf)
        if meets:
            depth -= 0.003
        T[:3, 3] += depth * grasp.approach
        for _ in range(20):
            self.arm.towards(T)
        return depth, meets

    def _close(self) -> bool:
        """Close the fingers; whether something is between them."""
        self.arm.opening = None
        self.arm.wait(0.8)
        return self.arm.width > 0.0015

    def _follow(self, believed: BelievedObject, planned: PlannedGrasp) -> tuple[Ending, float]:
        """Lead the part along its arc until it is open or something ends it: what, and how far it was led (m)."""
        s, arm, T = self._settings, self.arm, self.arm.hand
        arm.relax()
        guide = Guide(Plan(believed.arc(T[:3, 3]), s.closed_loop), s, self._seed)
        length = believed.length(T[:3, 3])
        goal, held, lost, away = T.copy(), [T[:3, 3].copy()], 0.0, 0.0
        lasts = 1.0 if planned.grasp.pushes else 0.3  # what is pushed may go ahead for a while
        ending: Ending = "timeout"
        for _ in range(round(s.timeout_s / s.timestep_s)):
            goal[:3, 3] = guide.target(arm.hand[:3, 3])
            goal[:3, :3] = Rotation.from_rotvec(guide.turn).as_matrix() @ T[:3, :3]
            arm.near = planned.q_after(guide.length / length)
            reached = arm.towards(goal)
            if arm.moved / self._task.span >= s.open_share:
                ending = "open"
                break
            if arm.touches:
                lost = 0.0
                held.append(arm.hand[:3, 3])
            else:
                lost += s.timestep_s
            away = away + s.timestep_s if reached.position_m > 0.02 or reached.angle_rad > s.turned_rad else 0.0
            behind = float(np.linalg.norm(goal[:3, 3] - arm.hand[:3, 3])) > s.lag
            if lost > lasts or away > 0.3 or behind:
                ending = "came off" if lost > lasts else "arm at its end" if away > 0.3 else "stuck"
                break
        gone = max(0.0, float(guide.arc.lengths(np.array(held))[-1]))
        joint, axis, pivot = guide.arc.joint()
        amount = length * (1.0 if joint == JointType.PRISMATIC else float(np.linalg.norm(guide.arc.curvature)))
        learnt = replace(believed, joint=joint, axis=axis, pivot=pivot, amount=amount)
        self.believed, self.led = learnt.moved(guide.arc.motion(gone), gone / length), True
        return ending, gone

    def _release(self, grasp: Grasp) -> None:
        """Open the fingers and go back the way that the gripper points."""
        arm = self.arm
        arm.opening = grasp.opening
        arm.wait(0.6)
        back = (0.0, -self._settings.plan.pregrasp)
        arm.advance(arm.hand, back, 2 * self._settings.approach_m_per_s)
