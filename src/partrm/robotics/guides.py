"""What leads a cup or a gripper: an arc, predicted and followed, or estimated anew from the way that it has gone."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from partrm.robotics.arcs import Arc, ArcPrior, Vector, estimate_arc


@runtime_checkable
class Following(Protocol):
    """How a plan is followed; metres, seconds."""

    @property
    def speed_m_per_s(self) -> float:
        """Along the arc, at most."""
        ...

    @property
    def turn_rad_per_s(self) -> float:
        """About its centre, at most."""
        ...

    @property
    def timestep_s(self) -> float:
        """Between two targets."""
        ...

    @property
    def refit_m(self) -> float:
        """Closed loop: the arc is estimated anew whenever the point has gone so far."""
        ...

    @property
    def sensor_noise_m(self) -> float:
        """Closed loop: standard deviation of the point's measured place, per coordinate."""
        ...

    @property
    def prior(self) -> ArcPrior:
        """Closed loop: how firmly the prediction is believed."""
        ...


@dataclass(frozen=True)
class Plan:
    """What is followed."""

    arc: Arc
    """Object frame, metres; it starts at the point of the part that is held."""
    closed_loop: bool = False
    """Whether the arc is estimated anew, from where the point has been, along the way."""


class Guide:
    """Where a cup, or a gripper, that follows a plan is led."""

    def __init__(self, plan: Plan, settings: Following, seed: int) -> None:
        arc = plan.arc
        self._predicted = self._arc = arc
        self._settings, self._closed_loop = settings, plan.closed_loop
        self._noise = np.random.default_rng(seed)
        self._path = [arc.start]
        self._length = 0.0
        self._target = arc.start

    @property
    def length(self) -> float:
        """How far along its arc it leads by then (m)."""
        return self._length

    @property
    def turn(self) -> Vector:
        """How far the part has turned by then, as a rotation vector (rad)."""
        return self._length * np.cross(self._arc.tangent, self._arc.curvature)

    @property
    def arc(self) -> Arc:
        """As it is estimated by then."""
        return self._arc

    def target(self, point: Vector) -> Vector:
        """Where it is led next, one timestep on, while it holds ``point``."""
        s = self._settings
        if self._closed_loop and float(np.linalg.norm(point - self._path[-1])) > s.refit_m:
            self._path.append(point + self._noise.normal(0, s.sensor_noise_m, 3))
            path = np.array(self._path[1:])
            self._arc = estimate_arc(path, self._predicted, s.prior)
            # The pull, or the push against gravity, stays as strong as it was, along the new arc.
            self._length = float(self._arc.lengths(np.stack([*path, self._target]))[-1])
        turn = s.turn_rad_per_s / max(float(np.linalg.norm(self._arc.curvature)), 1e-9)
        self._length += min(s.speed_m_per_s, turn) * s.timestep_s
        self._target = self._arc.points(np.array([self._length]))[0]
        return self._target
