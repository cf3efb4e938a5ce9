"""Losses of the two training stages, every term normalised by sample and by part.

The moving part is a tenth of the pixels, and its motion can be a tenth of another sample's: so mask terms weigh the two
classes alike, and displacement errors are taken relative to the part's own mean displacement.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from partrm.articulation.kinematics import JointType
from partrm.cameras import Cameras
from partrm.carving import contradicted_guesses, shown_distance
from partrm.data.gaussian_database import covariance, surface_gaussians
from partrm.data.samples import MotionTargets, Samples
from partrm.gaussians import Gaussians
from partrm.model.network import UNSEEN_VOTE, DepthModes, JointVotes, Layer, NetworkOutput
from partrm.rendering.splats import render_splats
from partrm.transforms import screw_motion, transform_points


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms, chosen so that their gradients at the start of training are of one size.

    With an unbounded displacement term of weight 1.5 its gradient was 20 to 100 times that of the mask, and neither
    mask nor depth was learned: 430 000 samples left the depth error where 2 000 had it.
    """

    distance: float = 3.0
    """Robust error of ray distances on the surface, canonical units; of two depths their mixture's (:func:`mixed`)."""
    point: float = 0.5
    """Mean absolute error of surface Gaussians' centres, summed over coordinates."""
    opacity: float = 0.5
    crisp: float = 0.1
    """Two layers: 4 o (1 - o) of opacities o, so that surfaces that no view shows come out opaque or absent."""
    rgb: float = 1.0
    shape: float = 0.1
    """Relative error of covariances against discs on the true surface."""
    mask: float = 4.0
    """Class-balanced cross-entropy of the moving part."""
    dice: float = 1.5
    displacement: float = 1.0
    """Robust error of the part's displacements over their mean size. With 0.5 the displacements learned far more slowly
    than the mask (error over displacement .63 after 500 000 samples; with 2 to 3 it fell to .46 in as many more); with
    3.0 from the first step its gradient rules the others."""
    joint_type: float = 0.4
    """Cross-entropy of the part's votes on the joint's type."""
    axis: float = 1.0
    """Distance of the voted axis from the true unit vector."""
    to_axis: float = 2.0
    """Robust distance of the voted from the true nearest point of a revolute axis, canonical units."""
    angle: float = 0.6
    """Robust error of a revolute joint's angle, radians."""
    carried: float = 2.0
    """Robust error of the part carried by the joint that all votes make together, over its mean displacement: what
    `partrm eval` calls the motion error."""
    absent_views: float = 0.35
    """Weight of views that the network does not see, against those that it sees."""
    image: float = 20.0
    """Appearance stage: squared error of rendered colour."""
    image_log: float = 0.0
    """Appearance stage: natural logarithm of each image's mean squared error, so its PSNR: of ``image``'s gradient the
    worst quarter of the images has half. 0.5 weighs an image of 22 dB as 60 of ``image`` does."""
    alpha: float = 5.0
    similarity: float = 0.5
    """Appearance stage: 1 - SSIM."""


SMALL_MOTION = 0.04
"""Canonical units added to a part's mean displacement before errors are divided by it, so that tiny motions do not
rule the gradient (0.08 in the first three runs, which learned short drags badly)."""


LAYER_SHARE = 0.6
"""Weight of each of two layers' terms, against the terms of one layer."""

HIDDEN_MORE = 1.0
"""Weight added to what lies behind the part: a tenth of the pixels, and all that the motion reveals."""

MODE_UNIT = 0.05
"""Loss a nat of the depths' likelihood, canonical units: a depth's pull is then that of the robust error where its
width is as large."""


REVOLUTE_SHARE = 0.735
"""Of the dragged joints of a training pool of all kinds with a quarter of assemblies (run 4 took 0.77, the share
without them). Slides weigh more in the type's loss by it, so that the votes are odds for even shares: with the pool's
own, half-sure slides of real objects were read as turns."""


PERFECT_MSE = 1e-3
"""Squared error from which on images count as right in the logarithm: 30 dB, about what splats can show."""


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

    Their sum is the loss. No rasterization takes part. Of networks of two layers each is compared with what its parts
    alone would show, and mean displacement and votes count on the part's whole surface, hidden or not.
    """
    t, view_weight = samples.targets, torch.where(samples.inputs.view_valid, 1.0, weights.absent_views)
    seen, moving = flat(t.surface).float(), flat(t.moving).float()
    logit, displacement = by_view(output.moving_logit, samples), by_view(output.displacement, samples)
    if output.part is None:
        own, whole = moving, samples
        losses = layer_losses(output.still, t, samples, view_weight, seen)
    else:
        if samples.still is None or samples.part is None:
            raise ValueError("a network of two layers needs samples with the targets of both")
        own, whole = flat(samples.part.surface).float(), replace(samples, targets=samples.part)
        behind = flat(samples.still.surface).float() * (1 + HIDDEN_MORE * moving)
        first = layer_losses(output.still, samples.still, samples, view_weight, behind)
        second = layer_losses(output.part, samples.part, samples, view_weight, own)
        losses = {name: LAYER_SHARE * (first[name] + second[name]) for name in first}
        losses["crisp"] = crispness(output.still, samples, view_weight) + crispness(output.part, samples, view_weight)
    shift = flat(whole.targets.displacement)
    losses |= mask_losses(logit, seen, moving, view_weight)
    losses["displacement"] = displacement_loss(displacement, shift, own, view_weight)
    if output.votes is not None:
        losses.update(vote_losses(output.votes, whole, own, view_weight))
        losses["carried"] = carried_loss(output, whole, own)
    return {name: getattr(weights, name) * mean_valid(value, samples.valid) for name, value in losses.items()}


def flat(values: Float[Tensor, "b v h w *rest"]) -> Float[Tensor, "b v n *rest"]:
    """Maps of the targets as lists of pixels."""
    return rearrange(values, "b v h w ... -> b v (h w) ...")


def layer_losses(
    layer: Layer,
    t: MotionTargets,
    samples: Samples,
    view_weight: Float[Tensor, "b v"],
    surface: Float[Tensor, "b v n"],
) -> dict[str, Float[Tensor, " b"]]:
    """Geometry, colour and opacity of one layer, a sample.

    Args:
        t: what the layer shall show.
        surface: weight of each pixel's surface, zero where there is none.
    """
    distance, coverage = flat(t.distance), flat(t.coverage)
    if layer.modes is None:
        away = robust((by_view(layer.ray_distance, samples) - distance).abs(), 0.05)
    else:
        away = mixed(layer.modes, distance, samples)
    means, rgb = by_view(layer.gaussians.means, samples), by_view(layer.gaussians.colors, samples)
    bce = binary_cross_entropy_with_logits(by_view(layer.opacity_logit, samples), coverage, reduction="none")
    everywhere, covered = torch.ones_like(surface), (coverage > 0.25).float()
    goal = surface_gaussians(t, samples.inputs.cameras)
    return {
        "distance": mean_over(away, surface, view_weight),
        "point": mean_over((means - flat(t.point)).abs().sum(-1), surface, view_weight),
        "opacity": mean_over(bce, everywhere, view_weight) + mean_over(bce, surface, view_weight),
        "rgb": mean_over((rgb - flat(t.rgb)).abs().mean(-1), covered, view_weight),
        "shape": mean_over(by_view(shape_difference(layer.gaussians, goal), samples), surface, view_weight),
    }


def mixed(modes: DepthModes, distance: Float[Tensor, "b v n"], samples: Samples) -> Float[Tensor, "b v n"]:
    """Negative log-likelihood of true distances under the mixture of both depths, :data:`MODE_UNIT` a nat."""
    error = by_view(modes.distance, samples) - distance[..., None]
    width = by_view(modes.width, samples)
    away = torch.sqrt(error**2 + 0.01**2)
    density = by_view(modes.log_share, samples) - torch.log(2 * width) - away / width
    return -MODE_UNIT * torch.logsumexp(density, -1)


def crispness(layer: Layer, samples: Samples, view_weight: Float[Tensor, "b v"]) -> Float[Tensor, " b"]:
    """How far opacities are from zero and one, a sample: 1 where all are one half."""
    opacity = by_view(torch.sigmoid(layer.opacity_logit), samples)
    return mean_over(4 * opacity * (1 - opacity), torch.ones_like(opacity), view_weight)


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
    """Mask and dice terms of the pixels that show the part, a sample."""
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
    moving: Float[Tensor, "b v n"],
    view_weight: Float[Tensor, "b v"],
) -> dict[str, Float[Tensor, " b"]]:
    """Errors of the moving pixels' votes on the joint, a sample; where and how far it turns only if it turns.

    Axes point so that the motion is right-handed about them, or along them.
    """
    joint = samples.joint
    turns = (joint.type == JointType.REVOLUTE).float()
    forward = torch.where(joint.amount < 0, -1.0, 1.0)
    axis = (joint.axis * forward[:, None])[:, None, None]
    point = rearrange(samples.targets.point, "b v h w c -> b v (h w) c")
    to_pivot = joint.pivot[:, None, None] - point
    to_axis = to_pivot - (to_pivot * axis).sum(-1, keepdim=True) * axis
    logit = by_view(votes.revolute_logit, samples)
    type_error = binary_cross_entropy_with_logits(logit, turns[:, None, None].expand_as(logit), reduction="none")
    evened = 0.5 / torch.where(joint.type == JointType.REVOLUTE, REVOLUTE_SHARE, 1 - REVOLUTE_SHARE)
    axis_error = robust(length(by_view(votes.axis, samples) - axis), 0.1)
    place_error = robust(length(by_view(votes.to_axis, samples) - to_axis), 0.03)
    angle_error = robust((by_view(votes.angle, samples) - joint.amount.abs()[:, None, None]).abs(), 0.1)
    return {
        "joint_type": evened * mean_over(type_error, moving, view_weight),
        "axis": mean_over(axis_error, moving, view_weight),
        "to_axis": turns * mean_over(place_error, moving, view_weight),
        "angle": turns * mean_over(angle_error, moving, view_weight),
    }


def carried_loss(output: NetworkOutput, samples: Samples, moving: Float[Tensor, "b v n"]) -> Float[Tensor, " b"]:
    """How far the part's points arrive from where they should, carried by one joint of the true type, a sample.

    The joint is read off the mean votes of the moving pixels at their predicted places, as
    :func:`partrm.articulation.estimate.joint_from_votes` does, but for its robustness and the displacements' say on the
    angle; absent views count as little as there.
    """
    votes, joint = output.votes, samples.joint
    assert votes is not None
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
    T = screw_motion(axis, mean(output.carriers.means.detach() + votes.to_axis), amount, slides)
    points = rearrange(samples.targets.point, "b v h w c -> b (v h w) c")
    goal = points + rearrange(samples.targets.displacement, "b v h w c -> b (v h w) c")
    shift = rearrange(samples.targets.displacement.norm(dim=-1), "b v h w -> b (v h w)")
    everywhere = moving.flatten(1)
    error = (length(transform_points(T, points) - goal) * everywhere).sum(1)
    size = (shift * everywhere).sum(1) + SMALL_MOTION * everywhere.sum(1)
    return robust(error / size.clamp(min=1e-4), 0.1)


def length(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch"]:
    """Euclidean length with a finite gradient at zero."""
    return torch.sqrt((vector**2).sum(-1) + 1e-12)


def moved_softly(output: NetworkOutput, T_after_before: Float[Tensor, "b 4 4"] | None) -> Gaussians:
    """Target-state Gaussians [b, 2n], differentiable in what says which of them move.

    Of two layers the part's goes. Of one layer every Gaussian both stays and goes, its opacity shared between the two.
    What goes does so by the given motion, or with None by its own displacement (its rotation stays).
    """
    carriers = output.carriers
    if T_after_before is None:
        gone = replace(carriers, means=carriers.means + output.displacement)
    else:
        gone = carriers.transformed(T_after_before)
    if output.part is not None:
        return Gaussians.concatenate([output.gaussians, gone])
    still, moving = output.gaussians, output.moving
    still = replace(still, opacities=still.opacities * (1 - moving))
    return Gaussians.concatenate([still, replace(gone, opacities=gone.opacities * moving)])


def appearance_losses(
    output: NetworkOutput, samples: Samples, weights: LossWeights, true_motion: bool = True
) -> dict[str, Float[Tensor, ""]]:
    """The appearance stage's terms: renders of source and target state from cameras of their own.

    With ``true_motion`` the target state is reached by it, so that these terms teach looks; where the part goes is
    taught by the motion terms, which stay in the sum. Without, by the network's displacements, and renders teach all.
    """
    if samples.views is None:
        raise ValueError("the appearance stage needs samples with novel views")
    output = mostly_carved(output, samples)
    after = moved_softly(output, samples.joint.T_after_before if true_motion else None)
    return image_losses([(output.before, samples.views.before), (after, samples.views.after)], samples, weights)


def mostly_carved(output: NetworkOutput, samples: Samples) -> NetworkOutput:
    """In two samples of three without the guesses that the images contradict, as predictions are; the third teaches
    guesses not to be contradicted."""
    layers = [output.still] if output.part is None else [output.still, output.part]
    kept = []
    with torch.no_grad():
        shown = shown_distance([layer.gaussians for layer in layers], samples.inputs)
        some = (torch.arange(len(samples.valid), device=samples.valid.device) % 3 > 0)[:, None]
    for layer in layers:
        with torch.no_grad():
            wrong = contradicted_guesses(layer.gaussians, samples.inputs, shown) & some
        kept.append(replace(layer.gaussians, opacities=layer.gaussians.opacities.masked_fill(wrong, 0.0)))
    part = None if output.part is None else replace(output.part, gaussians=kept[1])
    return replace(output, gaussians=kept[0], part=part)


def image_losses(
    pairs: Sequence[tuple[Gaussians, Float[Tensor, "b m 4 h w"]]], samples: Samples, weights: LossWeights
) -> dict[str, Float[Tensor, ""]]:
    """Errors of renders on white from the samples' novel cameras, for pairs of Gaussians and true RGBA."""
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
    ray = output.ray_distance
    if output.part is not None:
        ray = torch.where(rearrange(t.moving, "b v h w -> b (v h w)"), output.part.ray_distance, ray)
    distance = (by_view(ray, samples)[:, 0] - rearrange(t.distance[:, 0], "b h w -> b (h w)")).abs()

    def over(values: Tensor, mask: Bool[Tensor, "b n"]) -> Tensor:
        return (values * mask).sum(1) / mask.sum(1).clamp(min=1)

    return {
        "iou": (predicted & moving).sum(1) / (predicted | moving).sum(1).clamp(min=1),
        "motion_ratio": over(error, moving) / over(truth.norm(dim=-1), moving).clamp(min=1e-4),
        "distance": over(distance, surface),
    }
