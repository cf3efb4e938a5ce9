"""Training with features of images as a term: what the term counts, and that a step learns from it."""

import pytest
import torch
from perceptual_term import difference, objective_with

pytest.importorskip("warp")

from support.rendered_samples import cabinet_samples

from partrm.model.network import TINY, PartRMNetwork
from partrm.training.config import LossWeights
from partrm.training.losses import ARTICULATED


class Edges(torch.nn.Module):
    """Differences of neighbours, at two scales."""

    def forward(self, images):
        return [images[..., 1:] - images[..., :-1], images[..., ::2, 2::2] - images[..., ::2, :-2:2]]


def test_alike_pictures_cost_nothing_and_every_sample_its_own(generator):
    a = torch.rand(2, 3, 3, 16, 16, generator=generator)
    b = a.clone()
    b[1] = b[1].flip(-1)
    cost = difference(Edges(), a, b)
    assert float(cost[0]) == pytest.approx(0.0, abs=1e-6)
    assert float(cost[1]) > 0.1


def test_the_term_joins_the_others_of_the_appearance_stage_and_is_learned_from():
    torch.manual_seed(0)
    samples, network, weights = cabinet_samples(), PartRMNetwork(TINY), LossWeights()
    output = network(samples.inputs)
    plain = ARTICULATED.losses(output, samples, weights, True)
    found = objective_with(Edges(), 2.0).losses(output, samples, weights, True)
    assert set(found) == {*plain, "features"}
    assert "features" not in objective_with(Edges(), 2.0).losses(output, samples, weights, False)
    half = objective_with(Edges(), 1.0).losses(output, samples, weights, True)["features"]
    assert float(found["features"].detach()) == pytest.approx(2 * float(half.detach()), rel=1e-4)
    found["features"].backward()
    assert float(network.head.weight.grad.abs().max()) > 0
