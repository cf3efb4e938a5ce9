"""A Panda that opens a simulated object: approach, close, follow, release.

It is told a plan that was made without the true object. On its way it knows its own joints, the forces of its motors
and how far its fingers are closed, nothing else; that the part is open, or lost, is said by who judges.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from partrm.robotics.arcs import ArcPrior, Vector
from partrm.robotics.arm_plan import ArmPlan, BelievedObject, PlannedGrasp, PlanSettings, plan_arm
from partrm.robotics.grasps import Grasp
from partrm.robotics.guides import Guide, Plan
from partrm.robotics.panda import GRIP_N, JOINTS, PREFIX, Kinematics, joined
from partrm.robotics.simulated_object import DRAGGED, JointResistance, SimulationError, Task, mujoco_package, task_xml

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


HELD = 1e3
"""Dry friction (N or N m) of the joint until fingers have closed on its part: what the picture shows at rest, such as a
lid half open, does not fall before the arm is there."""


@dataclass(frozen=True)
class ArmSettings:
    """Everything that the protocol fixes; metres, newtons, seconds."""

    diagonal_m: float = 0.6
    """Objects have no size of their own: the closed object's bounding box gets this diagonal."""
    speed_m_per_s: float = 0.1
    """Of the gripper along its way, at most."""
    turn_rad_per_s: float = 0.6
    """About its arc's centre, at most."""
    approach_m_per_s: float = 0.05
    deeper: tuple[float, ...] = (0.0, 0.015, 0.03, -0.012, -0.024)
    """Than planned: so deep the fingers close, one after the other, until something is between them; what the gripper
    meets on its way ends it."""
    contact_n: float = 8.0
    """Against the approach: it has met something."""
    turned_rad: float = 0.8
    """So far may the hand stay behind the part's turn, where the arm reaches no farther."""
    lag: float = 0.08
    """It gives up when it is so far behind its guide."""
    timeout_s: float = 30.0
    """Of the following, simulated."""
    simulation_s: float = 0.002
    """Timestep of the simulation."""
    timestep_s: float = 0.01
    """Of the arm's control."""
    open_share: float = 0.995
    """The pull ends here."""
    closed_loop: bool = True
    """Whether the arc is estimated anew from the way that the gripper has gone."""
    refit_m: float = 0.01
    sensor_noise_m: float = 0.0005
    """Standard deviation of the gripper's measured place, per coordinate."""
    prior: ArcPrior = field(default_factory=ArcPrior)
    resistance: JointResistance = field(default_factory=JointResistance)
    variation: float = 0.3
    """Damping, friction and weight of each object are drawn, from its seed, within this share of their values."""
    plan: PlanSettings = field(default_factory=PlanSettings)


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

    @property
    def left(self) -> float:
        """Share of the remaining range that is left, at least 0."""
        return max(0.0, 1.0 - self.opened)

    @property
    def reachable(self) -> bool:
        """Whether the arm had something to hold and could reach the predicted motion."""
        return self.ending not in ("no grasp", "out of reach")


Watcher = Callable[[Any, Any], None]
"""Is shown ``mujoco.MjModel`` and ``MjData`` after each step of control."""


def open_with_arm(
    task: Task,
    believed: BelievedObject,
    settings: ArmSettings,
    kinematics: Kinematics,
    seed: int = 0,
    watch: Watcher | None = None,
) -> ArmResult:
    """Plan by what is believed, and open the true object.

    Raises:
        SimulationError: MuJoCo, mink or the arm's model is not there, or the simulation diverged.
    """
    plan = plan_arm(believed, kinematics, settings.plan)
    if not isinstance(plan, ArmPlan):
        return ArmResult(0.0, plan, 0.0)
    return ArmRun(task, plan, settings, kinematics, seed, watch).open(believed)


class ArmRun:
    """One arm beside one object, under way."""

    def __init__(
        self,
        task: Task,
        plan: ArmPlan,
        settings: ArmSettings,
        kinematics: Kinematics,
        seed: int,
        watch: Watcher | None = None,
    ) -> None:
        self._mujoco = mujoco_package()
        self._task, self._plan, self._settings, self._kinematics = task, plan, settings, kinematics
        self._seed, self._watch = seed, watch
        damping, friction, density = np.random.default_rng(seed).uniform(
            1 - settings.variation, 1 + settings.variation, 3
        )
        resistance = settings.resistance.scaled(float(damping), float(friction), float(density))
        self.model = joined(task_xml(task, resistance, settings.simulation_s, robot=True), plan.T_object_base)
        self.data = self._mujoco.MjData(self.model)
        self._T_base_object = np.linalg.inv(plan.T_object_base)
        m = self.model
        self._qpos = [m.joint(f"{PREFIX}joint{n + 1}").qposadr[0] for n in range(JOINTS)]
        self._dofs = [m.joint(f"{PREFIX}joint{n + 1}").dofadr[0] for n in range(JOINTS)]
        self._fingers = [m.joint(f"{PREFIX}finger_joint{n}").qposadr[0] for n in (1, 2)]
        self._controls = [m.actuator(f"{PREFIX}actuator{n + 1}").id for n in range(JOINTS + 1)]
        self._tcp = m.site(f"{PREFIX}tcp").id
        self._dragged = m.body(DRAGGED).id
        self._of_arm = np.array([m.body(b).name.startswith(PREFIX) for b in range(m.nbody)])
        self._dof = int(m.joint(DRAGGED).dofadr[0])
        self._friction = float(m.dof_frictionloss[self._dof])
        self._share = 0.0  # of the believed motion, gone by now as far as the arm knows
        self._q = self._near = plan.grasps[0].q_before
        self._opening: float | None = plan.grasps[0].grasp.opening

    def open(self, believed: BelievedObject) -> ArmResult:
        """Try the plan's grasps until one holds, follow the motion, release."""
        self._mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[self._qpos] = self._q
        self.data.qpos[self._fingers] = 0.5 * self._plan.grasps[0].grasp.opening
        ending: Ending = "missed"
        tried, opened = 0, 0.0
        for planned in self._plan.grasps:
            grasp = planned.grasp.carried(believed.carried(self._share))
            tried += 1
            if tried > 1 and not self._move_before(grasp, planned):
                ending = "arm at its end"
                continue
            self._near = planned.q_after(self._share)
            self._opening = grasp.opening
            self.model.dof_frictionloss[self._dof] = HELD
            ending = "missed"
            if self._take(grasp):
                self.model.dof_frictionloss[self._dof] = self._friction
                ending = self._follow(believed, planned)
            opened = self._moved
            self._release(grasp)
            if ending not in ("missed", "came off", "stuck"):
                break
        warnings = int(self.data.warning.number.sum())
        if not np.isfinite(opened) or warnings:
            raise SimulationError(f"{self._task.object.name}: the simulation diverged ({warnings} warnings of MuJoCo)")
        return ArmResult(opened, ending, float(self.data.time), tried)

    @property
    def _moved(self) -> float:
        return float(self.data.joint(DRAGGED).qpos[0]) / self._task.span

    @property
    def _hand(self) -> Float[np.ndarray, "4 4"]:
        """Measured pose of the gripper, object frame."""
        T = np.eye(4)
        T[:3, :3] = self.data.site_xmat[self._tcp].reshape(3, 3)
        T[:3, 3] = self.data.site_xpos[self._tcp]
        return T

    @property
    def _width(self) -> float:
        return float(self.data.qpos[self._fingers].sum())

    @property
    def _push(self) -> Vector:
        """Force of the motors at the gripper, object frame (N)."""
        jacobian, angular = np.zeros((3, self.model.nv)), np.zeros((3, self.model.nv))
        self._mujoco.mj_jacSite(self.model, self.data, jacobian, angular, self._tcp)
        both = np.concatenate([jacobian, angular])[:, self._dofs]
        return np.linalg.lstsq(both.T, self.data.qfrc_actuator[self._dofs], rcond=None)[0][:3]

    @property
    def _touches(self) -> bool:
        """Whether any of the arm touches the part."""
        for i in range(self.data.ncon):
            bodies = self.model.geom_bodyid[self.data.contact.geom[i]]
            if self._dragged in bodies and self._of_arm[bodies].any():
                return True
        return False

    def _step(self, q: Float[np.ndarray, "7"]) -> None:
        """One step of control."""
        self._q = q
        self.data.ctrl[self._controls[:JOINTS]] = q
        for _ in range(round(self._settings.timestep_s / self._settings.simulation_s)):
            force = -2 * GRIP_N
            if self._opening is not None:
                force = float(np.clip(4000 * (self._opening - self._width), -2 * GRIP_N, 2 * GRIP_N))
            self.data.ctrl[self._controls[JOINTS]] = force
            self._mujoco.mj_step(self.model, self.data)
        self._mujoco.mj_kinematics(self.model, self.data)
        self._mujoco.mj_comPos(self.model, self.data)
        if self._watch is not None:
            self._watch(self.model, self.data)

    def _wait(self, seconds: float) -> None:
        for _ in range(round(seconds / self._settings.timestep_s)):
            self._step(self._q)

    def _move_joints(self, q: Float[np.ndarray, "7"]) -> None:
        start = self._q
        count = max(1, int(np.abs(q - start).max() / (1.0 * self._settings.timestep_s)))
        for share in np.linspace(0, 1, count + 1)[1:]:
            self._step(start + share * (q - start))

    def _move_before(self, grasp: Grasp, planned: PlannedGrasp) -> bool:
        """Before another grasp, on the part where it is believed to be by now; whether the arm reaches that."""
        q = planned.q_before
        if self._share > 0:
            before = self._T_base_object @ grasp.T_object_gripper
            before[:3, 3] -= self._settings.plan.pregrasp * before[:3, 2]
            reached = self._kinematics.reach(before, planned.q_after(self._share))
            if not reached.there:
                return False
            q = reached.q
        self._move_joints(q)
        return True

    def _towards(self, T_object_gripper: Float[np.ndarray, "4 4"]) -> Any:
        T_base_gripper, dt = self._T_base_object @ T_object_gripper, self._settings.timestep_s
        reached = self._kinematics.follow(T_base_gripper, self._q, self._near, dt)
        self._step(reached.q)
        return reached

    def _take(self, grasp: Grasp) -> bool:
        """Close the fingers at the grasp, or a little deeper or less deep; whether something is between them.

        Pads are short: a bar behind them, or before them, is free.
        """
        s, met = self._settings, np.inf
        depth = -s.plan.pregrasp
        for goal in s.deeper:
            if goal >= met:
                continue
            self._opening = grasp.opening
            if depth > -s.plan.pregrasp:
                self._wait(0.6)
            depth, meets = self._advance(grasp, depth, goal)
            if meets:
                met = depth
            if self._close():
                return True
        return False

    def _advance(self, grasp: Grasp, start: float, goal: float) -> tuple[float, bool]:
        """Straight from one depth to another (m, beyond the grasp), or until it meets something: where, and whether."""
        s, T = self._settings, grasp.T_object_gripper.copy()
        at, meets, step = T[:3, 3].copy(), False, s.approach_m_per_s * s.timestep_s
        depth = start
        for depth in np.linspace(start, goal, max(2, 1 + round(abs(goal - start) / step))):
            T[:3, 3] = at + depth * grasp.approach
            self._towards(T)
            meets = bool(depth > -0.5 * s.plan.pregrasp and goal > start and self._push @ grasp.approach > s.contact_n)
            if meets:
                break
        if meets:
            depth = float((self._hand[:3, 3] - at) @ grasp.approach) - 0.003
            T[:3, 3] = at + depth * grasp.approach
        for _ in range(20):
            self._towards(T)
        return float(depth), meets

    def _close(self) -> bool:
        """Close the fingers; whether something is between them."""
        self._opening = None
        self._wait(0.8)
        return self._width > 0.0015

    def _follow(self, believed: BelievedObject, planned: PlannedGrasp) -> Ending:
        s, T = self._settings, self._hand
        self._q = self.data.qpos[self._qpos].copy()
        arc = believed.arc(T[:3, 3])
        guide = Guide(Plan(arc, s.closed_loop), s, self._seed)
        length, first = believed.length(T[:3, 3]), self._share
        goal, lost, away = T.copy(), 0.0, 0.0
        for _ in range(round(s.timeout_s / s.timestep_s)):
            point = self._hand[:3, 3]
            goal[:3, 3] = guide.target(point)
            goal[:3, :3] = Rotation.from_rotvec(guide.turn).as_matrix() @ T[:3, :3]
            self._near = planned.q_after(first + guide.length / length)
            reached = self._towards(goal)
            if self._moved >= s.open_share:
                return "open"
            if self._touches:
                gone = float(arc.lengths(self._hand[None, :3, 3])[0])
                lost, self._share = 0.0, float(np.clip(first + gone / length, 0, 1))
            else:
                lost += s.timestep_s
            away = away + s.timestep_s if reached.position_m > 0.02 or reached.angle_rad > s.turned_rad else 0.0
            if lost > 0.3:
                return "came off"
            if away > 0.3:
                return "arm at its end"
            if float(np.linalg.norm(goal[:3, 3] - self._hand[:3, 3])) > s.lag:
                return "stuck"
        return "timeout"

    def _release(self, grasp: Grasp) -> None:
        """Open the fingers and go back the way that the gripper points."""
        self._opening = grasp.opening
        self._wait(0.6)
        T = self._hand
        inward, start = T[:3, 2].copy(), T[:3, 3].copy()
        step = 2 * self._settings.approach_m_per_s * self._settings.timestep_s
        for back in np.arange(0, self._settings.plan.pregrasp, step):
            T[:3, 3] = start - back * inward
            self._towards(T)
