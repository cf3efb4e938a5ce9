"""GroupNorm (with SiLU) and residual sums of channels-last CUDA tensors: Triton kernels, forward and backward.

PyTorch's GroupNorm wants NCHW: in a channels-last network each of its norms costs two transposes. These read and write
the tensor as it lies: one pass for sums, one that normalises. The plain twin is
``partrm.model.unet.Norm`` without ``fused``; sums are float32, about each channel's first value so that they do not
cancel, and partial results merge as in Chan et al. (1979).

A convolution's bias can enter here instead of there (``shift``), which saves a pass over its output.

Layout of every kernel: x is [n, rows, channels] (rows = height · width), a program takes some rows of 64 channels.
"""

# pyright: reportIndexIssue=false

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK_CHANNELS, BLOCK_ROWS = 64, 32
"""Tile that a program holds at a time."""

BLOCK = 1024
"""Values that a program of an element-wise kernel takes."""

MAX_SPLITS, MIN_SPLIT_ROWS = 64, 128
"""Programs that share the rows of one image's channels, at most, and the rows that each takes, at least."""


@triton.jit
@no_type_check
def _forward_sums(x, out, rows, channels, split_rows, splits, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr):
    """Write sum and sum of squares about the split's first row, and that row: out [n, splits, 3, channels]."""
    split, n = tl.program_id(0), tl.program_id(2).to(tl.int64)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = c < channels
    first = split * split_rows
    last = tl.minimum(first + split_rows, rows)
    base = x + n * rows * channels + c
    shift = tl.load(base + first * channels, mask=inside, other=0.0).to(tl.float32)
    total = tl.zeros((BLOCK_R, BLOCK_C), dtype=tl.float32)
    squares = tl.zeros((BLOCK_R, BLOCK_C), dtype=tl.float32)
    for start in range(first, last, BLOCK_R):
        r = start + tl.arange(0, BLOCK_R)
        mask = (r < last)[:, None] & inside[None, :]
        values = tl.load(base[None, :] + r[:, None] * channels, mask=mask, other=0.0).to(tl.float32)
        values = tl.where(mask, values - shift[None, :], 0.0)
        total += values
        squares += values * values
    here = out + (n * splits + split) * 3 * channels + c
    tl.store(here, tl.sum(total, 0), mask=inside)
    tl.store(here + channels, tl.sum(squares, 0), mask=inside)
    tl.store(here + 2 * channels, shift, mask=inside)


@triton.jit
@no_type_check
def _forward_merge(
    sums, weight, bias, shift, affine, moments, rows, channels, width, split_rows, splits, eps,
    SHIFTED: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_G: tl.constexpr,
):  # fmt: skip
    """Write factor and offset of each channel (affine [n, 2, channels]) and mean and 1/deviation of each group.

    Moments are those of ``x + shift``; factor and offset apply to x.
    """
    group, n = tl.program_id(0), tl.program_id(1).to(tl.int64)
    s, k = tl.arange(0, BLOCK_S), tl.arange(0, BLOCK_G)
    c = group * width + k
    mask = (s < splits)[:, None] & (k < width)[None, :]
    here = sums + (n * splits + s[:, None]) * 3 * channels + c[None, :]
    count = tl.maximum(tl.minimum(split_rows, rows - s * split_rows), 1).to(tl.float32)[:, None]
    total = tl.load(here, mask=mask, other=0.0)
    squares = tl.load(here + channels, mask=mask, other=0.0)
    means = tl.load(here + 2 * channels, mask=mask, other=0.0) + total / count
    added = tl.zeros((BLOCK_G,), dtype=tl.float32)
    if SHIFTED:
        added = tl.load(shift + c, mask=k < width, other=0.0).to(tl.float32)
    means += added[None, :]
    size = rows * width * 1.0
    mean = tl.sum(tl.sum(tl.where(mask, means * count, 0.0), 1), 0) / size
    within = tl.where(mask, squares - total * total / count, 0.0)
    between = tl.where(mask, count * (means - mean) * (means - mean), 0.0)
    variance = tl.sum(tl.sum(within + between, 1), 0) / size
    scale = 1.0 / tl.sqrt(variance + eps)
    inside = k < width
    factor = tl.load(weight + c, mask=inside, other=0.0).to(tl.float32) * scale
    offset = tl.load(bias + c, mask=inside, other=0.0).to(tl.float32) + (added - mean) * factor
    tl.store(affine + n * 2 * channels + c, factor, mask=inside)
    tl.store(affine + n * 2 * channels + channels + c, offset, mask=inside)
    at = moments + (n * tl.num_programs(0) + group) * 2
    tl.store(at, mean)
    tl.store(at + 1, scale)


@triton.jit
@no_type_check
def _forward_apply(x, affine, y, rows, channels, SILU: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr):
    """Write ``silu(factor · x + offset)``."""
    n = tl.program_id(2).to(tl.int64)
    r, c = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R), tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = c < channels
    mask = (r < rows)[:, None] & inside[None, :]
    factor = tl.load(affine + n * 2 * channels + c, mask=inside, other=0.0)
    offset = tl.load(affine + n * 2 * channels + channels + c, mask=inside, other=0.0)
    at = (n * rows + r[:, None]) * channels + c[None, :]
    z = tl.load(x + at, mask=mask, other=0.0).to(tl.float32) * factor[None, :] + offset[None, :]
    if SILU:
        z = z / (1.0 + tl.exp(-z))
    tl.store(y + at, z.to(y.dtype.element_ty), mask=mask)


@triton.jit
@no_type_check
def _grad_before_silu(values, grad, factor, offset, SILU: tl.constexpr):
    """The gradient to ``z = factor · x + offset`` of the gradient to the output."""
    if SILU:
        z = values * factor[None, :] + offset[None, :]
        sigmoid = 1.0 / (1.0 + tl.exp(-z))
        grad = grad * sigmoid * (1.0 + z * (1.0 - sigmoid))
    return grad


@triton.jit
@no_type_check
def _backward_sums(
    x, grad, shift, affine, moments, out, rows, channels, width, split_rows, splits,
    SILU: tl.constexpr, SHIFTED: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Write the sums of the gradient to z, and of it times normalised x: out [n, splits, 2, channels]."""
    split, n = tl.program_id(0), tl.program_id(2).to(tl.int64)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = c < channels
    first = split * split_rows
    last = tl.minimum(first + split_rows, rows)
    factor = tl.load(affine + n * 2 * channels + c, mask=inside, other=0.0)
    offset = tl.load(affine + n * 2 * channels + channels + c, mask=inside, other=0.0)
    at_group = moments + (n * (channels // width) + c // width) * 2
    mean, scale = tl.load(at_group, mask=inside, other=0.0), tl.load(at_group + 1, mask=inside, other=0.0)
    if SHIFTED:
        mean -= tl.load(shift + c, mask=inside, other=0.0).to(tl.float32)
    total = tl.zeros((BLOCK_R, BLOCK_C), dtype=tl.float32)
    weighted = tl.zeros((BLOCK_R, BLOCK_C), dtype=tl.float32)
    for start in range(first, last, BLOCK_R):
        r = start + tl.arange(0, BLOCK_R)
        mask = (r < last)[:, None] & inside[None, :]
        at = (n * rows + r[:, None]) * channels + c[None, :]
        values = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
        g = tl.load(grad + at, mask=mask, other=0.0).to(tl.float32)
        g = _grad_before_silu(values, g, factor, offset, SILU)
        total += g
        weighted += tl.where(mask, g * (values - mean[None, :]) * scale[None, :], 0.0)
    here = out + (n * splits + split) * 2 * channels + c
    tl.store(here, tl.sum(total, 0), mask=inside)
    tl.store(here + channels, tl.sum(weighted, 0), mask=inside)


@triton.jit
@no_type_check
def _backward_merge(
    sums, weight, moments, channel_sums, plane, rows, channels, width, splits,
    BLOCK_S: tl.constexpr, BLOCK_G: tl.constexpr,
):  # fmt: skip
    """Write each channel's two sums [n, 2, channels], and slope and offset of the gradient in x of each group."""
    group, n = tl.program_id(0), tl.program_id(1).to(tl.int64)
    s, k = tl.arange(0, BLOCK_S), tl.arange(0, BLOCK_G)
    c, inside = group * width + k, k < width
    mask = (s < splits)[:, None] & inside[None, :]
    here = sums + (n * splits + s[:, None]) * 2 * channels + c[None, :]
    total = tl.sum(tl.load(here, mask=mask, other=0.0), 0)
    weighted = tl.sum(tl.load(here + channels, mask=mask, other=0.0), 0)
    tl.store(channel_sums + n * 2 * channels + c, total, mask=inside)
    tl.store(channel_sums + n * 2 * channels + channels + c, weighted, mask=inside)
    gamma = tl.load(weight + c, mask=inside, other=0.0).to(tl.float32)
    size = rows * width * 1.0
    mean_grad, mean_weighted = tl.sum(gamma * total, 0) / size, tl.sum(gamma * weighted, 0) / size
    at = (n * tl.num_programs(0) + group) * 2
    mean, scale = tl.load(moments + at), tl.load(moments + at + 1)
    slope = -scale * scale * mean_weighted
    tl.store(plane + at, slope)
    tl.store(plane + at + 1, -slope * mean - scale * mean_grad)


@triton.jit
@no_type_check
def _backward_apply(
    x, grad, shift, affine, plane, out, rows, channels, width,
    SILU: tl.constexpr, SHIFTED: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Write ``factor · grad_z + slope · (x + shift) + offset``, the gradient to x."""
    n = tl.program_id(2).to(tl.int64)
    r, c = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R), tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = c < channels
    mask = (r < rows)[:, None] & inside[None, :]
    factor = tl.load(affine + n * 2 * channels + c, mask=inside, other=0.0)
    offset = tl.load(affine + n * 2 * channels + channels + c, mask=inside, other=0.0)
    at_group = plane + (n * (channels // width) + c // width) * 2
    slope, lift = tl.load(at_group, mask=inside, other=0.0), tl.load(at_group + 1, mask=inside, other=0.0)
    if SHIFTED:
        lift += slope * tl.load(shift + c, mask=inside, other=0.0).to(tl.float32)
    at = (n * rows + r[:, None]) * channels + c[None, :]
    values = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
    g = tl.load(grad + at, mask=mask, other=0.0).to(tl.float32)
    g = _grad_before_silu(values, g, factor, offset, SILU)
    g = g * factor[None, :] + values * slope[None, :] + lift[None, :]
    tl.store(out + at, g.to(out.dtype.element_ty), mask=mask)


class _GroupNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, x: Tensor, weight: Tensor, bias: Tensor, shift: Tensor | None, groups: int, eps: float, silu: bool
    ) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        n, channels, height, width = x.shape
        rows, group_width = height * width, channels // groups
        splits, split_rows = _splits(rows)
        blocks = triton.cdiv(channels, BLOCK_CHANNELS)
        tile = {"BLOCK_R": BLOCK_ROWS, "BLOCK_C": BLOCK_CHANNELS}
        sums = x.new_empty(n, splits, 3, channels, dtype=torch.float32)
        _forward_sums[splits, blocks, n](x, sums, rows, channels, split_rows, splits, **tile)
        affine, moments = sums.new_empty(n, 2, channels), sums.new_empty(n, groups, 2)
        block_s, block_g = triton.next_power_of_2(splits), triton.next_power_of_2(group_width)
        added = bias if shift is None else shift
        _forward_merge[groups, n](
            sums, weight, bias, added, affine, moments, rows, channels, group_width, split_rows, splits, eps,
            shift is not None, block_s, block_g,
        )  # fmt: skip
        y = torch.empty_like(x)
        _forward_apply[triton.cdiv(rows, BLOCK_ROWS), blocks, n](x, affine, y, rows, channels, silu, **tile)
        ctx.save_for_backward(x, weight, affine, moments, shift)
        ctx.silu = silu
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight, affine, moments, shift = ctx.saved_tensors
        added, shifted = (weight, False) if shift is None else (shift, True)
        grad = grads[0].contiguous(memory_format=torch.channels_last)
        n, channels, height, width = x.shape
        rows, groups = height * width, moments.shape[1]
        group_width = channels // groups
        splits, split_rows = _splits(rows)
        blocks = triton.cdiv(channels, BLOCK_CHANNELS)
        tile = {"BLOCK_R": BLOCK_ROWS, "BLOCK_C": BLOCK_CHANNELS}
        sums = affine.new_empty(n, splits, 2, channels)
        _backward_sums[splits, blocks, n](
            x, grad, added, affine, moments, sums, rows, channels, group_width, split_rows, splits,
            ctx.silu, shifted, **tile,
        )  # fmt: skip
        channel_sums, plane = torch.empty_like(affine), torch.empty_like(moments)
        block_s, block_g = triton.next_power_of_2(splits), triton.next_power_of_2(group_width)
        _backward_merge[groups, n](
            sums, weight, moments, channel_sums, plane, rows, channels, group_width, splits, block_s, block_g
        )
        out = torch.empty_like(x)
        _backward_apply[triton.cdiv(rows, BLOCK_ROWS), blocks, n](
            x, grad, added, affine, plane, out, rows, channels, group_width, ctx.silu, shifted, **tile
        )
        bias_grad, weight_grad = channel_sums.sum(0).to(weight.dtype).unbind(0)
        shift_grad = None if shift is None else out.sum((0, 2, 3), dtype=torch.float32).to(shift.dtype)
        return out, weight_grad, bias_grad, shift_grad, None, None, None


def _splits(rows: int) -> tuple[int, int]:
    """How many programs share the rows of an image, and how many rows each takes."""
    splits = max(1, min(MAX_SPLITS, rows // MIN_SPLIT_ROWS))
    split_rows = triton.cdiv(rows, splits)
    return triton.cdiv(rows, split_rows), split_rows


def group_norm(
    x: Float[Tensor, "n c h w"],
    weight: Float[Tensor, " c"],
    bias: Float[Tensor, " c"],
    groups: int,
    eps: float,
    silu: bool,
    shift: Float[Tensor, " c"] | None = None,
) -> Float[Tensor, "n c h w"]:
    """``silu(group_norm(x + shift))`` (or without SiLU) of a CUDA tensor, channels-last; once differentiable.

    Args:
        x: float16, bfloat16 or float32; the answer has its type.
        weight: per channel, in any floating type; likewise ``bias``.
        groups: divides the channels.
        eps: added to the variance.
        silu: whether ``z · sigmoid(z)`` follows.
        shift: added to each channel first.
    """
    return _GroupNorm.apply(x, weight, bias, shift, groups, eps, silu)


@triton.jit
@no_type_check
def _scaled_sum(a, b, shift, out, count, channels, scale, SHIFTED: tl.constexpr, BLOCK: tl.constexpr):
    """Write ``(a + b + shift) · scale``; channels lie innermost."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < count
    total = tl.load(a + at, mask=mask, other=0.0).to(tl.float32) + tl.load(b + at, mask=mask, other=0.0).to(tl.float32)
    if SHIFTED:
        start = ((tl.program_id(0).to(tl.int64) * BLOCK) % channels).to(tl.int32)
        total += tl.load(shift + (start + tl.arange(0, BLOCK)) % channels, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + at, (total * scale).to(out.dtype.element_ty), mask=mask)


class _ScaledSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor, shift: Tensor | None, scale: float) -> Tensor:
        a, b = (x.contiguous(memory_format=torch.channels_last) for x in (a, b))
        ctx.scale, ctx.shift_type, out = scale, None if shift is None else shift.dtype, torch.empty_like(a)
        added, grid = a if shift is None else shift, (triton.cdiv(a.numel(), BLOCK),)
        _scaled_sum[grid](a, b, added, out, a.numel(), a.shape[1], scale, shift is not None, BLOCK)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        grad = grads[0] * ctx.scale
        summed = None if ctx.shift_type is None else grad.sum((0, 2, 3), dtype=torch.float32).to(ctx.shift_type)
        return grad, grad, summed, None


def scaled_sum(
    a: Float[Tensor, "n c h w"], b: Float[Tensor, "n c h w"], scale: float, shift: Float[Tensor, " c"] | None = None
) -> Float[Tensor, "n c h w"]:
    """``(a + b + shift) * scale`` of CUDA tensors in one pass, channels-last, rounded once; once differentiable."""
    return _ScaledSum.apply(a, b, shift, scale)
