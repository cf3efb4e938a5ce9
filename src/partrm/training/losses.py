"""Losses of the two training stages, every term normalised by sample and by part; scores to watch beside them.

The moving part is a tenth of the pixels, and its motion can be a tenth of another sample's: so mask terms weigh the two
classes alike, and displacement errors are taken relative to the part's own mean displacement.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from partrm.geometry.cameras import Cameras
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.joints import JointType
from partrm.geometry.transforms import screw_motion, transform_points
from partrm.inference.space_carving import free_space_violations
from partrm.metrics.images import composite_on_white, psnr
from partrm.model.network import UNSEEN_VOTE, JointVotes, NetworkOutput, PartLayer
from partrm.rendering.splats import render_splats
from partrm.synthesis.samples import MotionTargets, Samples
from partrm.synthesis.target_gaussians import covariance, surface_gaussians
from partrm.training.config import LossWeights

SMALL_MOTION = 0.04
"""Canonical units added to a part's mean displacement before errors are divided by it, so that tiny motions do not
rule the gradient (0.08 in the first three runs, which learned short drags badly)."""


REVOLUTE_SHARE = 0.735
"""Of the dragged joints of a training pool of all kinds with a quarter of assemblies (run 4 took 0.77, the share
without them). Slides weigh more in the type's loss by it, so that the votes are odds for even shares: with the pool's
own, half-sure slides of real objects were read as turns."""


PERFECT_MSE = 1e-3
"""Squared error from which on images count as right in the logarithm: 30 dB, about what splats can show."""


def training_losses(
    output: NetworkOutput, samples: Samples, weights: LossWeights, appearance: bool
) -> dict[str, Float[Tensor, ""]]:
    """The (weighted) terms whose sum is a step's loss: the motion stage's, with ``appearance`` those of renders too.

    Raises:
        ValueError: appearance terms of samples without novel views.
    """
    losses = motion_losses(output, samples, weights)
    return losses | appearance_losses(output, samples, weights) if appearance else losses


def robust(error: Float[Tensor, "*shape"], scale: float) -> Float[Tensor, "*shape"]:
    """Pseudo-Huber: quadratic below ``scale``, linear with slope 1 beyond; ``error`` >= 0."""
    return torch.sqrt(error**2 + scale**2) - scale


def mean_over(
    values: Float[Tensor, "b v n"], mask: Float[Tensor, "b v n"], view_weight: Float[Tensor, "b v"]
) -> Float[Tensor, " b"]:
    """Mean over masked pixels, views weighted; zero where the mask is empty."""
    weight = mask * view_weight[..., None]
    return (values * weight).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1e-4)


def mean_valid(values: Float[Tensor, " b"], valid: Bool[Tensor, " b"]) -> Float[Tensor, ""]:
    """Mean over the samples that count; zero where none does."""
    return (values * valid).sum() / valid.sum().clamp(min=1)


def by_view(values: Float[Tensor, "b n *rest"], samples: Samples) -> Float[Tensor, "b v m *rest"]:
    """[b, v*m, ...] of the network to [b, v, m, ...], as the targets flatten."""
    return rearrange(values, "b (v m) ... -> b v m ...", v=samples.inputs.view_valid.shape[1])


def motion_losses(output: NetworkOutput, samples: Samples, weights: LossWeights) -> dict[str, Float[Tensor, ""]]:
    """The motion stage's terms (already weighted): geometry, colour, moving part and displacement of every pixel.

    Of two layers each is taught its own surface, seen or hidden, and the part's motion all over the part's. Their sum
    is the loss. No rasterization takes part.
    """
    seen, own, layers = samples.targets, samples.targets, [Layer(output, samples.targets)]
    if output.part is not None:
        assert samples.still is not None
        assert samples.part is not None
        layers, own = [Layer(output, samples.still), Layer(output.part, samples.part)], samples.part
    view_weight = torch.where(samples.inputs.view_valid, 1.0, weights.absent_views)
    found = [geometry_losses(layer, samples, view_weight) for layer in layers]
    losses = {name: LAYER_WEIGHT[len(layers)] * torch.stack([f[name] for f in found]).sum(0) for name in found[0]}
    logit, displacement = by_view(output.moving_logit, samples), by_view(output.displacement, samples)
    losses.update(mask_losses(logit, flat(seen.surface).float(), flat(seen.moving).float(), view_weight))
    moving = flat(own.moving).float()
    losses["displacement"] = displacement_loss(displacement, flat(own.displacement), moving, view_weight)
    if output.votes is not None:
        losses.update(vote_losses(output.votes, samples, own, view_weight))
        losses["carried"] = motion_error_loss(output, samples, own)
    return {name: getattr(weights, name) * mean_valid(value, samples.valid) for name, value in losses.items()}


LAYER_WEIGHT = {1: 1.0, 2: 0.6}
"""What each layer's geometry counts; of two a pixel has both, and they are mostly far apart in size."""


@dataclass(frozen=True)
class Layer:
    """A layer of the network's answer and what it should be."""

    output: NetworkOutput | PartLayer
    targets: MotionTargets


def flat(values: Tensor) -> Tensor:
    """[b, v, h, w, ...] to [b, v, h w, ...]."""
    return rearrange(values, "b v h w ... -> b v (h w) ...")


def geometry_losses(
    layer: Layer, samples: Samples, view_weight: Float[Tensor, "b v"]
) -> dict[str, Float[Tensor, " b"]]:
    """Depth, place, opacity, colour and shape of one layer, a sample."""
    t, gaussians = layer.targets, layer.output.gaussians
    surface, coverage = flat(t.surface).float(), flat(t.coverage)
    distance = by_view(layer.output.ray_distance, samples) - flat(t.distance)
    off = (by_view(gaussians.means, samples) - flat(t.point)).abs().sum(-1)
    opacity = by_view(layer.output.opacity_logit, samples)
    bce = binary_cross_entropy_with_logits(opacity, coverage, reduction="none")
    color = (by_view(gaussians.colors, samples) - flat(t.rgb)).abs().mean(-1)
    shape = by_view(shape_difference(gaussians, surface_gaussians(t, samples.inputs.cameras)), samples)
    return {
        "distance": mean_over(robust(distance.abs(), 0.05), surface, view_weight),
        "point": mean_over(off, surface, view_weight),
        "opacity": mean_over(bce, torch.ones_like(surface), view_weight) + mean_over(bce, surface, view_weight),
        "rgb": mean_over(color, (coverage > 0.25).float(), view_weight),
        "shape": mean_over(shape, surface, view_weight),
    }


def shape_difference(gaussians: Gaussians, goal: Gaussians) -> Float[Tensor, "b n"]:
    """Frobenius distance of covariances over the size of the goal's, both in units of the goal's thickest axis."""
    unit = goal.scales.amax(-1, keepdim=True).clamp(min=1e-6)
    target = covariance(goal.quats, goal.scales / unit)
    error = covariance(gaussians.quats, gaussians.scales / unit) - target
    return frobenius(error) / frobenius(target)


def frobenius(entries: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch"]:
    """Norm of symmetric matrices given as xx, yy, zz, xy, xz, yz, with a finite gradient at zero."""
    squares = entries.square()
    return torch.sqrt(squares[..., :3].sum(-1) + 2 * squares[..., 3:].sum(-1) + 1e-12)


def mask_losses(
    logit: Float[Tensor, "b v n"],
    surface: Float[Tensor, "b v n"],
    moving: Float[Tensor, "b v n"],
    view_weight: Float[Tensor, "b v"],
) -> dict[str, Float[Tensor, " b"]]:
    """Class-balanced cross-entropy and dice of the part that is seen, a sample."""
    bce = binary_cross_entropy_with_logits(logit, moving, reduction="none")
    static = surface * (1 - moving)
    probability = torch.sigmoid(logit) * surface
    w = view_weight[..., None]
    overlap = 2 * (probability * moving * w).sum((1, 2))
    total = ((probability + moving) * w).sum((1, 2))
    return {
        "mask": 0.5 * mean_over(bce, moving, view_weight) + 0.5 * mean_over(bce, static, view_weight),
        "dice": 1 - (overlap + 1e-3) / (total + 1e-3),
    }


def displacement_loss(
    displacement: Float[Tensor, "b v n 3"],
    truth: Float[Tensor, "b v n 3"],
    moving: Float[Tensor, "b v n"],
    view_weight: Float[Tensor, "b v"],
) -> Float[Tensor, " b"]:
    """Robust error of the part's displacements over their mean size, a sample."""
    size = mean_over(truth.norm(dim=-1), moving, torch.ones_like(view_weight)) + SMALL_MOTION
    squared = ((displacement - truth) ** 2).sum(-1) / size[:, None, None] ** 2
    return mean_over(torch.sqrt(squared + 0.3**2) - 0.3, moving, view_weight)


def vote_losses(
    votes: JointVotes,
    samples: Samples,
    own: MotionTargets,
    view_weight: Float[Tensor, "b v"],
) -> dict[str, Float[Tensor, " b"]]:
    """Errors of the part's pixels' votes on the joint, a sample; where and how far it turns only if it turns.

    Axes point so that the motion is right-handed about them, or along them.
    """
    joint, moving = samples.joint, flat(own.moving).float()
    turns = (joint.type == JointType.REVOLUTE).float()
    forward = torch.where(joint.amount < 0, -1.0, 1.0)
    axis = (joint.axis * forward[:, None])[:, None, None]
    point = flat(own.point)
    to_pivot = joint.pivot[:, None, None] - point
    offset_to_axis = to_pivot - (to_pivot * axis).sum(-1, keepdim=True) * axis
    logit = by_view(votes.revolute_logit, samples)
    type_error = binary_cross_entropy_with_logits(logit, turns[:, None, None].expand_as(logit), reduction="none")
    evened = 0.5 / torch.where(joint.type == JointType.REVOLUTE, REVOLUTE_SHARE, 1 - REVOLUTE_SHARE)
    axis_error = robust(length(by_view(votes.axis, samples) - axis), 0.1)
    place_error = robust(length(by_view(votes.offset_to_axis, samples) - offset_to_axis), 0.03)
    angle_error = robust((by_view(votes.angle, samples) - joint.amount.abs()[:, None, None]).abs(), 0.1)
    return {
        "joint_type": evened * mean_over(type_error, moving, view_weight),
        "axis": mean_over(axis_error, moving, view_weight),
        "offset_to_axis": turns * mean_over(place_error, moving, view_weight),
        "angle": turns * mean_over(angle_error, moving, view_weight),
    }


def motion_error_loss(output: NetworkOutput, samples: Samples, own: MotionTargets) -> Float[Tensor, " b"]:
    """How far the part's points arrive from where they should, carried by one joint of the true type, a sample.

    The joint is read off the mean votes of the moving pixels at their predicted places, as
    :func:`partrm.inference.joint_fit.joints_from_votes` does, but for its robustness and the displacements' say on the
    angle; absent views count as little as there.
    """
    votes, joint, moving = output.votes, samples.joint, flat(own.moving).float()
    assert votes is not None
    places = (output if output.part is None else output.part).gaussians.means.detach()
    unseen = torch.where(samples.inputs.view_valid, 1.0, UNSEEN_VOTE)
    weight = moving * unseen[..., None]
    weight = (weight / weight.sum((1, 2), keepdim=True).clamp(min=1e-4)).flatten(1)[..., None]

    def mean(values: Float[Tensor, "b n d"]) -> Float[Tensor, "b d"]:
        return (values * weight).sum(1)

    axis = mean(votes.axis)
    axis = axis / length(axis)[:, None].clamp(min=1e-3)
    slides = joint.type == JointType.PRISMATIC
    slid = (axis * mean(output.displacement)).sum(-1)
    amount = torch.where(slides, slid, mean(votes.angle[..., None])[..., 0])
    # Places held fast: through them this term's noise was five times the depths' own signal.
    T = screw_motion(axis, mean(places + votes.offset_to_axis), amount, slides)
    points = rearrange(own.point, "b v h w c -> b (v h w) c")
    goal = points + rearrange(own.displacement, "b v h w c -> b (v h w) c")
    shift = rearrange(own.displacement.norm(dim=-1), "b v h w -> b (v h w)")
    everywhere = moving.flatten(1)
    error = (length(transform_points(T, points) - goal) * everywhere).sum(1)
    size = (shift * everywhere).sum(1) + SMALL_MOTION * everywhere.sum(1)
    return robust(error / size.clamp(min=1e-4), 0.1)


def length(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch"]:
    """Euclidean length with a finite gradient at zero."""
    return torch.sqrt((vector**2).sum(-1) + 1e-12)


def moved_softly(output: NetworkOutput, T_after_before: Float[Tensor, "b 4 4"]) -> Gaussians:
    """Target-state Gaussians [b, 2n], differentiable in the moving probability.

    Of two layers the one stays and the other goes. Of one every Gaussian does both, its opacity shared between the two.
    """
    if output.part is not None:
        return Gaussians.concatenate([output.gaussians, output.part.gaussians.transformed(T_after_before)])
    return shared_opacity(output.gaussians, output.gaussians.transformed(T_after_before), output.moving)


def shared_opacity(still: Gaussians, gone: Gaussians, moving: Float[Tensor, "b n"]) -> Gaussians:
    """Both sets [b, n] in one [b, 2n]: those that have gone have the share ``moving`` of the opacities."""

    def faded(g: Gaussians, share: Float[Tensor, "b n"]) -> Gaussians:
        return replace(g, opacities=g.opacities * share)

    return Gaussians.concatenate([faded(still, 1 - moving), faded(gone, moving)])


def appearance_losses(
    output: NetworkOutput,
    samples: Samples,
    weights: LossWeights,
    more: Callable[[Tensor, Tensor], dict[str, Float[Tensor, " b"]]] | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """The appearance stage's terms: renders of source and target state from cameras of their own.

    The target state is reached by the true motion, so that these terms teach appearance; where the part goes is taught
    by the motion terms, which stay in the sum. ``more`` as in :func:`image_losses`.
    """
    if samples.views is None:
        raise ValueError("the appearance stage needs samples with novel views")
    output = mostly_carved(output, samples)
    after = moved_softly(output, samples.joint.T_after_before)
    pairs = [(output.everything, samples.views.before), (after, samples.views.after)]
    return image_losses(pairs, samples, weights, more)


def mostly_carved(output: NetworkOutput, samples: Samples) -> NetworkOutput:
    """In two samples of three without the guesses that the images contradict, as predictions are; the third teaches
    guesses not to be contradicted."""

    def carved(gaussians: Gaussians) -> Gaussians:
        with torch.no_grad():
            wrong = free_space_violations(gaussians, samples.inputs, output.seen)
            wrong &= (torch.arange(len(wrong), device=wrong.device) % 3 > 0)[:, None]
        return replace(gaussians, opacities=gaussians.opacities.masked_fill(wrong, 0.0))

    part = None if output.part is None else replace(output.part, gaussians=carved(output.part.gaussians))
    return replace(output, gaussians=carved(output.gaussians), part=part)


def image_losses(
    pairs: Sequence[tuple[Gaussians, Float[Tensor, "b m 4 h w"]]],
    samples: Samples,
    weights: LossWeights,
    more: Callable[[Tensor, Tensor], dict[str, Float[Tensor, " b"]]] | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """Errors of renders on white from the samples' novel cameras, for pairs of Gaussians and true RGBA.

    ``more``: terms of an experiment's own, by sample, of renders and truth [b, views, 3, h, w].
    """
    assert samples.views is not None
    rendered = [render_white(gaussians, samples.views.cameras) for gaussians, _ in pairs]
    rgb, alpha = (torch.cat(images, 1) for images in zip(*rendered, strict=True))
    truth = torch.cat([truth for _, truth in pairs], 1)
    on_white = truth[:, :, :3] * truth[:, :, 3:] + 1 - truth[:, :, 3:]

    def term(error: Tensor) -> Float[Tensor, ""]:
        return mean_valid(error.flatten(1).mean(1), samples.valid)

    squared = (rgb - on_white) ** 2
    return {
        "image": weights.image * term(squared),
        "image_log": weights.image_log * term((squared.mean((2, 3, 4)) + PERFECT_MSE).log()),
        "alpha": weights.alpha * term((alpha - truth[:, :, 3]) ** 2),
        "similarity": weights.similarity * term(1 - ssim_map(rgb, on_white)),
        **{name: mean_valid(error, samples.valid) for name, error in (more(rgb, on_white) if more else {}).items()},
    }


def render_white(gaussians: Gaussians, cameras: Cameras) -> tuple[Float[Tensor, "b m 3 h w"], Float[Tensor, "b m h w"]]:
    """Colour on white and alpha of a batch of sets from a batch of cameras."""
    images = render_splats(gaussians, cameras)
    return images.rgb, images.alpha


def ssim_map(a: Float[Tensor, "b m 3 h w"], b: Float[Tensor, "b m 3 h w"]) -> Float[Tensor, "b m 3 h2 w2"]:
    """Structural similarity (Wang et al. 2004) with a uniform 7x7 window and range 1, as a training signal."""
    x, y = rearrange(a, "b m c h w -> (b m) c h w"), rearrange(b, "b m c h w -> (b m) c h w")

    def mean(z: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(z, 7, 1)

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    value = ((2 * mx * my + c1) * (2 * cov + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return rearrange(value, "(b m) c h w -> b m c h w", b=a.shape[0])


@torch.no_grad()
def part_scores(output: NetworkOutput, samples: Samples) -> dict[str, Float[Tensor, " b"]]:
    """Watched during training: first-view IoU of the part, and mean displacement error over mean displacement."""
    t = samples.targets
    moving = rearrange(t.moving[:, 0], "b h w -> b (h w)")
    surface = rearrange(t.surface[:, 0], "b h w -> b (h w)")
    truth = rearrange(t.displacement[:, 0], "b h w c -> b (h w) c")
    predicted = (by_view(output.moving_logit, samples)[:, 0] > 0) & surface
    error = (by_view(output.displacement, samples)[:, 0] - truth).norm(dim=-1)
    depth = by_view(output.ray_distance, samples)[:, 0]
    if output.part is not None:
        depth = torch.where(moving, by_view(output.part.ray_distance, samples)[:, 0], depth)
    distance = (depth - rearrange(t.distance[:, 0], "b h w -> b (h w)")).abs()

    def over(values: Tensor, mask: Bool[Tensor, "b n"]) -> Tensor:
        return (values * mask).sum(1) / mask.sum(1).clamp(min=1)

    return {
        "iou": (predicted & moving).sum(1) / (predicted | moving).sum(1).clamp(min=1),
        "motion_ratio": over(error, moving) / over(truth.norm(dim=-1), moving).clamp(min=1e-4),
        "distance": over(distance, surface),
    }


@torch.no_grad()
def validation_metrics(output: NetworkOutput, samples: Samples) -> dict[str, Float[Tensor, " b"]]:
    """Scores of each sample's first view, watched during training: :func:`part_scores`, and where the samples have
    novel views :func:`image_scores`."""
    scores = part_scores(output, samples)
    return scores if samples.views is None else scores | image_scores(output, samples)


def image_scores(output: NetworkOutput, samples: Samples) -> dict[str, Float[Tensor, " b"]]:
    """Mean PSNR on white in the samples' novel views: before, and after the true motion, whole and where it changes."""
    assert samples.views is not None
    layers = [output.gaussians] if output.part is None else [output.gaussians, output.part.gaussians]
    wrong = torch.cat([free_space_violations(layer, samples.inputs, output.seen) for layer in layers], 1)
    part = torch.zeros_like(output.moving_logit, dtype=torch.bool)
    if output.part is None:
        everything, moving = output.gaussians, output.moving_logit > 0
    else:
        everything, moving = output.everything, torch.cat([part, ~part], 1)
    everything = replace(everything, opacities=everything.opacities.masked_fill(wrong, 0.0))
    after = Gaussians.where(moving, everything.transformed(samples.joint.T_after_before), everything)
    was, now = composite_on_white(samples.views.before), composite_on_white(samples.views.after)
    before, moved = (render_white(g, samples.views.cameras)[0].clamp(0, 1) for g in (everything, after))
    changed = ((now - was).abs().amax(2) > 1 / 16).float()
    squared = (((moved - now) ** 2).mean(2) * changed).sum((1, 2, 3)) / changed.sum((1, 2, 3)).clamp(min=1)
    return {
        "psnr": psnr(before, was).mean(1),
        "psnr_after": psnr(moved, now).mean(1),
        "psnr_moved": -10 * torch.log10(squared + 1e-4),
    }


@dataclass(frozen=True)
class Objective:
    """What a network is taught and watched by; an experiment with an output of its own brings its own."""

    losses: Callable[[Any, Samples, LossWeights, bool], dict[str, Float[Tensor, ""]]] = training_losses
    """As :func:`training_losses`."""
    metrics: Callable[[Any, Samples], dict[str, Float[Tensor, " b"]]] = validation_metrics
    """As :func:`validation_metrics`."""
    views: int = 1
    """Input views of validation samples."""


ARTICULATED = Objective()
"""Of the network with its own head."""
