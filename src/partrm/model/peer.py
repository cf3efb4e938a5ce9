"""The reference architecture to train as a peer (DESIGN §5, ``tiny`` widths), on our samples and with its own losses.

Its drag embedding is its own: Fourier features of raw pixels, maps with x along their rows, the first view's drags in
all views. Two things are kinder to it than the public code: rays of the true field of view, and one more up block than
``tiny`` has, so that it gives as many Gaussians as our networks.
"""

import math
from dataclasses import replace

from partrm.geometry.cameras import CANONICAL_FOVY_RAD
from partrm.geometry.gaussians import Gaussians
from partrm.model.inputs import NetworkInput
from partrm.model.reference import TINY_REFERENCE, PixelDrags, ReferenceConfig, ReferenceNetwork

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
