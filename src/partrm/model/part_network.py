"""A small U-Net that tells the parts of a pictured object apart and how each moves, without a drag.

It sees the picture and the large network's features of it; the large network stays as it is.

Data flow (b pictures of side S, cells of side S/2)::

    RGBA [b,4,S,S] ──► stem ──► S/2 ──► S/4 ──► S/8 ──► S/16
    features ───────────────────┴───────┴───────┴────────┴──► up again ──► head [b,15,S/2,S/2]
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from partrm.geometry.tensor_record import TensorRecord
from partrm.model.inputs import NetworkInput
from partrm.model.network import NetworkConfig, PartRMNetwork
from partrm.model.unet import GROUPS, MultiViewAttention, Norm, ResBlock

WIDTHS = (64, 96, 160, 224)
"""Channels of the levels, the finest first, each at half the side of the one before."""

ATTENTION_FROM = 2
"""Levels from here on attend over the whole picture."""

HEAD_CHANNELS = 32

OUTPUTS = (1, 1, 2, 1, 3, 3, 3)
"""Log-odds that a cell moves, and that it is the middle of a part; the way to its part's middle; log-odds of a hinge;
axis, way to the axis, displacement."""

MIDDLE_SCALE, DISPLACEMENT_SCALE = 16.0, 0.25
"""What an output of 1 means: cells, canonical units."""


@dataclass(frozen=True)
class PartAnswer(TensorRecord):
    """What every cell of a picture says of the part that it shows; canonical frame."""

    movable_logit: Float[Tensor, "b h w"]
    """Log-odds that it shows something that moves."""
    middle_logit: Float[Tensor, "b h w"]
    """Log-odds that the middle of a part lies here."""
    to_middle: Float[Tensor, "b h w 2"]
    """The way to the middle of what its part shows, x and y, cells."""
    hinge_logit: Float[Tensor, "b h w"]
    """Log-odds that its part turns, against that it slides."""
    axis: Float[Tensor, "b h w 3"]
    """Opening is right-handed about it, or along it; shorter than 1 where unsure."""
    to_axis: Float[Tensor, "b h w 3"]
    """From the surface seen to the nearest point of its hinge."""
    displacement: Float[Tensor, "b h w 3"]
    """Where the surface goes when the part opens a little (:data:`OPENED_RAD`, :data:`OPENED_UNITS`)."""


OPENED_RAD, OPENED_UNITS = 0.7, 0.3
"""How far parts open that displacements tell of: radians, canonical units."""


def attention(level: int) -> MultiViewAttention:
    """Attention over the whole picture at a level."""
    return MultiViewAttention(WIDTHS[level], WIDTHS[level] // HEAD_CHANNELS)


class PartNetwork(nn.Module):
    """The small U-Net beside the large network."""

    def __init__(self, features: Mapping[str, int], sides: Mapping[str, int]) -> None:
        """Fresh weights.

        Args:
            features: channels of each of the large network's features.
            sides: how many times as coarse as the cells each of them is.
        """
        super().__init__()
        self.level_of = {name: sides[name].bit_length() - 1 for name in features}
        joined = [sum(c for name, c in features.items() if self.level_of[name] == n) for n in range(len(WIDTHS))]
        self.stem = nn.Conv2d(16, WIDTHS[0], 3, padding=1)
        self.narrow = nn.ModuleList(
            nn.Conv2d(joined[n], WIDTHS[n], 1) if joined[n] else nn.Identity() for n in range(len(WIDTHS))
        )
        self.calm = nn.ModuleDict(
            {name: nn.GroupNorm(1, channels, affine=False) for name, channels in features.items()}
        )
        self.down = nn.ModuleList(ResBlock(WIDTHS[n] * (2 if joined[n] else 1), WIDTHS[n]) for n in range(len(WIDTHS)))
        self.coarser = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(WIDTHS))
        self.attend = nn.ModuleDict(
            {
                str(n): MultiViewAttention(WIDTHS[n], WIDTHS[n] // HEAD_CHANNELS)
                for n in range(ATTENTION_FROM, len(WIDTHS))
            }
        )
        self.middle = ResBlock(WIDTHS[-1], WIDTHS[-1])
        self.up = nn.ModuleList(ResBlock(b + a, a) for a, b in pairwise(WIDTHS))
        self.attend_up = nn.ModuleDict({str(n): attention(n) for n in range(ATTENTION_FROM, len(WIDTHS) - 1)})
        self.last = ResBlock(WIDTHS[0], WIDTHS[0])
        self.norm = Norm(WIDTHS[0])
        self.head = nn.Conv2d(WIDTHS[0], sum(OUTPUTS), 3, padding=1)
        assert WIDTHS[0] % GROUPS == 0

    def forward(
        self, picture: Float[Tensor, "b 4 size size"], features: Mapping[str, Float[Tensor, "b _ _ _"]]
    ) -> PartAnswer:
        """What each cell says.

        Args:
            picture: RGBA, straight alpha, [0, 1].
            features: of :func:`features_without_drags`.
        """
        rgb, alpha = picture[:, :3], picture[:, 3:]
        x = torch.cat([2 * (rgb * alpha + 1 - alpha) - 1, alpha], 1)
        x = self.stem(nn.functional.pixel_unshuffle(x, 2))
        skips = []
        for level, block in enumerate(self.down):
            if level:
                x = self.coarser[level - 1](x)
            own = [self.calm[name](features[name]) for name, at in self.level_of.items() if at == level]
            if own:
                x = torch.cat([x, self.narrow[level](torch.cat(own, 1))], 1)
            x = block(x)
            if str(level) in self.attend:
                x = self.attend[str(level)](x, 1)
            skips.append(x)
        x = self.middle(skips.pop())
        for level in reversed(range(len(self.up))):
            larger = nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = self.up[level](torch.cat([larger, skips.pop()], 1))
            if str(level) in self.attend_up:
                x = self.attend_up[str(level)](x, 1)
        raw = self.head(nn.functional.silu(self.norm(self.last(x)))).float()
        movable, middle, way, hinge, axis, to_axis, displacement = rearrange(raw, "b c h w -> b h w c").split(
            OUTPUTS, -1
        )
        return PartAnswer(
            movable[..., 0], middle[..., 0], MIDDLE_SCALE * way, hinge[..., 0], axis, to_axis,
            DISPLACEMENT_SCALE * displacement,
        )  # fmt: skip


def features_without_drags(
    network: PartRMNetwork, shown: NetworkInput
) -> tuple[dict[str, Float[Tensor, "b _ _ _"]], Float[Tensor, "b side side 3"]]:
    """What the network's levels make of samples of one view each, their drags taken away; and the surfaces shown."""
    blocks = {"mid": network.mid} | {f"up{level}": block for level, block in enumerate(network.up)}
    blocks["fine"] = network.fine
    found: dict[str, Tensor] = {}

    def keep(name: str):
        return lambda _module, _inputs, output: found.update({name: output})

    hooks = [block.register_forward_hook(keep(name)) for name, block in blocks.items()]
    try:
        with torch.no_grad():
            output = network(shown.without_drags())
    finally:
        for hook in hooks:
            hook.remove()
    side = shown.images.shape[-1] // 2
    return found, output.seen.means.unflatten(1, (side, side))


def shape_of_features(config: NetworkConfig) -> tuple[dict[str, int], dict[str, int]]:
    """Channels of each feature of a network of this shape, and how many times as coarse as the cells they are."""
    widths, up = config.down_channels, len(config.down_channels)
    channels = {"mid": widths[-1]} | {f"up{n}": widths[up - 1 - n] for n in range(up)} | {"fine": config.fine_channels}
    coarse = {"mid": 2**up} | {f"up{n}": max(2, 2 ** (up - 1 - n)) for n in range(up)} | {"fine": 1}
    return channels, coarse
