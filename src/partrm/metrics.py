"""Figures of merit as pure functions of tensors: images, part masks, motions and joints.

Each takes any leading batch dimensions and returns one value an item, so that means, medians and spreads are taken by
whoever reports them. Images are sRGB floats in [0, 1], channels first, composited on white.
"""

import torch
from einops import reduce
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partrm.articulation.kinematics import JointType
from partrm.transforms import transform_points

RANGE_TOLERANCE = 1e-4
"""How far image values may leave [0, 1] by rounding."""

PARALLEL_SINE = 1e-6
"""Sine of the angle below which two axes count as parallel."""


SSIM_BORDER_PX = 5
"""Half a window of SSIM."""

SSIM_SIGMA_PX = 1.5

SSIM_K1, SSIM_K2 = 0.01, 0.03
"""What keeps SSIM's quotients finite, for images of range 1."""


def composite_on_white(rgba: Float[Tensor, "*batch 4 h w"]) -> Float[Tensor, "*batch 3 h w"]:
    """Straight-alpha images in [0, 1] over a white background."""
    _check_image(rgba)
    color, alpha = rgba[..., :3, :, :], rgba[..., 3:, :, :]
    return color * alpha + (1 - alpha)


def psnr(
    pred: Float[Tensor, "*batch 3 h w"], target: Float[Tensor, "*batch 3 h w"], *, cap_db: float = 60.0
) -> Float[Tensor, "*batch"]:
    """Peak signal-to-noise ratio in dB, [0, ``cap_db``]; higher is better.

    A perfect image has infinite PSNR: it counts as ``cap_db`` (60 dB is about the rounding error of 8-bit images), so
    that no item drops out of a mean.
    """
    _check_image(pred)
    _check_image(target)
    return _decibels(reduce((pred - target).square(), "... c h w -> ...", "mean"), cap_db)


def masked_psnr(
    pred: Float[Tensor, "*batch 3 h w"],
    target: Float[Tensor, "*batch 3 h w"],
    mask: Bool[Tensor, "*batch h w"],
    *,
    cap_db: float = 60.0,
) -> Float[Tensor, "*batch"]:
    """PSNR in dB over the pixels of ``mask`` only, [0, ``cap_db``]; NaN for an item whose mask is empty."""
    _check_image(pred)
    _check_image(target)
    error = reduce((pred - target).square(), "... c h w -> ... h w", "mean")
    total = reduce(torch.where(mask, error, torch.zeros_like(error)), "... h w -> ...", "sum")
    return _decibels(total / reduce(mask.to(error.dtype), "... h w -> ...", "sum"), cap_db)


def ssim(pred: Float[Tensor, "*batch 3 h w"], target: Float[Tensor, "*#batch 3 h w"]) -> Float[Tensor, "*batch"]:
    """Structural similarity (Wang et al. 2004: Gaussian window, sigma 1.5, 11 px), [-1, 1]; higher is better.

    Mean over the windows that lie inside the image, so at least 11 px a side, as scikit-image takes it. The window is
    a product of two one-dimensional ones, applied as two products of matrices: four times as fast on a CPU as
    convolving with the square. A target that several images are compared with may be given once (it broadcasts).
    """
    _check_image(pred)
    _check_image(target)
    height, width = pred.shape[-2:]
    assert min(height, width) > 2 * SSIM_BORDER_PX, f"{width}x{height} px are less than a window"
    down, across = (_window_matrix(size, pred) for size in (height, width))

    def local_mean(image: Float[Tensor, "*batch 3 h w"]) -> Float[Tensor, "*batch 3 h2 w2"]:
        return down @ (image @ across.mT)

    mean_p, mean_t = local_mean(pred), local_mean(target)
    variance_p = local_mean(pred.square()) - mean_p.square()
    variance_t = local_mean(target.square()) - mean_t.square()
    covariance = local_mean(pred * target) - mean_p * mean_t
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    luminance = (2 * mean_p * mean_t + c1) / (mean_p.square() + mean_t.square() + c1)
    structure = (2 * covariance + c2) / (variance_p + variance_t + c2)
    return reduce(luminance * structure, "... c h w -> ...", "mean")


def _window_matrix(size: int, like: Tensor) -> Float[Tensor, "inside size"]:
    """Each row takes the Gaussian mean around one pixel whose window lies inside a line of ``size`` pixels."""
    offset = torch.arange(size, device=like.device) - torch.arange(size, device=like.device)[:, None]
    weight = torch.exp(-0.5 * (offset.to(like.dtype) / SSIM_SIGMA_PX) ** 2) * (offset.abs() <= SSIM_BORDER_PX)
    inside = weight[SSIM_BORDER_PX : size - SSIM_BORDER_PX]
    return inside / inside.sum(1, keepdim=True)


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


def type_accuracy(pred: Int[Tensor, "n"], true: Int[Tensor, "n"]) -> Float[Tensor, ""]:
    """Share of joints of the right :class:`JointType`, [0, 1]; continuous counts as revolute. ``n`` is at least 1."""
    assert pred.numel() > 0, "no joints to count"
    return (_without_continuous(pred) == _without_continuous(true)).double().mean()


def _without_continuous(joint_type: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    assert bool(((joint_type >= min(JointType)) & (joint_type <= max(JointType))).all()), "not a joint type"
    return torch.where(joint_type == JointType.CONTINUOUS, int(JointType.REVOLUTE), joint_type)


def _decibels(mean_square: Float[Tensor, "*batch"], cap_db: float) -> Float[Tensor, "*batch"]:
    return (-10 * torch.log10(mean_square)).clamp(max=cap_db)


def _check_image(image: Float[Tensor, "*batch c h w"]) -> None:
    low, high = torch.aminmax(image)
    inside = bool(low >= -RANGE_TOLERANCE) and bool(high <= 1 + RANGE_TOLERANCE)
    assert inside, f"image values must lie in [0, 1], found {low.item():.4g} to {high.item():.4g}"
