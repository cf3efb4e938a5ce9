"""Renders as a loss: carved as predictions are, every image weighed alike."""

import dataclasses
import math

import pytest
import torch

pytest.importorskip("warp")

from support.rendered_samples import cabinet_samples

from partrm.inference.space_carving import free_space_violations
from partrm.model.network import TINY, NetworkOutput, PartRMNetwork
from partrm.synthesis.samples import Samples
from partrm.training.config import LossWeights
from partrm.training.losses import PERFECT_MSE, image_losses, mostly_carved, render_white


@pytest.fixture(scope="module")
def samples() -> Samples:
    return cabinet_samples()


def test_two_samples_of_three_are_rendered_without_contradicted_guesses(samples: Samples) -> None:
    single = dataclasses.replace(samples.inputs, view_valid=(torch.arange(4) < 1).expand(len(samples.valid), 4))
    one = dataclasses.replace(samples, inputs=single)
    torch.manual_seed(0)
    output: NetworkOutput = PartRMNetwork(TINY)(single)
    told = mostly_carved(output, one)
    assert output.part is not None
    assert told.part is not None
    for layer, answer in ((output.gaussians, told.gaussians), (output.part.gaussians, told.part.gaussians)):
        wrong = free_space_violations(layer, single, output.seen)
        carved = layer.opacities.masked_fill(wrong, 0.0)
        assert not torch.equal(carved, layer.opacities)
        assert torch.equal(answer.opacities[0], layer.opacities[0])
        assert torch.equal(answer.opacities[1:], carved[1:])


def test_the_logarithm_of_images_weighs_every_image_alike(samples: Samples) -> None:
    """Twice the error costs log 4 more, however large the error; an image term of squares would not."""
    assert samples.views is not None
    gaussians = PartRMNetwork(TINY)(samples.inputs).gaussians
    rgb, _ = render_white(gaussians, samples.views.cameras)
    weights = LossWeights(image_log=1.0)
    costs = []
    for error in (0.1, 0.2, 0.4):
        truth = torch.cat([(rgb + error * rgb.sub(0.5).sign().neg()), torch.ones_like(rgb[:, :, :1])], 2).detach()
        wrong = dataclasses.replace(samples, views=dataclasses.replace(samples.views, after=truth))
        costs.append(float(image_losses([(gaussians, truth)], wrong, weights)["image_log"].detach()))
    expected = [math.log(error**2 + PERFECT_MSE) for error in (0.1, 0.2, 0.4)]
    assert costs == pytest.approx(expected, abs=1e-3)
