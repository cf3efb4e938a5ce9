"""Two depths a pixel, of which one is chosen: a mixture of two Laplace distributions along the ray, read at its mode.

Where near and far are both likely, one depth's best guess lies between them, where nothing is.
"""

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import logsigmoid

DEPTH_CHANNELS = (1, 1, 2)
"""Second ray distance, log-odds of the second depth, logarithms of both widths; of each layer that has two depths."""

FIRST_ODDS = 1.0
"""Log-odds of the first depth over the second where the head says nothing."""

WIDTHS = (0.01, 0.25)
"""Least and greatest width of a depth's distribution, canonical units."""

SECOND_DEPTH = 0.1
"""How far behind the first depth the second starts, canonical units."""


@dataclass(frozen=True)
class DepthMixture:
    """Two depths of every pixel, of which one is true."""

    distance: Float[Tensor, "b n 2"]
    """From the view's camera along the pixel's ray, canonical units."""
    log_share: Float[Tensor, "b n 2"]
    """Logarithms of their probabilities."""
    width: Float[Tensor, "b n 2"]
    """Scales of the Laplace distributions, canonical units."""

    @property
    def first_chosen(self) -> Bool[Tensor, "b n"]:
        """Whether the density, a share over its width, is highest at the first depth."""
        first, second = (self.log_share - self.width.log()).unbind(-1)
        return first >= second


def depth_mixture(
    first: Float[Tensor, "b v h w"], second: Float[Tensor, "b v h w 4"], away: Float[Tensor, "b v"]
) -> DepthMixture:
    """Both depths of a layer from the head's channels.

    Args:
        first: the layer's ray distance, less ``away``.
        second: its :data:`DEPTH_CHANNELS`.
        away: distance of each view's camera from the origin.
    """
    other, odds, widths = second.split(DEPTH_CHANNELS, -1)
    distance = away[..., None, None, None] + torch.cat([first[..., None], other], -1)
    shares = logsigmoid(torch.cat([FIRST_ODDS - odds, odds - FIRST_ODDS], -1))
    least, most = (math.log(width) for width in WIDTHS)
    width = torch.exp(least + (most - least) * torch.sigmoid(widths))
    return DepthMixture(*(rearrange(x, "b v h w k -> b (v h w) k") for x in (distance, shares, width)))
