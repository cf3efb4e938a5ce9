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
    return [answer for answer, _ in _asked(network, [inputs] * len(questions), questions)]


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


@dataclass(frozen=True)
class Consultation:
    """All that the network was asked about one sample, and its answers: what :func:`conclude` needs no network for."""

    inputs: NetworkInput
    """The sample [b = 1] as given."""
    question: Question
    """The one that the surest answer in full is of."""
    output: NetworkOutput
    """The network's [b = 1] to that question."""
    best: Answer
    rest: tuple[Answer, ...]
    """The other answers, the surest first."""


def consult(
    network: PartRMNetwork, samples: Sequence[NetworkInput], others: Sequence[Sequence[Question]]
) -> list[Consultation]:
    """Ask about several samples [b = 1] in one batch, then all their other questions in one batch.

    The other questions show the network the given view alone, which tells the joint as well and costs a quarter. One
    that finds another joint, and is surer, is asked again in full.

    Args:
        network: the weights.
        samples: on the network's device.
        others: of each sample, than the sample as given.
    """
    full = _asked(network, samples, [AS_GIVEN] * len(samples))
    best = [answer for answer, _ in full]
    outputs = [output for _, output in full]
    questions = [AS_GIVEN] * len(samples)
    rows = [row for row, own in enumerate(others) for _ in own]
    alone = [first_view_alone(samples[row]) for row in rows]
    rest: list[list[Answer]] = [[] for _ in samples]
    asked = _asked(network, alone, [question for own in others for question in own])
    for row, (answer, _) in zip(rows, asked, strict=True):
        rest[row].append(answer)
    for own in rest:
        own.sort(key=lambda answer: -answer.joint.confidence)
    doubted = [row for row, own in enumerate(rest) if own and _surer(own[0], best[row])]
    again = _asked(network, [samples[row] for row in doubted], [rest[row][0].question for row in doubted])
    for row, (answer, output) in zip(doubted, again, strict=True):
        if answer.joint.confidence > best[row].joint.confidence:
            rest[row] = [best[row], *rest[row]]
            best[row], outputs[row], questions[row] = answer, output, answer.question
    told = zip(samples, questions, outputs, best, rest, strict=True)
    return [
        Consultation(inputs, question, output, answer, tuple(own)) for inputs, question, output, answer, own in told
    ]


def _asked(
    network: PartRMNetwork, samples: Sequence[NetworkInput], questions: Sequence[Question]
) -> list[tuple[Answer, NetworkOutput]]:
    """The answer and the output [b = 1] to one question about each sample, all in one batch."""
    if not samples:
        return []
    most = max(inputs.drags.valid.shape[1] for inputs in samples)
    padded = [replace(inputs, drags=inputs.drags.padded(most)) for inputs in samples]
    asked = NetworkInput.cat([question.asked_of(inputs) for inputs, question in zip(padded, questions, strict=True)])
    with torch.inference_mode():
        output = network(asked)
    reading = reading_of(output, asked)
    rows = enumerate(zip(samples, questions, strict=True))
    return [(_answer(reading, inputs, question, row), output.row(row)) for row, (inputs, question) in rows]


def _surer(other: Answer, best: Answer) -> bool:
    """Whether an answer is so much surer than the best one, and of another joint, that it is worth asking in full."""
    return other.joint.confidence > best.joint.confidence + MARGIN and differ(other.joint, best.joint)


def ask_well(
    network: PartRMNetwork, inputs: NetworkInput, others: Sequence[Question] = OTHERS, refine: Refine | None = None
) -> tuple[Answer, ...]:
    """The surest answer about one sample [b = 1], then the others, the surest first: consult, then conclude.

    Args:
        network: the weights.
        inputs: the sample.
        others: than the sample as given.
        refine: see :func:`conclude`.
    """
    return conclude(consult(network, [inputs], [others])[0], refine)


def conclude(consultation: Consultation, refine: Refine | None = None, close: bool = False) -> tuple[Answer, ...]:
    """The surest answer, then the others.

    Where the first view shows the part is the mean of the answers that agree with the surest on the joint.

    Args:
        consultation: what the network said.
        refine: applied to that mean; which seen splats move follows it.
        close: whether the surest answer's surfaces are closed (:func:`partrm.inference.decode.reading_of`).
    """
    c = consultation
    agreeing = [c.best, *(answer for answer in c.rest if not differ(answer.joint, c.best.joint))]
    mean = torch.stack([answer.probability for answer in agreeing]).mean(0)
    probability = mean if refine is None else refine(mean)
    told = probability.flip(-1) if c.question.mirror else probability
    asked = c.question.asked_of(c.inputs)
    reread = reading_of(with_first_view(c.output, told), asked, close)
    return _answer(reread, c.inputs, c.question, 0), *c.rest


CHANCE = (-3.19, 0.89, 1.14)
"""Of a logistic function: constant, logit of the surest answer's confidence, each other answer that finds its joint.
Fitted on pictures like photographs (docs/photos.md)."""


def chance_right(answers: Sequence[Answer]) -> float | None:
    """Probability that the first of all questions' answers has the right joint, by how far the others agree with it.

    Right is the type, the axis within 15 degrees and a hinge within a tenth of what the image shows.

    Args:
        answers: the surest first, as :func:`conclude` gives them.

    Returns:
        None where not all questions were asked.
    """
    best, *rest = answers
    if len(rest) < len(OTHERS):
        return None
    confidence = min(max(best.joint.confidence, 0.02), 0.999)
    agreeing = sum(not differ(answer.joint, best.joint) for answer in rest)
    constant, by_confidence, by_agreement = CHANCE
    odds = constant + by_confidence * math.log(confidence / (1 - confidence)) + by_agreement * agreeing
    return 1 / (1 + math.exp(-odds))


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
