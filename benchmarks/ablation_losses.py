"""What the ablations' networks are taught: state heads by the target state, and renders alone.

A state head's motion stage is the reference's: every source pixel's Gaussian is compared with the one that its surface
becomes, from a database of the target state; its appearance stage compares renders of the target state.
"""

from dataclasses import fields, replace

import torch
from ablation_networks import StateOutput
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from partrm.geometry.gaussians import Gaussians
from partrm.model.inputs import VIEWS
from partrm.model.network import NetworkOutput
from partrm.synthesis.samples import Samples
from partrm.synthesis.target_gaussians import surface_gaussians
from partrm.training.config import LossWeights
from partrm.training.losses import (
    SMALL_MOTION,
    Objective,
    by_view,
    image_losses,
    length,
    mean_over,
    mean_valid,
    mostly_carved,
    robust,
    shape_difference,
    shared_opacity,
)


def target_database(samples: Samples) -> Gaussians:
    """Gaussians [b, v h w] of the target state, in the order of the source pixels whose surface they are.

    Discs on the surface as the source view sees it, those of the moving part carried by the true motion; where a pixel
    shows nothing only the opacity, zero, has a meaning. Quaternions have w >= 0.
    """
    before = surface_gaussians(samples.targets, samples.inputs.cameras)
    after = before.transformed(samples.joint.T_after_before)
    moving = rearrange(samples.targets.moving, "b v h w -> b (v h w) 1")
    quats = torch.where(moving, after.quats, before.quats)
    return Gaussians(
        means=torch.where(moving, after.means, before.means),
        quats=torch.where(quats[..., :1] < 0, -quats, quats),
        scales=before.scales,
        opacities=before.opacities,
        colors=before.colors,
    )


def state_motion_losses(output: StateOutput, samples: Samples, weights: LossWeights) -> dict[str, Float[Tensor, ""]]:
    """Index-aligned terms of our state head, normalised as those of the articulated head are.

    ``distance`` counts the whole surface; ``displacement`` the moving part alone, its error over its mean displacement:
    the part is a tenth of the pixels, and would not be learned otherwise.
    """
    t, goal = samples.targets, target_database(samples)
    flat = {name: rearrange(getattr(t, name), "b v h w -> b v (h w)") for name in ("surface", "moving", "coverage")}
    surface, moving, coverage = flat["surface"].float(), flat["moving"].float(), flat["coverage"]
    view_weight = torch.where(samples.inputs.view_valid, 1.0, weights.absent_views)
    error = by_view(length(output.gaussians.means - goal.means), samples)
    shift = rearrange(t.displacement.norm(dim=-1), "b v h w -> b v (h w)")
    size = mean_over(shift, moving, torch.ones_like(view_weight)) + SMALL_MOTION
    bce = binary_cross_entropy_with_logits(by_view(output.opacity_logit, samples), coverage, reduction="none")
    colour = by_view((output.gaussians.colors - goal.colors).abs().mean(-1), samples)
    terms = {
        "distance": mean_over(robust(error, 0.05), surface, view_weight),
        "displacement": mean_over(robust(error / size[:, None, None], 0.3), moving, view_weight),
        "opacity": mean_over(bce, torch.ones_like(surface), view_weight) + mean_over(bce, surface, view_weight),
        "rgb": mean_over(colour, (coverage > 0.25).float(), view_weight),
        "shape": mean_over(by_view(shape_difference(output.gaussians, goal), samples), surface, view_weight),
    }
    return {name: getattr(weights, name) * mean_valid(value, samples.valid) for name, value in terms.items()}


def state_appearance_losses(
    output: StateOutput, samples: Samples, weights: LossWeights
) -> dict[str, Float[Tensor, ""]]:
    """Renders of the target state against the truth, with the weights of the articulated head's."""
    if samples.views is None:
        raise ValueError("the appearance stage needs samples with novel views")
    return image_losses([(output.gaussians, samples.views.after)], samples, weights)


def peer_motion_losses(gaussians: Gaussians, samples: Samples) -> dict[str, Float[Tensor, ""]]:
    """The reference's motion stage: mean squared error of the 14 parameters against the target state's database.

    Where a pixel shows nothing only the opacity counts: there is no such Gaussian to compare the others with.

    Raises:
        ValueError: a network whose Gaussians are not those of the database, one by one.
    """
    goal = target_database(samples)
    if len(gaussians) != len(goal):
        raise ValueError(f"the network gives {len(gaussians)} Gaussians a sample, the database has {len(goal)}")
    surface = rearrange(samples.targets.surface, "b v h w -> b (v h w)").float()
    squared = {f.name: (getattr(gaussians, f.name) - getattr(goal, f.name)) ** 2 for f in fields(Gaussians)}
    opacity = squared.pop("opacities").mean(1)
    shown = torch.cat(list(squared.values()), -1)
    others = (shown.sum(-1) * surface).sum(1) / surface.sum(1).clamp(min=1)
    return {"l2": mean_valid((others + opacity) / (shown.shape[-1] + 1), samples.valid)}


def peer_appearance_losses(gaussians: Gaussians, samples: Samples) -> dict[str, Float[Tensor, ""]]:
    """The reference's appearance stage: MSE of colour on white and MSE of alpha of renders of the target state.

    Its third term, LPIPS, needs weights that are not ours to ship, and is left out.
    """
    if samples.views is None:
        raise ValueError("the appearance stage needs samples with novel views")
    plain = LossWeights(image=1.0, alpha=1.0, similarity=0.0)
    terms = image_losses([(gaussians, samples.views.after)], samples, plain)
    return {name: terms[name] for name in ("image", "alpha")}


def renders_only(
    output: NetworkOutput, samples: Samples, weights: LossWeights, appearance: bool
) -> dict[str, Float[Tensor, ""]]:
    """Renders teach everything: the part goes by the network's own displacements, softly, its rotation stays."""
    if samples.views is None or not appearance:
        raise ValueError("renders alone teach in the appearance stage, from samples with novel views")
    output = mostly_carved(output, samples)
    pairs = [(output.everything, samples.views.before), (displaced(output, output.displacement), samples.views.after)]
    return image_losses(pairs, samples, weights)


def displaced(output: NetworkOutput, displacement: Float[Tensor, "b n 3"]) -> Gaussians:
    """:func:`partrm.training.losses.moved_softly` by a displacement a pixel in place of one motion."""
    goes = output.gaussians if output.part is None else output.part.gaussians
    gone = replace(goes, means=goes.means + displacement)
    if output.part is None:
        return shared_opacity(goes, gone, output.moving)
    return Gaussians.concatenate([output.gaussians, gone])


def state_losses(
    output: StateOutput, samples: Samples, weights: LossWeights, appearance: bool
) -> dict[str, Float[Tensor, ""]]:
    """Of our state head; with ``appearance`` the motion stage's terms stay."""
    losses = state_motion_losses(output, samples, weights)
    return losses | state_appearance_losses(output, samples, weights) if appearance else losses


def peer_losses(
    output: Gaussians, samples: Samples, weights: LossWeights, appearance: bool
) -> dict[str, Float[Tensor, ""]]:
    """The reference's own losses, without weights; it never mixes stages."""
    return peer_appearance_losses(output, samples) if appearance else peer_motion_losses(output, samples)


@torch.no_grad()
def arrival_metrics(output: StateOutput | Gaussians, samples: Samples) -> dict[str, Float[Tensor, " b"]]:
    """``arrival_ratio`` of networks that give the target state: mean distance of the first view's moving pixels'
    Gaussians from where they should be, over the mean displacement, reconstruction error and all."""
    gaussians = output if isinstance(output, Gaussians) else output.gaussians
    moving: Bool[Tensor, "b m"] = rearrange(samples.targets.moving[:, 0], "b h w -> b (h w)")
    error = by_view((gaussians.means - target_database(samples).means).norm(dim=-1), samples)[:, 0]
    shift = rearrange(samples.targets.displacement[:, 0].norm(dim=-1), "b h w -> b (h w)")
    return {"arrival_ratio": (error * moving).sum(1) / (shift * moving).sum(1).clamp(min=1e-4)}


RENDERS_ONLY = Objective(renders_only)
STATE = Objective(state_losses, arrival_metrics)
PEER = Objective(peer_losses, arrival_metrics, VIEWS)
