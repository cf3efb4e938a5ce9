"""Random inputs of the network."""

import torch

from partrm.geometry.cameras import Cameras, canonical_orbit
from partrm.geometry.drags import Drags
from partrm.model.inputs import NetworkInput


def some_drags(b: int, n: int, seed: int = 0) -> Drags:
    g = torch.Generator().manual_seed(seed)
    return Drags(
        start=torch.rand(b, n, 2, generator=g),
        end=torch.rand(b, n, 2, generator=g),
        view=torch.zeros(b, n, dtype=torch.long),
        valid=torch.ones(b, n, dtype=torch.bool),
    )


def some_input(b: int = 2, size: int = 64, views: int = 1) -> NetworkInput:
    g = torch.Generator().manual_seed(1)
    one = canonical_orbit(4, size)
    cameras = Cameras(one.T_world_camera.expand(b, 4, 4, 4), one.fovy_rad.expand(b, 4), size, size)
    valid = (torch.arange(4) < views).expand(b, 4)
    images = torch.rand(b, 4, 4, size, size, generator=g) * valid[..., None, None, None]
    return NetworkInput(images, cameras, valid, some_drags(b, 3))
