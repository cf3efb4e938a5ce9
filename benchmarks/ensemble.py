"""What asking the network in several ways, and following the image's edges, is worth: joints, masks, confidence, time.

    python benchmarks/ensemble.py --data real
    python benchmarks/ensemble.py --data procedural --limit 100

A joint is right when its type is, its axis is within 15 degrees and a hinge within a tenth of the object's diagonal.
Prints, for a single pass, the ensemble, and the ensemble with refined masks: joints right, mean IoU of the part's mask,
and seconds a sample (median); then how often answers of each confidence are right.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import torch

from partrm.api import PartRM
from partrm.evaluation.baselines import OPAQUE
from partrm.evaluation.planning import ProceduralPlan
from partrm.evaluation.samples import GroundTruth, RunSettings
from partrm.evaluation.scoring import score_joint
from partrm.evaluation.session import plan_procedural_set, plan_real_set
from partrm.inference.ensemble import OTHERS, Answer, ask_well
from partrm.inference.pipeline import refined_part
from partrm.metrics.motion import mask_iou

BINS = (0.0, 0.6, 0.8, 0.9, 0.95, 1.0001)


def is_right(answer: Answer, truth: GroundTruth) -> bool:
    assert truth.joint is not None
    scores = score_joint(truth.joint, answer.joint, truth.diagonal)
    pivot = scores["pivot_distance"]
    return bool(scores["type_correct"] and scores["axis_error_deg"] < 15 and (pivot is None or pivot < 0.1))


def iou(answer: Answer, truth: GroundTruth) -> float:
    assert truth.part_mask is not None
    opaque = (answer.surface.opacities > OPAQUE).reshape(answer.probability.shape)
    return float(mask_iou((answer.probability > 0.5) & opaque, truth.part_mask))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=["procedural", "real"], default="procedural")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--model", default="base")
    args = parser.parse_args()
    model = PartRM.from_pretrained(args.model)
    network = model.model.articulated
    size_px = model.model.config.image_size_px
    evalset = plan_real_set() if args.data == "real" else plan_procedural_set(ProceduralPlan(args.limit))
    stage, settings = evalset.open(model.device), RunSettings(views=1, drags=1, framing="mask-box")
    found: dict[str, list[tuple[bool, float, float, float]]] = {}
    for number in range(min(args.limit, len(evalset))):
        batch = stage.batch([number], settings, size_px)
        guide = batch.inputs.images[0, 0].cpu()

        def refine(probability: torch.Tensor, guide: torch.Tensor = guide) -> torch.Tensor:
            fine = refined_part(probability, guide)
            return torch.nn.functional.interpolate(fine[None, None], probability.shape, mode="area")[0, 0]

        ways: dict[str, tuple[tuple, Callable | None]] = {
            "single": ((), None),
            "ensemble": (OTHERS, None),
            "ensemble, refined": (OTHERS, refine),
        }
        for name, (others, follow) in ways.items():
            started = time.perf_counter()
            answer = ask_well(network, batch.inputs, others, follow)[0]
            seconds = time.perf_counter() - started
            truth = batch.truths[0]
            row = is_right(answer, truth), iou(answer, truth), answer.joint.confidence, seconds
            found.setdefault(name, []).append(row)
    for name, rows in found.items():
        right, masks, _, seconds = zip(*rows, strict=True)
        print(f"{name:18s} joints right {sum(right)}/{len(rows)}, mask IoU {statistics.mean(masks):.3f}, ", end="")
        print(f"{statistics.median(seconds):.2f} s")
    for low, high in itertools.pairwise(BINS):
        inside = [right for right, _, confidence, _ in found["ensemble, refined"] if low <= confidence < high]
        print(f"confidence {low:.2f} to {min(high, 1):.2f}: {sum(inside)} of {len(inside)} right")


if __name__ == "__main__":
    main()
