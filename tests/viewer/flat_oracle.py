"""A network that needs no training: a flat coloured object whose part right of the middle follows the drag."""

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

    def forward(self, inputs):
        self.calls += 1
        if self.failing:
            raise RuntimeError("the network has broken down")
        side = inputs.images.shape[-1] // 2
        origins, directions = inputs.cameras.resized(side).rays()
        means = origins[:, :, None, None] - origins[:, :, None, None, 2:] / directions[..., 2:] * directions
        means = means.flatten(1, 3).nan_to_num(0.0).clamp(-1, 1)
        n, first = means.shape[1], torch.arange(means.shape[1]) < side * side
        rgba = pooled_rgba(inputs.images, 2).movedim(2, -1).flatten(1, 3)
        gaussians = Gaussians(
            means=means,
            quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(1, n, 4),
            scales=torch.full((1, n, 3), 0.024),
            opacities=torch.where(first & (rgba[..., 3] > 0.5), 0.95, 0.0),
            colors=rgba[..., :3],
        )
        logit = torch.where((means[..., 0] > 0) & first, 8.0, -8.0)
        displacement = dragged_vector(inputs)[:, None].expand_as(means)
        return NetworkOutput(gaussians, logit, displacement, torch.zeros(1, n), torch.zeros(1, n), inputs.view_valid)


def oracle_model(image_size_px=TINY.image_size_px):
    """The oracle as a loaded model; larger images give more Gaussians."""
    network = FlatOracle(image_size_px).eval()
    return LoadedModel(network, "oracle", "0" * 16, network.config)
