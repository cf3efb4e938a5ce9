"""Two depths a pixel: what their mixture costs, and what it learns that a mean cannot."""

import dataclasses

import pytest
import torch
from einops import rearrange
from torch.testing import assert_close

pytest.importorskip("warp", reason="losses import what renders samples")

from support.boxes import cabinet

from partrm.model.depth_choice import SECOND_DEPTH, DepthMixture, depth_mixture
from partrm.model.network import TINY, PartRMNetwork
from partrm.rendering.meshes import MeshScene, material_table
from partrm.synthesis.sampler import SampleConfig, make_samples
from partrm.synthesis.scenarios import JointTables
from partrm.training.config import LossWeights
from partrm.training.losses import mixture_error, motion_losses


def test_the_loss_is_the_mixtures_negative_log_likelihood() -> None:
    g = torch.Generator().manual_seed(0)
    b, v, n = 2, 4, 50
    distance = torch.rand(b, v * n, 2, generator=g) + 2
    share = torch.log_softmax(torch.randn(b, v * n, 2, generator=g), -1)
    width = torch.rand(b, v * n, 2, generator=g) * 0.2 + 0.05
    truth = torch.rand(b, v, n, generator=g) + 2
    two = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=share), torch.distributions.Laplace(distance, width)
    )
    found = mixture_error(DepthMixture(distance, share, width), truth)
    expected = -0.05 * two.log_prob(rearrange(truth, "b v n -> b (v n)"))
    # Rounded at the peak, by .01 over the width at most.
    assert_close(rearrange(found, "b v n -> b (v n)"), expected, atol=0.05 * 0.01 / 0.05, rtol=0)


def test_a_mixture_learns_one_of_two_depths_where_a_mean_lies_between() -> None:
    g = torch.Generator().manual_seed(0)
    truth = torch.where(torch.rand(1, 1, 1000, generator=g) < 0.7, 2.0, 2.6)
    raw = torch.tensor([0.0, SECOND_DEPTH, 0.0, 0.0, 0.0]).reshape(1, 1, 1, 1, 5).requires_grad_()
    optimizer = torch.optim.Adam([raw], 0.03)
    for _ in range(400):
        d = depth_mixture(raw[..., 0], raw[..., 1:], torch.full((1, 1), 2.2))
        everywhere = DepthMixture(*(x.expand(1, 1000, 2) for x in (d.distance, d.log_share, d.width)))
        optimizer.zero_grad()
        mixture_error(everywhere, truth).mean().backward()
        optimizer.step()
    found = d.distance[0, 0].sort()
    assert_close(found.values.detach(), torch.tensor([2.0, 2.6]), atol=0.02, rtol=0)
    shares = d.log_share[0, 0].exp()[found.indices]
    assert_close(shares.detach(), torch.tensor([0.7, 0.3]), atol=0.06, rtol=0)


def test_both_depths_of_both_layers_are_taught() -> None:
    objects = [cabinet()]
    scene, tables = MeshScene.from_objects(objects), JointTables.from_objects(objects)
    which = torch.zeros(3, dtype=torch.long)
    config = SampleConfig(image_size_px=32)
    samples = make_samples(scene, tables, which, material_table(objects)[which], config, torch.Generator(), 2)
    torch.manual_seed(0)
    network = PartRMNetwork(dataclasses.replace(TINY, depth_modes=2))
    loss = motion_losses(network(samples.inputs), samples, LossWeights())["distance"]
    loss.backward()
    assert network.head.bias is not None
    assert network.head.bias.grad is not None
    for name in ("first depths", "part depths"):
        taught = network.head.bias.grad[network.config.rows[name]]
        assert bool((taught != 0).all()), name
        assert bool(taught.isfinite().all()), name
