"""A network that needs no training: a flat coloured object whose part right of the middle follows the drag."""

import math
from dataclasses import replace

import torch

from partrm.geometry.gaussians import Gaussians
from partrm.model.checkpoints import LoadedModel
from partrm.model.inputs import pooled_rgba
from partrm.model.network import TINY, NetworkOutput, PartRMNetwork, dragged_vector


class FlatOracle(PartRMNetwork):
    """Gaussians of the first picture's pixels in the plane z = 0, on a plain grid."""

    def __init__(self, image_size_px):
        super().__init__(replace(TINY, image_size_px=image_size_px))
        self.calls = 0
        self.failing = False
        self.torn = False
        """Whether questions beside the first are answered with a motion that is turned by 40 degrees."""
        self.unsure = False
        """Whether the part's points move in all directions."""

    def forward(self, inputs):
        self.calls += 1
        if self.failing:
            raise RuntimeError("the network has broken down")
        side = inputs.images.shape[-1] // 2
        origins, directions = inputs.cameras.resized(side).rays()
        means = origins[:, :, None, None] - origins[:, :, None, None, 2:] / directions[..., 2:] * directions
        means = means.flatten(1, 3).nan_to_num(0.0).clamp(-1, 1)
        b, n = means.shape[:2]
        first = torch.arange(n) < side * side
        rgba = pooled_rgba(inputs.images, 2).movedim(2, -1).flatten(1, 3)
        gaussians = Gaussians(
            means=means,
            quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(b, n, 4),
            scales=torch.full((b, n, 3), 0.024),
            opacities=torch.where(first & (rgba[..., 3] > 0.5), 0.95, 0.0),
            colors=rgba[..., :3],
        )
        logit = torch.where((means[..., 0] > 0) & first, 8.0, -8.0)
        vector = dragged_vector(inputs)
        if self.torn and inputs.images.shape[1] == 1:
            c, s = math.cos(math.radians(40)), math.sin(math.radians(40))
            vector = vector @ torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        displacement = vector[:, None].expand_as(means)
        if self.unsure:
            noise = torch.randn(means.shape, generator=torch.Generator().manual_seed(0))
            displacement = displacement + 2 * vector.norm() * noise
        return NetworkOutput(gaussians, logit, displacement, torch.zeros(b, n), torch.zeros(b, n), inputs.view_valid)


def oracle_model(image_size_px=TINY.image_size_px):
    """The oracle as a loaded model; larger images give more Gaussians."""
    network = FlatOracle(image_size_px).eval()
    return LoadedModel(network, "oracle", "0" * 16, network.config)
