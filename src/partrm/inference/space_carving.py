"""What the input images contradict is taken out of a reconstruction: no splat may hide what a given view shows.

The network guesses the sides that no view shows; a guess that stands before a visible surface, or on a view's
background, is wrong for certain. This is space carving (Kutulakos and Seitz 2000) by one silhouette and depth a view.
"""

from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import max_pool2d

from partrm.geometry.cameras import Cameras
from partrm.geometry.gaussians import Gaussians
from partrm.model.inputs import NetworkInput, pooled_rgba

MARGIN = 0.03
"""Guesses are kept from this far behind a visible surface on, canonical units: nearer ones lie in the splats of the
surface itself, whose colour is known."""

BACKGROUND = 0.05
"""Alpha below which a pixel, with its neighbours, shows nothing of the object."""


def carve(gaussians: Gaussians, inputs: NetworkInput) -> Gaussians:
    """The same Gaussians [b, n] with opacity zero where :func:`free_space_violations` says so."""
    wrong = free_space_violations(gaussians, inputs)
    return replace(gaussians, opacities=gaussians.opacities.masked_fill(wrong, 0.0))


def free_space_violations(
    gaussians: Gaussians, inputs: NetworkInput, seen: Gaussians | None = None
) -> Bool[Tensor, "b n"]:
    """Which Gaussians [b, n] of absent views a present view contradicts.

    n runs over views, rows, columns as the network's outputs do; ``inputs`` are those that it saw. ``seen``: the
    surface that each pixel shows, by default the Gaussians themselves.
    """
    seen = gaussians if seen is None else seen
    views = inputs.view_valid.shape[1]
    per_view = gaussians.opacities.shape[1] // views
    side = round(per_view**0.5)
    alpha = pooled_rgba(inputs.images, inputs.images.shape[-1] // side)[:, :, 3]
    guessed = ~inputs.view_valid.repeat_interleave(per_view, dim=1)
    wrong = torch.zeros_like(guessed)
    for view in range(views):
        camera = inputs.cameras[:, view].resized(side)
        distance = (gaussians.means - camera.positions[:, None]).norm(dim=-1)
        own = (seen.means[:, view * per_view : (view + 1) * per_view] - camera.positions[:, None]).norm(dim=-1)
        surface = rearrange(own, "b (h w) -> b h w", h=side)
        hiding = contradicted(gaussians.means, distance, camera, alpha[:, view], surface)
        wrong |= hiding & inputs.view_valid[:, view, None]
    return wrong & guessed


def contradicted(
    points: Float[Tensor, "b n 3"],
    distance: Float[Tensor, "b n"],
    camera: Cameras,
    alpha: Float[Tensor, "b h w"],
    surface: Float[Tensor, "b h w"],
) -> Bool[Tensor, "b n"]:
    """Which points hide the surface of a view, or lie on its background.

    Args:
        distance: of the points from the camera.
        camera: [b], with images of the size of ``alpha``.
        surface: distance of what each pixel shows, where ``alpha`` > 0.5.
    """
    _, height, width = alpha.shape
    pixels, depth = camera.project(points)
    column, row = pixels.nan_to_num(-1.0).floor().clamp(-1, max(height, width)).long().unbind(-1)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) & (depth > 0)
    flat = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)

    def at(image: Float[Tensor, "b h w"]) -> Float[Tensor, "b n"]:
        return rearrange(image, "b h w -> b (h w)").gather(1, flat)

    nearest = -max_pool2d(-surface.masked_fill(alpha <= 0.5, torch.inf)[:, None], 3, 1, 1)[:, 0]
    hides = (at(alpha) > 0.5) & (distance < at(nearest) + MARGIN)
    off = at(max_pool2d(alpha[:, None], 3, 1, 1)[:, 0]) < BACKGROUND
    return inside & (hides | off)
