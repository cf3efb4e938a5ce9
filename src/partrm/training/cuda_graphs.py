"""The network's training passes on CUDA with their kernels recorded once and replayed.

One forward pass of ``big`` launches over a thousand kernels, which takes Python longer than the device needs to run
them; a CUDA graph launches them all at once.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from partrm.geometry.cameras import Cameras, canonical_orbit
from partrm.geometry.drag_numbers import MAX_DRAGS
from partrm.geometry.drags import Drags
from partrm.model.inputs import VIEWS, NetworkInput
from partrm.model.network import PartRMNetwork, input_map

WARM_UP = 3
"""Runs before the recording: Triton compiles, cuDNN chooses its kernels."""


class _AutocastUNet(nn.Module):
    """The network's U-Net in bfloat16, as a module whose forward pass takes and gives tensors only."""

    def __init__(self, network: PartRMNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, *tensors: Tensor) -> Tensor:
        # A cache of cast weights would outlive the recording.
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            return self.network.unet(*tensors)


def record_training(network: PartRMNetwork, example: NetworkInput) -> Callable[..., Tensor]:
    """Record the U-Net's forward and backward pass in bfloat16, for inputs of the example's shapes.

    The answer is what the network's forward pass takes as ``unet``; gradients are replayed too. Record before
    the network is wrapped for distributed training: its hooks break a recording, not a replay.

    Args:
        network: in training mode, on a CUDA device; its weights may change in place, but not move.
        example: an input of the shapes that later ones have (any values), on the same device.

    Raises:
        ValueError: a network that is not on a CUDA device.
    """
    if example.images.device.type != "cuda" or network.head.weight.device.type != "cuda":
        raise ValueError("CUDA graphs need a network and inputs on a CUDA device")
    drags = example.drags
    tensors = (input_map(example), drags.start, drags.end, drags.view, drags.valid)
    copies = tuple(tensor.detach().clone() for tensor in tensors)
    module = torch.cuda.make_graphed_callables(_AutocastUNet(network).train(), copies, num_warmup_iters=WARM_UP)

    def replay(*inputs: Tensor) -> Tensor:  # the module itself would be registered as a part of its own part
        raw = module(*inputs)
        assert isinstance(raw, Tensor)
        return raw

    return replay


def blank_input(batch: int, size_px: int, device: torch.device | str) -> NetworkInput:
    """An input of the shapes that training has, all views valid and without drags."""
    orbit = canonical_orbit(VIEWS, size_px, device)
    poses, fovy = orbit.T_world_camera.repeat(batch, 1, 1, 1), orbit.fovy_rad.repeat(batch, 1)
    images = torch.zeros(batch, VIEWS, 4, size_px, size_px, device=device)
    points = torch.full((batch, MAX_DRAGS, 2), 0.5, device=device)
    nothing = torch.zeros(batch, MAX_DRAGS, dtype=torch.long, device=device)
    drags = Drags(points, points.clone(), nothing, nothing.bool())
    cameras = Cameras(poses, fovy, size_px, size_px)
    return NetworkInput(images, cameras, torch.ones(batch, VIEWS, dtype=torch.bool, device=device), drags)
