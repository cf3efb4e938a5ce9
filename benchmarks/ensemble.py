"""What asking the network in several ways, and following the image's edges, is worth: joints, masks, confidence.

    python benchmarks/ensemble.py --data real --out real.json
    python benchmarks/ensemble.py --set procedural.safetensors --count 500 --device cuda --out procedural.json
    python benchmarks/ensemble.py --read real.json procedural.json --plot docs/images/reliability.png

A joint is right when its type is, its axis is within 15 degrees and a hinge within a tenth of the object's diagonal.
Prints, for a single pass and for ensembles, joints right, mean IoU of the part's mask, and the network's cost in passes
(images seen); then how often the ensemble's answers of each chance are right. ``--plot`` needs matplotlib.
"""

import argparse
import itertools
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch

from partrm.api import PartRM
from partrm.evaluation.eval_set import load_eval_set
from partrm.evaluation.mesh_samples import EvalSet, MeshSamples
from partrm.evaluation.planning import ProceduralPlan
from partrm.evaluation.samples import OPAQUE, GroundTruth, RunSettings
from partrm.evaluation.scoring import score_joint
from partrm.evaluation.session import plan_procedural_set, plan_real_set
from partrm.inference.ensemble import REACH, Answer, Question, Refine, chance_right, conclude, consult
from partrm.inference.part_maps import claims_on
from partrm.inference.pipeline import refined_parts
from partrm.metrics.motion import mask_iou, motion_error_ratio
from partrm.model.inputs import NetworkInput
from partrm.model.network import NetworkOutput, PartRMNetwork

BINS = (0.0, 0.6, 0.8, 0.9, 0.95, 1.0001)

MIRRORED, FURTHER, BOTH = Question(mirror=True), Question(reach=REACH), Question(mirror=True, reach=REACH)

WAYS: dict[str, tuple[Sequence[Question], bool, bool]] = {
    "single": ((), False, False),
    "mirrored": ((MIRRORED,), False, False),
    "mirrored, further": ((MIRRORED, FURTHER), False, False),
    "mirrored, further, both": ((MIRRORED, FURTHER, BOTH), False, False),
    "mirrored, further, refined": ((MIRRORED, FURTHER), False, True),
    "mirrored, further, claimed, refined": ((MIRRORED, FURTHER), True, True),
}
"""The other questions, whether what the small network says of the part counts, and whether the mask follows the image's
edges."""

READ = "mirrored, further, claimed, refined"
"""The way that `predict` asks, whose confidence is told."""


class Remembering(torch.nn.Module):
    """A network that answers each row of a batch once, and counts the images that it was shown for a way."""

    def __init__(self, network: PartRMNetwork) -> None:
        super().__init__()
        self.network, self.images = network, 0
        self.known: dict[bytes, NetworkOutput] = {}

    def forward(self, inputs: NetworkInput) -> NetworkOutput:
        rows = [inputs[[row]] for row in range(len(inputs.images))]
        self.images += inputs.images.shape[0] * inputs.images.shape[1]
        keys = [b"".join(part.cpu().numpy().tobytes() for part in (r.images, r.drags.start, r.drags.end)) for r in rows]
        for key, row in zip(keys, rows, strict=True):
            if key not in self.known:
                self.known[key] = self.network(row)
        return joined([self.known[key] for key in keys])


def joined(records: Sequence[Any]) -> Any:
    """Frozen dataclasses of tensors, nested ones and None, joined along the batch."""
    parts = {f.name: [getattr(record, f.name) for record in records] for f in fields(records[0])}
    return replace(
        records[0],
        **{
            name: torch.cat(values) if isinstance(values[0], torch.Tensor) else joined(values)
            for name, values in parts.items()
            if isinstance(values[0], torch.Tensor) or is_dataclass(values[0])
        },
    )


def is_right(answer: Answer, truth: GroundTruth) -> bool:
    assert truth.joint is not None
    scores = score_joint(truth.joint, answer.joint, truth.diagonal)
    pivot = scores["pivot_distance"]
    return bool(scores["type_correct"] and scores["axis_error_deg"] < 15 and (pivot is None or pivot < 0.1))


def iou(answer: Answer, truth: GroundTruth) -> float:
    assert truth.part_mask is not None
    opaque = (answer.surface.opacities > OPAQUE).reshape(answer.probability.shape)
    return float(mask_iou(((answer.probability > 0.5) & opaque).cpu(), truth.part_mask))


def refinement(guide: torch.Tensor) -> Refine:
    """Brings a mask to the edges of the network's own image."""

    def refine(probability: torch.Tensor) -> torch.Tensor:
        fine = refined_parts(probability.cpu(), guide[None])
        return torch.nn.functional.interpolate(fine[None], probability.shape[1:], mode="area")[0].to(probability.device)

    return refine


def asked(stage: MeshSamples, number: int, network: PartRMNetwork, size_px: int) -> dict[str, dict[str, float]]:
    """One sample asked in all ways."""
    batch = stage.batch([number], RunSettings(views=1, drags=1, framing="mask-box"), size_px)
    remembering, truth, found = Remembering(network), batch.truths[0], {}
    refine = refinement(batch.inputs.images[0, 0].cpu())
    (claim,) = claims_on(network, [batch.inputs])
    for name, (others, claimed, follows) in WAYS.items():
        remembering.images = 0
        (told,) = consult(remembering, [batch.inputs], [others])  # pyright: ignore[reportArgumentType]
        answers = conclude(replace(told, claim=claim if claimed else None), refine if follows else None)
        answer = answers[0]
        found[name] = {
            "right": is_right(answer, truth),
            "iou": iou(answer, truth),
            "error": float(motion_error_ratio(truth.points, answer.joint.T_after_before, truth.T_after_before)),
            "confidence": answer.joint.confidence,
            "chance": chance_right(answers),
            "images": remembering.images,
        }
    return found


def interval(right: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    z, share = 1.96, right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return min(middle - half, share), max(middle + half, share)  # at 0 and 1 rounding may pass them


def report(rows: Sequence[dict[str, dict[str, float]]]) -> None:
    for name in WAYS:
        mine = [row[name] for row in rows]
        masks, errors = (statistics.mean(row[name] for row in mine) for name in ("iou", "error"))
        passes = statistics.mean(row["images"] for row in mine) / statistics.mean(
            row["single"]["images"] for row in rows
        )
        print(
            f"{name:33s} right {sum(r['right'] for r in mine)}/{len(mine)}, "
            f"error {errors:.3f}, mask IoU {masks:.3f}, {passes:.2f} passes"
        )
    for low, high in itertools.pairwise(BINS):
        inside = [row[READ]["right"] for row in rows if low <= row[READ]["chance"] < high]
        print(f"chance {low:.2f} to {min(high, 1):.2f}: {sum(inside):.0f} of {len(inside)} right")


def plot(sets: dict[str, Sequence[dict[str, dict[str, float]]]], path: Path) -> None:
    """Reliability diagram: the share right of answers of each chance, with 95 % intervals and counts."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 4.4))
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    told: set[str] = set()
    for shift, (name, rows) in enumerate(sets.items()):
        for low, high in itertools.pairwise(BINS):
            inside = [row[READ] for row in rows if low <= row[READ]["chance"] < high]
            if inside:
                right, x = sum(bool(r["right"]) for r in inside), statistics.mean(r["chance"] for r in inside)
                below, above = interval(right, len(inside))
                share, color = right / len(inside), f"C{shift}"
                label = None if name in told else f"{name} ({len(rows)} images)"
                told.add(name)
                reach = [[share - below], [above - share]]
                axes.errorbar(x + 0.012 * shift, share, reach, fmt="o", color=color, capsize=3, label=label)
                place = (5, -14) if shift else (-14, -14)
                axes.annotate(
                    f"{len(inside)}", (x + 0.012 * shift, share), place, textcoords="offset points", color=color
                )
    axes.set(xlabel="chance_right", ylabel="share of joints that are right", xlim=(-0.03, 1.06), ylim=(0, 1.06))
    axes.legend(loc="lower left")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def planned(data: str, last: int) -> EvalSet:
    """The usual set of real objects, or the first procedural samples."""
    return plan_real_set() if data == "real" else plan_procedural_set(ProceduralPlan(last))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=["procedural", "real"], default="procedural")
    parser.add_argument("--first", type=int, default=0, help="samples left out before")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--set", type=Path, help="that `partrm eval --pack` wrote, in place of --data")
    parser.add_argument("--model", default="base")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="JSON of every sample's figures")
    parser.add_argument("--read", type=Path, nargs="+", help="such files, in place of new answers")
    parser.add_argument("--plot", type=Path, help="reliability diagram of them")
    args = parser.parse_args()
    if args.read:
        sets = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in args.read}
    else:
        model = PartRM.from_pretrained(args.model, args.device)
        last = args.first + args.count
        evalset = load_eval_set(args.set) if args.set else planned(args.data, last)
        stage, size_px = evalset.open(args.device), model.model.config.image_size_px
        rows = []
        for number in range(args.first, min(last, len(evalset))):
            rows.append(asked(stage, number, model.model.articulated, size_px))
            if args.out:
                args.out.write_text(json.dumps(rows), encoding="utf-8")
        sets = {args.set.stem if args.set else args.data: rows}
    for name, rows in sets.items():
        print(name)
        report(rows)
    if args.plot:
        plot(sets, args.plot)


if __name__ == "__main__":
    main()
