"""Colours of what no given view shows: towards those of what is seen, since most things are of one material all over.

A network that has to guess an unseen side's colour gives the mean of what it was taught, grey.
"""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.geometry.gaussians import Gaussians
from partrm.model.network import NetworkOutput

LIKE_SEEN = 0.6
"""Share of the seen colour in an unseen splat's."""

OPAQUE = 0.5
"""Opacity from which on a splat shows a colour."""

LEAST = 20
"""Fewer splats that a view shows of a layer tell no colour of it; the whole object's is taken."""


def with_likely_colors(output: NetworkOutput) -> NetworkOutput:
    """The same answer [b, n], each layer's unseen splats coloured more like what the given views show of it."""
    shown = output.view_valid.repeat_interleave(output.moving_logit.shape[1] // output.view_valid.shape[1], 1)
    moving = output.moving_logit > 0
    if output.part is None:
        return replace(output, gaussians=_colored(output.gaussians, shown, _median(output.gaussians, shown)))
    of_all = _median(output.seen, shown)
    layers = []
    for gaussians, own in ((output.gaussians, shown & ~moving), (output.part.gaussians, shown & moving)):
        enough = (own & (gaussians.opacities > OPAQUE)).sum(1, keepdim=True) >= LEAST
        layers.append(_colored(gaussians, own, torch.where(enough, _median(gaussians, own), of_all)))
    return replace(output, gaussians=layers[0], part=replace(output.part, gaussians=layers[1]))


def _median(gaussians: Gaussians, where: Bool[Tensor, "b n"]) -> Float[Tensor, "b 3"]:
    """Of the opaque ones there; grey where there are none."""
    colors = gaussians.colors.masked_fill(~(where & (gaussians.opacities > OPAQUE))[..., None], torch.nan)
    return colors.nanmedian(1).values.nan_to_num(0.5)


def _colored(gaussians: Gaussians, seen: Bool[Tensor, "b n"], color: Float[Tensor, "b 3"]) -> Gaussians:
    likely = torch.lerp(gaussians.colors, color[:, None], LIKE_SEEN)
    return replace(gaussians, colors=torch.where(seen[..., None], gaussians.colors, likely))
