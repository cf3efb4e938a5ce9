"""From a truth and the answers to one row of metrics, and from rows to a summary. Pure functions of tensors."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from partrm.evaluation.results import (
    COVERAGE,
    METRICS,
    RESAMPLES,
    ByAssetMetric,
    ByMethod,
    ByMetric,
    SampleMetrics,
    SampleRow,
    Statistic,
    Summary,
)
from partrm.evaluation.samples import GroundTruth, MethodOutput
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

Scores = dict[str, float | None]
"""Some of the metrics of an answer, by name, while they are put together."""


def score_answers(
    truth: GroundTruth, answers: Mapping[str, MethodOutput], lpips: Lpips | None = None
) -> ByMethod[SampleMetrics]:
    """The metrics of every method for one sample; of those without an answer, all None."""
    images = score_images({name: answer.after for name, answer in answers.items()}, truth, lpips)

    def scored(name: str) -> SampleMetrics:
        scores: Scores = {}
        if name in answers:
            answer = answers[name]
            scores = score_motion(truth, answer.joint) | images[name]
            if answer.part_mask is not None and truth.part_mask is not None:
                scores["iou"] = float(mask_iou(answer.part_mask, truth.part_mask))
        assert set(scores) <= set(METRICS), "a score that is no metric"
        return ByMetric.each(scores.get)

    return ByMethod.each(scored)


def score(truth: GroundTruth, answer: MethodOutput, lpips: Lpips | None = None) -> SampleMetrics:
    """The metrics of one answer to one sample.

    The axis error counts every sample, those of the wrong joint type too. Pivot distance and amount errors need the
    right type; the amount's sign is read about the true axis. Lengths are in ``truth.diagonal``.
    """
    return score_answers(truth, {"model": answer}, lpips).model


def score_motion(truth: GroundTruth, joint: JointMotion | None) -> Scores:
    """Metrics of where the part is carried, and of the joint if there is one."""
    T = torch.eye(4) if joint is None else joint.T_after_before
    metrics: Scores = {} if joint is None else {"confidence": joint.confidence}
    if truth.T_after_before is None:
        return metrics
    if truth.points is not None:
        metrics["motion_error_ratio"] = float(motion_error_ratio(truth.points, T, truth.T_after_before))
    if truth.drag_points is not None:
        arrived, _ = truth.camera.project(transform_points(T, truth.drag_points))
        wanted, _ = truth.camera.project(transform_points(truth.T_after_before, truth.drag_points))
        every = torch.ones(len(wanted), dtype=torch.bool)
        metrics["drag_error_px"] = float(drag_error_px(arrived, wanted, every))
    if joint is None or truth.joint is None:
        return metrics
    return metrics | score_joint(truth.joint, joint, truth.diagonal)


def score_joint(true: JointMotion, joint: JointMotion, diagonal: float = 1.0) -> Scores:
    """Metrics of a joint against the true one, lengths in units of ``diagonal``."""
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
) -> dict[str, Scores]:
    """Metrics of every method's images as means over the views; the moved part's over the views that show it."""
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
) -> Scores:
    """Means over the crops that the published script takes; those without any error are left out, as it does."""
    pred, true = published_crops(image), published_crops(target)
    differs = (pred != true).flatten(1).any(1)
    if not bool(differs.any()):
        return {}
    pred, true = pred[differs], true[differs]
    metrics: Scores = {"psnr": float(psnr(pred, true).mean()), "ssim": float(ssim(pred, true).mean())}
    if lpips is not None:
        # Its images stay in [0, 1], where the network wants [-1, 1].
        metrics["lpips"] = float(lpips.distances([pred], true, centred=False)[0].mean())
    return metrics


def summarise(rows: Sequence[SampleRow]) -> Summary:
    """Every metric of every method over some rows."""
    objects = [row.label.object for row in rows]

    def over_rows(method: str) -> ByMetric[Statistic]:
        answers = [row.metrics[method] for row in rows]
        return ByMetric.each(lambda name: summarise_values([a[name] for a in answers], objects))

    assets = [row.asset for row in rows]

    def over_assets(name: str) -> Statistic:
        return summarise_values([None if asset is None else asset[name] for asset in assets], objects)

    exported = any(asset is not None for asset in assets)
    return Summary(len(rows), ByMethod.each(over_rows), ByAssetMetric.each(over_assets) if exported else None)


def summarise_values(values: Sequence[float | None], objects: Sequence[str]) -> Statistic:
    """Mean with its bootstrap interval, median and number of the values that are not None."""
    known = [(value, name) for value, name in zip(values, objects, strict=True) if value is not None]
    if not known:
        return Statistic(None, None, None, None, 0)
    numbers = [value for value, _ in known]
    assert all(math.isfinite(value) for value in numbers), "a metric of a sample is not finite"
    low, high = bootstrap_interval(numbers, [name for _, name in known])
    return Statistic(statistics.fmean(numbers), low, high, statistics.median(numbers), len(numbers))


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


def summarise_by(rows: Sequence[SampleRow], group: Callable[[SampleRow], str]) -> dict[str, Summary]:
    """Summaries of the rows of each group, in the order of first appearance."""
    groups: dict[str, list[SampleRow]] = {}
    for row in rows:
        groups.setdefault(group(row), []).append(row)
    return {name: summarise(some) for name, some in groups.items()}
