"""A Franka Panda with its gripper: the model of MuJoCo Menagerie, and where it can put its gripper (by ``mink``).

The model lies in the wheel of Genesis, which is only looked up, never imported, and of which nothing is copied:
``pip install --no-deps genesis-world``.
"""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from partrm.robotics.simulated_object import ROBOT_BIT, SimulationError, mujoco_package

WHEEL, FILE = "genesis-world", "genesis/assets/xml/franka_emika_panda/panda.xml"

PREFIX = "arm/"
"""Of the names of everything of the arm in a model that it has joined."""

JOINTS = 7

HOME = (0.0, 0.0, 0.0, -1.57079, 0.0, 1.57079, -0.7853)
"""Menagerie's resting pose, radians."""

TCP_M = 0.1034
"""From the hand's frame to the point between the finger tips, along its z."""

STIFFNESS = (600.0, 600.0, 600.0, 600.0, 250.0, 150.0, 50.0)
"""N m / rad: the joint impedance of libfranka's example, so that the arm yields as a suction cup does."""

DAMPING = (50.0, 50.0, 50.0, 50.0, 30.0, 25.0, 15.0)
"""N m s / rad."""

GRIP_N = 60.0
"""The gripper closes with this force; the real one holds 70 N."""

SKY = (0.95, 0.95, 0.95)
"""Colour behind the pictures."""

FINGERS = ("left_finger", "right_finger")

FRICTION = (1.0, 0.02, 0.0001)
"""Of the fingers: rubber on wood or metal; sliding, torsional (m), rolling (m)."""

FIRM = (0.004, 1.0)
"""Time constant (s) and damping of what stops the fingers: with MuJoCo's usual 20 ms they would sink in by centimetres
under the gripper's force, since they are so light."""

FINGER_KG = 0.5
"""What the gripper's motor adds to each."""

FINGER_DAMPING = 600.0
"""N s/m: fingers close by 0.1 m/s each, twice the real speed; without it they were fast enough to pass through handles
within a timestep."""

OPEN_M = 0.08
"""Between the fingers of the open gripper."""

POSITION_M, ANGLE_RAD = 2e-3, 0.02
"""A pose is reached when the gripper is so near to it."""

IK_STEPS = 30
"""Steps of inverse kinematics towards one pose, at most."""


HOPELESS_M = 0.1
"""Half of the steps have not brought the gripper so near: it will not come there."""

IK_STEP_S = 0.2
"""Of time between these, so that joints turn no farther than 0.4 rad in each."""

LIMIT_MARGIN_RAD = 0.1
"""So far from the joints' limits are poses looked for: what is followed is not quite what was expected."""

POSTURE_GAIN = 0.05
"""Share of the way to the expected joint positions in each step of control, where the gripper's pose leaves it free."""

SKELETON_STEPS = 4
"""Points of each piece between two joints."""


def panda_file() -> Path:
    """The MJCF of the arm.

    Raises:
        SimulationError: the wheel that holds it is not installed, or has it no more.
    """
    try:
        found = Path(str(distribution(WHEEL).locate_file(FILE)))
    except PackageNotFoundError as error:
        raise SimulationError(f"the arm's model lies in the wheel {WHEEL}: pip install --no-deps {WHEEL}") from error
    if not found.is_file():
        raise SimulationError(f"the installed {WHEEL} has no {FILE}; another version may have it")
    return found


def mink_package() -> Any:
    """The package, imported when it is needed.

    Raises:
        SimulationError: it is not installed.
    """
    try:
        import mink
    except ImportError as error:
        raise SimulationError("an arm needs mink: pip install 'partrm[robot]'") from error
    return mink


def arm_spec() -> Any:
    """The arm as ``mujoco.MjSpec``: compliant joints, a gripper of constant force, its weight carried by its motors.

    Raises:
        SimulationError: MuJoCo or the arm's model is not there.
    """
    mujoco = mujoco_package()
    spec = mujoco.MjSpec.from_file(str(panda_file()))
    for key in list(spec.keys):
        spec.delete(key)
    for body in spec.bodies[1:]:
        body.gravcomp = 1.0
    for geom in spec.geoms:
        if geom.classname.name == "visual":
            continue
        geom.contype, geom.conaffinity = 1 | int(ROBOT_BIT), 1
        if geom.parent.name in FINGERS:
            geom.condim, geom.priority, geom.friction = 4, 1, FRICTION
            geom.solref, geom.solimp[:2] = FIRM, (0.95, 0.995)
    for name in FINGERS:
        for joint in spec.body(name).joints:
            joint.armature, joint.damping[0] = FINGER_KG, FINGER_DAMPING
            joint.solref_limit, joint.solimp_limit[:2] = FIRM, (0.95, 0.995)
    spec.body("hand").add_site(name="tcp", pos=[0.0, 0.0, TCP_M])
    for actuator, stiffness, damping in zip(spec.actuators[:JOINTS], STIFFNESS, DAMPING, strict=True):
        actuator.gainprm[0], actuator.biasprm[1], actuator.biasprm[2] = stiffness, -stiffness, -damping
    gripper = spec.actuators[JOINTS]
    gripper.gainprm[:3], gripper.biasprm[:3] = [1.0, 0.0, 0.0], [0.0, 0.0, -20.0]
    gripper.ctrlrange, gripper.forcerange = [-2 * GRIP_N, 2 * GRIP_N], [-2 * GRIP_N, 2 * GRIP_N]
    return spec


def joined(xml: str, T_object_base: Float[np.ndarray, "4 4"]) -> Any:
    """``mujoco.MjModel`` of an object's MJCF and an arm that stands beside it.

    Raises:
        SimulationError: MuJoCo or the arm's model is not there.
    """
    mujoco = mujoco_package()
    spec = mujoco.MjSpec.from_string(xml)
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, T_object_base[:3, :3].ravel())
    frame = spec.worldbody.add_frame(pos=T_object_base[:3, 3], quat=quaternion)
    spec.attach(arm_spec(), prefix=PREFIX, frame=frame)
    sky, gradient = mujoco.mjtTexture.mjTEXTURE_SKYBOX, mujoco.mjtBuiltin.mjBUILTIN_GRADIENT
    spec.add_texture(name="sky", type=sky, builtin=gradient, rgb1=SKY, rgb2=SKY, width=64, height=384)
    spec.option.cone, spec.option.impratio = mujoco.mjtCone.mjCONE_ELLIPTIC, 10.0
    return spec.compile()


@dataclass(frozen=True)
class Reached:
    """Where inverse kinematics ended."""

    q: Float[np.ndarray, "7"]
    position_m: float
    """Distance that is left."""
    angle_rad: float
    """Angle that is left."""

    @property
    def there(self) -> bool:
        """Whether the pose is reached."""
        return self.position_m <= POSITION_M and self.angle_rad <= ANGLE_RAD


class Kinematics:
    """The arm alone, in the frame of its base."""

    def __init__(self) -> None:
        mink = mink_package()
        self._mink = mink
        self.model = arm_spec().compile()
        self._configuration = mink.Configuration(self.model)
        self._goal = mink.FrameTask("tcp", "site", position_cost=1.0, orientation_cost=0.3, lm_damping=1e-3)
        self._resting = mink.PostureTask(self.model, cost=1e-3)
        self._resting.set_target(self._full(np.array(HOME)))
        self._expected = mink.PostureTask(self.model, cost=1e-3, gain=POSTURE_GAIN)
        self._limit, self._margin = mink.ConfigurationLimit(self.model), mink.ConfigurationLimit(self.model)
        self._margin.lower[:JOINTS] += LIMIT_MARGIN_RAD
        self._margin.upper[:JOINTS] -= LIMIT_MARGIN_RAD
        self._slow = mink.VelocityLimit(self.model, {f"joint{n + 1}": 2.0 for n in range(JOINTS)})
        self._links = [self.model.body(f"link{n}").id for n in range(1, JOINTS + 1)]
        self._hand = self.model.body("hand").id

    def _full(self, q: Float[np.ndarray, "7"]) -> np.ndarray:
        return np.concatenate([q, np.full(self.model.nq - JOINTS, OPEN_M / 2)])

    def reach(self, T_base_gripper: Float[np.ndarray, "4 4"], q: Float[np.ndarray, "7"]) -> Reached:
        """Joint positions that bring the gripper to a pose, or as near as they get, from ``q`` on.

        They keep :data:`LIMIT_MARGIN_RAD` to the limits, and so must ``q``.
        """
        self._configuration.update(self._full(q))
        self._goal.set_target(self._mink.SE3.from_matrix(T_base_gripper))
        for step in range(IK_STEPS):
            reached = self._reached()
            hopeless = step == IK_STEPS // 2 and reached.position_m > HOPELESS_M
            if reached.there or hopeless:
                return reached
            self._step(IK_STEP_S, self._resting, self._margin)
        return self._reached()

    def follow(
        self,
        T_base_gripper: Float[np.ndarray, "4 4"],
        q: Float[np.ndarray, "7"],
        near: Float[np.ndarray, "7"],
        dt: float,
    ) -> Reached:
        """One step of ``dt`` seconds towards a pose, no joint faster than 2 rad/s.

        Of the joint positions that bring the gripper there it goes towards those like ``near``.
        """
        self._configuration.update(self._full(q))
        self._goal.set_target(self._mink.SE3.from_matrix(T_base_gripper))
        self._expected.set_target(self._full(near))
        self._step(dt, self._expected, self._limit)
        return self._reached()

    def _step(self, dt: float, posture: Any, limit: Any) -> None:
        """No step where there is none within the limits: contact can press joints beyond them."""
        tasks, limits = [self._goal, posture], [limit, self._slow]
        try:
            velocity = self._mink.solve_ik(self._configuration, tasks, dt, "daqp", damping=1e-6, limits=limits)
        except self._mink.NoSolutionFound:
            return
        self._configuration.integrate_inplace(velocity, dt)

    def _reached(self) -> Reached:
        error = self._goal.compute_error(self._configuration)
        q = self._configuration.q[:JOINTS].copy()
        return Reached(q, float(np.linalg.norm(error[:3])), float(np.linalg.norm(error[3:])))

    def meets_itself(self, q: Float[np.ndarray, "7"]) -> bool:
        """Whether links of the arm, but for its fingers, touch each other."""
        self._configuration.update(self._full(q))
        data = self._configuration.data
        mujoco_package().mj_collision(self.model, data)
        bodies = self.model.geom_bodyid[data.contact.geom]
        return bool((bodies <= self._hand).all(axis=-1).any())

    def skeleton(self, q: Float[np.ndarray, "7"]) -> Float[np.ndarray, "n 3"]:
        """Points along the middle of the arm's links, from the floor to the flange, frame of the base."""
        self._configuration.update(self._full(q))
        data = self._configuration.data
        joints = np.stack([np.zeros(3), *(data.xpos[link] for link in self._links)])
        joints = np.concatenate([joints, 0.5 * (joints[-1:] + data.xpos[self._hand])])
        steps = np.linspace(0, 1, SKELETON_STEPS, endpoint=False)[:, None]
        return np.concatenate([a + steps * (b - a) for a, b in pairwise(joints)])
