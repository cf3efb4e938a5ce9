"""The way of one point that a joint carries: an arc of a circle, or a line; and the arc that best fits a path.

A line is an arc of curvature zero, so that hinges and slides are one family without a switch between them.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from partrm.geometry.joints import JointType

Vector = Float[np.ndarray, "3"]

MIN_RADIUS_M = 1e-3
"""A point nearer to a hinge's axis turns about it at this distance."""

STRAIGHT_CURVATURE = 0.05
"""Arcs of less (1/m) are told as slides: their hinge would be more than 20 m away."""


FAR_OFF_RAD = 1.0
"""A path that leads so far from the predicted direction is fitted from its own direction on."""


@dataclass(frozen=True)
class Arc:
    """Where a point goes, by the length of its way."""

    start: Vector
    """Metres."""
    tangent: Vector
    """Unit direction at the start."""
    curvature: Vector
    """Towards the circle's centre, across the tangent; its length is one over the radius (1/m)."""

    @staticmethod
    def of_joint(kind: JointType, axis: Vector, pivot: Vector, point: Vector) -> "Arc":
        """The way of ``point`` under a joint that moves in the positive sense of its axis.

        Args:
            kind: PRISMATIC, else a hinge.
            axis: unit direction.
            pivot: a point of the hinge's axis.
            point: start of the way.
        """
        if kind == JointType.PRISMATIC:
            return Arc(point, axis, np.zeros(3))
        arm = point - pivot
        arm = arm - axis * (axis @ arm)
        length = float(np.linalg.norm(arm))
        out = arm / length if length > 0 else across(axis)[0]
        return Arc(point, np.cross(axis, out), -out / max(length, MIN_RADIUS_M))

    def points(self, lengths: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 3"]:
        """The points after some lengths of the way (m)."""
        k, s = float(np.linalg.norm(self.curvature)), lengths[:, None]
        along, towards = s * np.sinc(k * s / np.pi), 0.5 * s**2 * np.sinc(k * s / (2 * np.pi)) ** 2
        return self.start + along * self.tangent + towards * self.curvature

    def lengths(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
        """The length of the way at the nearest place to each point of a path, in order: full turns add up."""
        away = points - self.start
        k, ahead = float(np.linalg.norm(self.curvature)), away @ self.tangent
        if k < 1e-9:
            return ahead
        return np.unwrap(np.arctan2(k * ahead, 1 - away @ self.curvature)) / k

    def motion(self, length: float) -> Float[np.ndarray, "4 4"]:
        """The rigid motion of what goes along with the point, after some length of its way (m)."""
        T = np.eye(4)
        T[:3, :3] = Rotation.from_rotvec(length * np.cross(self.tangent, self.curvature)).as_matrix()
        T[:3, 3] = self.points(np.array([length]))[0] - T[:3, :3] @ self.start
        return T

    def joint(self) -> tuple[JointType, Vector, Vector]:
        """Type, axis and a point of the axis of the joint that carries a point along the arc."""
        k = float(np.linalg.norm(self.curvature))
        if k < STRAIGHT_CURVATURE:
            return JointType.PRISMATIC, self.tangent, self.start
        return JointType.REVOLUTE, np.cross(self.tangent, self.curvature) / k, self.start + self.curvature / k**2


def across(direction: Vector) -> tuple[Vector, Vector]:
    """Two unit directions at right angles to one and to each other."""
    first = np.cross(direction, np.eye(3)[int(np.abs(direction).argmin())])
    first = first / np.linalg.norm(first)
    return first, np.cross(direction, first)


@dataclass(frozen=True)
class ArcPrior:
    """How far a predicted arc is believed, and a path."""

    tangent_rad: float = 0.3
    """Standard deviation of the predicted direction."""
    curvature_per_m: float = 2.0
    """Standard deviation of the predicted curvature."""
    path_m: float = 0.002
    """Standard deviation of the path's points."""


def estimate_arc(path: Float[np.ndarray, "n 3"], predicted: Arc, prior: ArcPrior) -> Arc:
    """The arc from ``predicted.start`` that fits a path, the more like the prediction the less the path says.

    Least squares over the direction and the curvature (maximum a posteriori under normal errors).

    Args:
        path: where the point has been, in order, metres; neighbours less than half a turn apart.
        predicted: what is believed before.
        prior: how firmly.
    """
    tilt = np.stack(across(predicted.tangent))

    def arc_of(values: np.ndarray) -> Arc:
        angle = float(np.linalg.norm(values[:2]))
        tangent = np.cos(angle) * predicted.tangent + np.sinc(angle / np.pi) * (values[:2] @ tilt)
        curvature = predicted.curvature + values[2:]
        return Arc(predicted.start, tangent, curvature - tangent * (tangent @ curvature))

    def errors(values: np.ndarray) -> np.ndarray:
        arc = arc_of(values)
        off = arc.points(arc.lengths(path)) - path
        believed = (values[:2] / prior.tangent_rad, values[2:] / prior.curvature_per_m)
        return np.concatenate([off.ravel() / prior.path_m, *believed])

    ahead = path[np.linalg.norm(path - predicted.start, axis=1).argmax()] - predicted.start
    sideways = tilt @ ahead
    angle = float(np.arctan2(np.linalg.norm(sideways), predicted.tangent @ ahead))
    first = np.zeros(5)
    if angle > FAR_OFF_RAD:  # from the prediction, least squares might not find the way there
        first[:2] = angle * sideways / max(float(np.linalg.norm(sideways)), 1e-9)
    return arc_of(least_squares(errors, first, x_scale=[0.1, 0.1, 1, 1, 1], ftol=1e-4, xtol=1e-4, max_nfev=30).x)
