"""Which ways to ask the network about one picture pay, and how their answers are best read together.

    partrm eval --data real --pack real.safetensors
    python benchmarks/questions.py real.safetensors --samples 45 --device cuda

The picture in its mask's box and one drag, asked mirrored or not, the drag shorter or longer, the object smaller or
larger, always with all four views. Prints the motion error (median) and the share of joints that are right (type, axis
within 15 degrees, a hinge within a tenth of the diagonal) of each way, of the surest of three answers if it is surer by
.05, and of the means of several. docs/experiments/run-13.md has the figures.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from partrm.evaluation.eval_set import load_eval_set
from partrm.evaluation.runner import Scorer, batches
from partrm.evaluation.samples import GroundTruth, RunSettings
from partrm.evaluation.scoring import score_joint
from partrm.geometry.joints import JointMotion, JointType
from partrm.inference.decode import read_joints, reading_of
from partrm.inference.ensemble import Question, differ, mean_joint, mirrored_joint
from partrm.metrics.motion import motion_error_ratio
from partrm.model.checkpoints import load_model
from partrm.model.inputs import NetworkInput
from partrm.model.network import PartRMNetwork

REACHES, SIZES, BOTH = (0.75, 1.5, 2.0), (0.7, 0.8, 0.9, 1.08), ((1.5, 0.9), (1.5, 0.8))
SURER = 0.05


@dataclass(frozen=True)
class Way:
    """A question, and how many times as large it shows the object."""

    mirror: bool = False
    reach: float = 1.0
    size: float = 1.0

    @property
    def name(self) -> str:
        return f"{'mirrored' if self.mirror else 'as given'}, {self.reach:g} x drag, {self.size:g} x size"


KINDS = ((1.0, 1.0), *((reach, 1.0) for reach in REACHES), *((1.0, size) for size in SIZES), *BOTH)
WAYS = tuple(Way(mirror, *kind) for mirror in (False, True) for kind in KINDS)
GIVEN = Way()
THREE = (GIVEN, Way(True), Way(reach=1.5))
SMALLER = (GIVEN, Way(True, size=0.8), Way(reach=1.5, size=0.9))


def resized(inputs: NetworkInput, size: float) -> NetworkInput:
    """The first picture so many times as large about its middle, drags with it."""
    first = inputs.images[:, 0]
    premultiplied = torch.cat([first[:, :3] * first[:, 3:], first[:, 3:]], 1)
    theta = first.new_tensor([[1 / size, 0.0, 0.0], [0.0, 1 / size, 0.0]]).expand(len(first), 2, 3)
    grid = affine_grid(theta, list(premultiplied.shape), align_corners=False)
    shown = grid_sample(premultiplied, grid, mode="bicubic", align_corners=False).clamp(0, 1)
    alpha = shown[:, 3:]
    images = inputs.images.clone()
    images[:, 0] = torch.cat([(shown[:, :3] / alpha.clamp(min=1e-4)).clamp(0, 1), alpha], 1)
    start, end = (0.5 + size * (point - 0.5) for point in (inputs.drags.start, inputs.drags.end))
    return replace(inputs, images=images, drags=replace(inputs.drags, start=start, end=end))


def joints_by(network: PartRMNetwork, inputs: NetworkInput, way: Way) -> list[JointMotion]:
    """Of a batch, in the frames of the samples as given."""
    shown = inputs if way.size == 1 else resized(inputs, way.size)
    asked = Question(way.mirror, way.reach).asked_of(shown)
    as_given = Question(way.mirror).asked_of(shown)
    reach: Float[Tensor, " b"] = torch.full((len(inputs.images),), way.reach, device=inputs.images.device)
    with torch.inference_mode():
        found = read_joints(reading_of(network(asked), asked), as_given, reach)
    joints = [mirrored_joint(joint) if way.mirror else joint for joint in found]
    scale = [way.size if joint.type == JointType.PRISMATIC else 1.0 for joint in joints]
    return [replace(j, pivot=j.pivot / way.size, amount=j.amount / s) for j, s in zip(joints, scale, strict=True)]


def surest(joints: Sequence[JointMotion]) -> JointMotion:
    """The first, unless another one is surer and differs."""
    best = max(joints[1:], key=lambda joint: joint.confidence)
    return best if best.confidence > joints[0].confidence + SURER and differ(best, joints[0]) else joints[0]


def figures(joint: JointMotion, truth: GroundTruth) -> tuple[float, bool]:
    """Motion error, and whether the joint is right."""
    assert truth.joint is not None
    assert truth.points is not None
    assert truth.T_after_before is not None
    scores = score_joint(truth.joint, joint, truth.diagonal)
    axis, pivot = scores["axis_error_deg"], scores["pivot_distance"]
    right = bool(scores["type_correct"]) and axis is not None and axis < 15 and (pivot is None or pivot < 0.1)
    return float(motion_error_ratio(truth.points, joint.T_after_before, truth.T_after_before)), right


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evalset", type=Path, help="written by partrm eval --pack")
    parser.add_argument("--samples", type=int, default=45)
    parser.add_argument("--model", default="base")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    model = load_model(args.model, args.device)
    scorer = Scorer.of(load_eval_set(args.evalset), model, RunSettings(framing="mask-box"))
    console = Console(soft_wrap=True)
    rows: list[tuple[dict[Way, JointMotion], GroundTruth]] = []
    for numbers in track(batches(args.samples, 0, scorer.stage.device), console=Console(stderr=True)):
        batch = scorer.stage.batch(numbers, scorer.settings, model.config.image_size_px)
        found = {way: joints_by(model.articulated, batch.inputs, way) for way in WAYS}
        rows += [
            ({way: joints[row] for way, joints in found.items()}, batch.truths[row]) for row in range(len(numbers))
        ]

    def say(name: str, read: Callable[[dict[Way, JointMotion]], JointMotion]) -> None:
        errors, right = zip(*(figures(read(joints), truth) for joints, truth in rows), strict=True)
        middle = f"{statistics.fmean(errors):.3f} ({statistics.median(errors):.3f})"
        console.print(f"{name}: error {middle}, right {sum(right)} of {len(right)}")

    for way in WAYS:
        say(way.name, lambda joints, way=way: joints[way])
    say("as given, mirrored, 1.5 x drag: the surest", lambda joints: surest([joints[way] for way in THREE]))
    for name, ways in (("those three", THREE), ("with smaller pictures", SMALLER), ("all", WAYS)):
        say(f"{name}: the mean", lambda joints, ways=ways: mean_joint([joints[way] for way in ways]))


if __name__ == "__main__":
    main()
