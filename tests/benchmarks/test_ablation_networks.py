"""The networks of the ablations: the reference's drags, one level of drags, other heads, the peer."""

from dataclasses import replace

import pytest
import torch
from ablation_networks import (
    SMALLEST_PEER,
    NoDrags,
    PeerNetwork,
    RawDragEmbedding,
    embedding_at,
    head_without_votes,
    raw_drag_embedding,
    state_head,
)
from support.network_inputs import some_drags, some_input

from partrm.geometry.drags import Drags
from partrm.model.drag_embedding import DragEmbedding
from partrm.model.network import TINY, PartRMNetwork
from partrm.model.reference import fourier_of_pixels


def test_raw_drags_are_the_references() -> None:
    """The ablation's embedding: x along the rows, starts and ends by one MLP, the first view's drags in all views."""
    embed = RawDragEmbedding(32, 8)
    point = torch.tensor([[[0.8, 0.1]]])
    view, valid = torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1, dtype=torch.bool)
    maps = embed.maps(Drags(point, point, view, valid), 4, 40)
    assert maps.shape == (4, 16, 40, 40)
    energy = maps.abs().sum(1)
    assert [divmod(int(e.argmax()), 40) for e in energy] == [(32, 4)] * 4
    assert torch.equal(maps[:, :8], maps[:, 8:])
    assert torch.equal(maps[0], maps[3])
    vector = embed.mlp(fourier_of_pixels(point[0, 0] * 512))
    assert torch.allclose(maps[0, :8, 32, 4], vector, atol=1e-5)
    assert torch.count_nonzero(embed.maps(Drags(point, point, view + 1, valid), 4, 40)) == 0
    assert torch.count_nonzero(embed.maps(Drags(point, point, view, ~valid), 4, 40)) == 0


def test_one_level_alone_takes_the_drags() -> None:
    network = PartRMNetwork(TINY, embedding_at(1))
    assert [type(module) for module in network.drags] == [NoDrags, DragEmbedding]
    assert not [name for name in network.state_dict() if name.startswith("drags.0")]


VARIANTS = {
    "state head": {"head": state_head},
    "one level": {"embed": embedding_at(0)},
    "raw drags": {"embed": raw_drag_embedding},
    "no votes": {"head": head_without_votes},
}


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_drags_reach_the_output_of_every_variant(variant: str) -> None:
    torch.manual_seed(0)
    net = PartRMNetwork(TINY, **VARIANTS[variant]).eval()
    for embed in net.drags:
        if isinstance(embed, DragEmbedding):
            torch.nn.init.normal_(embed.fuse.weight, std=0.05)
    inputs = some_input()
    other = replace(inputs, drags=some_drags(2, 3, seed=9))
    moved = (net(inputs).gaussians.means - net(other).gaussians.means).abs().max()
    assert float(moved) > 1e-5


def test_a_head_without_votes_says_all_else_as_one_with_them() -> None:
    torch.manual_seed(0)
    whole, without = PartRMNetwork(TINY).eval(), PartRMNetwork(TINY, head=head_without_votes).eval()
    weights = whole.state_dict()
    for name in ("head.weight", "head.bias"):
        weights[name] = weights[name][: len(without.state_dict()[name])]
    without.load_state_dict(weights)
    inputs = some_input()
    expected, got = whole(inputs), without(inputs)
    assert got.votes is None
    assert expected.votes is not None
    assert torch.allclose(got.displacement, expected.displacement, atol=1e-5)
    assert torch.allclose(got.gaussians.means, expected.gaussians.means, atol=1e-5)


def test_the_peer_gives_as_many_gaussians_as_ours_under_true_rays() -> None:
    inputs = some_input(size=32, views=4)
    network = PeerNetwork(SMALLEST_PEER).eval()
    assert len(network(inputs)) == len(PartRMNetwork(TINY)(inputs).gaussians)
    rays = network.input_map(inputs)[:, :, 3:]
    assert torch.allclose(rays, inputs.cameras.plucker(), atol=1e-5)
