"""What the input images contradict is taken out of a reconstruction: no splat may hide what a given view shows.

The network guesses the sides that no view shows; a guess that stands before a visible surface, or on a view's
background, is wrong for certain. This is space carving (Kutulakos and Seitz 2000) by one silhouette and depth a view.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import max_pool2d

from partrm.cameras import Cameras
from partrm.data.samples import NetworkInput, pooled_rgba
from partrm.gaussians import Gaussians

MARGIN = 0.03
"""Guesses are kept from this far behind a visible surface on, canonical units: nearer ones lie in the splats of the
surface itself, whose colour is known."""

OPAQUE = 0.5
"""Opacity above which a pixel's Gaussian hides those behind it."""

BACKGROUND = 0.05
"""Alpha below which a pixel, with its neighbours, shows nothing of the object."""


def carve(gaussians: Gaussians, inputs: NetworkInput) -> Gaussians:
    """The same Gaussians [b, n] with opacity zero where :func:`contradicted_guesses` says so."""
    return carve_layers([gaussians], inputs)[0]


def carve_layers(layers: Sequence[Gaussians], inputs: NetworkInput) -> list[Gaussians]:
    """:func:`carve` for Gaussians of several surfaces a pixel, each [b, n], of which images show the nearest."""
    shown = shown_distance(layers, inputs)
    wrong = [contradicted_guesses(gaussians, inputs, shown) for gaussians in layers]
    return [
        replace(gaussians, opacities=gaussians.opacities.masked_fill(off, 0.0))
        for gaussians, off in zip(layers, wrong, strict=True)
    ]


def own_distance(gaussians: Gaussians, cameras: Cameras) -> Float[Tensor, "b n"]:
    """Distance of each Gaussian from the camera [b, v] of its own view."""
    views = cameras.batch_shape[1]
    means = rearrange(gaussians.means, "b (v m) c -> b v m c", v=views)
    return rearrange((means - cameras.positions[:, :, None]).norm(dim=-1), "b v m -> b (v m)")


def shown_distance(layers: Sequence[Gaussians], inputs: NetworkInput) -> Float[Tensor, "b n"]:
    """Distance of what every pixel shows, if it shows the object: of its nearest opaque Gaussian, else of the first."""
    first, *others = (own_distance(gaussians, inputs.cameras) for gaussians in layers)
    if not others:
        return first
    opaque = [gaussians.opacities > OPAQUE for gaussians in layers]
    found = [torch.where(solid, d, torch.inf) for solid, d in zip(opaque, [first, *others], strict=True)]
    nearest = torch.stack(found).amin(0)
    return torch.where(nearest.isinf(), first, nearest)


def contradicted_guesses(
    gaussians: Gaussians, inputs: NetworkInput, shown: Float[Tensor, "b n"] | None = None
) -> Bool[Tensor, "b n"]:
    """Which Gaussians [b, n] of absent views a present view contradicts.

    n runs over views, rows, columns as the network's outputs do; ``inputs`` are those that it saw.

    Args:
        shown: distance of what each pixel shows from its own camera, by default of its Gaussian.
    """
    views = inputs.view_valid.shape[1]
    per_view = gaussians.opacities.shape[1] // views
    side = round(per_view**0.5)
    alpha = pooled_rgba(inputs.images, inputs.images.shape[-1] // side)[:, :, 3]
    guessed = ~inputs.view_valid.repeat_interleave(per_view, dim=1)
    shown = own_distance(gaussians, inputs.cameras) if shown is None else shown
    surfaces = rearrange(shown, "b (v h w) -> b v h w", v=views, h=side)
    wrong = torch.zeros_like(guessed)
    for view in range(views):
        camera = inputs.cameras[:, view].resized(side)
        distance = (gaussians.means - camera.positions[:, None]).norm(dim=-1)
        seen = contradicted(gaussians.means, distance, camera, alpha[:, view], surfaces[:, view])
        wrong |= seen & inputs.view_valid[:, view, None]
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
