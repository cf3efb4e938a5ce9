"""Figures of merit as pure functions of tensors: images, part masks, motions and joints.

Each takes any leading batch dimensions and returns one value an item, so that means, medians and spreads are taken by
whoever reports them. Images are sRGB floats in [0, 1], channels first, composited on white.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.geometry.transforms import transform_points

PARALLEL_SINE = 1e-6
"""Sine of the angle below which two axes count as parallel."""


def mask_iou(pred: Bool[Tensor, "*batch h w"], target: Bool[Tensor, "*batch h w"]) -> Float[Tensor, "*batch"]:
    """Intersection over union of two masks, [0, 1]; higher is better. Two empty masks agree: 1."""
    intersection = (pred & target).sum((-2, -1))
    union = (pred | target).sum((-2, -1))
    return torch.where(union > 0, intersection / union.clamp(min=1), 1.0)


def motion_error_ratio(
    points: Float[Tensor, "*batch n 3"], T_pred: Float[Tensor, "*batch 4 4"], T_true: Float[Tensor, "*batch 4 4"]
) -> Float[Tensor, "*batch"]:
    """Error of the predicted motion of a part over the error of not moving it, [0, inf); lower is better.

    Args:
        points: points of the part that truly moves, before the motion.
        T_pred: predicted rigid motion in the same frame (identity for "nothing moves", which scores 1).
        T_true: true rigid motion, not the identity.

    Mean distance between predicted and true positions, divided by the mean distance between first and true positions.
    """
    goal = transform_points(T_true, points)
    error = (transform_points(T_pred, points) - goal).norm(dim=-1).mean(-1)
    still = (points - goal).norm(dim=-1).mean(-1)
    assert bool((still > 0).all()), "the true motion must move the points"
    return error / still


def drag_error_px(
    pred_px: Float[Tensor, "*batch n 2"], target_px: Float[Tensor, "*batch n 2"], valid: Bool[Tensor, "*batch n"]
) -> Float[Tensor, "*batch"]:
    """Mean distance in pixels between where dragged points arrived and where they should, [0, inf).

    Padding (``valid`` False) does not count; NaN for an item without a valid drag.
    """
    distance = (pred_px - target_px).norm(dim=-1)
    return torch.where(valid, distance, torch.zeros_like(distance)).sum(-1) / valid.sum(-1)


def joint_axis_error_rad(pred: Float[Tensor, "*batch 3"], true: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch"]:
    """Angle between two joint axes as lines (their signs do not matter), radians, [0, pi / 2].

    The axes need not have unit length, but some length.
    """
    assert bool((pred.norm(dim=-1) > 0).all() and (true.norm(dim=-1) > 0).all()), "an axis has no length"
    sine = torch.cross(pred, true, dim=-1).norm(dim=-1)
    return torch.atan2(sine, (pred * true).sum(-1).abs())


def pivot_distance(
    axis_pred: Float[Tensor, "*batch 3"],
    pivot_pred: Float[Tensor, "*batch 3"],
    axis_true: Float[Tensor, "*batch 3"],
    pivot_true: Float[Tensor, "*batch 3"],
) -> Float[Tensor, "*batch"]:
    """Least distance between two revolute axes as infinite lines, in units of the pivots, [0, inf).

    Skew lines by the triple product, parallel ones by the distance of a point from a line. Lines that cross far from
    the object score well too: read it together with :func:`joint_axis_error_rad`.
    """
    a = torch.nn.functional.normalize(axis_pred, dim=-1)
    b = torch.nn.functional.normalize(axis_true, dim=-1)
    between = pivot_pred - pivot_true
    common = torch.cross(a, b, dim=-1)
    sine = common.norm(dim=-1)
    skew = (between * common).sum(-1).abs() / sine.clamp(min=PARALLEL_SINE)
    parallel = torch.cross(between, b, dim=-1).norm(dim=-1)
    return torch.where(sine > PARALLEL_SINE, skew, parallel)


def joint_amount_error(
    axis_pred: Float[Tensor, "*batch 3"],
    amount_pred: Float[Tensor, "*batch"],
    axis_true: Float[Tensor, "*batch 3"],
    amount_true: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch"]:
    """Difference of two joints' signed amounts, radians or units, [0, inf).

    A joint moved by ``a`` about ``-x`` is one moved by ``-a`` about ``x``: the predicted amount is read about whichever
    sign of its axis lies nearer to the true axis.
    """
    same_way = (axis_pred * axis_true).sum(-1) >= 0
    return (torch.where(same_way, amount_pred, -amount_pred) - amount_true).abs()
