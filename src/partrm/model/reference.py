"""The reference network (PartRM, Liu et al. 2025, on LGM, Tang et al. 2024), which public weights fit exactly.

It answers four images and drags with the Gaussians of the *next* state (the ``state`` head): no part, no joint, no
state before. What its weights were trained with stays, each a field of :class:`ReferenceConfig`: rays of a 49.1 degree
camera, Fourier features of raw pixels, drag maps with x along the rows, and the first view's drags in all views.

Data flow (b samples, v views, image side S)::

    RGB on white, ImageNet-normalised + Plücker rays [b,v,9,S,S] ──► conv ──► down blocks ◄── Conv([x, start, end])
                                                                               │              before each
    Gaussians [b, v·s·s], after the drag ◄── 1x1 conv ◄── up blocks ◄── mid ◄──┘
"""

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from partrm.geometry.drags import Drags
from partrm.geometry.gaussians import Gaussians
from partrm.model.inputs import NetworkInput
from partrm.model.unet import DownBlock, MidBlock, Norm, UpBlock

INPUT_CHANNELS = 9
"""RGB and Plücker rays."""

HEAD_CHANNELS = (3, 1, 3, 4, 3)
"""Position, opacity, scale, rotation, rgb."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of RGB in [0, 1]."""


@dataclass(frozen=True)
class ReferenceConfig:
    """Shape and conventions of the network; presets are named instances."""

    name: str = "big"
    image_size_px: int = 256
    """Side of the input images."""
    down_channels: tuple[int, ...] = (64, 128, 256, 512, 1024, 1024)
    """Width of each level; the first lies at the image's resolution."""
    down_attention: tuple[bool, ...] = (False, False, False, True, True, True)
    """Which levels attend over all views on the way down."""
    up_channels: tuple[int, ...] = (1024, 1024, 512, 256, 128)
    """Width of each level on the way up, from the lowest resolution; fewer than on the way down: a coarser grid."""
    up_attention: tuple[bool, ...] = (True, True, True, False, False)
    """Which levels attend over all views on the way up."""
    down_layers: int = 2
    """Residual blocks a level on the way down; the way up has one more."""
    heads: int = 16
    """Attention heads, whatever the width."""
    drag_image_px: int = 512
    """Side of the image in whose pixels the drags are embedded."""
    transposed_maps: bool = True
    """Whether drag maps have x along their rows and y along their columns."""
    drags_in_all_views: bool = True
    """Whether the first view's drags enter every view, and the other views' none."""
    ray_fovy_deg: float = 49.1
    """Field of view of the rays, whatever camera took the images."""

    @property
    def splat_size_px(self) -> int:
        """Side of each view's grid of Gaussians."""
        return self.image_size_px >> (len(self.down_channels) - len(self.up_channels))


BIG = ReferenceConfig()
SMALL = replace(BIG, name="small", up_channels=(1024, 1024, 512, 256), up_attention=(True, True, True, False))
TINY_REFERENCE = ReferenceConfig(
    name="tiny",
    down_channels=(32, 64, 128, 256, 512),
    down_attention=(False, False, False, False, True),
    up_channels=(512, 256, 128),
    up_attention=(True, False, False),
)
REFERENCE_PRESETS = {config.name: config for config in (BIG, SMALL, TINY_REFERENCE)}


@dataclass(frozen=True)
class PixelDrags:
    """Drags in pixels of the embedding's square image, x right, y down: of every view, or one list (m = 1) for all."""

    start: Float[Tensor, "b m n 2"]
    """Where the part is touched."""
    end: Float[Tensor, "b m n 2"]
    """Where that point shall arrive."""
    valid: Bool[Tensor, "b m n"]
    """False for padding, which leaves no trace."""

    @staticmethod
    def from_drags(drags: Drags, views: int, config: ReferenceConfig) -> "PixelDrags":
        """Drags [b, n] of any views, as the config's conventions have them."""
        lists = torch.arange(1 if config.drags_in_all_views else views, device=drags.view.device)
        side = config.drag_image_px
        return PixelDrags(
            start=repeat(drags.start * side, "b n d -> b m n d", m=len(lists)),
            end=repeat(drags.end * side, "b n d -> b m n d", m=len(lists)),
            valid=drags.valid[:, None] & (drags.view[:, None] == lists[:, None]),
        )


def fourier_of_pixels(position_px: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 32"]:
    """``sin x, sin y, cos x, cos y`` of raw pixel positions at each frequency, 100^(k/8) radians a pixel, k = 0 ... 7.

    The frequencies come from float64: one bit of float32 would turn the fastest angle by 0.002.
    """
    frequencies = (100 ** (torch.arange(8, dtype=torch.float64, device=position_px.device) / 8)).to(position_px.dtype)
    angles = frequencies[:, None] * position_px[..., None, :]
    return rearrange(torch.stack([torch.sin(angles), torch.cos(angles)], -2), "... k wave d -> ... (k wave d)")


def blurred_impulse(index: Int[Tensor, "*batch"], size: int) -> Float[Tensor, "*batch {size}"]:
    """What a one in cell ``index`` of a line becomes under the blur (5 taps, sigma 1, reflecting borders), in float64.

    Args:
        index: 0 ... size - 1.
        size: cells of the line, at least 3.
    """
    cells, index = torch.arange(size, device=index.device), index[..., None]
    direct, before, behind = cells - index, cells + index, 2 * (size - 1) - cells - index
    steps = torch.stack([direct, before, behind])
    taps = torch.exp(-0.5 * steps.double().square()) * (steps.abs() <= 2)
    # A mirror image has its source beside the border; the border's own cell has none.
    images = taps[0] + taps[1] * (index > 0) + taps[2] * (index < size - 1)
    return images / (1 + 2 * math.exp(-0.5) + 2 * math.exp(-2))


class ReferenceDragEmbedding(nn.Module):
    """Drags to blurred start and end maps at one scale, and the convolution that fuses them with its features.

    The fusion starts as the identity on the features (the reference's random one destroys pretrained features).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers = (nn.Linear(32, 128), nn.SiLU(), nn.Linear(128, 256), nn.SiLU(), nn.Linear(256, channels // 2))
        self.mlp = nn.Sequential(*layers)
        self.fuse = nn.Conv2d(2 * channels, channels, 3, padding=1)
        nn.init.dirac_(self.fuse.weight)
        assert self.fuse.bias is not None
        nn.init.zeros_(self.fuse.bias)

    def maps(
        self,
        waves: Float[Tensor, "two b m n 32"],
        cells: Float[Tensor, "two b m n 2"],
        valid: Bool[Tensor, "b m n"],
        size: int,
    ) -> Float[Tensor, "two bm c {size} {size}"]:
        """Start maps and end maps, channels last; a blurred impulse is the outer product of its row and column.

        Args:
            waves: Fourier features of starts and ends.
            cells: their row and column as fractions of the map.
            valid: False for padding.
            size: side of the maps.
        """
        vectors = self.mlp(waves.to(self.fuse.weight.dtype)) * valid[..., None]
        index = (cells * size).floor().clamp(0, size - 1).long()
        rows, columns = blurred_impulse(index, size).to(vectors.dtype).unbind(-2)
        spots = rearrange(rows[..., :, None] * columns[..., None, :], "two b m n h w -> (two b m) (h w) n")
        flat = spots @ rearrange(vectors, "two b m n c -> (two b m) n c")
        return rearrange(flat, "(two bm) (h w) c -> two bm c h w", two=2, h=size)

    def forward(
        self, features: Float[Tensor, "bv c s s"], maps: Float[Tensor, "two bm c2 s s"]
    ) -> Float[Tensor, "bv c s s"]:
        """``Conv([features, start, end])``; maps that all views of a sample share are convolved once, and added."""
        both = torch.cat(maps.unbind(0), 1)
        if len(both) == len(features):
            return self.fuse(torch.cat([features, both.to(features.dtype)], 1))
        of_features, of_maps = self.fuse.weight.split(features.shape[1], 1)
        x = nn.functional.conv2d(features, of_features, padding=1)
        # The bias, a pass of its own, goes where there is one map for all views.
        drawn = nn.functional.conv2d(both.to(features.dtype), of_maps, self.fuse.bias, padding=1)
        by_list = rearrange(x, "(bm v) c h w -> bm v c h w", bm=len(drawn))
        return rearrange(by_list + drawn[:, None], "bm v c h w -> (bm v) c h w")


class ReferenceNetwork(nn.Module):
    """LGM's multi-view U-Net with PartRM's drag embedding before each down block, and the state head.

    With ``checkpointing``, training keeps each level's input alone and computes the rest again in the backward pass.
    """

    def __init__(self, config: ReferenceConfig = BIG, checkpointing: bool = False) -> None:
        super().__init__()
        self.config, self.checkpointing = config, checkpointing
        down, layers, heads = config.down_channels, config.down_layers, config.heads
        self.conv_in = nn.Conv2d(INPUT_CHANNELS, down[0], 3, padding=1)
        self.drags, self.down, self.up = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        skips, channels = [down[0]], down[0]
        for level, width in enumerate(down):
            last = level == len(down) - 1
            self.drags.append(ReferenceDragEmbedding(channels))
            flags = [config.down_attention[level]] * layers
            self.down.append(DownBlock(channels, width, flags, width // heads, not last, qk_norm=False))
            skips += [width] * (layers + (0 if last else 1))
            channels = width
        self.mid = MidBlock(channels, 1, channels // heads, qk_norm=False)
        for level, width in enumerate(config.up_channels):
            taken = [skips.pop() for _ in range(layers + 1)]
            flags = [config.up_attention[level]] * (layers + 1)
            up = level < len(config.up_channels) - 1
            self.up.append(UpBlock(channels, width, taken, flags, width // heads, up, qk_norm=False))
            channels = width
        self.norm_out = Norm(channels)
        self.conv_out = nn.Conv2d(channels, sum(HEAD_CHANNELS), 3, padding=1)
        self.mix = nn.Conv2d(sum(HEAD_CHANNELS), sum(HEAD_CHANNELS), 1)
        self.fuse_norms(importlib.util.find_spec("triton") is not None)

    def fuse_norms(self, fused: bool) -> None:
        """Whether norms of half-precision CUDA tensors run in our Triton kernels (the default where Triton is)."""
        for module in self.modules():
            if isinstance(module, Norm):
                module.fused = fused

    def forward(self, inputs: NetworkInput) -> Gaussians:
        """Gaussians [b, n] of the next state in the canonical frame; n runs over views, rows, columns.

        It waits for the device once, to look at ``view_valid``; :meth:`input_map` and :meth:`reconstruct` never do.

        Raises:
            ValueError: a view is absent (this network knows no absent views).
        """
        views = inputs.view_valid.shape[1]
        if not bool(inputs.view_valid.all()):
            raise ValueError(f"the reference network needs all {views} views of the object")
        channels = self.input_map(inputs)
        return self.reconstruct(channels, PixelDrags.from_drags(inputs.drags, views, self.config))

    def input_map(self, inputs: NetworkInput) -> Float[Tensor, "b v 9 h w"]:
        """ImageNet-normalised RGB on white, and the Plücker rays of the config's field of view."""
        with torch.autocast(inputs.images.device.type, enabled=False):
            rgb, alpha = inputs.images[:, :, :3], inputs.images[:, :, 3:]
            on_white = (rgb * alpha + 1 - alpha).unbind(2)
            statistics = zip(on_white, IMAGENET_MEAN, IMAGENET_STD, strict=True)  # no constant crosses to the device
            colours = torch.stack([(channel - mean) / std for channel, mean, std in statistics], 2)
            fovy_rad = torch.full_like(inputs.cameras.fovy_rad, math.radians(self.config.ray_fovy_deg))
            rays = replace(inputs.cameras, fovy_rad=fovy_rad).plucker()
            return torch.cat([colours, rays], 2)

    def drag_maps(self, drags: PixelDrags, size: int) -> list[Float[Tensor, "two bm _ _ _"]]:
        """Start and end map [c, s, s] before each down block, for input images of side ``size``."""
        both = torch.stack([drags.start, drags.end])
        with torch.autocast(both.device.type, enabled=False):  # angles reach 28 000 rad and need all their bits
            waves = fourier_of_pixels(both)
        cells = (both if self.config.transposed_maps else both.flip(-1)) / self.config.drag_image_px
        maps = []
        for level, embed in enumerate(self.drags):
            assert isinstance(embed, ReferenceDragEmbedding)
            maps.append(embed.maps(waves, cells, drags.valid, size >> level))
        return maps

    def reconstruct(self, channels: Float[Tensor, "b v 9 h w"], drags: PixelDrags) -> Gaussians:
        """The network proper: input map and pixel drags to Gaussians [b, v·s·s]."""
        b, v = channels.shape[:2]
        maps = self.drag_maps(drags, channels.shape[-1])
        weight = self.conv_in.weight
        layout = torch.channels_last if not weight.is_contiguous() else torch.contiguous_format
        flat = rearrange(channels, "b v c h w -> (b v) c h w").contiguous(memory_format=layout)
        x = self.conv_in(flat.to(weight.dtype))
        skips = [x]
        for embed, start_end, block in zip(self.drags, maps, self.down, strict=True):
            x, new = self._run(lambda x, m, embed=embed, block=block: block(embed(x, m), v), x, start_end)
            skips += new
        x = self._run(lambda x: self.mid(x, v), x)
        for block in self.up:
            assert isinstance(block, UpBlock)
            taken = [skips.pop() for _ in block.layers][::-1]
            x = self._run(lambda x, *taken, block=block: block(x, list(taken), v), x, *taken)
        raw = self.mix(self.conv_out(self.norm_out(x, silu=True)))
        with torch.autocast(channels.device.type, enabled=False):
            return activate(rearrange(raw, "(b v) c h w -> b (v h w) c", b=b).to(channels.dtype))

    def _run(self, block: Callable[..., Any], *inputs: Tensor) -> Any:
        """One level, kept for the backward pass or, with checkpointing, computed again there."""
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
        return block(*inputs)


def activate(raw: Float[Tensor, "b n 14"]) -> Gaussians:
    """Head channels to Gaussians (LGM, section 3.2, with the reference's ranges)."""
    position, opacity, scale, rotation, rgb = raw.split(HEAD_CHANNELS, -1)
    return Gaussians(
        means=position.clamp(-1, 1),
        quats=nn.functional.normalize(rotation, dim=-1),
        scales=0.1 * nn.functional.softplus(scale),
        opacities=torch.sigmoid(opacity[..., 0]),
        colors=0.5 * torch.tanh(rgb) + 0.5,
    )
