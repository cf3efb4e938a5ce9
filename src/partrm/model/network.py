"""The PartRM network: views, rays and drags in; Gaussians of the source state, moving part and displacements out.

Data flow (b samples, v = 4 views, image side S, splat side S/2)::

    RGBA [b,v,4,S,S] + Plücker rays + validity ──► stem (4x4 patches) ──► down blocks ◄── drag maps at each scale
                        │                                                   │ joint attention over views
    head [b,v,26,S/2,S/2] ◄── block at S/2 ◄── up blocks ◄── mid ◄──────────┘
      ├─ 14 Gaussian parameters in the canonical frame, source state (units: object diagonals)
      ├─ moving logit and 3D displacement under the drags
      └─ a vote on the joint: type, axis, way to the axis, angle
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from partrm.geometry.drags import Drags
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.tensor_record import TensorRecord
from partrm.model.drag_embedding import DragEmbedding
from partrm.model.inputs import NetworkInput, pooled_rgba
from partrm.model.unet import GROUPS, DownBlock, MidBlock, Norm, ResBlock, UpBlock

INPUT_CHANNELS = 11
"""RGB on white, alpha, Plücker (6), validity."""

HEAD_CHANNELS = (3, 1, 3, 4, 3, 1, 3)
"""Ray distance and sideways shift, opacity, scale, rotation, rgb, moving logit, displacement."""

VOTE_CHANNELS = (1, 3, 3, 1)
"""Logit of a revolute joint, axis, offset to the axis, angle; they follow the others."""

STATE_CHANNELS = HEAD_CHANNELS[:5]
"""The 14 parameters of a Gaussian, the first of the head's channels."""

UNSEEN_VOTE = 0.1
"""What a Gaussian of a view that was not given counts in the joint's fit, against one that an image shows: the hidden
sides' displacements are guesses. With 1.0 the mean motion-error ratio of single images was .52 instead of .47 (real
objects, whose pivots lay twice as far off) and .53 instead of .49 (procedural ones)."""

STRIDE = 4
"""Side of the patches that the stem takes; Gaussians come on a grid of stride 2."""


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of the network; presets are named instances."""

    name: str = "base"
    image_size_px: int = 128
    """Side of the input images; Gaussians come on a grid of half that side."""
    down_channels: tuple[int, ...] = (128, 224, 320)
    """Width of each level; the first lies at a quarter of the image resolution (stem stride 4)."""
    down_layers: int = 2
    """Residual blocks a level on the way down; the way up has one more, as in LGM."""
    attention_layers: tuple[int, ...] = (0, 1, 3)
    """How many of each level's layers, counted from its last, attend over all views (4096 tokens a sample at 32²)."""
    mid_depth: int = 1
    head_channels: int = 32
    """Channels of one attention head."""
    drag_channels: int = 32
    """Width of the start map and of the end map at each scale."""
    fine_channels: int = 64
    """Width of the one block at the splats' resolution, which sees the image again."""
    layers: int = 2
    """1: the surface that each pixel shows. 2: what stays with the dragged part taken away, and that part alone."""

    @property
    def outputs(self) -> tuple[int, ...]:
        """Channels of the head, quantity by quantity."""
        return HEAD_CHANNELS + VOTE_CHANNELS + (STATE_CHANNELS if self.layers == 2 else ())


BASE = NetworkConfig()
TINY = NetworkConfig("tiny", 64, (64, 96), 1, (0, 2), 1, 32, 16, 32)
PRESETS = {config.name: config for config in (BASE, TINY)}


@dataclass(frozen=True)
class JointVotes(TensorRecord):
    """What each Gaussian, if it belongs to the dragged part, says of the joint; canonical frame.

    A displacement alone is a poor witness of a joint: where door and drawer are both likely, its mean is neither.
    Votes let the parts of the answer that are a choice (type, axis) be chosen.
    """

    revolute_logit: Float[Tensor, "b n"]
    """Log-odds of a revolute joint against a prismatic one."""
    axis: Float[Tensor, "b n 3"]
    """Direction of the axis, the motion right-handed about it or along it; shorter than 1 where unsure."""
    offset_to_axis: Float[Tensor, "b n 3"]
    """From the Gaussian to the nearest point of a revolute joint's axis."""
    angle: Float[Tensor, "b n"]
    """Radians that a revolute joint turns, >= 0."""


@dataclass(frozen=True)
class PartLayer(TensorRecord):
    """The dragged part alone, pixel-aligned like the other layer; where a pixel's ray misses it, transparent."""

    gaussians: Gaussians
    """[b, n] source state, canonical frame."""
    ray_distance: Float[Tensor, "b n"]
    opacity_logit: Float[Tensor, "b n"]


@dataclass(frozen=True)
class NetworkOutput(TensorRecord):
    """Pixel-aligned predictions; n runs over views, rows, columns of the splat grid."""

    gaussians: Gaussians
    """[b, n] source state, canonical frame: of two layers what stays, the dragged part taken away."""
    moving_logit: Float[Tensor, "b n"]
    """Log-odds that the Gaussian belongs to the dragged part."""
    displacement: Float[Tensor, "b n 3"]
    """How the Gaussian moves if it belongs to the part, canonical frame."""
    ray_distance: Float[Tensor, "b n"]
    """Distance from the view's camera along the pixel's ray, before the sideways shift."""
    opacity_logit: Float[Tensor, "b n"]
    view_valid: Bool[Tensor, "b v"]
    """Which views the network saw; the Gaussians of the others are guesses of what lies behind."""
    votes: JointVotes | None = None
    """None where an injected head gives none."""
    part: "PartLayer | None" = None
    """The dragged part, what hides it taken away; None for networks of one layer."""

    def row(self, sample: int) -> "NetworkOutput":
        """One sample of the batch, as a batch of one."""
        return self[sample : sample + 1]

    @property
    def moving(self) -> Float[Tensor, "b n"]:
        """Probability that what a pixel shows belongs to the dragged part."""
        return torch.sigmoid(self.moving_logit)

    @property
    def seen(self) -> Gaussians:
        """[b, n] what each pixel shows: of two layers the part's where it is the part."""
        if self.part is None:
            return self.gaussians
        return Gaussians.where(self.moving_logit > 0, self.part.gaussians, self.gaussians)

    @property
    def hidden(self) -> Gaussians | None:
        """[b, n] the other layer of each pixel, which the seen one hides; None where there is one layer."""
        if self.part is None:
            return None
        return Gaussians.where(self.moving_logit > 0, self.gaussians, self.part.gaussians)

    @property
    def everything(self) -> Gaussians:
        """[b, n or 2 n] the source state, all layers."""
        return self.gaussians if self.part is None else Gaussians.concatenate([self.gaussians, self.part.gaussians])


@dataclass(frozen=True)
class Head:
    """What the channels of the network's last layer are."""

    outputs: tuple[int, ...]
    """Number of channels, quantity by quantity."""
    activate: Callable[[Float[Tensor, "b v h w c"], NetworkInput], Any]
    """Channels (float32) and inputs to the network's output: :class:`NetworkOutput` in the product."""


def articulated_head(config: NetworkConfig) -> Head:
    """Gaussians of the source state, moving part, displacements and votes on the joint."""
    return Head(config.outputs, activate)


def drag_embedding(config: NetworkConfig, level: int, channels: int) -> nn.Module:
    """What brings the drags into the ``channels`` features of a level, 0 the finest."""
    return DragEmbedding(channels, config.drag_channels)


class PartRMNetwork(nn.Module):
    """Large multi-view U-Net with multi-scale drag embedding and articulated head."""

    def __init__(
        self,
        config: NetworkConfig = BASE,
        embed: Callable[[NetworkConfig, int, int], nn.Module] = drag_embedding,
        head: Callable[[NetworkConfig], Head] = articulated_head,
    ) -> None:
        """Fresh weights.

        Args:
            config: widths and depths.
            embed: makes the drag embedding of a level (:func:`drag_embedding`); experiments bring their own.
            head: makes the head (:func:`articulated_head`); experiments bring their own, with an output of their own.

        Raises:
            ValueError: a config that describes no network.
        """
        super().__init__()
        check_config(config)
        self.config = config
        widths, layers, heads = config.down_channels, config.down_layers, config.head_channels
        self.stem = nn.Conv2d(STRIDE**2 * INPUT_CHANNELS, widths[0], 3, padding=1)
        self.drags = nn.ModuleList()
        self.down = nn.ModuleList()
        skips, channels = [widths[0]], widths[0]
        for level, width in enumerate(widths):
            last = level == len(widths) - 1
            self.drags.append(embed(config, level, channels))
            flags = [i >= layers - config.attention_layers[level] for i in range(layers)]
            self.down.append(DownBlock(channels, width, flags, heads, downsample=not last))
            skips += [width] * (layers + (0 if last else 1))
            channels = width
        self.mid = MidBlock(channels, config.mid_depth, heads)
        self.up = nn.ModuleList()
        for level in reversed(range(len(widths))):
            taken = [skips.pop() for _ in range(layers + 1)]
            flags = [i >= layers + 1 - config.attention_layers[level] for i in range(layers + 1)]
            self.up.append(UpBlock(channels, widths[level], taken, flags, heads, up=level > 0))
            channels = widths[level]
        fine = config.fine_channels
        self.enlarge = nn.Conv2d(channels, 4 * fine, 3, padding=1)
        self.look_again = nn.Conv2d(4 * INPUT_CHANNELS, GROUPS, 3, padding=1)
        self.fine = ResBlock(fine + GROUPS, fine)
        self.norm = Norm(fine)
        made = head(config)
        self.activate = made.activate
        self.head = nn.Conv2d(fine, sum(made.outputs), 3, padding=1)
        nn.init.normal_(self.head.weight, std=0.004)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)

    def forward(self, inputs: NetworkInput, unet: Callable[..., Tensor] | None = None) -> Any:
        """What the head says of a batch of samples.

        Args:
            inputs: on the network's device.
            unet: stands in for :meth:`unet` (:func:`partrm.training.cuda_graphs.record_training`).
        """
        b = inputs.view_valid.shape[0]
        kind, drags = inputs.images.device.type, inputs.drags
        with torch.autocast(kind, enabled=False):  # rays need all their bits
            channels = input_map(inputs)
        run = self.unet if unet is None else unet
        with self.rounding():
            raw = run(channels, drags.start, drags.end, drags.view, drags.valid)
        with torch.autocast(kind, enabled=False):
            return self.activate(rearrange(raw, "(b v) c h w -> b v h w c", b=b).float(), inputs)

    def rounding(self) -> AbstractContextManager[object]:
        """Autocast to bfloat16, where that is what the weights are (:func:`partrm.model.unet.use_bfloat16`)."""
        weight = self.stem.weight
        return torch.autocast(weight.device.type, weight.dtype) if weight.dtype == torch.bfloat16 else nullcontext()

    def unet(
        self,
        channels: Float[Tensor, "bv c h w"],
        start: Float[Tensor, "b n 2"],
        end: Float[Tensor, "b n 2"],
        view: Int[Tensor, "b n"],
        valid: Bool[Tensor, "b n"],
    ) -> Float[Tensor, "bv d h2 w2"]:
        """Input channels of all views and the drags (their four tensors) to the head's channels at half resolution."""
        v, drags = len(channels) // len(start), Drags(start, end, view, valid)
        x = self.stem(nn.functional.pixel_unshuffle(channels, STRIDE))
        skips = [x]
        for embed, block in zip(self.drags, self.down, strict=True):
            x = embed(x, drags, v)
            x, new = block(x, v)
            skips += new
        x = self.mid(x, v)
        for block in self.up:
            x = block(x, skips, v)
        x = nn.functional.pixel_shuffle(self.enlarge(x), 2)
        again = self.look_again(nn.functional.pixel_unshuffle(channels, 2))
        x = self.fine(torch.cat([x, again.to(x.dtype)], 1))
        return self.head(nn.functional.silu(self.norm(x)))


def check_config(config: NetworkConfig) -> None:
    """Values that no type has checked.

    Raises:
        ValueError: one that describes no network.
    """
    levels, heads = len(config.attention_layers), config.head_channels
    if len(config.down_channels) != levels or any(width <= 0 or width % heads for width in config.down_channels):
        raise ValueError(f"down_channels {config.down_channels} are not {levels} multiples of {heads}")


def input_map(inputs: NetworkInput) -> Float[Tensor, "bv c h w"]:
    """The network's input channels: RGB on white in [-1, 1], alpha, Plücker rays, validity."""
    rgb, alpha = inputs.images[:, :, :3], inputs.images[:, :, 3:]
    valid = inputs.view_valid[:, :, None, None, None].to(rgb.dtype)
    on_white = 2 * (rgb * alpha + 1 - alpha) - 1
    channels = torch.cat([on_white * valid, alpha * valid, inputs.cameras.plucker(), valid.expand_as(alpha)], 2)
    return rearrange(channels, "b v c h w -> (b v) c h w").contiguous(memory_format=torch.channels_last)


def dragged_vector(inputs: NetworkInput) -> Float[Tensor, "b 3"]:
    """Mean drag lifted to 3D in the image plane of its view, through the origin: the first guess of displacements."""
    b = inputs.view_valid.shape[0]
    rows = torch.arange(b, device=inputs.images.device)[:, None]
    T = inputs.cameras.T_world_camera[rows, inputs.drags.view]
    distance = T[..., :3, 3].norm(dim=-1)
    size = 2 * distance * torch.tan(inputs.cameras.fovy_rad[rows, inputs.drags.view] / 2)
    step = (inputs.drags.end - inputs.drags.start) * size[..., None]
    vector = step[..., :1] * T[..., :3, 0] + step[..., 1:] * T[..., :3, 1]
    weight = inputs.drags.valid[..., None].to(vector.dtype)
    return (vector * weight).sum(1) / weight.sum(1).clamp(min=1)


def activate(raw: Float[Tensor, "b v h w c"], inputs: NetworkInput) -> NetworkOutput:
    """Channels of the articulated head to Gaussians of the source state, moving part and displacements."""
    main = raw[..., : sum(HEAD_CHANNELS)]
    parameters, moving, displacement = main.split((sum(STATE_CHANNELS), *HEAD_CHANNELS[len(STATE_CHANNELS) :]), -1)
    gaussians, distance = activate_gaussians(parameters, inputs)
    displacement = displacement + dragged_vector(inputs)[:, None, None, None]
    rest, part = raw[..., sum(HEAD_CHANNELS) :], None
    if rest.shape[-1] >= sum(STATE_CHANNELS):
        rest, second = rest.split((rest.shape[-1] - sum(STATE_CHANNELS), sum(STATE_CHANNELS)), -1)
        alone, depth = activate_gaussians(second, inputs)
        part = PartLayer(alone, rearrange(depth, "b v h w -> b (v h w)"), opacity_logit(second))
    return NetworkOutput(
        gaussians=gaussians,
        moving_logit=rearrange(moving[..., 0], "b v h w -> b (v h w)"),
        displacement=rearrange(displacement, "b v h w c -> b (v h w) c"),
        ray_distance=rearrange(distance, "b v h w -> b (v h w)"),
        opacity_logit=opacity_logit(parameters),
        view_valid=inputs.view_valid,
        votes=votes_of(rest),
        part=part,
    )


def opacity_logit(parameters: Float[Tensor, "b v h w c"]) -> Float[Tensor, "b n"]:
    """The head's opacities before the sigmoid."""
    return rearrange(parameters.split(STATE_CHANNELS, -1)[1][..., 0], "b v h w -> b (v h w)")


def activate_gaussians(
    parameters: Float[Tensor, "b v h w c"], inputs: NetworkInput
) -> tuple[Gaussians, Float[Tensor, "b v h w"]]:
    """Head channels to Gaussians: distances along each pixel's ray, footprint-relative scales, colour residuals.

    Returns:
        Gaussians [b, n], and the distances before the sideways shift.
    """
    _, _, height, width, _ = parameters.shape
    position, opacity, scale, rotation, rgb = parameters.split(STATE_CHANNELS, -1)
    cameras = inputs.cameras.resized(width, height)
    origins, directions = cameras.rays()
    distance = origins.norm(dim=-1)[..., None, None] + position[..., 0]
    right, down = cameras.T_world_camera[..., None, None, :3, 0], cameras.T_world_camera[..., None, None, :3, 1]
    means = origins[..., None, None, :] + distance[..., None] * directions
    means = means + position[..., 1:2] * right + position[..., 2:3] * down
    footprint = distance / cameras.focal_px[..., None, None]
    scales = footprint[..., None].clamp(min=1e-4) * (WIDTH_IN_FOOTPRINTS * torch.exp(scale.clamp(-4, 3)))
    unit = torch.nn.functional.normalize(rotation + rotation.new_tensor([1.0, 0.0, 0.0, 0.0]), dim=-1)
    seen = pooled_rgba(inputs.images, inputs.images.shape[-1] // width)[:, :, :3]
    valid = inputs.view_valid[:, :, None, None, None]
    free = torch.where(valid, rearrange(seen, "b v c h w -> b v h w c"), torch.full_like(rgb, 0.5)) + rgb
    colors = free + (free.clamp(0, 1) - free).detach()  # clamped, with a gradient that still leads back
    gaussians = Gaussians(
        means=rearrange(means, "b v h w c -> b (v h w) c").clamp(-1, 1),
        quats=rearrange(unit, "b v h w c -> b (v h w) c"),
        scales=rearrange(scales, "b v h w c -> b (v h w) c"),
        opacities=rearrange(torch.sigmoid(opacity[..., 0]), "b v h w -> b (v h w)"),
        colors=rearrange(colors, "b v h w c -> b (v h w) c"),
    )
    return gaussians, distance


def votes_of(raw: Float[Tensor, "b v h w c"]) -> JointVotes:
    """The head's last channels as votes on the joint."""
    revolute, axis, offset_to_axis, angle = rearrange(raw, "b v h w c -> b (v h w) c").split(VOTE_CHANNELS, -1)
    return JointVotes(revolute[..., 0], axis, offset_to_axis, angle[..., 0])


WIDTH_IN_FOOTPRINTS = 0.28
"""Standard deviation of a true Gaussian across its ray, in widths of its pixel at its depth.

Small ones render best: over isotropic Gaussians on the exact surfaces of 12 held-out samples (128² a view, 256² novel
views), 0.25, 0.3, 0.45, 0.6 and 1.0 gave 29.3, 29.2, 27.6, 26.0 and 22.9 dB with one posed view and three about it.
"""
