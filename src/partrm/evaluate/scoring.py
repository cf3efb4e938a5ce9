"""From a truth and an answer to one row of figures, and from rows to a summary. Pure functions of tensors."""

import importlib.util
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.articulation.estimate import EstimatedJoint
from partrm.articulation.kinematics import JointType
from partrm.cameras import Cameras
from partrm.metrics import (
    drag_error_px,
    joint_axis_error_rad,
    mask_iou,
    masked_psnr,
    motion_error_ratio,
    pivot_distance,
    psnr,
    ssim,
)
from partrm.transforms import transform_points

METRICS = {
    "iou": "IoU of the moving part, view 0",
    "motion_error_ratio": "error of the moved points / error of not moving",
    "type_correct": "joint type right",
    "axis_error_deg": "joint axis error (degrees, all samples)",
    "pivot_distance": "distance of the axes (object diagonals, where both turn)",
    "amount_error_rad": "error of the amount (radians, where both turn)",
    "amount_error_units": "error of the amount (object diagonals, where both slide)",
    "drag_error_px": "drag error (px of a 256 px image)",
    "confidence": "confidence of the joint",
    "psnr": "PSNR, views around (dB)",
    "psnr_moved": "PSNR on the moved part's pixels (dB)",
    "ssim": "SSIM, views around",
}
"""Columns of a row, and what they are."""

METHODS = {
    "model": "the model",
    "copy": "copy of the source's true views",
    "no_motion": "no motion: the model's reconstruction, unmoved",
    "oracle_motion": "oracle motion: true part and true motion on the model's Gaussians",
    "oracle_geometry": "oracle geometry: true surface Gaussians (not fitted to images) with true motion",
}
"""Who answers, and what that is; all but the model are under ``baselines`` in a row."""

RESAMPLES = 1000
"""Bootstrap resamples of a mean."""

COVERAGE = 0.95
"""Of the intervals."""


@dataclass(frozen=True)
class Truth:
    """What one sample really is, canonical frame."""

    part_mask: Bool[Tensor, "side side"]
    """Moving part in the first view, one value a splat."""
    points: Float[Tensor, "p 3"]
    """Points on the whole surface of what moves, hidden sides too, before the motion."""
    joint: EstimatedJoint
    """The true joint; its amount is signed."""
    T_after_before: Float[Tensor, "4 4"]
    drag_points: Float[Tensor, "d 3"]
    """Points of the surface that the drags start on."""
    camera: Cameras
    """[], the first view."""
    before: Float[Tensor, "views 3 h w"]
    """Source state from around, on white."""
    after: Float[Tensor, "views 3 h w"]
    """Target state from around, on white."""
    moved: Bool[Tensor, "views h w"]
    """Pixels of the moving part before or after."""


@dataclass(frozen=True)
class Answer:
    """What a method says of one sample."""

    part_mask: Bool[Tensor, "side side"] | None
    """None where the method looks for no part."""
    joint: EstimatedJoint | None
    """None where the method moves nothing."""
    after: Float[Tensor, "views 3 h w"]
    """On white, from the truth's cameras."""


def score(truth: Truth, answer: Answer, *, with_ssim: bool = True) -> dict[str, float | None]:
    """The columns of :data:`METRICS` for one sample; None where a figure has no meaning (or no package computes it).

    The axis error counts every sample, those of the wrong joint type too. Pivot distance and amount errors need the
    right type; the amount's sign is read about the true axis.
    """
    row: dict[str, float | None] = dict.fromkeys(METRICS)
    if answer.part_mask is not None:
        row["iou"] = float(mask_iou(answer.part_mask, truth.part_mask))
    row |= score_motion(truth, answer.joint)
    row |= score_images(answer.after, truth)
    if with_ssim and ssim_available():
        row["ssim"] = float(ssim(answer.after, truth.after).mean())
    assert set(row) == set(METRICS), "a column is missing"
    return row


def score_motion(truth: Truth, joint: EstimatedJoint | None) -> dict[str, float | None]:
    """Figures of where the part is carried, and of the joint if there is one."""
    T = torch.eye(4) if joint is None else joint.T_after_before
    arrived, _ = truth.camera.project(transform_points(T, truth.drag_points))
    wanted, _ = truth.camera.project(transform_points(truth.T_after_before, truth.drag_points))
    every = torch.ones(len(wanted), dtype=torch.bool)
    figures: dict[str, float | None] = {
        "motion_error_ratio": float(motion_error_ratio(truth.points, T, truth.T_after_before)),
        "drag_error_px": float(drag_error_px(arrived, wanted, every)),
    }
    return figures if joint is None else figures | score_joint(truth.joint, joint)


def score_joint(true: EstimatedJoint, joint: EstimatedJoint) -> dict[str, float | None]:
    """Figures of a joint against the true one."""
    turns = true.type == JointType.REVOLUTE
    right = joint.type == true.type
    same_way = 1.0 if float(joint.axis @ true.axis) >= 0 else -1.0
    amount_error = abs(same_way * joint.amount - true.amount)
    pivot = pivot_distance(joint.axis, joint.pivot, true.axis, true.pivot)
    return {
        "type_correct": float(right),
        "axis_error_deg": math.degrees(float(joint_axis_error_rad(joint.axis, true.axis))),
        "pivot_distance": float(pivot) if right and turns else None,
        "amount_error_rad": amount_error if right and turns else None,
        "amount_error_units": amount_error if right and not turns else None,
        "confidence": joint.confidence,
    }


def score_images(images: Float[Tensor, "views 3 h w"], truth: Truth) -> dict[str, float | None]:
    """PSNR as means over the views; the moved part's over the views that show it."""
    over_moved = masked_psnr(images, truth.after, truth.moved)
    shown = truth.moved.any(-1).any(-1)
    return {
        "psnr": float(psnr(images, truth.after).mean()),
        "psnr_moved": float(over_moved[shown].mean()) if bool(shown.any()) else None,
    }


def ssim_available() -> bool:
    """Whether the package that computes SSIM is installed; without it the column stays empty."""
    return importlib.util.find_spec("torchmetrics") is not None


def figures_of(row: dict[str, Any], method: str) -> dict[str, Any]:
    """The columns of :data:`METRICS` of one of :data:`METHODS` in a row."""
    return row if method == "model" else row["baselines"][method]


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean with its bootstrap interval, median and number of values of every metric of every method over some rows."""
    summary: dict[str, Any] = {"samples": len(rows)}
    objects = [row["object"] for row in rows]
    for method in METHODS:
        table = [figures_of(row, method) for row in rows]
        summary[method] = {name: summarise_values([line[name] for line in table], objects) for name in METRICS}
    return summary


def summarise_values(values: Sequence[float | None], objects: Sequence[str]) -> dict[str, float | int | None]:
    """Mean, its interval ``low`` to ``high``, median and number of the values that are not None."""
    known = [(value, name) for value, name in zip(values, objects, strict=True) if value is not None]
    if not known:
        return {"mean": None, "low": None, "high": None, "median": None, "n": 0}
    numbers = [value for value, _ in known]
    assert all(math.isfinite(value) for value in numbers), "a figure of a sample is not finite"
    low, high = bootstrap_interval(numbers, [name for _, name in known])
    median = statistics.median(numbers)
    return {"mean": statistics.fmean(numbers), "low": low, "high": high, "median": median, "n": len(numbers)}


def bootstrap_interval(
    values: Sequence[float], clusters: Sequence[str], seed: int = 0
) -> tuple[float | None, float | None]:
    """Percentile bootstrap interval of the mean, :data:`COVERAGE` wide; None twice for a single value.

    Samples of one object resemble each other, so whole objects are drawn (Efron and Tibshirani 1993, clusters); the
    samples themselves where all are of one object.
    """
    if len(values) < 2:
        return None, None
    names, of_value = np.unique(np.asarray(clusters), return_inverse=True)
    if len(names) == 1:
        of_value = np.arange(len(values))
    count = np.bincount(of_value)
    total = np.bincount(of_value, weights=np.asarray(values, dtype=np.float64))
    drawn = np.random.default_rng(seed).integers(0, len(count), (RESAMPLES, len(count)))
    means = total[drawn].sum(1) / count[drawn].sum(1)
    low, high = np.quantile(means, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(low), float(high)


def summarise_by(rows: Sequence[dict[str, Any]], key: str) -> dict[str, Any]:
    """Summaries of the rows of each value of a column, in the order of first appearance."""
    return {value: summarise([r for r in rows if r[key] == value]) for value in dict.fromkeys(r[key] for r in rows)}
