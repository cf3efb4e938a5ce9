"""Whether questions whose mask is narrower pay: joints right, motion error, mask IoU, each against how `predict` asks.

    partrm eval --data real --pack real.safetensors       (docs/experiments/run-13.md has the pools)
    python benchmarks/narrower_masks.py real.safetensors --samples 45 --wider 3 --device cuda
    python benchmarks/narrower_masks.py storage_val.npz kinds_unseen.npz real.npz --samples 160 --device cuda

Packed sets are shown in their masks' boxes, by --wider with masks so many pixels too wide; objects of pools as training
draws them: random light and lens, noise, JPEG, masks with the errors of cut-outs. A joint is right when its type is,
its axis is within 15 degrees and a hinge within a tenth of the diagonal. docs/experiments/run-16.md has the figures.
"""

import argparse
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from rich.console import Console
from torch import Tensor
from torch.nn.functional import max_pool2d

from partrm.evaluation.eval_set import load_eval_set
from partrm.evaluation.samples import OPAQUE, RunSettings
from partrm.geometry.joints import JointMotion, JointType
from partrm.inference.ensemble import (
    DISTINCT_DEG,
    DISTINCT_PIVOT,
    REACH,
    Answer,
    Question,
    conclude_all,
    consult,
)
from partrm.inference.part_maps import claims_on
from partrm.metrics.motion import joint_axis_error_rad, mask_iou, motion_error_ratio, pivot_distance
from partrm.model.checkpoints import LoadedModel, load_model
from partrm.model.inputs import NetworkInput
from partrm.synthesis.sampler import OnlineSamples, SampleConfig
from partrm.training.trainer import load_pool_for

BATCH, GREY = 16, 0.82


def narrowed(inputs: NetworkInput, pixels: int) -> NetworkInput:
    """The first pictures with masks so many pixels narrower."""
    images = inputs.images.clone()
    images[:, 0, 3:] = -max_pool2d(-images[:, 0, 3:], 2 * pixels + 1, 1, pixels)
    return replace(inputs, images=images)


def widened(inputs: NetworkInput, pixels: int) -> NetworkInput:
    """Likewise wider, with a rim of grey."""
    images = inputs.images.clone()
    alpha = images[:, 0, 3:]
    images[:, 0, :3] = images[:, 0, :3] * alpha + GREY * (1 - alpha)
    images[:, 0, 3:] = max_pool2d(alpha, 2 * pixels + 1, 1, pixels)
    return replace(inputs, images=images)


@dataclass(frozen=True)
class Narrower(Question):
    """A question whose mask is so many pixels narrower."""

    pixels: int = 0

    def asked_of(self, inputs: NetworkInput) -> NetworkInput:
        return super().asked_of(narrowed(inputs, self.pixels))


def others(*pixels: int) -> tuple[Question, ...]:
    """The mirrored picture and the longer drags, with each narrowing."""
    return tuple(q for n in pixels for q in (Narrower(True, 1.0, n), Narrower(False, REACH, n)))


WAYS: dict[str, tuple[int, Sequence[Question]]] = {
    "as it is": (0, others(0)),
    **{f"others {n} px narrower": (0, others(n)) for n in (1, 2, 3)},
    "all 1 px narrower": (1, others(0)),
    "four others, 1 and 2 px": (0, others(1, 2)),
}
"""How much narrower the picture as given is, and the other questions."""


@dataclass(frozen=True)
class Truth:
    """Of one sample."""

    joint: JointMotion
    T_after_before: Float[Tensor, "4 4"]
    points: Float[Tensor, "n 3"]
    part: Bool[Tensor, "side side"]
    diagonal: float


def answered(model: LoadedModel, inputs: Sequence[NetworkInput], way: tuple[int, Sequence[Question]]) -> list[Answer]:
    shown = [narrowed(one, way[0]) for one in inputs]
    with torch.inference_mode():
        told = consult(model.articulated, shown, [way[1]] * len(shown))
        claims = claims_on(model.articulated, shown)
        answers = conclude_all([replace(one, claim=claim) for one, claim in zip(told, claims, strict=True)])
    return [first for first, *_ in answers]


def scored(answer: Answer, truth: Truth) -> tuple[bool, float, float]:
    """Whether the joint is right, motion error and IoU."""
    joint, true = answer.joint, truth.joint
    turned = float(torch.rad2deg(joint_axis_error_rad(joint.axis, true.axis)))
    away = float(pivot_distance(joint.axis, joint.pivot, true.axis, true.pivot)) / truth.diagonal
    near = joint.type != JointType.REVOLUTE or away < DISTINCT_PIVOT
    opaque = (answer.surface.opacities > OPAQUE).reshape(answer.probability.shape)
    iou = float(mask_iou(((answer.probability > 0.5) & opaque).cpu(), truth.part))
    error = float(motion_error_ratio(truth.points, joint.T_after_before, truth.T_after_before))
    return joint.type == true.type and turned < DISTINCT_DEG and near, error, iou


def of_set(path: Path, samples: int, wider: int, model: LoadedModel, device: str) -> Iterator[tuple]:
    evalset, size_px = load_eval_set(path), model.config.image_size_px
    stage, settings = evalset.open(torch.device(device)), RunSettings(framing="mask-box")
    for first in range(0, min(samples, len(evalset)), BATCH):
        batch = stage.batch(range(first, min(first + BATCH, samples, len(evalset))), settings, size_px)
        truths = []
        for one in batch.truths:
            assert one.joint is not None
            assert one.T_after_before is not None
            assert one.points is not None
            assert one.part_mask is not None
            truths.append(Truth(one.joint, one.T_after_before, one.points, one.part_mask, one.diagonal))
        yield [widened(batch.inputs[[row]], wider) for row in range(len(truths))], truths


def of_pool(path: Path, samples: int, model: LoadedModel, device: str) -> Iterator[tuple]:
    config = SampleConfig(model.config.image_size_px, 1, 1, told_lens=0.2)
    data, seen = OnlineSamples(*load_pool_for((path,), torch.device(device)), seed=902), 0
    while seen < samples:
        drawn = data.draw(config, BATCH)
        rows = drawn.valid.nonzero()[:, 0].tolist()
        seen += len(rows)
        truths = []
        for row in rows:
            one, part = drawn.joint[row].to("cpu"), drawn.targets.moving[row, 0]
            kind = JointType(int(one.type))
            joint = JointMotion(type=kind, axis=one.axis, pivot=one.pivot, amount=float(one.amount), confidence=1.0)
            points = drawn.targets.point[row, 0][part].cpu()
            truths.append(Truth(joint, one.T_after_before, points, part.cpu(), 1.0))
        yield [drawn.inputs[[row]] for row in rows], truths


def told(rows: dict[str, list[tuple[bool, float, float]]], console: Console) -> None:
    usual = rows["as it is"]
    for way, own in rows.items():
        more = [mine[1] - before[1] for mine, before in zip(own, usual, strict=True)]
        spread = statistics.stdev(more) / len(more) ** 0.5 if len(more) > 1 else 0.0
        errors, ious = [row[1] for row in own], [row[2] for row in own]
        right, error, middle = sum(row[0] for row in own), statistics.fmean(errors), statistics.median(errors)
        against = f"{statistics.fmean(more):+.3f} ± {spread:.3f}, IoU {statistics.fmean(ious):.3f}"
        console.print(f"{way:24s} right {right} of {len(own)}, error {error:.3f} ({middle:.3f}), {against}")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path, nargs="+", help="packed sets (.safetensors) and pools (.npz)")
    parser.add_argument("--samples", type=int, default=45, help="of each")
    parser.add_argument("--wider", type=int, default=0, help="pixels by which masks of sets are too wide")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="base")
    args = parser.parse_args()
    model, console = load_model(args.model, args.device), Console(soft_wrap=True)
    for path in args.sources:
        rows: dict[str, list[tuple[bool, float, float]]] = {way: [] for way in WAYS}
        if path.suffix == ".npz":
            batches = of_pool(path, args.samples, model, args.device)
        else:
            batches = of_set(path, args.samples, args.wider, model, args.device)
        for inputs, truths in batches:
            for name, way in WAYS.items():
                answers = answered(model, inputs, way)
                rows[name] += [scored(answer, truth) for answer, truth in zip(answers, truths, strict=True)]
        console.print(path.name)
        told(rows, console)


if __name__ == "__main__":
    main()
