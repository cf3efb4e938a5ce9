"""What each kind of network is taught: articulated ones by :mod:`partrm.losses`, state heads by the target state.

A state head's motion stage is the reference's: every source pixel's Gaussian is compared with the one that its surface
becomes, from a database of the target state; its appearance stage compares renders of the target state.
"""

from dataclasses import fields, replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from partrm.carving import carve_layers
from partrm.data.gaussian_database import surface_gaussians
from partrm.data.samples import Samples
from partrm.gaussians import Gaussians
from partrm.losses import (
    SMALL_MOTION,
    LossWeights,
    appearance_losses,
    by_view,
    image_losses,
    length,
    mean_over,
    mean_valid,
    motion_losses,
    part_scores,
    render_white,
    robust,
    shape_difference,
)
from partrm.metrics import composite_on_white, psnr
from partrm.model.network import NetworkOutput, StateOutput

CHANGED = 1 / 16
"""Difference of colour from which on a pixel counts as one in which two states differ."""

Output = NetworkOutput | StateOutput | Gaussians
"""Of our networks with either head, and of the reference architecture."""


def training_losses(
    output: Output, samples: Samples, weights: LossWeights, motion: bool, appearance: bool
) -> dict[str, Float[Tensor, ""]]:
    """The (weighted) terms whose sum is a step's loss.

    Args:
        output: of the network.
        samples: with novel views for the appearance terms.
        weights: of our networks' terms; the reference's own losses have none.
        motion: terms of the motion stage. The reference architecture never mixes stages: it has them only without
            ``appearance``.
        appearance: terms of the appearance stage.

    Raises:
        ValueError: neither of them.
    """
    if not motion and not appearance:
        raise ValueError("a phase needs the terms of the motion stage, of the appearance stage, or both")
    if isinstance(output, Gaussians):
        return peer_appearance_losses(output, samples) if appearance else peer_motion_losses(output, samples)
    losses: dict[str, Tensor] = {}
    if isinstance(output, StateOutput):
        if motion:
            losses |= state_motion_losses(output, samples, weights)
        if appearance:
            losses |= state_appearance_losses(output, samples, weights)
        return losses
    if motion:
        losses |= motion_losses(output, samples, weights)
    if appearance:
        losses |= appearance_losses(output, samples, weights, true_motion=motion)
    return losses


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


@torch.no_grad()
def watched_scores(output: Output, samples: Samples) -> dict[str, Float[Tensor, " b"]]:
    """Scores of each sample's first view, watched during training.

    Of an articulated network those of :func:`partrm.losses.part_scores`, and where the samples have novel views
    :func:`image_scores`. Of the others ``arrival_ratio``: mean distance of the moving pixels' Gaussians
    from where they should be, over the mean displacement, reconstruction error and all.
    """
    if isinstance(output, NetworkOutput):
        scores = part_scores(output, samples)
        if samples.views is None:
            return scores
        return scores | image_scores(output, samples)
    gaussians = output if isinstance(output, Gaussians) else output.gaussians
    moving: Bool[Tensor, "b m"] = rearrange(samples.targets.moving[:, 0], "b h w -> b (h w)")
    error = by_view((gaussians.means - target_database(samples).means).norm(dim=-1), samples)[:, 0]
    shift = rearrange(samples.targets.displacement[:, 0].norm(dim=-1), "b h w -> b (h w)")
    return {"arrival_ratio": (error * moving).sum(1) / (shift * moving).sum(1).clamp(min=1e-4)}


def image_scores(output: NetworkOutput, samples: Samples) -> dict[str, Float[Tensor, " b"]]:
    """PSNR on white in the samples' novel views: ``psnr`` of the source state; ``psnr_after`` of the target state, the
    part carried by the true motion, and ``psnr_moved`` of it where the states differ; there the source state itself has
    ``copy_moved``. Not a number where no view shows a difference."""
    assert samples.views is not None
    layers = [output.gaussians] if output.part is None else [output.gaussians, output.part.gaussians]
    layers = carve_layers(layers, samples.inputs)
    if output.part is None:
        goes = (output.moving > 0.5).float()
        still, part = (replace(layers[0], opacities=layers[0].opacities * share) for share in (1 - goes, goes))
    else:
        still, part = layers
    states = [[still, part], [still, part.transformed(samples.joint.T_after_before)]]
    before, after = (
        render_white(Gaussians.concatenate(state), samples.views.cameras)[0].clamp(0, 1) for state in states
    )
    was, true = composite_on_white(samples.views.before), composite_on_white(samples.views.after)
    moved = ((true - was).abs().amax(2) > CHANGED).float()
    count = moved.sum((1, 2, 3))

    def where_moved(image: Float[Tensor, "b m 3 h w"]) -> Float[Tensor, " b"]:
        error = (((image - true) ** 2).mean(2) * moved).sum((1, 2, 3)) / count
        return -10 * torch.log10(error + 1e-4)

    return {
        "psnr": psnr(before, was).mean(1),
        "psnr_after": psnr(after, true).mean(1),
        "psnr_moved": where_moved(after),
        "copy_moved": where_moved(was),
    }
