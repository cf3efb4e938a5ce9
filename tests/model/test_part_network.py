"""The small network that tells parts apart: its shapes, its scales, its gradients."""

import pytest
import torch

from partrm.geometry.drags import Drags
from partrm.geometry.framing import nominal_crops
from partrm.model.inputs import NetworkInput
from partrm.model.network import BASE, TINY, PartRMNetwork
from partrm.model.part_network import PartNetwork, features_without_drags, shape_of_features


def sample_input(size_px: int, b: int = 2) -> NetworkInput:
    torch.manual_seed(0)
    none = torch.zeros(b, 1, 2)
    drags = Drags(none + 0.5, none + 0.6, torch.zeros(b, 1).long(), torch.ones(b, 1).bool())
    valid = torch.ones(b, 1, dtype=torch.bool)
    return NetworkInput(torch.rand(b, 1, 4, size_px, size_px), nominal_crops(b, size_px, "cpu"), valid, drags)


def test_features_have_the_shapes_that_are_told_and_know_no_drag():
    network, inputs = PartRMNetwork(TINY).eval(), sample_input(TINY.image_size_px)
    features, points = features_without_drags(network, inputs)
    channels, coarse = shape_of_features(TINY)
    side = TINY.image_size_px // 2
    assert {name: tuple(value.shape[1:]) for name, value in features.items()} == {
        name: (channels[name], side // coarse[name], side // coarse[name]) for name in channels
    }
    assert points.shape == (2, side, side, 3)
    again, _ = features_without_drags(network, inputs.without_drags())
    assert all(torch.equal(features[name], again[name]) for name in features)
    assert not any(block._forward_hooks for block in network.modules()), "hooks are taken away"


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_every_weight_learns_from_features_in_either_layout(layout):
    """With weights in its first norms channels-last features ended PyTorch's process."""
    channels, coarse = shape_of_features(BASE)
    side = BASE.image_size_px // 2
    small = PartNetwork(channels, coarse)
    features = {
        name: torch.randn(1, width, side // coarse[name], side // coarse[name]).contiguous(memory_format=layout)
        for name, width in channels.items()
    }
    said = small(torch.rand(1, 4, 2 * side, 2 * side), features)
    assert said.axis.shape == (1, side, side, 3)
    torch.stack([value.square().mean() for value in said.leaves().values()]).sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in small.parameters())
