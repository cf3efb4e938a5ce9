"""The network asked several times: as given, mirrored, with the drags pulled further; the surest answer wins.

The mirror is the plane x = 0 of the canonical frame, which swaps left and right in the first image.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.geometry.cameras import Cameras
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.joints import JointMotion, JointType
from partrm.inference.decode import read_motion, run_network
from partrm.metrics.motion import joint_axis_error_rad, pivot_distance
from partrm.model.inputs import NetworkInput
from partrm.model.network import PartRMNetwork

MARGIN = 0.02
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
OTHERS = (Question(mirror=True), Question(reach=REACH), Question(mirror=True, reach=REACH))


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


def ask(network: PartRMNetwork, inputs: NetworkInput, questions: Sequence[Question]) -> list[Answer]:
    """The network's answers to questions about one sample [b = 1], all in one batch.

    The amount of a drag that was pulled further is fitted back to the drag as given.
    """
    output = run_network(network, NetworkInput.cat([question.asked_of(inputs) for question in questions]))
    views = inputs.view_valid.shape[1]
    side = math.isqrt(output.moving.shape[1] // views)
    answers = []
    as_drawn = NetworkInput.cat([replace(q, reach=1.0).asked_of(inputs) for q in questions])
    for row, question in enumerate(questions):
        gaussians, moving, joint = read_motion(output, as_drawn, row, question.reach)
        first = rearrange(output.moving[row], "(v h w) -> v h w", v=views, h=side)[0].float().cpu()
        if question.mirror:
            gaussians, joint, first = mirrored_gaussians(gaussians), mirrored_joint(joint), first.flip(-1)
        answers.append(Answer(question, gaussians, moving, joint, first))
    return answers


def ask_well(network: PartRMNetwork, inputs: NetworkInput) -> tuple[Answer, tuple[Answer, ...]]:
    """The surest answer about one sample [b = 1], and the others, the surest first.

    The other questions show the network the given view alone, which tells the joint as well and costs a quarter. One
    that finds another joint, and is surer, is asked again in full.
    """
    (full,) = ask(network, inputs, [AS_GIVEN])
    light = ask(network, first_view_alone(inputs), OTHERS)
    others = sorted(light, key=lambda answer: -answer.joint.confidence)
    surest = others[0]
    if surest.joint.confidence > full.joint.confidence + MARGIN and differ(surest.joint, full.joint):
        (again,) = ask(network, inputs, [surest.question])
        if again.joint.confidence > full.joint.confidence:
            return again, (full, *others)
    return full, tuple(others)


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


def distinct_joints(answers: Sequence[Answer], most: int = 3) -> tuple[JointMotion, ...]:
    """The joints of answers, in their order, each unlike those before it."""
    found: list[JointMotion] = []
    for answer in answers:
        if len(found) < most and all(differ(answer.joint, joint) for joint in found):
            found.append(answer.joint)
    return tuple(found)
