"""Networks that only the ablations have: other heads, other drag embeddings, and the reference architecture as a peer.

The peer has ``tiny`` widths and is trained on our samples with its own losses. Its drag embedding is its own: Fourier
features of raw pixels, maps with x along their rows, the first view's drags in all views. Two things are kinder to it
than the public code: rays of the true field of view, and one more up block than ``tiny`` has, so that it gives as many
Gaussians as our networks.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from einops import repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from partrm.geometry.cameras import CANONICAL_FOVY_RAD
from partrm.geometry.drags import Drags
from partrm.geometry.gaussians import Gaussians
from partrm.model.drag_embedding import DragEmbedding, point_mlp, scatter_to_map
from partrm.model.inputs import NetworkInput
from partrm.model.network import (
    HEAD_CHANNELS,
    STATE_CHANNELS,
    VOTE_CHANNELS,
    Head,
    NetworkConfig,
    NetworkOutput,
    activate,
    activate_gaussians,
    drag_embedding,
    opacity_logit,
)
from partrm.model.reference import (
    TINY_REFERENCE,
    PixelDrags,
    ReferenceConfig,
    ReferenceNetwork,
    fourier_of_pixels,
)

RAW_IMAGE_PX = 512
"""Side of the image in whose pixels the reference embeds drags."""


@dataclass(frozen=True)
class StateOutput:
    """What the state head predicts, pixel-aligned with the source views: the target state, without a part."""

    gaussians: Gaussians
    """[b, n] target state, canonical frame; each is the one that its pixel's surface becomes."""
    opacity_logit: Float[Tensor, "b n"]
    view_valid: Bool[Tensor, "b v"]
    """Which views the network saw."""


def state_head(config: NetworkConfig) -> Head:
    """Gaussians of the target state alone, as the reference has it."""
    return Head(STATE_CHANNELS, activate_state)


def activate_state(raw: Float[Tensor, "b v h w c"], inputs: NetworkInput) -> StateOutput:
    """Channels of the state head to Gaussians of the target state; those that move leave their pixel's ray."""
    return StateOutput(activate_gaussians(raw, inputs)[0], opacity_logit(raw), inputs.view_valid)


def head_without_votes(config: NetworkConfig) -> Head:
    """The articulated head without votes on the joint, which is read off the displacements alone."""
    return Head(HEAD_CHANNELS, activate_without_votes)


def activate_without_votes(raw: Float[Tensor, "b v h w c"], inputs: NetworkInput) -> NetworkOutput:
    """As :func:`activate`, of a head that has no channels for votes."""
    nothing = raw.new_zeros(*raw.shape[:-1], sum(VOTE_CHANNELS))
    return replace(activate(torch.cat([raw, nothing], -1), inputs), votes=None)


def embedding_at(only: int) -> Callable[[NetworkConfig, int, int], nn.Module]:
    """Drags enter at one level alone, 0 the finest."""

    def embed(config: NetworkConfig, level: int, channels: int) -> nn.Module:
        return drag_embedding(config, level, channels) if level == only else NoDrags()

    return embed


def raw_drag_embedding(config: NetworkConfig, level: int, channels: int) -> nn.Module:
    """The reference's way to say where drags are, at every level."""
    return RawDragEmbedding(channels, config.drag_channels)


class NoDrags(nn.Module):
    """Stands where a level takes no drags."""

    def forward(self, features: Float[Tensor, "bv c s s"], drags: Drags, views: int) -> Float[Tensor, "bv c s s"]:
        return features


class RawDragEmbedding(DragEmbedding):
    """The reference's way to say where drags are, for ablations; how maps are blurred and fused stays ours.

    Fourier features of raw pixels of the 512² image (1 to 56 radians a pixel); one MLP for starts and ends alike, which
    are not paired; maps with x along their rows and y along their columns; the first view's drags in every view.
    """

    def __init__(self, channels: int, embedding_channels: int = 64, hidden: int = 256) -> None:
        super().__init__(channels, embedding_channels, hidden=hidden)
        self.mlp = point_mlp(32, hidden, embedding_channels)

    def embed(self, drags: Drags) -> Float[Tensor, "b n c2"]:
        """One vector a drag (zero for padding and for drags in other views than the first), start half and end half."""
        both = torch.stack([drags.start, drags.end])
        with torch.autocast(both.device.type, enabled=False):  # angles reach 28 000 rad and need all their bits
            waves = fourier_of_pixels(both * RAW_IMAGE_PX)
        features = torch.cat(self.mlp(waves).unbind(0), -1)
        return features * (drags.valid & (drags.view == 0))[..., None]

    def place(
        self,
        features: Float[Tensor, "b n c"],
        position: Float[Tensor, "b n 2"],
        view: Int[Tensor, "b n"],
        views: int,
        size: int,
    ) -> Float[Tensor, "bv c {size} {size}"]:
        """The same map in all views, x along its rows."""
        of_sample = scatter_to_map(features, position.flip(-1), torch.zeros_like(view), 1, size)
        return repeat(of_sample, "b c h w -> (b v) c h w", v=views)


PEER = replace(
    TINY_REFERENCE,
    name="peer",
    up_channels=(512, 256, 128, 64),
    up_attention=(True, False, False, False),
    ray_fovy_deg=math.degrees(CANONICAL_FOVY_RAD),
)

SMALLEST_PEER = ReferenceConfig(
    name="smallest-peer",
    image_size_px=64,
    down_channels=(32, 64),
    down_attention=(False, True),
    up_channels=(64,),
    up_attention=(True,),
    down_layers=1,
    heads=2,
    ray_fovy_deg=PEER.ray_fovy_deg,
)
"""For tests and dry runs."""

PEERS = {config.name: config for config in (PEER, SMALLEST_PEER)}


class PeerNetwork(ReferenceNetwork):
    """The reference network in training: it trusts that all views are present, and never waits for the device."""

    def forward(self, inputs: NetworkInput) -> Gaussians:
        """Gaussians [b, n] of the target state in the canonical frame; n runs over views, rows, columns."""
        drags = PixelDrags.from_drags(inputs.drags, inputs.view_valid.shape[1], self.config)
        return self.reconstruct(self.input_map(inputs), drags)
