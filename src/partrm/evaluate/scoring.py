"""From a truth and an answer to one row of figures, and from rows to a summary. Pure functions of tensors."""

import importlib.util
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
    "copy_psnr": "copy of the source's true views: PSNR (dB)",
    "copy_psnr_moved": "copy: PSNR on the moved part's pixels (dB)",
    "still_psnr": "our reconstruction unmoved: PSNR (dB)",
    "still_psnr_moved": "unmoved: PSNR on the moved part's pixels (dB)",
}
"""Columns of a row, and what they are."""


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

    part_mask: Bool[Tensor, "side side"]
    joint: EstimatedJoint
    before: Float[Tensor, "views 3 h w"]
    """Its reconstruction, unmoved, on white, from the truth's cameras."""
    after: Float[Tensor, "views 3 h w"]


def score(truth: Truth, answer: Answer) -> dict[str, float | None]:
    """The columns of :data:`METRICS` for one sample; None where a figure has no meaning (or no package computes it).

    The axis error counts every sample, those of the wrong joint type too. Pivot distance and amount errors need the
    right type; the amount's sign is read about the true axis.
    """
    row: dict[str, float | None] = {"iou": float(mask_iou(answer.part_mask, truth.part_mask))}
    row |= score_motion(truth, answer.joint)
    row |= score_images("", answer.after, truth)
    # The slowest figure by far on a CPU, so only for the prediction itself.
    row["ssim"] = float(ssim(answer.after, truth.after).mean()) if ssim_available() else None
    row |= score_images("copy_", truth.before, truth)
    row |= score_images("still_", answer.before, truth)
    assert set(row) == set(METRICS), "a column is missing"
    return row


def score_motion(truth: Truth, joint: EstimatedJoint) -> dict[str, float | None]:
    """Figures of the joint and of where it carries the part."""
    T, true = joint.T_after_before, truth.joint
    turns = true.type == JointType.REVOLUTE
    right = joint.type == true.type
    same_way = 1.0 if float(joint.axis @ true.axis) >= 0 else -1.0
    amount_error = abs(same_way * joint.amount - true.amount)
    pivot = pivot_distance(joint.axis, joint.pivot, true.axis, true.pivot)
    arrived, _ = truth.camera.project(transform_points(T, truth.drag_points))
    wanted, _ = truth.camera.project(transform_points(truth.T_after_before, truth.drag_points))
    every = torch.ones(len(wanted), dtype=torch.bool)
    return {
        "motion_error_ratio": float(motion_error_ratio(truth.points, T, truth.T_after_before)),
        "type_correct": float(right),
        "axis_error_deg": math.degrees(float(joint_axis_error_rad(joint.axis, true.axis))),
        "pivot_distance": float(pivot) if right and turns else None,
        "amount_error_rad": amount_error if right and turns else None,
        "amount_error_units": amount_error if right and not turns else None,
        "drag_error_px": float(drag_error_px(arrived, wanted, every)),
        "confidence": joint.confidence,
    }


def score_images(prefix: str, images: Float[Tensor, "views 3 h w"], truth: Truth) -> dict[str, float | None]:
    """PSNR as means over the views; the moved part's over the views that show it."""
    over_moved = masked_psnr(images, truth.after, truth.moved)
    shown = truth.moved.any(-1).any(-1)
    return {
        f"{prefix}psnr": float(psnr(images, truth.after).mean()),
        f"{prefix}psnr_moved": float(over_moved[shown].mean()) if bool(shown.any()) else None,
    }


def ssim_available() -> bool:
    """Whether the package that computes SSIM is installed; without it the column stays empty."""
    return importlib.util.find_spec("torchmetrics") is not None


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean, median and number of values of every metric over some rows."""
    summary: dict[str, Any] = {"samples": len(rows)}
    for name in METRICS:
        values = [row[name] for row in rows if row[name] is not None]
        assert all(math.isfinite(value) for value in values), f"{name} is not finite in a sample"
        summary[name] = {
            "mean": statistics.fmean(values) if values else None,
            "median": statistics.median(values) if values else None,
            "n": len(values),
        }
    return summary


def summarise_by(rows: Sequence[dict[str, Any]], key: str) -> dict[str, Any]:
    """Summaries of the rows of each value of a column, in the order of first appearance."""
    return {value: summarise([r for r in rows if r[key] == value]) for value in dict.fromkeys(r[key] for r in rows)}
