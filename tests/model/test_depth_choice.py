"""Two depths a pixel: the start from weights of one, and which of them is read."""

import dataclasses

import pytest
import torch
from support.network_inputs import some_input
from torch.testing import assert_close

from partrm.model.checkpoints import grown, load_model, save_checkpoint
from partrm.model.depth_choice import SECOND_DEPTH
from partrm.model.network import TINY, PartRMNetwork, activate

TWO = dataclasses.replace(TINY, depth_modes=2)
ONE_LAYER = dataclasses.replace(TINY, layers=1)


@pytest.mark.parametrize("old", [TINY, ONE_LAYER, dataclasses.replace(ONE_LAYER, depth_modes=2), TWO])
def test_a_grown_network_answers_as_the_old_one(old) -> None:
    torch.manual_seed(1)
    before, after = PartRMNetwork(old).eval(), PartRMNetwork(TWO).eval()
    after.load_state_dict(grown(before.state_dict(), old, after))
    inputs = some_input(views=2)
    with torch.no_grad():
        was, now = before(inputs), after(inputs)
    for name in ("displacement", "moving_logit", "ray_distance", "opacity_logit"):
        assert torch.equal(getattr(was, name), getattr(now, name)), name
    assert torch.equal(was.votes.axis, now.votes.axis)
    assert now.part is not None
    assert torch.equal((was.part or was).gaussians.means, now.part.gaussians.means)
    for layer in (now, now.part):
        assert layer.depths is not None
        if old.depth_modes == 2:
            continue
        farther = layer.depths.distance[..., 1] - layer.depths.distance[..., 0]
        assert_close(farther, torch.full_like(farther, SECOND_DEPTH), atol=1e-5, rtol=0)
        assert bool(layer.depths.first_chosen.all())


def test_networks_that_say_less_do_not_take_the_weights() -> None:
    torch.manual_seed(1)
    less = PartRMNetwork(TINY)
    with pytest.raises(RuntimeError, match="size mismatch"):
        less.load_state_dict(grown(PartRMNetwork(TWO).state_dict(), TWO, less))


def test_round_trip(tmp_path) -> None:
    torch.manual_seed(1)
    network, inputs = PartRMNetwork(TWO).eval(), some_input()
    save_checkpoint(network.state_dict(), TWO, tmp_path / "m", half=False)
    loaded = load_model(tmp_path / "m")
    assert loaded.config == TWO
    with torch.no_grad():
        assert_close(loaded.articulated(inputs).ray_distance, network(inputs).ray_distance)


def test_the_chosen_depth_is_where_the_density_is_highest() -> None:
    """Against the density of torch.distributions at both depths, with the likelier but wider one losing."""
    generator, inputs = torch.Generator().manual_seed(2), some_input()
    raw = torch.randn(2, 4, 32, 32, sum(TWO.outputs), generator=generator) * 0.5
    raw[..., TWO.rows["first depths"]] *= 4
    output = activate(raw, inputs)
    d = output.depths
    assert d is not None
    laplace = torch.distributions.Laplace(d.distance, d.width)
    density = d.log_share + laplace.log_prob(d.distance)
    best = density.argmax(-1, keepdim=True)
    assert_close(output.ray_distance, d.distance.gather(-1, best)[..., 0])
    assert 0.1 < float(best.float().mean()) < 0.9
    assert bool((best != d.log_share.argmax(-1, keepdim=True)).any()), "width counts"
    assert_close(d.log_share.exp().sum(-1), torch.ones(2, 4096))
    plain = activate(raw[..., : sum(TINY.outputs)], inputs)
    assert plain.depths is None
    first = d.first_chosen
    assert torch.equal(plain.gaussians.means[first], output.gaussians.means[first])
    assert not torch.allclose(plain.gaussians.means[~first], output.gaussians.means[~first])
