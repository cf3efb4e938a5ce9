"""From a truth and the answers to one row of figures, and from rows to a summary. Pure functions of tensors."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.geometry.cameras import Cameras
from partrm.geometry.joints import JointMotion, JointType
from partrm.geometry.transforms import transform_points
from partrm.metrics.images import masked_psnr, psnr, ssim
from partrm.metrics.lpips import Lpips
from partrm.metrics.motion import (
    drag_error_px,
    joint_amount_error,
    joint_axis_error_rad,
    mask_iou,
    motion_error_ratio,
    pivot_distance,
)
from partrm.paper.eval_protocol import published_crops

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
    "lpips": "LPIPS (VGG), views around",
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
class GroundTruth:
    """What one sample really is, canonical frame; None where the data do not tell."""

    part_mask: Bool[Tensor, "side side"] | None
    """Moving part in the first view, one value a splat, on the CPU."""
    points: Float[Tensor, "p 3"] | None
    """Points on the surface of what moves, before the motion, on the CPU."""
    joint: JointMotion | None
    """The true joint; its amount is signed."""
    T_after_before: Float[Tensor, "4 4"] | None
    drag_points: Float[Tensor, "d 3"] | None
    """Points of the surface that the drags start on, on the CPU."""
    camera: Cameras
    """[], of the pixels that drag errors are given in: the first view, the object at its true size."""
    before: Float[Tensor, "views 3 h w"]
    """Source state from around, on white."""
    after: Float[Tensor, "views 3 h w"]
    """Target state from around, on white."""
    moved: Bool[Tensor, "views h w"] | None
    """Pixels of the moving part before or after."""
    diagonal: float = 1.0
    """Length that figures of lengths are given in, canonical units: the object's diagonal where it is known."""
    as_published: bool = False
    """Whether images are scored as the reference's script does (:mod:`partrm.paper.eval_protocol`)."""


@dataclass(frozen=True)
class MethodOutput:
    """What a method says of one sample."""

    part_mask: Bool[Tensor, "side side"] | None
    """None where the method looks for no part."""
    joint: JointMotion | None
    """None where the method moves nothing."""
    after: Float[Tensor, "views 3 h w"]
    """On white, from the truth's cameras."""


SampleMetrics = dict[str, float | None]
"""The columns of :data:`METRICS`; None where a figure has no meaning, no truth, or nothing that computes it."""


def score_answers(
    truth: GroundTruth, answers: Mapping[str, MethodOutput], lpips: Lpips | None = None
) -> dict[str, SampleMetrics]:
    """The figures of each of :data:`METHODS` for one sample; of those without an answer, all None."""
    images = score_images({name: answer.after for name, answer in answers.items()}, truth, lpips)
    found: dict[str, SampleMetrics] = {name: dict.fromkeys(METRICS) for name in METHODS}
    for name, answer in answers.items():
        row = found[name] | score_motion(truth, answer.joint) | images[name]
        if answer.part_mask is not None and truth.part_mask is not None:
            row["iou"] = float(mask_iou(answer.part_mask, truth.part_mask))
        assert set(row) == set(METRICS), "a column is missing"
        found[name] = row
    return found


def score(truth: GroundTruth, answer: MethodOutput, lpips: Lpips | None = None) -> SampleMetrics:
    """The figures of one answer to one sample.

    The axis error counts every sample, those of the wrong joint type too. Pivot distance and amount errors need the
    right type; the amount's sign is read about the true axis. Lengths are in ``truth.diagonal``.
    """
    return score_answers(truth, {"model": answer}, lpips)["model"]


def score_motion(truth: GroundTruth, joint: JointMotion | None) -> SampleMetrics:
    """Figures of where the part is carried, and of the joint if there is one."""
    T = torch.eye(4) if joint is None else joint.T_after_before
    figures: SampleMetrics = {} if joint is None else {"confidence": joint.confidence}
    if truth.T_after_before is None:
        return figures
    if truth.points is not None:
        figures["motion_error_ratio"] = float(motion_error_ratio(truth.points, T, truth.T_after_before))
    if truth.drag_points is not None:
        arrived, _ = truth.camera.project(transform_points(T, truth.drag_points))
        wanted, _ = truth.camera.project(transform_points(truth.T_after_before, truth.drag_points))
        every = torch.ones(len(wanted), dtype=torch.bool)
        figures["drag_error_px"] = float(drag_error_px(arrived, wanted, every))
    if joint is None or truth.joint is None:
        return figures
    return figures | score_joint(truth.joint, joint, truth.diagonal)


def score_joint(true: JointMotion, joint: JointMotion, diagonal: float = 1.0) -> SampleMetrics:
    """Figures of a joint against the true one, lengths in units of ``diagonal``."""
    turns = true.type == JointType.REVOLUTE
    right = joint.type == true.type
    moved, truly = (torch.tensor(j.amount, dtype=torch.float64) for j in (joint, true))
    amount_error = float(joint_amount_error(joint.axis, moved, true.axis, truly))
    pivot = pivot_distance(joint.axis, joint.pivot, true.axis, true.pivot)
    return {
        "type_correct": float(right),
        "axis_error_deg": math.degrees(float(joint_axis_error_rad(joint.axis, true.axis))),
        "pivot_distance": float(pivot) / diagonal if right and turns else None,
        "amount_error_rad": amount_error if right and turns else None,
        "amount_error_units": amount_error / diagonal if right and not turns else None,
    }


def score_images(
    images: Mapping[str, Float[Tensor, "views 3 h w"]], truth: GroundTruth, lpips: Lpips | None = None
) -> dict[str, SampleMetrics]:
    """Figures of every method's images as means over the views; the moved part's over the views that show it."""
    if truth.as_published:
        return {name: score_as_published(image, truth.after, lpips) for name, image in images.items()}
    stacked = torch.stack(list(images.values()))
    target = truth.after.expand_as(stacked)
    columns = {"psnr": psnr(stacked, target).mean(-1), "ssim": ssim(stacked, truth.after).mean(-1)}
    if truth.moved is not None:
        over_moved = masked_psnr(stacked, target, truth.moved.expand(len(stacked), *truth.moved.shape))
        shown = truth.moved.any(-1).any(-1)
        columns["psnr_moved"] = torch.where(shown, over_moved, torch.zeros_like(over_moved)).sum(-1) / shown.sum()
    if lpips is not None:
        columns["lpips"] = torch.stack(lpips.distances(list(stacked), truth.after)).mean(-1)
    values = {column: value.tolist() for column, value in columns.items()}
    none = [column for column, value in values.items() if not math.isfinite(value[0])]
    assert set(none) <= {"psnr_moved"}, f"{none} of a sample are not finite"
    return {
        name: {column: None if column in none else value[index] for column, value in values.items()}
        for index, name in enumerate(images)
    }


def score_as_published(
    image: Float[Tensor, "views 3 h w"], target: Float[Tensor, "views 3 h w"], lpips: Lpips | None
) -> SampleMetrics:
    """Means over the crops that the published script takes; those without any error are left out, as it does."""
    pred, true = published_crops(image), published_crops(target)
    differs = (pred != true).flatten(1).any(1)
    if not bool(differs.any()):
        return {}
    pred, true = pred[differs], true[differs]
    figures: SampleMetrics = {"psnr": float(psnr(pred, true).mean()), "ssim": float(ssim(pred, true).mean())}
    if lpips is not None:
        # Its images stay in [0, 1], where the network wants [-1, 1].
        figures["lpips"] = float(lpips.distances([pred], true, centred=False)[0].mean())
    return figures


def metrics_of(row: dict[str, Any], method: str) -> dict[str, Any]:
    """The columns of :data:`METRICS` of one of :data:`METHODS` in a row."""
    return row if method == "model" else row["baselines"][method]


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean with its bootstrap interval, median and number of values of every metric of every method over some rows."""
    summary: dict[str, Any] = {"samples": len(rows)}
    objects = [row["object"] for row in rows]
    for method in METHODS:
        table = [metrics_of(row, method) for row in rows]
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
