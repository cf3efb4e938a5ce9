"""The PartRM network: views, rays and drags in; Gaussians of the source state, moving part and displacements out.

With the ``state`` head it gives the Gaussians of the target state instead, and nothing else (for ablations).

Data flow (b samples, v = 4 views, image side S, splat side S/2)::

    RGBA [b,v,4,S,S] + Plücker rays + validity ──► stem (4x4 patches) ──► down blocks ◄── drag maps at each scale
                        │                                                   │ joint attention over views
    head [b,v,c,S/2,S/2] ◄── block at S/2 ◄── up blocks ◄── mid ◄───────────┘
      ├─ 14 Gaussian parameters in the canonical frame, source state (units: object diagonals)
      ├─ moving logit and 3D displacement under the drags
      ├─ a vote on the joint: type, axis, way to the axis, angle
      ├─ a second depth and which of the two it is (``depth_modes``)
      └─ with two ``layers`` the same parameters of the moving part alone; the first ones are then of what stays
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from partrm.data.gaussian_database import WIDTH_IN_FOOTPRINTS
from partrm.data.samples import NetworkInput, pooled_rgba
from partrm.drags import Drags
from partrm.gaussians import Gaussians
from partrm.model.drag_embedding import DragEmbedding, NoDrags, RawDragEmbedding
from partrm.model.features import FEATURE_CHANNELS, FrozenFeatures
from partrm.model.unet import GROUPS, DownBlock, MidBlock, Norm, ResBlock, UpBlock

INPUT_CHANNELS = 12
"""RGB on white, alpha, Plücker (6), validity, whether the lens is known."""

HEAD_CHANNELS = (3, 1, 3, 4, 3, 1, 3)
"""Ray distance and sideways shift, opacity, scale, rotation, rgb, moving logit, displacement."""

VOTE_CHANNELS = (1, 3, 3, 1)
"""Logit of a revolute joint, axis, way to the axis, angle; they follow the others where the config has them."""

STATE_CHANNELS = HEAD_CHANNELS[:5]
"""What the ``state`` head gives: the 14 parameters of a Gaussian."""

MODE_CHANNELS = (1, 1, 2)
"""Second ray distance, log-odds of the second depth, logarithms of both widths; of each layer that has two depths."""

FIRST_MODE = 1.0
"""Log-odds of the first depth over the second where the head says nothing."""

MODE_WIDTHS = (0.01, 0.25)
"""Least and greatest width of a depth's distribution, canonical units."""

SECOND_DEPTH = 0.1
"""How far behind the first depth the second starts, canonical units."""

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
    image_size_px: int = 256
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
    joint_votes: bool = True
    """Whether every Gaussian also votes on the joint of its part (articulated head only)."""
    head: Literal["articulated", "state"] = "articulated"
    """``articulated``: Gaussians of the source state, moving part and displacements. ``state``: Gaussians of the target
    state alone, as the reference has it."""
    drag_levels: tuple[int, ...] = ()
    """Levels whose features take the drags, 0 the finest; empty: all of them."""
    drag_positions: Literal["fractions", "raw_pixels"] = "fractions"
    """``raw_pixels``: the reference's embedding, see :class:`partrm.model.drag_embedding.RawDragEmbedding`."""

    layers: int = 1
    """2 (articulated head only): Gaussians of what stays, with the part taken away, and of the part alone."""
    depth_modes: int = 1
    """2 (articulated head only): of each pixel and layer two depths, of which the likelier is taken."""
    features: Literal["none", "efficientnet-lite0"] = "none"
    """Frozen ImageNet features that enter at the first two levels (:class:`partrm.model.features.FrozenFeatures`)."""

    @property
    def groups(self) -> dict[str, tuple[int, ...]]:
        """Channels of the head, quantity by quantity, by what they describe."""
        if self.head == "state":
            return {"main": STATE_CHANNELS}
        modes = MODE_CHANNELS if self.depth_modes == 2 else ()
        found = {"main": HEAD_CHANNELS, "votes": VOTE_CHANNELS if self.joint_votes else (), "modes": modes}
        if self.layers == 2:
            found |= {"part": STATE_CHANNELS, "part_modes": modes}
        return found

    @property
    def rows(self) -> dict[str, slice]:
        """Where each group lies among the head's channels."""
        found, start = {}, 0
        for name, widths in self.groups.items():
            found[name] = slice(start, start + sum(widths))
            start += sum(widths)
        return found

    @property
    def outputs(self) -> tuple[int, ...]:
        """Channels of the head, quantity by quantity."""
        return tuple(width for group in self.groups.values() for width in group)


BASE = NetworkConfig()
TINY = NetworkConfig("tiny", 64, (64, 96), 1, (0, 2), 1, 32, 16, 32)
PRESETS = {config.name: config for config in (BASE, TINY)}


@dataclass(frozen=True)
class JointVotes:
    """What each Gaussian, if it belongs to the dragged part, says of the joint; canonical frame.

    A displacement alone is a poor witness of a joint: where door and drawer are both likely, its mean is neither.
    Votes let the parts of the answer that are a choice (type, axis) be chosen.
    """

    revolute_logit: Float[Tensor, "b n"]
    """Log-odds of a revolute joint against a prismatic one."""
    axis: Float[Tensor, "b n 3"]
    """Direction of the axis, the motion right-handed about it or along it; shorter than 1 where unsure."""
    to_axis: Float[Tensor, "b n 3"]
    """From the Gaussian to the nearest point of a revolute joint's axis."""
    angle: Float[Tensor, "b n"]
    """Radians that a revolute joint turns, >= 0."""


@dataclass(frozen=True)
class DepthModes:
    """Two depths of every pixel, of which one is true: a mixture of two Laplace distributions along the ray.

    Where near and far are both likely, one depth's best guess lies between them, where nothing is.
    """

    distance: Float[Tensor, "b n 2"]
    """From the view's camera along the pixel's ray, canonical units."""
    log_share: Float[Tensor, "b n 2"]
    """Logarithms of their probabilities."""
    width: Float[Tensor, "b n 2"]
    """Scales of the Laplace distributions, canonical units."""


@dataclass(frozen=True)
class Layer:
    """One surface of every pixel."""

    gaussians: Gaussians
    """[b, n] source state, canonical frame."""
    ray_distance: Float[Tensor, "b n"]
    """Distance from the view's camera along the pixel's ray, before the sideways shift: of the likelier depth."""
    opacity_logit: Float[Tensor, "b n"]
    modes: DepthModes | None
    """None for networks with one depth a pixel."""


@dataclass(frozen=True)
class StateOutput:
    """What the ``state`` head predicts, pixel-aligned with the source views: the target state, without a part."""

    gaussians: Gaussians
    """[b, n] target state, canonical frame; each is the one that its pixel's surface becomes."""
    opacity_logit: Float[Tensor, "b n"]
    view_valid: Bool[Tensor, "b v"]
    """Which views the network saw."""


@dataclass(frozen=True)
class NetworkOutput:
    """Pixel-aligned predictions; n runs over views, rows, columns of the splat grid."""

    gaussians: Gaussians
    """[b, n] source state, canonical frame; of networks of two layers what stays, as if the part were taken away."""
    moving_logit: Float[Tensor, "b n"]
    """Log-odds that the pixel shows the dragged part."""
    displacement: Float[Tensor, "b n 3"]
    """How the pixel's point moves if it belongs to the part, canonical frame."""
    ray_distance: Float[Tensor, "b n"]
    """Distance from the view's camera along the pixel's ray, before the sideways shift."""
    opacity_logit: Float[Tensor, "b n"]
    view_valid: Bool[Tensor, "b v"]
    """Which views the network saw; the Gaussians of the others are guesses of what lies behind."""
    votes: JointVotes | None = None
    """None for networks without such channels."""
    modes: DepthModes | None = None
    """None for networks with one depth a pixel."""
    part: Layer | None = None
    """The dragged part alone, all of it; None for networks of one layer."""

    @property
    def still(self) -> Layer:
        """The first layer."""
        return Layer(self.gaussians, self.ray_distance, self.opacity_logit, self.modes)

    @property
    def carriers(self) -> Gaussians:
        """[b, n] Gaussians at which displacements and votes belong: the part's, or with one layer all."""
        return self.gaussians if self.part is None else self.part.gaussians

    @property
    def before(self) -> Gaussians:
        """[b, n] or, with two layers, [b, 2n] Gaussians of the source state."""
        return self.gaussians if self.part is None else Gaussians.concatenate([self.gaussians, self.part.gaussians])

    @property
    def moving(self) -> Float[Tensor, "b n"]:
        """Probability that the Gaussian belongs to the dragged part."""
        return torch.sigmoid(self.moving_logit)


class PartRMNetwork(nn.Module):
    """Large multi-view U-Net with multi-scale drag embedding and articulated (or state) head."""

    def __init__(self, config: NetworkConfig = BASE) -> None:
        """Fresh weights.

        Raises:
            ValueError: a config that describes no network.
        """
        super().__init__()
        check_config(config)
        self.config = config
        widths, layers, head = config.down_channels, config.down_layers, config.head_channels
        self.stem = nn.Conv2d(STRIDE**2 * INPUT_CHANNELS, widths[0], 3, padding=1)
        self.drags = nn.ModuleList()
        self.down = nn.ModuleList()
        skips, channels = [widths[0]], widths[0]
        for level, width in enumerate(widths):
            last = level == len(widths) - 1
            self.drags.append(drag_embedding(config, level, channels))
            flags = [i >= layers - config.attention_layers[level] for i in range(layers)]
            self.down.append(DownBlock(channels, width, flags, head, downsample=not last))
            skips += [width] * (layers + (0 if last else 1))
            channels = width
        self.mid = MidBlock(channels, config.mid_depth, head)
        self.up = nn.ModuleList()
        for level in reversed(range(len(widths))):
            taken = [skips.pop() for _ in range(layers + 1)]
            flags = [i >= layers + 1 - config.attention_layers[level] for i in range(layers + 1)]
            self.up.append(UpBlock(channels, widths[level], taken, flags, head, up=level > 0))
            channels = widths[level]
        fine = config.fine_channels
        self.enlarge = nn.Conv2d(channels, 4 * fine, 3, padding=1)
        self.look_again = nn.Conv2d(4 * INPUT_CHANNELS, GROUPS, 3, padding=1)
        self.fine = ResBlock(fine + GROUPS, fine)
        self.norm = Norm(fine)
        self.head = nn.Conv2d(fine, sum(config.outputs), 3, padding=1)
        nn.init.normal_(self.head.weight, std=0.004)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            for name in {"modes", "part_modes"} & set(config.groups):
                self.head.bias[config.rows[name]][:1] = SECOND_DEPTH
        self.features = FrozenFeatures() if config.features == "efficientnet-lite0" else None
        self.taught = nn.ModuleList()
        if self.features is not None:  # zero at first: the network answers as it would without them
            self.taught.extend(
                nn.Conv2d(given, width, 1)
                for given, width in zip(FEATURE_CHANNELS, (widths[0], widths[0]), strict=True)
            )
            for conv in self.taught:
                nn.init.zeros_(conv.weight)  # pyright: ignore[reportArgumentType]
                nn.init.zeros_(conv.bias)  # pyright: ignore[reportArgumentType]
        self.recorded: Callable[..., Tensor] | None = None
        """Stands in for :meth:`unet` where it is set (:func:`partrm.model.graphed.record_training`)."""

    def forward(self, inputs: NetworkInput) -> NetworkOutput | StateOutput:
        """What the config's head says of a batch of samples."""
        b = inputs.view_valid.shape[0]
        kind, drags = inputs.images.device.type, inputs.drags
        with torch.autocast(kind, enabled=False):  # rays need all their bits
            channels = input_map(inputs)
        run = self.unet if self.recorded is None else self.recorded
        raw = run(channels, drags.start, drags.end, drags.view, drags.valid)
        with torch.autocast(kind, enabled=False):
            raw = rearrange(raw, "(b v) c h w -> b v h w c", b=b).float()
            return activate_state(raw, inputs) if self.config.head == "state" else activate(raw, inputs, self.config)

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
        seen = [] if self.features is None else list(self.features(0.5 + 0.5 * channels[:, :3]))
        if seen:
            x = x + self.taught[0](seen[0])
        skips = [x]
        for level, (embed, block) in enumerate(zip(self.drags, self.down, strict=True)):
            if seen and level == 1:
                x = x + self.taught[1](seen[1])
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
    if config.head not in ("articulated", "state"):
        raise ValueError(f"head {config.head!r} is neither 'articulated' nor 'state'")
    if config.drag_positions not in ("fractions", "raw_pixels"):
        raise ValueError(f"drag_positions {config.drag_positions!r} is neither 'fractions' nor 'raw_pixels'")
    levels, heads = len(config.attention_layers), config.head_channels
    if len(config.down_channels) != levels or any(width <= 0 or width % heads for width in config.down_channels):
        raise ValueError(f"down_channels {config.down_channels} are not {levels} multiples of {heads}")
    if config.layers not in (1, 2) or config.depth_modes not in (1, 2):
        raise ValueError(f"layers {config.layers} and depth_modes {config.depth_modes} are not both 1 or 2")
    if config.head == "state" and (config.layers, config.depth_modes) != (1, 1):
        raise ValueError("a state head has one layer and one depth a pixel")
    if config.features not in ("none", "efficientnet-lite0"):
        raise ValueError(f"features {config.features!r} are neither 'none' nor 'efficientnet-lite0'")
    if config.features != "none" and len(config.down_channels) < 2:
        raise ValueError("features enter at two levels, and there is one")
    if not set(config.drag_levels) <= set(range(len(config.down_channels))):
        raise ValueError(f"drag_levels {config.drag_levels} are not among the {len(config.down_channels)} levels")


def drag_embedding(config: NetworkConfig, level: int, channels: int) -> nn.Module:
    """What brings the drags into the features of a level."""
    if config.drag_levels and level not in config.drag_levels:
        return NoDrags()
    kind = RawDragEmbedding if config.drag_positions == "raw_pixels" else DragEmbedding
    return kind(channels, config.drag_channels)


def input_map(inputs: NetworkInput) -> Float[Tensor, "bv c h w"]:
    """The network's input channels: RGB on white in [-1, 1], alpha, Plücker rays, two flags."""
    rgb, alpha = inputs.images[:, :, :3], inputs.images[:, :, 3:]
    valid = inputs.view_valid[:, :, None, None, None].to(rgb.dtype)
    on_white = 2 * (rgb * alpha + 1 - alpha) - 1
    known = (inputs.lens_known & inputs.view_valid)[:, :, None, None, None].to(rgb.dtype)
    flags = [valid.expand_as(alpha), known.expand_as(alpha)]
    channels = torch.cat([on_white * valid, alpha * valid, inputs.cameras.plucker(), *flags], 2)
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


def activate(raw: Float[Tensor, "b v h w c"], inputs: NetworkInput, config: NetworkConfig) -> NetworkOutput:
    """Channels of the articulated head to Gaussians of the source state, moving part and displacements."""
    group = {name: raw[..., rows] for name, rows in config.rows.items()}
    parameters, moving, displacement = group["main"].split((sum(STATE_CHANNELS), *HEAD_CHANNELS[5:]), -1)
    still = activate_layer(parameters, group["modes"], inputs)
    displacement = displacement + dragged_vector(inputs)[:, None, None, None]
    return NetworkOutput(
        gaussians=still.gaussians,
        moving_logit=rearrange(moving[..., 0], "b v h w -> b (v h w)"),
        displacement=rearrange(displacement, "b v h w c -> b (v h w) c"),
        ray_distance=still.ray_distance,
        opacity_logit=still.opacity_logit,
        view_valid=inputs.view_valid,
        votes=votes_of(group["votes"]),
        modes=still.modes,
        part=activate_layer(group["part"], group["part_modes"], inputs) if "part" in group else None,
    )


def activate_layer(
    parameters: Float[Tensor, "b v h w 14"], second: Float[Tensor, "b v h w m"], inputs: NetworkInput
) -> Layer:
    """One layer of Gaussians; ``second`` are its :data:`MODE_CHANNELS`, or has no channels."""
    modes = None
    if second.shape[-1]:
        modes = depth_modes(parameters[..., :1], second, inputs)
        # The density is highest where a share over its width is.
        nearer = (modes.log_share - modes.width.log()).argmax(-1, keepdim=True) == 0
        chosen = torch.where(nearer.unflatten(1, second.shape[1:4]), parameters[..., :1], second[..., :1])
        parameters = torch.cat([chosen, parameters[..., 1:]], -1)
    gaussians, distance = activate_gaussians(parameters, inputs)
    return Layer(gaussians, rearrange(distance, "b v h w -> b (v h w)"), opacity_logit(parameters), modes)


def depth_modes(
    first: Float[Tensor, "b v h w 1"], second: Float[Tensor, "b v h w 4"], inputs: NetworkInput
) -> DepthModes:
    """Both depths of a layer from the head's channels."""
    other, odds, widths = second.split(MODE_CHANNELS, -1)
    away = inputs.cameras.positions.norm(dim=-1)[..., None, None, None]
    shares = torch.nn.functional.logsigmoid(torch.cat([FIRST_MODE - odds, odds - FIRST_MODE], -1))
    least, most = (math.log(width) for width in MODE_WIDTHS)
    width = torch.exp(least + (most - least) * torch.sigmoid(widths))
    return DepthModes(*(rearrange(x, "b v h w k -> b (v h w) k")
                        for x in (away + torch.cat([first, other], -1), shares, width)))  # fmt: skip


def activate_state(raw: Float[Tensor, "b v h w c"], inputs: NetworkInput) -> StateOutput:
    """Channels of the state head to Gaussians of the target state; those that move leave their pixel's ray."""
    return StateOutput(activate_gaussians(raw, inputs)[0], opacity_logit(raw), inputs.view_valid)


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


def votes_of(raw: Float[Tensor, "b v h w c"]) -> JointVotes | None:
    """The head's last channels as votes on the joint; None if it has none."""
    if raw.shape[-1] == 0:
        return None
    revolute, axis, to_axis, angle = rearrange(raw, "b v h w c -> b (v h w) c").split(VOTE_CHANNELS, -1)
    return JointVotes(revolute[..., 0], axis, to_axis, angle[..., 0])
