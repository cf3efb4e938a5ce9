"""The asymmetric multi-view U-Net of LGM (Tang et al. 2024): residual blocks, joint attention over all views."""

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

SKIP_SCALE = math.sqrt(0.5)
"""Every residual sum is scaled by this, so that its variance stays."""

GROUPS = 32


class Norm(nn.GroupNorm):
    """GroupNorm that keeps its input's precision under autocast: statistics are float32 inside anyway.

    With ``fused``, half-precision CUDA tensors are normalised as they lie (channels last) by Triton kernels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(GROUPS, channels)
        self.fused = False

    def takes(self, x: Tensor) -> bool:
        """Whether the Triton kernels run on this tensor."""
        return self.fused and x.is_cuda and x.dtype in (torch.bfloat16, torch.float16)

    def forward(
        self, input: Float[Tensor, "bv c h w"], silu: bool = False, shift: Float[Tensor, " c"] | None = None
    ) -> Float[Tensor, "bv c h w"]:
        """The normalised input plus ``shift`` (fused only: a convolution's bias), through SiLU if asked for."""
        with torch.autocast(input.device.type, enabled=False):
            if self.takes(input):
                from partrm.model._triton_norms import group_norm

                return group_norm(input, self.weight, self.bias, self.num_groups, self.eps, silu, shift)
            assert shift is None
            weight, bias = self.weight.to(input.dtype), self.bias.to(input.dtype)
            out = nn.functional.group_norm(input, self.num_groups, weight, bias, self.eps)
        return nn.functional.silu(out) if silu else out


def use_fused_norms(network: nn.Module, fused: bool) -> None:
    """Choose how all norms of a network treat half-precision CUDA tensors: by Triton kernels, or plainly."""
    for module in network.modules():
        if isinstance(module, Norm):
            module.fused = fused


def use_bfloat16(network: nn.Module) -> None:
    """Keep the weights of all convolutions and linear maps as bfloat16, as autocast would round them at each call."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.to(torch.bfloat16)


class ResBlock(nn.Module):
    """GN-SiLU-conv3, twice, around a shortcut."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.norm1 = Norm(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2 = Norm(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.shortcut = nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Float[Tensor, "bv c h w"]) -> Float[Tensor, "bv d h w"]:
        y = self.norm1(x, silu=True)
        if self.norm1.takes(y):  # biases enter the passes that follow the convolutions
            from partrm.model._triton_norms import scaled_sum

            y = nn.functional.conv2d(y, self.conv1.weight, padding=1)
            y = nn.functional.conv2d(self.norm2(y, silu=True, shift=self.conv1.bias), self.conv2.weight, padding=1)
            return scaled_sum(self.shortcut(x), y, SKIP_SCALE, self.conv2.bias)
        y = self.conv2(self.norm2(self.conv1(y), silu=True))
        return (self.shortcut(x) + y) * SKIP_SCALE


def unit_rms(x: Float[Tensor, "*batch c"]) -> Float[Tensor, "*batch c"]:
    """``x`` over its root mean square, computed in float32, in the precision of ``x``."""
    return x * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + 1e-6).to(x.dtype)


class MultiViewAttention(nn.Module):
    """Self-attention over the tokens of all views of a sample together.

    With ``qk_norm`` queries and keys are normalised to unit root mean square (Dehghani et al. 2023): without, their
    products grew to 1e5 within 1 500 steps at a learning rate of 5e-4, and training collapsed.
    """

    def __init__(self, channels: int, heads: int, qk_norm: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.norm = Norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.proj = nn.Linear(channels, channels)
        self.qk_scale = nn.Parameter(torch.ones(2, channels // heads)) if qk_norm else None

    def forward(self, x: Float[Tensor, "bv c h w"], views: int) -> Float[Tensor, "bv c h w"]:
        height, width = x.shape[-2:]
        tokens = rearrange(self.norm(x), "(b v) c h w -> b (v h w) c", v=views)
        q, k, v = rearrange(self.qkv(tokens), "b n (three m c) -> three b m n c", three=3, m=self.heads).unbind(0)
        if self.qk_scale is not None:
            q, k = unit_rms(q) * self.qk_scale[0].to(q.dtype), unit_rms(k) * self.qk_scale[1].to(k.dtype)
        out = nn.functional.scaled_dot_product_attention(q, k, v)
        out = self.proj(rearrange(out, "b m n c -> b n (m c)"))
        out = rearrange(out, "b (v h w) c -> (b v) c h w", v=views, h=height, w=width)
        if self.norm.takes(x) and self.norm.takes(out):
            from partrm.model._triton_norms import scaled_sum

            return scaled_sum(x, out, SKIP_SCALE)
        return (x + out) * SKIP_SCALE


class Layer(nn.Module):
    """A residual block, with attention after it where asked for."""

    def __init__(
        self, channels_in: int, channels_out: int, attention: bool, head_channels: int, qk_norm: bool = True
    ) -> None:
        super().__init__()
        self.res = ResBlock(channels_in, channels_out)
        heads = channels_out // head_channels
        self.attention = MultiViewAttention(channels_out, heads, qk_norm) if attention else None

    def forward(self, x: Float[Tensor, "bv c h w"], views: int) -> Float[Tensor, "bv d h w"]:
        x = self.res(x)
        return x if self.attention is None else self.attention(x, views)


class DownBlock(nn.Module):
    """Layers at one resolution, then a stride-2 convolution unless it is the last; returns every skip."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        layers: list[bool],
        head: int,
        downsample: bool,
        qk_norm: bool = True,
    ) -> None:
        super().__init__()
        widths = [channels_in] + [channels_out] * len(layers)
        self.layers = nn.ModuleList(
            Layer(widths[i], widths[i + 1], attention, head, qk_norm) for i, attention in enumerate(layers)
        )
        self.downsample = nn.Conv2d(channels_out, channels_out, 3, stride=2, padding=1) if downsample else None

    def forward(self, x: Float[Tensor, "bv c h w"], views: int) -> tuple[Tensor, list[Tensor]]:
        skips = []
        for layer in self.layers:
            x = layer(x, views)
            skips.append(x)
        if self.downsample is not None:
            x = self.downsample(x)
            skips.append(x)
        return x, skips


class MidBlock(nn.Module):
    """Res, then (attention, Res) ``depth`` times, at the lowest resolution."""

    def __init__(self, channels: int, depth: int, head: int, qk_norm: bool = True) -> None:
        super().__init__()
        self.first = Layer(channels, channels, depth > 0, head, qk_norm)
        self.layers = nn.ModuleList(Layer(channels, channels, i + 1 < depth, head, qk_norm) for i in range(depth))

    def forward(self, x: Float[Tensor, "bv c h w"], views: int) -> Float[Tensor, "bv c h w"]:
        x = self.first(x, views)
        for layer in self.layers:
            x = layer(x, views)
        return x


class UpBlock(nn.Module):
    """Layers that each take one skip, then nearest x2 and a convolution unless it is the last."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        skip_channels: list[int],
        attention: list[bool],
        head: int,
        up: bool,
        qk_norm: bool = True,
    ) -> None:
        super().__init__()
        widths = [channels_in] + [channels_out] * len(skip_channels)
        self.layers = nn.ModuleList(
            Layer(widths[i] + skip, channels_out, attention[i], head, qk_norm) for i, skip in enumerate(skip_channels)
        )
        self.upsample = nn.Conv2d(channels_out, channels_out, 3, padding=1) if up else None

    def forward(self, x: Float[Tensor, "bv c h w"], skips: list[Tensor], views: int) -> Tensor:
        for layer in self.layers:
            x = layer(torch.cat([x, skips.pop()], 1), views)
        if self.upsample is not None:
            x = self.upsample(nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return x
