"""What a network's answer says: the moving part, its one rigid motion, the Gaussians before and after."""

from dataclasses import fields, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.agreement import agree, agree_layers
from partrm.arrival import agreed_with_drags, touched_points
from partrm.articulation.estimate import EstimatedJoint, estimate_joint, joint_from_votes
from partrm.carving import carve, carve_layers
from partrm.data.samples import VIEWS, NetworkInput
from partrm.gaussians import Gaussians
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
        if output.part is None:
            return replace(output, gaussians=carve(agree(output.gaussians, inputs), inputs))
        layers = agree_layers(output.gaussians, output.part.gaussians, output.moving, inputs)
        still, part = carve_layers(layers, inputs)
        return replace(output, gaussians=still, part=replace(output.part, gaussians=part))


def read_motion(
    output: NetworkOutput, inputs: NetworkInput, sample: int = 0
) -> tuple[Gaussians, Bool[Tensor, " n"], EstimatedJoint]:
    """What the network says of one sample of a batch, on the CPU: visible Gaussians, which move, and their joint.

    The joint is read off the Gaussians' displacements and votes; how far it moved is agreed with the inputs' drags. The
    moving Gaussians are :func:`widened`.
    """
    gaussians, part = output.before[sample].to("cpu"), moving_splats(output, sample)
    visible = gaussians.opacities >= MIN_OPACITY
    joint = joint_of(output, sample)
    joint = agreed_with_drags(joint, *touched_points(output, inputs, sample))
    return widened(gaussians[visible], part[visible]), part[visible], joint


def moving_splats(output: NetworkOutput, sample: int) -> Bool[Tensor, " m"]:
    """Which Gaussians of ``output.before`` move, on the CPU: of two layers the whole second one."""
    if output.part is None:
        return output.moving[sample].cpu() > 0.5
    n = output.moving.shape[1]
    return torch.arange(2 * n) >= n


def joint_of(output: NetworkOutput, sample: int) -> EstimatedJoint:
    """The joint that a sample's visible Gaussians, of two layers the part's, say together, on the CPU."""
    carriers, moving = output.carriers[sample].to("cpu"), output.moving[sample].cpu()
    visible = carriers.opacities >= MIN_OPACITY
    if output.part is None:
        part = (moving > 0.5) & visible
        weights = carriers.opacities * moving * (part if bool(part.any()) else 1.0)
    else:
        weights = carriers.opacities
    # Where nothing is sure to move, all Gaussians vote with what they have.
    weights = torch.where(visible, weights, 0.0)
    weights = weights if bool(weights.any()) else moving
    seen = output.view_valid[sample].cpu().repeat_interleave(len(visible) // VIEWS)
    weights = weights * torch.where(seen, 1.0, UNSEEN_VOTE)
    votes = weights > 0  # the others add nothing to any sum, and are most
    witnesses = (carriers.means[votes], output.displacement[sample].cpu()[votes], weights[votes])
    if output.votes is None:
        return estimate_joint(*witnesses)
    said = (getattr(output.votes, f.name)[sample].cpu()[votes] for f in fields(output.votes))
    return joint_from_votes(*witnesses, *said)


def widened(gaussians: Gaussians, moving: Bool[Tensor, " n"]) -> Gaussians:
    """The same with the moving ones :data:`MOVING_WIDTH` times as wide."""
    return replace(gaussians, scales=gaussians.scales * torch.where(moving, MOVING_WIDTH, 1.0)[:, None])


def carry(gaussians: Gaussians, moving: Bool[Tensor, " n"], T_after_before: Float[Tensor, "4 4"]) -> Gaussians:
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
