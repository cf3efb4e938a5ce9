"""Perceptual features of channels-last CUDA tensors: bias, ReLU, pooling and comparison in one pass, and back in one.

A VGG's maps are large beside its arithmetic: in bfloat16 the first level of 96 images of 256² is 0.8 GB, and PyTorch's
own passes (bias, ReLU, three products with their sums, pooling with 64-bit indices, and their gradients) read and write
it several times as often as these do. Plain twins of the same names and arguments: ``plain_perceptual``.

Layout of every kernel: maps are [n, height, width, channels]; a program takes some windows (2 x 2 pixels where the
level is pooled, else one) with all their channels. Sums are float32.
"""

# pyright: reportIndexIssue=false

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from plain_perceptual import EPSILON
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 2048
"""Values that a program holds of each map at a time."""


@triton.jit
@no_type_check
def _bias_relu(x, bias, out, rows, channels, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr):
    """Write ``relu(x + bias)``."""
    c = tl.arange(0, BLOCK_C)
    r = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    inside = c < channels
    mask = (r < rows)[:, None] & inside[None, :]
    at = r[:, None] * channels + c[None, :]
    added = tl.load(bias + c, mask=inside, other=0.0).to(tl.float32)
    values = tl.load(x + at, mask=mask, other=0.0).to(tl.float32) + added[None, :]
    tl.store(out + at, tl.maximum(values, 0.0).to(out.dtype.element_ty), mask=mask)


@triton.jit
@no_type_check
def _level_forward(
    x, bias, other, weight, out, pooled, sums, images, height, width, channels, eps,
    POOL: tl.constexpr, COMPARE: tl.constexpr, STEP: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Write ``relu(x + bias)``; with POOL the largest of each whole window; with COMPARE the program's distance."""
    c, inside = tl.arange(0, BLOCK_C), tl.arange(0, BLOCK_C) < channels
    across, down = (width + STEP - 1) // STEP, (height + STEP - 1) // STEP
    k = tl.program_id(0) * BLOCK_W + tl.arange(0, BLOCK_W)
    n, row, column = (k // (across * down)).to(tl.int64), (k // across) % down * STEP, k % across * STEP
    added = tl.load(bias + c, mask=inside, other=0.0).to(tl.float32)
    if COMPARE:
        share = tl.load(weight + c, mask=inside, other=0.0).to(tl.float32)
    best = tl.zeros((BLOCK_W, BLOCK_C), dtype=tl.float32)
    total = tl.zeros((BLOCK_W,), dtype=tl.float32)
    for corner in tl.static_range(STEP * STEP):
        y, z = row + corner // STEP, column + corner % STEP
        mask = ((n < images) & (y < height) & (z < width))[:, None] & inside[None, :]
        at = ((n * height + y) * width + z)[:, None] * channels + c[None, :]
        a = tl.load(x + at, mask=mask, other=0.0).to(tl.float32) + added[None, :]
        rounded = tl.where(mask, tl.maximum(a, 0.0), 0.0).to(out.dtype.element_ty)
        tl.store(out + at, rounded, mask=mask)
        a = rounded.to(tl.float32)
        best = tl.maximum(best, a)
        if COMPARE:
            b = tl.load(other + at, mask=mask, other=0.0).to(tl.float32)
            unit_a = a * (1.0 / tl.sqrt(tl.sum(a * a, 1) + eps))[:, None]
            unit_b = b * (1.0 / tl.sqrt(tl.sum(b * b, 1) + eps))[:, None]
            total += tl.sum(share[None, :] * (unit_a - unit_b) * (unit_a - unit_b), 1)
    if POOL:
        whole = (n < images) & (row + STEP <= height) & (column + STEP <= width)
        to = ((n * (height // STEP) + row // STEP) * (width // STEP) + column // STEP)[:, None] * channels + c[None, :]
        tl.store(pooled + to, best.to(pooled.dtype.element_ty), mask=whole[:, None] & inside[None, :])
    if COMPARE:
        tl.store(sums + tl.program_id(0), tl.sum(total, 0))


@triton.jit
@no_type_check
def _level_backward(
    out, pooled, other, weight, grad_pooled, grad_distance, result, images, height, width, channels, eps, pixels,
    POOL: tl.constexpr, STEP: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Write the gradient to x: of the distance, and of the pooled map at the first largest of each window."""
    c, inside = tl.arange(0, BLOCK_C), tl.arange(0, BLOCK_C) < channels
    across, down = (width + STEP - 1) // STEP, (height + STEP - 1) // STEP
    k = tl.program_id(0) * BLOCK_W + tl.arange(0, BLOCK_W)
    n, row, column = (k // (across * down)).to(tl.int64), (k // across) % down * STEP, k % across * STEP
    share = tl.load(weight + c, mask=inside, other=0.0).to(tl.float32)
    share = 2.0 * share * (tl.load(grad_distance).to(tl.float32) / pixels)
    if POOL:
        whole = (n < images) & (row + STEP <= height) & (column + STEP <= width)
        to = ((n * (height // STEP) + row // STEP) * (width // STEP) + column // STEP)[:, None] * channels + c[None, :]
        whole_mask = whole[:, None] & inside[None, :]
        best = tl.load(pooled + to, mask=whole_mask, other=-1.0).to(tl.float32)
        # Once given to a corner, the gradient is spent.
        left = tl.load(grad_pooled + to, mask=whole_mask, other=0.0).to(tl.float32)
    for corner in tl.static_range(STEP * STEP):
        y, z = row + corner // STEP, column + corner % STEP
        mask = ((n < images) & (y < height) & (z < width))[:, None] & inside[None, :]
        at = ((n * height + y) * width + z)[:, None] * channels + c[None, :]
        a = tl.load(out + at, mask=mask, other=0.0).to(tl.float32)
        b = tl.load(other + at, mask=mask, other=0.0).to(tl.float32)
        scale = (1.0 / tl.sqrt(tl.sum(a * a, 1) + eps))[:, None]
        unit_a = a * scale
        unit_b = b * (1.0 / tl.sqrt(tl.sum(b * b, 1) + eps))[:, None]
        g = share[None, :] * (unit_a - unit_b)
        g = scale * (g - unit_a * tl.sum(unit_a * g, 1)[:, None])
        if POOL:
            largest = a == best
            g += tl.where(largest, left, 0.0)
            left = tl.where(largest, 0.0, left)
        tl.store(result + at, tl.where(a > 0, g, 0.0).to(result.dtype.element_ty), mask=mask)


def _launch(x: Tensor, step: int) -> tuple[tuple[int], dict[str, int]]:
    """Grid and tile of the kernels that take windows of ``step`` x ``step`` pixels."""
    n, channels, height, width = x.shape
    block_c = triton.next_power_of_2(channels)
    block_w = max(1, BLOCK // block_c)
    windows = n * triton.cdiv(height, step) * triton.cdiv(width, step)
    return (triton.cdiv(windows, block_w),), {"STEP": step, "BLOCK_W": block_w, "BLOCK_C": block_c}


class _BiasRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, bias: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        out, channels = torch.empty_like(x), x.shape[1]
        block_c = triton.next_power_of_2(channels)
        block_r, rows = max(1, BLOCK // block_c), x.numel() // channels
        _bias_relu[(triton.cdiv(rows, block_r),)](x, bias, out, rows, channels, BLOCK_R=block_r, BLOCK_C=block_c)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        (out,) = ctx.saved_tensors
        grad = grads[0].contiguous(memory_format=torch.channels_last)
        return torch.ops.aten.threshold_backward(grad, out, 0), None


class _CompareLevel(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, bias: Tensor, other: Tensor, weight: Tensor, pool: bool) -> tuple[Tensor, Tensor]:
        x, other = (value.contiguous(memory_format=torch.channels_last) for value in (x, other))
        n, channels, height, width = x.shape
        grid, tile = _launch(x, 2 if pool else 1)
        out, sums = torch.empty_like(x), x.new_empty(grid[0], dtype=torch.float32)
        pooled = _empty_pooled(x) if pool else x.new_empty(0)
        _level_forward[grid](
            x, bias, other, weight, out, pooled, sums, n, height, width, channels, EPSILON,
            POOL=pool, COMPARE=True, **tile,
        )  # fmt: skip
        ctx.save_for_backward(out, pooled, other, weight)
        ctx.pool = pool
        return pooled, sums.sum() / (n * height * width)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        out, pooled, other, weight = ctx.saved_tensors
        grad_pooled = grads[0].contiguous(memory_format=torch.channels_last) if ctx.pool else pooled
        n, channels, height, width = out.shape
        grid, tile = _launch(out, 2 if ctx.pool else 1)
        result = torch.empty_like(out)
        _level_backward[grid](
            out, pooled, other, weight, grad_pooled, grads[1], result, n, height, width, channels, EPSILON,
            n * height * width, POOL=ctx.pool, **tile,
        )  # fmt: skip
        return result, None, None, None, None


def _empty_pooled(x: Tensor) -> Tensor:
    """Room for the pooled map."""
    n, channels, height, width = x.shape
    size = (n, channels, height // 2, width // 2)
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def bias_relu(x: Float[Tensor, "n c h w"], bias: Float[Tensor, " c"]) -> Float[Tensor, "n c h w"]:
    """``relu(x + bias)``, channels last; once differentiable in x."""
    return _BiasRelu.apply(x, bias)


def finish_level(
    x: Float[Tensor, "n c h w"], bias: Float[Tensor, " c"], pool: bool
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "..."]]:
    """``relu(x + bias)`` and, with ``pool``, its 2 x 2 maxima (else an empty tensor); without gradients."""
    x = x.contiguous(memory_format=torch.channels_last)
    n, channels, height, width = x.shape
    grid, tile = _launch(x, 2 if pool else 1)
    out, pooled = torch.empty_like(x), _empty_pooled(x) if pool else x.new_empty(0)
    _level_forward[grid](
        x, bias, x, bias, out, pooled, x, n, height, width, channels, EPSILON, POOL=pool, COMPARE=False, **tile
    )
    return out, pooled


def compare_level(
    x: Float[Tensor, "n c h w"],
    bias: Float[Tensor, " c"],
    other: Float[Tensor, "n c h w"],
    weight: Float[Tensor, " c"],
    pool: bool,
) -> tuple[Float[Tensor, "..."], Float[Tensor, ""]]:
    """The pooled ``a = relu(x + bias)`` (an empty tensor without ``pool``) and its distance from ``other``.

    The distance is the mean over pixels of ``Σ_c weight · (a/|a| - b/|b|)²``. Once differentiable in x.
    """
    return _CompareLevel.apply(x, bias, other, weight, pool)
