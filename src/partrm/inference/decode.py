"""What a network's answer says: the moving part, its one rigid motion, the Gaussians before and after."""

from dataclasses import fields, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.geometry.gaussians import Gaussians
from partrm.geometry.joints import JointMotion
from partrm.inference.drag_constraint import constrain_to_drags, drag_anchors
from partrm.inference.joint_fit import estimate_joint, joint_from_votes
from partrm.inference.multiview_consistency import agree
from partrm.inference.space_carving import carve
from partrm.model.inputs import VIEWS, NetworkInput
from partrm.model.network import UNSEEN_VOTE, NetworkOutput, PartRMNetwork

MIN_OPACITY = 0.005
"""Gaussians below it are dropped from a prediction: they are invisible."""


MOVING_WIDTH = 1.2
"""How many times as wide as the network makes them the splats of the moving part are: once it has moved it is seen from
other sides, where gaps open. PSNR on the moved part's pixels .2 to .25 dB more, whole views as before (22 samples each
of one and of four views); all splats as wide would cost .2 to .4 dB with four views."""


def run_network(network: PartRMNetwork, inputs: NetworkInput) -> NetworkOutput:
    """One forward pass without gradients, and what the images say against it.

    Splats of several given views are brought to :func:`agree`; guesses that the images contradict get opacity zero.
    """
    with torch.inference_mode():
        output: NetworkOutput = network(inputs)
        return replace(output, gaussians=carve(agree(output.gaussians, inputs), inputs))


def read_motion(
    output: NetworkOutput, inputs: NetworkInput, sample: int = 0
) -> tuple[Gaussians, Bool[Tensor, " n"], JointMotion]:
    """What the network says of one sample of a batch, on the CPU: visible Gaussians, which move, and their joint.

    The joint is read off the Gaussians' displacements and votes; how far it moved is agreed with the inputs' drags. The
    moving Gaussians are :func:`widened`.
    """
    gaussians, moving = output.gaussians[sample].to("cpu"), output.moving[sample].cpu()
    visible = gaussians.opacities >= MIN_OPACITY
    gaussians, moving = gaussians[visible], moving[visible]
    part = moving > 0.5
    # Where nothing is sure to move, all Gaussians vote with what they have.
    weights = gaussians.opacities * moving * (part if bool(part.any()) else 1.0)
    seen = output.view_valid[sample].cpu().repeat_interleave(len(visible) // VIEWS)[visible]
    weights = weights * torch.where(seen, 1.0, UNSEEN_VOTE)
    votes = weights > 0  # the others add nothing to any sum, and are most
    displacement = output.displacement[sample].cpu()[visible]
    witnesses = (gaussians.means[votes], displacement[votes], weights[votes])
    if output.votes is None:
        joint = estimate_joint(*witnesses)
    else:
        said = (getattr(output.votes, f.name)[sample].cpu()[visible][votes] for f in fields(output.votes))
        joint = joint_from_votes(*witnesses, *said)
    return widened(gaussians, part), part, constrain_to_drags(joint, *drag_anchors(output, inputs, sample))


def widened(gaussians: Gaussians, moving: Bool[Tensor, " n"]) -> Gaussians:
    """The same with the moving ones :data:`MOVING_WIDTH` times as wide."""
    return replace(gaussians, scales=gaussians.scales * torch.where(moving, MOVING_WIDTH, 1.0)[:, None])


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
