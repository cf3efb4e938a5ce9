"""The network asked several times: as given, mirrored, with the drags pulled further; the surest answer wins.

The mirror is the plane x = 0 of the canonical frame, which swaps left and right in the first image.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.geometry.cameras import Cameras
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.joints import JointMotion, JointType
from partrm.inference.decode import MIN_OPACITY, read_motion, reading_of
from partrm.inference.reading import Reading
from partrm.metrics.motion import joint_axis_error_rad, pivot_distance
from partrm.model.inputs import NetworkInput
from partrm.model.network import NetworkOutput, PartRMNetwork

MARGIN = 0.05
"""How much surer another answer must be to be preferred."""

DISTINCT_DEG, DISTINCT_PIVOT = 15.0, 0.1
"""Joints whose axes differ by less, and lie nearer to each other (canonical units), are one and the same."""

REACH = 1.5
"""How many times as far the drags of the third question go."""


def mirrored_points(points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Points or directions behind the mirror."""
    return points * points.new_tensor([-1.0, 1.0, 1.0])


def mirrored_gaussians(gaussians: Gaussians) -> Gaussians:
    """Gaussians behind the mirror: rotations R become M R M, which turns the other way about mirrored axes."""
    return replace(
        gaussians,
        means=mirrored_points(gaussians.means),
        quats=gaussians.quats * gaussians.quats.new_tensor([1.0, 1.0, -1.0, -1.0]),
    )


def mirrored_joint(joint: JointMotion) -> JointMotion:
    """The joint behind the mirror, its amount still positive: an axis that is turned about changes its sense."""
    axis = mirrored_points(joint.axis)
    return replace(joint, axis=-axis if joint.type == JointType.REVOLUTE else axis, pivot=mirrored_points(joint.pivot))


def mirrored_cameras(cameras: Cameras) -> Cameras:
    """Cameras that take the mirrored pictures of the mirrored object."""
    flip = cameras.fovy_rad.new_tensor([-1.0, 1.0, 1.0, 1.0])
    return replace(cameras, T_world_camera=flip[:, None] * cameras.T_world_camera * flip)


def mirrored_input(inputs: NetworkInput) -> NetworkInput:
    """The same samples behind the mirror; its own inverse."""
    drags = inputs.drags
    across = drags.start.new_tensor([1.0, 0.0])
    start, end = (across - point * (2 * across - 1) for point in (drags.start, drags.end))
    return NetworkInput(
        inputs.images.flip(-1),
        mirrored_cameras(inputs.cameras),
        inputs.view_valid,
        replace(drags, start=start, end=end),
    )


def pulled_further(inputs: NetworkInput, times: float = REACH) -> NetworkInput:
    """The same samples with longer drags."""
    drags = inputs.drags
    return replace(inputs, drags=replace(drags, end=drags.start + times * (drags.end - drags.start)))


@dataclass(frozen=True)
class Question:
    """One way to show the network the same sample."""

    mirror: bool = False
    reach: float = 1.0
    """How many times as far its drags go."""

    def asked_of(self, inputs: NetworkInput) -> NetworkInput:
        """The sample as this question shows it."""
        further = pulled_further(inputs, self.reach)
        return mirrored_input(further) if self.mirror else further


AS_GIVEN = Question()
OTHERS = (Question(mirror=True), Question(reach=REACH))


@dataclass(frozen=True)
class Answer:
    """What the network says to a question about one sample, in the frame of the sample as given, on the CPU."""

    question: Question
    gaussians: Gaussians
    """[n] before the motion."""
    moving: Bool[Tensor, " n"]
    joint: JointMotion
    probability: Float[Tensor, "side side"]
    """That what a pixel of the first view shows belongs to the part."""
    surface: Gaussians
    """[side * side] what the pixels of the first view show, hardly opaque ones too; not ``decode.widened``."""
    shown: int
    """How many of ``gaussians``, the first ones, are of that surface."""


def ask(network: PartRMNetwork, inputs: NetworkInput, questions: Sequence[Question]) -> list[Answer]:
    """The network's answers to questions about one sample [b = 1], all in one batch.

    The amount of a drag that was pulled further is fitted back to the drag as given.
    """
    asked = NetworkInput.cat([question.asked_of(inputs) for question in questions])
    with torch.inference_mode():
        output = network(asked)
    reading = reading_of(output, asked)
    return [_answer(reading, inputs, question, row) for row, question in enumerate(questions)]


def _answer(reading: Reading, inputs: NetworkInput, question: Question, row: int) -> Answer:
    """One row of a batch of questions about ``inputs`` [b = 1]."""
    drawn = replace(question, reach=1.0).asked_of(inputs)
    one = reading.row(row)
    gaussians, moving, joint = read_motion(one, drawn, 0, question.reach)
    first = first_view(one)
    surface = one.gaussians[0, : first.numel()].to("cpu")
    shown = int((surface.opacities >= MIN_OPACITY).sum())
    if question.mirror:
        gaussians, joint, first = mirrored_gaussians(gaussians), mirrored_joint(joint), first.flip(-1)
        order = torch.arange(first.numel()).reshape(first.shape).flip(-1).flatten()
        surface = mirrored_gaussians(surface)[order]
    return Answer(question, gaussians, moving, joint, first, surface, shown)


def first_view(reading: Reading) -> Float[Tensor, "side side"]:
    """Where the first view of one sample [b = 1] shows the part, on the CPU."""
    views = reading.view_valid.shape[1]
    side = math.isqrt(reading.moving.shape[1] // views)
    return rearrange(reading.moving[0], "(v h w) -> v h w", v=views, h=side)[0].float().cpu()


Refine = Callable[[Float[Tensor, "side side"]], Float[Tensor, "side side"]]
"""Brings where the first view shows the part to the picture's own edges."""


def ask_well(
    network: PartRMNetwork, inputs: NetworkInput, others: Sequence[Question] = OTHERS, refine: Refine | None = None
) -> tuple[Answer, ...]:
    """The surest answer about one sample [b = 1], then the others, the surest first.

    The other questions show the network the given view alone, which tells the joint as well and costs a quarter. One
    that finds another joint, and is surer, is asked again in full. Where the first view shows the part is the mean of
    the answers that agree with the surest on the joint. Its surfaces are closed.

    Args:
        network: the weights.
        inputs: the sample.
        others: than the sample as given.
        refine: applied to that mean; which seen splats move follows it.
    """
    question = AS_GIVEN
    with torch.inference_mode():
        output = network(inputs)
    best = _answer(reading_of(output, inputs), inputs, question, 0)
    rest = ask(network, first_view_alone(inputs), others) if others else []
    rest.sort(key=lambda answer: -answer.joint.confidence)
    if rest and rest[0].joint.confidence > best.joint.confidence + MARGIN and differ(rest[0].joint, best.joint):
        asked = rest[0].question.asked_of(inputs)
        with torch.inference_mode():
            again = network(asked)
        full = _answer(reading_of(again, asked), inputs, rest[0].question, 0)
        if full.joint.confidence > best.joint.confidence:
            best, rest, output, question = full, [best, *rest], again, rest[0].question
    agreeing = [best, *(answer for answer in rest if not differ(answer.joint, best.joint))]
    mean = torch.stack([answer.probability for answer in agreeing]).mean(0)
    probability = mean if refine is None else refine(mean)
    told = probability.flip(-1) if question.mirror else probability
    asked = question.asked_of(inputs)
    reread = reading_of(with_first_view(output, told), asked, close=True)
    return _answer(reread, inputs, question, 0), *rest


def with_first_view(output: NetworkOutput, probability: Float[Tensor, "side side"]) -> NetworkOutput:
    """One sample's output [b = 1], its first view showing the part where told."""
    logit = output.moving_logit.clone()
    told = torch.logit(probability.reshape(-1), eps=1e-4)
    logit[0, : len(told)] = told.to(logit)
    return replace(output, moving_logit=logit)


def first_view_alone(inputs: NetworkInput) -> NetworkInput:
    """The samples without what is about their first view."""
    return NetworkInput(inputs.images[:, :1], inputs.cameras[:, :1], inputs.view_valid[:, :1], inputs.drags)


def differ(a: JointMotion, b: JointMotion) -> bool:
    """Whether two joints are of another type, or another axis by 15 degrees or a tenth of what the image shows."""
    if a.type != b.type:
        return True
    turned = torch.rad2deg(joint_axis_error_rad(a.axis, b.axis))
    if float(turned) > DISTINCT_DEG:
        return True
    away = pivot_distance(a.axis, a.pivot, b.axis, b.pivot)
    return a.type == JointType.REVOLUTE and float(away) > DISTINCT_PIVOT


def distinct_joints(joints: Sequence[JointMotion], most: int = 3) -> tuple[JointMotion, ...]:
    """Joints in their order, each unlike those before it."""
    found: list[JointMotion] = []
    for joint in joints:
        if len(found) < most and all(differ(joint, other) for other in found):
            found.append(joint)
    return tuple(found)
