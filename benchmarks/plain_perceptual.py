"""The passes between the convolutions of a perceptual loss, in PyTorch alone: on any device, in any precision."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

EPSILON = 1e-8
"""Added to the squared length of a feature vector, as in LPIPS."""


def bias_relu(x: Float[Tensor, "n c h w"], bias: Float[Tensor, " c"]) -> Float[Tensor, "n c h w"]:
    """``relu(x + bias)``."""
    return (x + bias.to(x.dtype)[:, None, None]).relu()


def finish_level(
    x: Float[Tensor, "n c h w"], bias: Float[Tensor, " c"], pool: bool
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "..."]]:
    """``relu(x + bias)`` and, with ``pool``, its 2 x 2 maxima (else an empty tensor)."""
    out = bias_relu(x, bias)
    return out, nn.functional.max_pool2d(out, 2) if pool else out.new_empty(0)


def compare_level(
    x: Float[Tensor, "n c h w"],
    bias: Float[Tensor, " c"],
    other: Float[Tensor, "n c h w"],
    weight: Float[Tensor, " c"],
    pool: bool,
) -> tuple[Float[Tensor, "..."], Float[Tensor, ""]]:
    """The pooled ``a = relu(x + bias)`` (an empty tensor without ``pool``) and its distance from ``other``.

    The distance is the mean over pixels of ``Σ_c weight · (a/|a| - b/|b|)²``.
    """
    out, pooled = finish_level(x, bias, pool)
    difference = unit_features(out) - unit_features(other)
    weighted = weight.to(difference.dtype)[:, None, None] * difference.square()
    return pooled, weighted.sum(1).mean()


def unit_features(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Feature vectors over their lengths, float32 or finer."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return x * torch.rsqrt(x.square().sum(1, keepdim=True) + EPSILON)
