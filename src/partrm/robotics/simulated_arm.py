"""A Panda beside a simulated object, moved by its motors: what it is told, and what it feels."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from partrm.robotics.arcs import ArcPrior, Vector
from partrm.robotics.arm_plan import PlanSettings
from partrm.robotics.panda import GRIP_N, HOME, JOINTS, PREFIX, Kinematics, Reached, joined
from partrm.robotics.simulated_object import DRAGGED, JointResistance, Task, mujoco_package, task_xml

HELD = 1e3
"""Dry friction (N or N m) of the joint until fingers have closed on its part: what the picture shows at rest, such as a
lid half open, does not fall before the arm is there."""


@dataclass(frozen=True)
class TouchSettings:
    """How an arm feels where the part is before it takes it; metres, seconds."""

    probes: int = 5
    """One after the other, at points spread over the part; 0: none."""
    radius: float = 0.25
    """They are so near to where the drag starts."""
    before: float = 0.15
    """So far before the believed surface a probe starts."""
    behind: float = 0.12
    """So far behind it the probe ends that has met nothing."""
    speed_m_per_s: float = 0.08
    deaf: float = 0.03
    """On this way from its start nothing is felt: the arm has yet to come to an even speed."""
    aside: float = 0.015
    """A hand that has yielded so far has met something else."""
    shift: float = 0.04
    """Standard deviation of the believed surface's distance along the lines of sight, all of it."""
    tilt: float = 0.2
    """Of its slope across them."""
    beside: float = 0.01
    """Of its place across them: what is seen edge-on tells little of its distance."""
    surface: float = 0.008
    """Of its distance at one point, beside shift and slope."""


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
    rounds: int = 8
    """Of touching, planning and trying, each from where the part is believed to be by then."""
    lost_m: float = 0.015
    """A part that was led so far and lost is felt for anew."""
    push_m: float = 0.1
    """So far behind the believed surface a push is looked for."""
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
    touch: TouchSettings = field(default_factory=TouchSettings)
    resistance: JointResistance = field(default_factory=JointResistance)
    variation: float = 0.3
    """Damping, friction and weight of each object are drawn, from its seed, within this share of their values."""
    plan: PlanSettings = field(default_factory=PlanSettings)


Watcher = Callable[[Any, Any], None]
"""Is shown ``mujoco.MjModel`` and ``MjData`` after each step of control."""


def arm_xml(task: Task, settings: ArmSettings, seed: int) -> str:
    """MJCF of an object that arms meet; its joint's resistance is drawn from the seed."""
    share = settings.variation
    damping, friction, density = np.random.default_rng(seed).uniform(1 - share, 1 + share, 3)
    resistance = settings.resistance.scaled(float(damping), float(friction), float(density))
    return task_xml(task, resistance, settings.simulation_s, robot=True)


ObjectState = Float[np.ndarray, " joints"]


class SimulatedArm:
    """One arm beside one true object, under way; it knows the object by what it feels alone."""

    def __init__(
        self,
        xml: str,
        T_object_base: Float[np.ndarray, "4 4"],
        settings: ArmSettings,
        kinematics: Kinematics,
        watch: Watcher | None = None,
    ) -> None:
        self._mujoco = mujoco_package()
        self.settings, self.kinematics, self.watch = settings, kinematics, watch
        self.model = joined(xml, T_object_base)
        self.data = self._mujoco.MjData(self.model)
        self.T_base_object = np.linalg.inv(T_object_base)
        m = self.model
        self._qpos = [m.joint(f"{PREFIX}joint{n + 1}").qposadr[0] for n in range(JOINTS)]
        self._dofs = [m.joint(f"{PREFIX}joint{n + 1}").dofadr[0] for n in range(JOINTS)]
        self._fingers = [m.joint(f"{PREFIX}finger_joint{n}").qposadr[0] for n in (1, 2)]
        self._of_object = [m.jnt_qposadr[j] for j in range(m.njnt) if not m.joint(j).name.startswith(PREFIX)]
        self._controls = [m.actuator(f"{PREFIX}actuator{n + 1}").id for n in range(JOINTS + 1)]
        self._tcp = m.site(f"{PREFIX}tcp").id
        self._dragged = m.body(DRAGGED).id
        self._of_arm = np.array([m.body(b).name.startswith(PREFIX) for b in range(m.nbody)])
        self._dof = int(m.joint(DRAGGED).dofadr[0])
        self._friction = float(m.dof_frictionloss[self._dof])
        self.q = self.near = np.array(HOME)
        self.opening: float | None = None

    def begin(self, q: Float[np.ndarray, "7"], opening: float, state: ObjectState | None = None) -> None:
        """Stand at joint positions, at rest, with the fingers so far open; the joint is held.

        Args:
            q: joint positions.
            opening: between the fingers (m).
            state: of the object's joints; without it, the source state.
        """
        self._mujoco.mj_resetData(self.model, self.data)
        if state is not None:
            self.data.qpos[self._of_object] = state
        self.q = self.near = q
        self.opening = opening
        self.data.qpos[self._qpos] = q
        self.data.qpos[self._fingers] = 0.5 * opening
        self.hold(True)

    @property
    def state(self) -> ObjectState:
        """Of the object's joints: the world's, which stays when the arm is placed elsewhere."""
        return self.data.qpos[self._of_object].copy()

    def hold(self, held: bool) -> None:
        """Whether the joint is held where it is (:data:`HELD`)."""
        self.model.dof_frictionloss[self._dof] = HELD if held else self._friction

    def relax(self) -> None:
        """Take the joint positions where the arm has yielded to as those that are wanted."""
        self.q = self.data.qpos[self._qpos].copy()

    @property
    def moved(self) -> float:
        """How far the dragged joint is from its source state, radians or metres; for who judges."""
        return float(self.data.joint(DRAGGED).qpos[0])

    @property
    def warnings(self) -> int:
        """Of MuJoCo, so far."""
        return int(self.data.warning.number.sum())

    @property
    def hand(self) -> Float[np.ndarray, "4 4"]:
        """Measured pose of the gripper, object frame."""
        T = np.eye(4)
        T[:3, :3] = self.data.site_xmat[self._tcp].reshape(3, 3)
        T[:3, 3] = self.data.site_xpos[self._tcp]
        return T

    @property
    def width(self) -> float:
        """Between the fingers (m)."""
        return float(self.data.qpos[self._fingers].sum())

    @property
    def push(self) -> Vector:
        """Force of the motors at the gripper, object frame (N)."""
        jacobian, angular = np.zeros((3, self.model.nv)), np.zeros((3, self.model.nv))
        self._mujoco.mj_jacSite(self.model, self.data, jacobian, angular, self._tcp)
        both = np.concatenate([jacobian, angular])[:, self._dofs]
        return np.linalg.lstsq(both.T, self.data.qfrc_actuator[self._dofs], rcond=None)[0][:3]

    @property
    def touches(self) -> bool:
        """Whether any of the arm touches the part."""
        for i in range(self.data.ncon):
            bodies = self.model.geom_bodyid[self.data.contact.geom[i]]
            if self._dragged in bodies and self._of_arm[bodies].any():
                return True
        return False

    def step(self, q: Float[np.ndarray, "7"]) -> None:
        """One step of control."""
        self.q = q
        self.data.ctrl[self._controls[:JOINTS]] = q
        for _ in range(round(self.settings.timestep_s / self.settings.simulation_s)):
            force = -2 * GRIP_N
            if self.opening is not None:
                force = float(np.clip(4000 * (self.opening - self.width), -2 * GRIP_N, 2 * GRIP_N))
            self.data.ctrl[self._controls[JOINTS]] = force
            self._mujoco.mj_step(self.model, self.data)
        self._mujoco.mj_kinematics(self.model, self.data)
        self._mujoco.mj_comPos(self.model, self.data)
        if self.watch is not None:
            self.watch(self.model, self.data)

    def wait(self, seconds: float) -> None:
        """Stay there."""
        for _ in range(round(seconds / self.settings.timestep_s)):
            self.step(self.q)

    def move_joints(self, q: Float[np.ndarray, "7"]) -> None:
        """Straight to other joint positions, at most 1 rad/s."""
        start = self.q
        count = max(1, int(np.abs(q - start).max() / (1.0 * self.settings.timestep_s)))
        for share in np.linspace(0, 1, count + 1)[1:]:
            self.step(start + share * (q - start))

    def towards(self, T_object_gripper: Float[np.ndarray, "4 4"]) -> Reached:
        """One step of control towards a pose of the gripper; how near the arm can come to it."""
        T_base_gripper, dt = self.T_base_object @ T_object_gripper, self.settings.timestep_s
        reached = self.kinematics.follow(T_base_gripper, self.q, self.near, dt)
        self.step(reached.q)
        return reached

    def advance(
        self, T_object_gripper: Float[np.ndarray, "4 4"], depths: tuple[float, float], speed: float, deaf: float = 0.0
    ) -> tuple[float, bool]:
        """Straight along the gripper's z from one depth to another, or, forwards, until it meets something.

        Args:
            T_object_gripper: the gripper's pose at depth 0.
            depths: first and last, metres.
            speed: m/s.
            deaf: so far from the start nothing is felt: the arm has yet to come to rest on its way.

        Returns:
            Where the gripper is then (m), and whether it has met something.
        """
        T, meets, (start, goal) = T_object_gripper.copy(), False, depths
        at, z = T[:3, 3].copy(), T_object_gripper[:3, 2]
        depth = start
        steps = max(2, 1 + round(abs(goal - start) / (speed * self.settings.timestep_s)))
        for depth in np.linspace(start, goal, steps):
            T[:3, 3] = at + depth * z
            self.towards(T)
            meets = bool(goal > start and depth > start + deaf and self.push @ z > self.settings.contact_n)
            if meets:
                depth = float((self.hand[:3, 3] - at) @ z)
                break
        return float(depth), meets
