"""The network asked several times: as given, mirrored, with the drags pulled further; their mean counts.

The mirror is the plane x = 0 of the canonical frame, which swaps left and right in the first image.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from partrm.geometry.cameras import Cameras
from partrm.geometry.drags import Drags
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.joints import JointMotion, JointType
from partrm.inference.decode import read_joints, reading_of, splats_of
from partrm.inference.reading import Reading
from partrm.metrics.motion import joint_axis_error_rad, pivot_distance
from partrm.model.inputs import NetworkInput
from partrm.model.network import NetworkOutput, PartRMNetwork

DISTINCT_DEG, DISTINCT_PIVOT = 15.0, 0.1
"""Joints whose axes differ by less, and lie nearer to each other (canonical units), are one and the same."""

REACH = 1.5
"""How many times as far the drags of the third question go."""

LEAST_VOTE = 0.05
"""What an answer of no confidence counts."""


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
    return NetworkInput(
        inputs.images.flip(-1), mirrored_cameras(inputs.cameras), inputs.view_valid, mirrored_drags(inputs.drags)
    )


def mirrored_drags(drags: Drags) -> Drags:
    """The same drags behind the mirror."""
    across = drags.start.new_tensor([1.0, 0.0])
    start, end = (across - point * (2 * across - 1) for point in (drags.start, drags.end))
    return replace(drags, start=start, end=end)


def pulled_further(inputs: NetworkInput, times: float = REACH) -> NetworkInput:
    """The same samples with longer drags."""
    return replace(inputs, drags=longer_drags(inputs.drags, times))


def longer_drags(drags: Drags, times: float) -> Drags:
    """The same drags, so many times as long."""
    return replace(drags, end=drags.start + times * (drags.end - drags.start))


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

    def drags_of(self, drags: Drags) -> Drags:
        """A sample's drags as this question shows them."""
        further = longer_drags(drags, self.reach)
        return mirrored_drags(further) if self.mirror else further


AS_GIVEN = Question()
OTHERS = (Question(mirror=True), Question(reach=REACH))


@dataclass(frozen=True)
class Answer:
    """What the network says to a question about one sample, in the frame of the sample as given, on its device."""

    question: Question
    joint: JointMotion
    """On the CPU."""
    probability: Float[Tensor, "side side"]
    """That what a pixel of the first view shows belongs to the part."""
    reading: Reading
    """[b = 1] in the frame of the question; the rest is made of it once it is asked for."""

    @cached_property
    def _splats(self) -> tuple[Gaussians, Bool[Tensor, " n"]]:
        gaussians, moving = splats_of(self.reading)
        return mirrored_gaussians(gaussians) if self.question.mirror else gaussians, moving

    @property
    def gaussians(self) -> Gaussians:
        """[n] before the motion."""
        return self._splats[0]

    @property
    def moving(self) -> Bool[Tensor, " n"]:
        """Which of :attr:`gaussians` belong to the part."""
        return self._splats[1]

    @cached_property
    def surface(self) -> Gaussians:
        """[side * side] what the pixels of the first view show, hardly opaque ones too; not ``decode.widened``."""
        shape = self.probability.shape
        surface = self.reading.gaussians[0, : shape.numel()]
        if not self.question.mirror:
            return surface
        order = torch.arange(shape.numel(), device=surface.means.device).reshape(shape).flip(-1).flatten()
        return mirrored_gaussians(surface)[order]

    @property
    def unseen(self) -> tuple[Gaussians, Bool[Tensor, " n"]]:
        """[n] what other views and hidden layers show, hardly opaque splats too; and which belong to the part."""
        reading, shown = self.reading, self.probability.numel()
        gaussians, moving = reading.gaussians[0, shown:], reading.moving[0] > 0.5
        part = moving[shown:]
        if reading.hidden is not None:
            gaussians, part = Gaussians.concatenate([gaussians, reading.hidden[0]]), torch.cat([part, ~moving])
        return mirrored_gaussians(gaussians) if self.question.mirror else gaussians, part


def _answers(
    reading: Reading, asked: NetworkInput, samples: Sequence[NetworkInput], questions: Sequence[Question]
) -> list[Answer]:
    """All rows of a batch of questions ``asked`` about ``samples`` [b = 1]."""
    rows = [reading.row(row) for row in range(len(samples))]
    # Their drags as given, in the questions' frames.
    as_given = [replace(question, reach=1.0) for question in questions]
    most = asked.drags.valid.shape[1]
    drags = Drags.cat([q.drags_of(own.drags.padded(most)) for q, own in zip(as_given, samples, strict=True)])
    reach = asked.images.new_tensor([question.reach for question in questions])
    joints = read_joints(reading, replace(asked, drags=drags), reach)
    return [_answer(one, joint, question) for one, joint, question in zip(rows, joints, questions, strict=True)]


def _answer(reading: Reading, joint: JointMotion, question: Question) -> Answer:
    first = first_view(reading)
    if not question.mirror:
        return Answer(question, joint, first, reading)
    return Answer(question, mirrored_joint(joint), first.flip(-1), reading)


def first_view(reading: Reading) -> Float[Tensor, "side side"]:
    """Where the first view of one sample [b = 1] shows the part."""
    views = reading.view_valid.shape[1]
    side = math.isqrt(reading.moving.shape[1] // views)
    return rearrange(reading.moving[0], "(v h w) -> v h w", v=views, h=side)[0].float()


Refine = Callable[[Float[Tensor, "b side side"]], Float[Tensor, "b side side"]]
"""Brings where the first views of some samples show the part to the pictures' own edges."""


CLAIM_WEIGHT = 0.5
"""What a sure claim of the answer's type of joint counts on where the part is; one of the other type counts half."""

SAME_PART = 0.5
"""Intersection over union with the answers' mask from which a claim is of the same part, and heard."""

SHARPER = 6.0
"""Log-odds of a mean are multiplied by 1 and so many times the second's weight: where both agree it is sure, however
far from 0 and 1 each stays."""


@dataclass(frozen=True)
class Claim:
    """What is said, without the drag, of the part that it starts on (:mod:`partrm.inference.part_maps`), on the CPU."""

    probability: Float[Tensor, "side side"]
    """That what a pixel of the first view shows belongs to it."""
    shown: Bool[Tensor, "side side"]
    """Where the first view shows the object."""
    turns: bool
    sure: float
    """Of its joint, [0, 1]."""

    def heard(self, probability: Float[Tensor, "side side"], joint: JointMotion) -> Float[Tensor, "side side"]:
        """The probability by answers and claim; ``joint`` is that of the answers."""
        answered, claimed = (probability.cpu() > 0.5) & self.shown, self.probability > 0.5
        if int((answered & claimed).sum()) < SAME_PART * int((answered | claimed).sum()):
            return probability
        same = self.turns == (joint.type == JointType.REVOLUTE)
        return of_both(probability, self.probability, CLAIM_WEIGHT * self.sure * (1.0 if same else 0.5))


def of_both(
    answered: Float[Tensor, "side side"], claimed: Float[Tensor, "side side"], weight: float
) -> Float[Tensor, "side side"]:
    """The mean of two probabilities, the second's weight given; sharper."""
    mean = answered.lerp(claimed.to(answered), weight)
    return torch.sigmoid((1 + SHARPER * weight) * torch.logit(mean, eps=0.01))


@dataclass(frozen=True)
class Consultation:
    """All that the network was asked about one sample, and its answers: what :func:`conclude` needs no network for."""

    inputs: NetworkInput
    """The sample [b = 1] as given."""
    question: Question
    """The one that the answer in full is of."""
    output: NetworkOutput
    """The network's [b = 1] to that question."""
    best: Answer
    rest: tuple[Answer, ...]
    """The other answers, the surest first."""
    claim: Claim | None = None
    """None where none is known."""


def consult(
    network: PartRMNetwork, samples: Sequence[NetworkInput], others: Sequence[Sequence[Question]]
) -> list[Consultation]:
    """Ask about several samples [b = 1] in one batch, then all their other questions in one batch.

    The other questions show the network the given view alone, which tells the joint as well and costs a quarter. Where
    :func:`leading` answers find another joint than the one as given, the first of them is asked again in full, and
    counts twice if it finds it again.

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
    leaders = [[one, *own][leading([a.joint for a in (one, *own)])] for one, own in zip(best, rest, strict=True)]
    doubted = [row for row, lead in enumerate(leaders) if lead is not best[row] and differ(lead.joint, best[row].joint)]
    again = _asked(network, [samples[row] for row in doubted], [leaders[row].question for row in doubted])
    for row, (answer, output) in zip(doubted, again, strict=True):
        if not differ(answer.joint, leaders[row].joint):
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
    asked = _questions_of(samples, questions)
    with torch.inference_mode():
        output = network(asked)
    answers = _answers(reading_of(output, asked), asked, samples, questions)
    return [(answer, output.row(row)) for row, answer in enumerate(answers)]


def _questions_of(samples: Sequence[NetworkInput], questions: Sequence[Question]) -> NetworkInput:
    """One question about each sample [b = 1] as a batch."""
    most = max(inputs.drags.valid.shape[1] for inputs in samples)
    padded = [replace(inputs, drags=inputs.drags.padded(most)) for inputs in samples]
    return NetworkInput.cat([question.asked_of(inputs) for inputs, question in zip(padded, questions, strict=True)])


def leading(joints: Sequence[JointMotion]) -> int:
    """The number of the joint that most of the answers' confidence finds; of equal ones the first."""

    def found_by(joint: JointMotion) -> float:
        return sum(max(other.confidence, LEAST_VOTE) for other in joints if other is joint or not differ(joint, other))

    support = [found_by(joint) for joint in joints]
    return support.index(max(support))


def agreeing(joints: Sequence[JointMotion]) -> tuple[int, list[int]]:
    """The number of the :func:`leading` joint, and those of all that do not differ from it, its own among them."""
    lead = leading(joints)
    return lead, [n for n, joint in enumerate(joints) if n == lead or not differ(joint, joints[lead])]


def mean_joint(joints: Sequence[JointMotion]) -> JointMotion:
    """The leading joint, with axis, pivot and amount the means of those that do not differ from it."""
    number, alike = agreeing(joints)
    lead, alike = joints[number], [joints[n] for n in alike]
    votes = torch.tensor([max(joint.confidence, LEAST_VOTE) for joint in alike])
    votes = votes / votes.sum()
    axes = torch.stack([normalize(joint.axis, dim=0) for joint in alike])
    signs = torch.where(axes @ lead.axis >= 0, 1.0, -1.0)
    axis = normalize((axes * (signs * votes)[:, None]).sum(0), dim=0)
    # Where each axis passes the leading pivot.
    pivots = torch.stack([joint.pivot for joint in alike])
    along = ((lead.pivot - pivots) @ axis) / (axes @ axis)
    pivot = ((pivots + along[:, None] * axes) * votes[:, None]).sum(0)
    amounts = torch.tensor([joint.amount for joint in alike], dtype=torch.float64)
    return replace(lead, axis=axis, pivot=pivot, amount=float((amounts * signs * votes).sum()))


def conclude(consultation: Consultation, refine: Refine | None = None, close: bool = False) -> tuple[Answer, ...]:
    """The answer in full with the :func:`mean_joint` of all, then the others.

    Where the first view shows the part is the mean of the answers that agree with the leading one on the joint, in
    which the claim counts.

    Args:
        consultation: what the network said.
        refine: applied to that mean; which seen splats move follows it.
        close: whether the first answer's surfaces are closed (:func:`partrm.inference.decode.reading_of`).
    """
    (answers,) = conclude_all([consultation], refine, close)
    return answers


def conclude_all(
    consultations: Sequence[Consultation], refine: Refine | None = None, close: bool = False
) -> list[tuple[Answer, ...]]:
    """:func:`conclude` of several samples, read in one batch."""
    means = torch.stack([_mean_probability(c) for c in consultations])
    probability = means if refine is None else refine(means)
    told = torch.stack(
        [one.flip(-1) if c.question.mirror else one for c, one in zip(consultations, probability, strict=True)]
    )
    samples, questions = [c.inputs for c in consultations], [c.question for c in consultations]
    asked = _questions_of(samples, questions)
    output = with_first_view(NetworkOutput.cat([c.output for c in consultations]), told)
    best = _answers(reading_of(output, asked, close), asked, samples, questions)
    return [_with_mean_joint(one, c.rest) for one, c in zip(best, consultations, strict=True)]


def _with_mean_joint(best: Answer, rest: Sequence[Answer]) -> tuple[Answer, ...]:
    """The answer in full with the joint that all find, then the others, and its own where that is another."""
    joint = mean_joint([best.joint, *(answer.joint for answer in rest)])
    led = replace(best, joint=joint)
    return (led, best, *rest) if differ(best.joint, joint) else (led, *rest)


def _mean_probability(c: Consultation) -> Float[Tensor, "side side"]:
    """Where the first view shows the part, by the answers that find the leading one's joint, and the claim."""
    answers = [c.best, *c.rest]
    lead, numbers = agreeing([answer.joint for answer in answers])
    mean = torch.stack([answers[number].probability for number in numbers]).mean(0)
    return mean if c.claim is None else c.claim.heard(mean, answers[lead].joint)


CHANCE = (-3.19, 0.89, 1.14)
"""Of a logistic function: constant, logit of the leading answer's confidence, each other answer that finds its joint.
Fitted on pictures like photographs (docs/photos.md)."""


def chance_right(answers: Sequence[Answer]) -> float | None:
    """Probability that the first of all questions' answers has the right joint, by how far the others agree with it.

    Right is the type, the axis within 15 degrees and a hinge within a tenth of what the image shows.

    Args:
        answers: as :func:`conclude` gives them, the one with the joint of all first.

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


def with_first_view(output: NetworkOutput, probability: Float[Tensor, "b side side"]) -> NetworkOutput:
    """A batch of outputs, their first views showing the part where told."""
    logit = output.moving_logit.clone()
    told = torch.logit(probability.flatten(1), eps=1e-4)
    logit[:, : told.shape[1]] = told.to(logit)
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
