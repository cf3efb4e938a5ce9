"""What a network's answer says: the moving part, its one rigid motion, the Gaussians before and after."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.geometry.gaussians import Gaussians
from partrm.geometry.joints import JointMotion
from partrm.inference.closing import with_closed_surfaces, with_flat_parts
from partrm.inference.drag_constraint import constrain_to_drags, drag_anchors
from partrm.inference.joint_fit import JointBatch, estimate_joint, joints_from_votes
from partrm.inference.multiview_consistency import agree
from partrm.inference.reading import Reading
from partrm.inference.space_carving import carve, free_space_violations
from partrm.inference.unseen_colors import with_likely_colors
from partrm.model.inputs import NetworkInput
from partrm.model.network import UNSEEN_VOTE, NetworkOutput, PartRMNetwork

MIN_OPACITY = 0.005
"""Gaussians below it are dropped from a prediction: they are invisible."""


STILL_WIDTH, MOVING_WIDTH = 1.4, 1.6
"""How many times as wide as the network makes them splats are when its answer is read; those of the part are seen from
other sides once it has moved. Chosen on 14 real motions (docs/experiments/run-8.md)."""


def run_network(network: PartRMNetwork, inputs: NetworkInput) -> Reading:
    """One forward pass without gradients, and what the images say against it.

    Splats of several given views are brought to :func:`agree`; guesses that the images contradict get opacity zero.
    """
    with torch.inference_mode():
        return reading_of(network(inputs), inputs)


def reading_of(output: NetworkOutput, inputs: NetworkInput, close: bool = False) -> Reading:
    """What a network's answer says once the images are heard too; see :func:`run_network`.

    ``close``: surfaces are closed (:mod:`partrm.inference.closing`), for looking at them larger than the network did.
    """
    with torch.inference_mode():
        if close:
            flat = with_flat_parts(with_likely_colors(output), inputs.cameras)
            output = with_closed_surfaces(flat, inputs.cameras)
        seen, hidden = agree(output.seen, inputs), output.hidden
        if hidden is not None:
            wrong = free_space_violations(hidden, inputs, seen)
            hidden = replace(hidden, opacities=hidden.opacities.masked_fill(wrong, 0.0))
        o = output
        return Reading(carve(seen, inputs), hidden, o.moving_logit, o.displacement, o.votes, o.view_valid, close)


def read_motion(
    output: Reading, inputs: NetworkInput, sample: int = 0
) -> tuple[Gaussians, Bool[Tensor, " n"], JointMotion]:
    """What the network says of one sample of a batch, on the CPU: visible Gaussians, which move, and their joint.

    See :func:`splats_of` and :func:`read_joints`.
    """
    gaussians, moving = splats_of(output, sample)
    (joint,) = read_joints(output.row(sample), inputs[sample : sample + 1])
    return gaussians.to("cpu"), moving.cpu(), joint


def splats_of(output: Reading, sample: int = 0) -> tuple[Gaussians, Bool[Tensor, " n"]]:
    """The visible Gaussians of one sample of a batch and which move, where the answer is.

    Splats that are not closed are :func:`widened`.
    """
    gaussians, moving = output.gaussians[sample], output.moving[sample]
    visible = gaussians.opacities >= MIN_OPACITY
    found, part = gaussians[visible], moving[visible] > 0.5
    if output.hidden is not None:
        hidden = output.hidden[sample]
        there = hidden.opacities >= MIN_OPACITY
        found = Gaussians.concatenate([found, hidden[there]])
        part = torch.cat([part, (moving <= 0.5)[there]])
    return found if output.closed else widened(found, part), part


def read_joints(output: Reading, inputs: NetworkInput, reach: Float[Tensor, " b"] | None = None) -> list[JointMotion]:
    """The joints of a batch.

    They are read off the seen Gaussians' displacements and votes; how far each moved is agreed with the inputs' drags.
    ``reach``: how many times as far the drags of each went that the network saw.
    """
    gaussians, moving = output.gaussians, output.moving
    visible = gaussians.opacities >= MIN_OPACITY
    part = visible & (moving > 0.5)
    # Where nothing is sure to move, all Gaussians vote with what they have.
    weights = gaussians.opacities * moving * torch.where(part.any(1, keepdim=True), part, visible)
    seen = output.view_valid.repeat_interleave(visible.shape[1] // output.view_valid.shape[1], 1)
    weights = weights * torch.where(seen, 1.0, UNSEEN_VOTE)
    if output.votes is None:
        counted = weights > 0
        rows = zip(gaussians.means, output.displacement, weights, counted, strict=True)
        found = [estimate_joint(means[on], way[on], weight[on]) for means, way, weight, on in rows]
        joints = JointBatch.of(found).to(weights.device)
    else:
        joints = joints_from_votes(gaussians.means, output.displacement, weights, *output.votes.leaves().values())
    if reach is not None:
        joints = replace(joints, amount=joints.amount / reach)
    return constrain_to_drags(joints, *drag_anchors(output, inputs)).unbatched()


def widened(gaussians: Gaussians, moving: Bool[Tensor, " n"]) -> Gaussians:
    """The same, those that stay :data:`STILL_WIDTH` and those that move :data:`MOVING_WIDTH` times as wide."""
    return replace(gaussians, scales=gaussians.scales * torch.where(moving, MOVING_WIDTH, STILL_WIDTH)[:, None])


def apply_joint_motion(
    gaussians: Gaussians, moving: Bool[Tensor, " n"], T_after_before: Float[Tensor, "4 4"]
) -> Gaussians:
    """The moving Gaussians carried by one rigid motion, the others left where they are; the order stays."""
    moved = gaussians.transformed(T_after_before)
    where = moving[:, None]
    return Gaussians(
        means=torch.where(where, moved.means, gaussians.means),
        quats=torch.where(where, moved.quats, gaussians.quats),
        scales=gaussians.scales,
        opacities=gaussians.opacities,
        colors=gaussians.colors,
    )
