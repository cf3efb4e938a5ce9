"""From displaced points to the joint that moved them: weighted Procrustes fit, read off as a screw."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.geometry.joints import JointMotion, JointType
from partrm.geometry.tensor_record import TensorRecord
from partrm.geometry.transforms import screw_motion, skew

PRISMATIC_SPREAD = 0.3
"""A motion counts as a translation when its displacements differ from their mean by less than this share of their
size (root mean square). A door turning about its edge has 0.5, a drawer 0; between lies the prediction's noise."""

ROBUST_ROUNDS = 3
"""Rounds of re-weighting by the residual (Geman-McClure), so that stray points do not bend the fit."""


def fit_rigid(
    source: Float[Tensor, "n 3"], target: Float[Tensor, "n 3"], weights: Float[Tensor, " n"]
) -> tuple[Float[Tensor, "3 3"], Float[Tensor, "3"]]:
    """Rotation and translation of least weighted squared error, ``target ~ R source + t`` (Kabsch 1976)."""
    w = (weights / weights.sum())[:, None]
    c_source, c_target = (w * source).sum(0), (w * target).sum(0)
    covariance = ((target - c_target) * w).mT @ (source - c_source)
    U, _, Vh = torch.linalg.svd(covariance)
    sign = torch.ones(3, dtype=U.dtype, device=U.device)
    sign[2] = torch.linalg.det(U @ Vh)
    R = (U * sign) @ Vh
    return R, c_target - R @ c_source


def screw_of_rotation(
    R: Float[Tensor, "3 3"], t: Float[Tensor, "3"], near: Float[Tensor, "3"]
) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"], float]:
    """Axis, the point of the axis nearest to ``near``, and angle in [0, pi] of a rigid motion.

    The part of the translation along the axis is dropped: joints of our kind have no pitch. For a vanishing angle the
    axis is arbitrary, and the pivot is ``near``.
    """
    skewed = torch.stack([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]])
    angle = torch.atan2(skewed.norm(), torch.trace(R) - 1)
    # The axis spans the null space of R - 1, which stays well-conditioned up to half a turn.
    axis = torch.linalg.svd(R - torch.eye(3, dtype=R.dtype, device=R.device)).Vh[2]
    axis = torch.where(axis @ skewed < 0, -axis, axis)
    if float(angle) < 1e-4:
        return axis, near, float(angle)
    # (1 - R) p = t_perpendicular, solved in the plane of the motion.
    K = skew(axis)
    t_perp = t - axis * (axis @ t)
    pivot = 0.5 * (t_perp + (K @ t_perp) / torch.tan(angle / 2))
    return axis, pivot + axis * (axis @ (near - pivot)), float(angle)


def estimate_joint(
    points: Float[Tensor, "n 3"],
    displacement: Float[Tensor, "n 3"],
    weights: Float[Tensor, " n"],
    joint_type: JointType | None = None,
) -> JointMotion:
    """The one-degree-of-freedom joint that best carries ``points`` by ``displacement``.

    Args:
        points: positions before the motion.
        displacement: where each goes, minus where it was.
        weights: how far each counts (moving probability times opacity), >= 0.
        joint_type: REVOLUTE or PRISMATIC if known, else chosen by the spread of the displacements.

    Raises:
        ValueError: no positive weight, or values that are not finite.
    """
    points, displacement, weights = points.double(), displacement.double(), weights.double()
    if not bool(weights.sum() > 0) or not bool(torch.isfinite(points).all() & torch.isfinite(displacement).all()):
        raise ValueError("a joint needs finite points and displacements with some positive weight")
    size = _rms(displacement, weights)
    spread = _rms(displacement - _mean(displacement, weights), weights)
    if joint_type is None:
        joint_type = JointType.PRISMATIC if spread < PRISMATIC_SPREAD * size else JointType.REVOLUTE
    w = weights
    joint = _fit(points, displacement, w, joint_type)
    for _ in range(ROBUST_ROUNDS):
        residual = (_moved(points, joint) - displacement).norm(dim=-1)
        scale = torch.clamp(_rms(residual[:, None], w), min=1e-6)
        w = weights / (1 + (residual / (2 * scale)) ** 2) ** 2
        joint = _fit(points, displacement, w, joint_type)
    unexplained = _rms(displacement - _moved(points, joint), weights) / size.clamp(min=1e-9)
    return JointMotion(
        type=joint_type,
        axis=joint.axis.float(),
        pivot=joint.pivot.float(),
        amount=joint.amount,
        confidence=float((1 - unexplained**2).clamp(0, 1)),
    )


@dataclass(frozen=True)
class JointBatch(TensorRecord):
    """A batch of joints and how far they moved: :class:`JointMotion`, its fields as tensors."""

    prismatic: Bool[Tensor, " b"]
    axis: Float[Tensor, "b 3"]
    pivot: Float[Tensor, "b 3"]
    amount: Float[Tensor, " b"]
    """Double precision."""
    confidence: Float[Tensor, " b"]
    """Likewise."""

    @staticmethod
    def of(joints: Sequence[JointMotion]) -> "JointBatch":
        """Some joints as a batch, on the CPU."""
        return JointBatch(
            torch.tensor([joint.type == JointType.PRISMATIC for joint in joints]),
            torch.stack([joint.axis for joint in joints]),
            torch.stack([joint.pivot for joint in joints]),
            torch.tensor([joint.amount for joint in joints], dtype=torch.float64),
            torch.tensor([joint.confidence for joint in joints], dtype=torch.float64),
        )

    def unbatched(self) -> list[JointMotion]:
        """One by one, on the CPU."""
        j = self.to("cpu")
        kinds = [JointType.PRISMATIC if slides else JointType.REVOLUTE for slides in j.prismatic.tolist()]
        rows = zip(kinds, j.axis.unbind(), j.pivot.unbind(), j.amount.tolist(), j.confidence.tolist(), strict=True)
        return [JointMotion(kind, axis, pivot, amount, sure) for kind, axis, pivot, amount, sure in rows]


def joints_from_votes(
    points: Float[Tensor, "b n 3"],
    displacement: Float[Tensor, "b n 3"],
    weights: Float[Tensor, "b n"],
    revolute_logit: Float[Tensor, "b n"],
    axis: Float[Tensor, "b n 3"],
    offset_to_axis: Float[Tensor, "b n 3"],
    angle: Float[Tensor, "b n"],
) -> JointBatch:
    """The joints that the points of a batch vote for; how far each moved is agreed with their displacements.

    Args:
        points: positions before the motion.
        displacement: where each goes, minus where it was.
        weights: how far each counts, >= 0; of those that do not, nothing is heard.
        revolute_logit: log-odds of a revolute joint.
        axis: direction of the motion's axis; a short vector counts for less.
        offset_to_axis: from each point to the axis, if the joint is revolute.
        angle: radians turned, if the joint is revolute.

    Raises:
        ValueError: a sample without positive weight, or with values that are not finite.
    """
    votes = torch.cat([points, displacement, revolute_logit[..., None], axis, offset_to_axis, angle[..., None]], -1)
    w = weights.double()
    votes = votes.double().masked_fill((w == 0)[..., None], 0.0)
    if not bool((w.sum(1) > 0).all() & torch.isfinite(votes).all()):
        raise ValueError("joints need finite votes with some positive weight")
    points, displacement, logit, axis, offset_to_axis, angles = votes.split((3, 3, 1, 3, 3, 1), -1)
    centre, summed = _mean(points, w), _mean(axis, w)
    direction = summed / summed.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    prismatic = _mean(logit, w)[:, 0] <= 0
    pivot = _robust_mean(points + offset_to_axis, w)
    pivot = pivot + direction * (direction * (centre - pivot)).sum(-1, keepdim=True)
    turned = _turned(points - pivot[:, None], displacement, w, direction)
    turn = 0.5 * (_robust_mean(angles, w)[:, 0] + turned)
    slide = (direction * _robust_mean(displacement, w)).sum(-1)
    amount = torch.where(prismatic, slide, turn)
    direction, amount = torch.where(amount[:, None] < 0, -direction, direction), amount.abs()
    pivot = torch.where(prismatic[:, None], centre, pivot)
    T = screw_motion(direction, pivot, amount, prismatic)
    moved = points @ T[:, :3, :3].mT + T[:, None, :3, 3] - points
    unexplained = _rms(displacement - moved, w) / _rms(displacement, w).clamp(min=1e-9)
    confidence = (1 - unexplained**2).clamp(0, 1)
    return JointBatch(prismatic, direction.float(), pivot.float(), amount, confidence)


def _turned(
    arms: Float[Tensor, "*batch n 3"],
    displacement: Float[Tensor, "*batch n 3"],
    weights: Float[Tensor, "*batch n"],
    axis: Float[Tensor, "*batch 3"],
) -> Float[Tensor, "*batch"]:
    """Angle about an axis through the origin that carries ``arms`` best by ``displacement`` (least squares)."""
    column = axis[..., None]
    across = arms - (arms @ column) * axis[..., None, :]
    after = across + displacement
    sine = ((torch.linalg.cross(across, after) @ column)[..., 0] * weights).sum(-1)
    cosine = ((across * after).sum(-1) * weights).sum(-1)
    return torch.atan2(sine, cosine)


def _robust_mean(values: Float[Tensor, "*batch n d"], weights: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch d"]:
    """Weighted mean, re-weighted by the residuals (Geman-McClure)."""
    mean, w = _mean(values, weights), weights
    for _ in range(ROBUST_ROUNDS):
        residual = values - mean[..., None, :]
        scale = torch.clamp(_rms(residual, w), min=1e-6)[..., None]
        w = weights / (1 + (residual.norm(dim=-1) / (2 * scale)) ** 2) ** 2
        mean = _mean(values, w)
    return mean


def _mean(values: Float[Tensor, "*batch n d"], weights: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch d"]:
    return (weights[..., None] * values).sum(-2) / weights.sum(-1, keepdim=True)


def _rms(values: Float[Tensor, "*batch n d"], weights: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    return torch.sqrt((weights * (values**2).sum(-1)).sum(-1) / weights.sum(-1))


def _moved(points: Float[Tensor, "n 3"], joint: JointMotion) -> Float[Tensor, "n 3"]:
    """Displacement of the points under the joint's motion."""
    T = joint.T_after_before
    return points @ T[:3, :3].mT + T[:3, 3] - points


def _fit(
    points: Float[Tensor, "n 3"], displacement: Float[Tensor, "n 3"], weights: Float[Tensor, " n"], kind: JointType
) -> JointMotion:
    centre = _mean(points, weights)
    if kind == JointType.PRISMATIC:
        shift = _mean(displacement, weights)
        length = shift.norm()
        axis = shift / length if float(length) > 1e-9 else shift.new_tensor([0.0, 0.0, 1.0])
        return JointMotion(kind, axis, centre, float(length), 1.0)
    R, t = fit_rigid(points, points + displacement, weights)
    axis, pivot, angle = screw_of_rotation(R, t, centre)
    return JointMotion(kind, axis, pivot, angle, 1.0)
