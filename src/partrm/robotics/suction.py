"""The suction protocol of FlowBot3D (Eisner et al. 2022) and UMPNet (Xu et al. 2022) in MuJoCo.

A suction cup holds a point of the part and is led along a guide; what counts is the share of the joint's remaining
range that it opens. The cup is a spring of limited strength between the point and where the guide is; it comes off when
the two are too far apart. It has no shape of its own.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from partrm.robotics.arcs import ArcPrior
from partrm.robotics.guides import Guide, Plan
from partrm.robotics.simulated_object import (
    JointResistance,
    SimulatedObject,
    SimulationError,
    Task,
    mujoco_package,
    simulate,
)

Ending = Literal["open", "came off", "timeout"]


@dataclass(frozen=True)
class SuctionSettings:
    """Everything that the protocol fixes; metres, newtons, seconds."""

    diagonal_m: float = 0.6
    """Objects have no size of their own: the closed object's bounding box gets this diagonal."""
    strength_n: float = 30.0
    """The cup pulls at most so much."""
    slip_m: float = 0.03
    """It comes off when its point is farther from the guide."""
    stiffness_n_per_m: float = 2000.0
    cup_damping_n_s_per_m: float = 20.0
    speed_m_per_s: float = 0.1
    """Of the guide along its way, at most."""
    turn_rad_per_s: float = 1.0
    """Of the guide about its arc's centre, at most."""
    timeout_s: float = 20.0
    """Simulated time."""
    timestep_s: float = 0.002
    open_share: float = 0.995
    """The pull ends here."""
    resistance: JointResistance = field(default_factory=JointResistance)
    variation: float = 0.3
    """Damping, friction and weight of each object are drawn, from its seed, within this share of their values."""
    refit_m: float = 0.01
    """Closed loop: the arc is estimated anew whenever the point has gone so far."""
    sensor_noise_m: float = 0.001
    """Closed loop: standard deviation of the point's measured place, per coordinate."""
    prior: ArcPrior = field(default_factory=ArcPrior)

    def drawn(self, seed: int) -> JointResistance:
        """The resistance of one object."""
        damping, friction, density = np.random.default_rng(seed).uniform(1 - self.variation, 1 + self.variation, 3)
        return self.resistance.scaled(float(damping), float(friction), float(density))


@dataclass(frozen=True)
class PullResult:
    """How far a pull got."""

    opened: float
    """Share of the remaining range at the end: 0 nothing, 1 all; negative where the joint went the other way."""
    ending: Ending
    seconds: float
    """Simulated."""

    @property
    def left(self) -> float:
        """Share of the remaining range that is left, at least 0."""
        return max(0.0, 1.0 - self.opened)


def pull(task: Task, plan: Plan, settings: SuctionSettings, seed: int = 0) -> PullResult:
    """Pull the dragged part by a cup until it is open, the cup comes off, or time is up.

    Args:
        task: the true object, metres.
        plan: what the cup follows.
        settings: of the protocol.
        seed: of the joint's resistance and of the measured path: the same seed gives the same result.

    Raises:
        SimulationError: MuJoCo is not installed or does not take the object, or the simulation diverged.
    """
    return pull_in(simulate(task, settings.drawn(seed), settings.timestep_s), task, plan, settings, seed)


def pull_in(simulated: SimulatedObject, task: Task, plan: Plan, settings: SuctionSettings, seed: int) -> PullResult:
    """:func:`pull` in a model that is there already; it starts from the source state again."""
    mujoco = mujoco_package()
    model, data, body = simulated.model, simulated.data, simulated.body
    mujoco.mj_resetData(model, data)
    mujoco.mj_forward(model, data)
    start = plan.arc.start
    held = data.xmat[body].reshape(3, 3).T @ (start - data.xpos[body])
    guide, torque = Guide(plan, settings, seed), np.zeros(3)
    point, ending, before = start, "timeout", start
    for _ in range(round(settings.timeout_s / settings.timestep_s)):
        velocity = (point - before) / settings.timestep_s
        gap = guide.target(point) - point
        if float(np.linalg.norm(gap)) > settings.slip_m:
            ending = "came off"
            break
        force = settings.stiffness_n_per_m * gap - settings.cup_damping_n_s_per_m * velocity
        force *= min(1.0, settings.strength_n / max(float(np.linalg.norm(force)), 1e-9))
        data.qfrc_applied[:] = 0
        mujoco.mj_applyFT(model, data, force, torque, point, body, data.qfrc_applied)
        mujoco.mj_step(model, data)
        mujoco.mj_kinematics(model, data)
        before, point = point, data.xpos[body] + data.xmat[body].reshape(3, 3) @ held
        if simulated.moved / task.span >= settings.open_share:
            ending = "open"
            break
    opened, warnings = simulated.moved / task.span, int(data.warning.number.sum())
    if not np.isfinite(opened) or warnings:
        raise SimulationError(f"{task.object.name}: the simulation diverged ({warnings} warnings of MuJoCo)")
    return PullResult(float(opened), ending, float(data.time))
