"""State heads, the peer and renders alone: what they are taught, and that the right answer costs nothing."""

import dataclasses
from functools import partial

import pytest
import torch
from ablation_losses import (
    PEER,
    RENDERS_ONLY,
    STATE,
    displaced,
    peer_losses,
    state_appearance_losses,
    state_losses,
    target_database,
)
from ablation_networks import SMALLEST_PEER, PeerNetwork, StateOutput, state_head
from einops import rearrange

pytest.importorskip("warp")

from support.rendered_samples import cabinet_samples

from partrm.geometry.gaussians import Gaussians
from partrm.geometry.transforms import transform_points
from partrm.model.network import TINY, NetworkOutput, PartRMNetwork
from partrm.synthesis.samples import Samples
from partrm.training.config import LossWeights
from partrm.training.losses import ARTICULATED, Objective, moved_softly

WEIGHTS = LossWeights(shape=0.1, image=20.0)


@pytest.fixture(scope="module")
def samples() -> Samples:
    return cabinet_samples()


def true_state(samples: Samples) -> StateOutput:
    goal = target_database(samples)
    logit = torch.logit(rearrange(samples.targets.coverage, "b v h w -> b (v h w)"), eps=1e-7)
    return StateOutput(goal, logit, samples.inputs.view_valid)


def test_the_database_is_the_target_state(samples: Samples) -> None:
    """Moving pixels' points are carried by the true motion, the others stay; the target's cameras see them so."""
    goal, t = target_database(samples), samples.targets
    point = rearrange(t.point, "b v h w c -> b (v h w) c")
    moving = rearrange(t.moving, "b v h w -> b (v h w)")
    carried = transform_points(samples.joint.T_after_before, point)
    assert torch.allclose(goal.means[moving], carried[moving], atol=1e-5)
    assert torch.equal(goal.means[~moving], point[~moving])
    assert float((goal.means - point)[moving].norm(dim=-1).max()) > 0.05
    assert bool((goal.quats[..., 0] >= 0).all())
    assert torch.allclose(goal.quats.norm(dim=-1), torch.ones(goal.quats.shape[:-1]), atol=1e-5)


def test_the_true_state_costs_nothing_and_the_source_state_does(samples: Samples) -> None:
    right = true_state(samples)
    good = state_losses(right, samples, WEIGHTS, False)
    for name in ("distance", "displacement", "rgb", "shape"):
        assert abs(float(good[name])) < 1e-4, name
    source = rearrange(samples.targets.point, "b v h w c -> b (v h w) c")
    unmoved = dataclasses.replace(right, gaussians=dataclasses.replace(right.gaussians, means=source))
    bad = state_losses(unmoved, samples, WEIGHTS, False)
    assert float(bad["displacement"]) > 0.1
    assert float(STATE.metrics(right, samples)["arrival_ratio"].max()) < 1e-5
    ratio = STATE.metrics(unmoved, samples)["arrival_ratio"][samples.valid]
    assert torch.allclose(ratio, torch.ones_like(ratio), atol=1e-4)


def test_l2_of_the_peer_is_a_mean_over_14_parameters(samples: Samples) -> None:
    goal = target_database(samples)
    assert float(peer_losses(goal, samples, WEIGHTS, False)["l2"]) < 1e-12
    off = Gaussians(goal.means + 0.1, goal.quats + 0.1, goal.scales + 0.1, goal.opacities + 0.1, goal.colors + 0.1)
    assert float(peer_losses(off, samples, WEIGHTS, False)["l2"]) == pytest.approx(0.01, rel=1e-3)
    with pytest.raises(ValueError, match="the database has"):
        peer_losses(goal[:, :-1], samples, WEIGHTS, False)


def test_appearance_compares_the_target_state_alone(samples: Samples) -> None:
    """Of a state head, renders before the motion say nothing: other truths for them change nothing."""
    assert samples.views is not None
    output = true_state(samples)
    lied = dataclasses.replace(samples, views=dataclasses.replace(samples.views, before=samples.views.after * 0))
    of_peer = partial(peer_losses, appearance=True)
    for answer, losses in ((output, state_appearance_losses), (output.gaussians, of_peer)):
        first, second = losses(answer, samples, WEIGHTS), losses(answer, lied, WEIGHTS)
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert set(peer_losses(output.gaussians, samples, WEIGHTS, True)) == {"image", "alpha"}


@pytest.mark.parametrize("objective", [ARTICULATED, RENDERS_ONLY], ids=["product", "renders"])
def test_renders_teach_displacements_only_where_they_are_alone(samples: Samples, objective: Objective) -> None:
    torch.manual_seed(0)
    output: NetworkOutput = PartRMNetwork(TINY)(samples.inputs)
    output.displacement.retain_grad()
    silent = {f.name: 0.0 for f in dataclasses.fields(LossWeights)}
    weights = LossWeights(**silent | {"image": 1.0, "absent_views": 1.0})
    torch.stack(list(objective.losses(output, samples, weights, True).values())).sum().backward()
    gradient = output.displacement.grad
    taught = gradient is not None and float(gradient.abs().max()) > 0
    assert taught == (objective is RENDERS_ONLY)


def test_going_by_true_displacements_is_going_by_the_true_motion(samples: Samples) -> None:
    torch.manual_seed(0)
    output: NetworkOutput = PartRMNetwork(TINY)(samples.inputs)
    T = samples.joint.T_after_before
    for answer in (output, dataclasses.replace(output, part=None)):
        goes = answer.gaussians if answer.part is None else answer.part.gaussians
        own, given = displaced(answer, transform_points(T, goes.means) - goes.means), moved_softly(answer, T)
        assert torch.allclose(own.means, given.means, atol=1e-5)
        assert torch.equal(own.opacities, given.opacities)


@pytest.mark.parametrize("objective", [STATE, PEER], ids=["state", "peer"])
@pytest.mark.parametrize("appearance", [False, True])
def test_every_parameter_learns(samples: Samples, objective: Objective, appearance: bool) -> None:
    torch.manual_seed(0)
    network = PeerNetwork(SMALLEST_PEER) if objective is PEER else PartRMNetwork(TINY, head=state_head)
    losses = objective.losses(network(samples.inputs), samples, WEIGHTS, appearance)
    torch.stack(list(losses.values())).sum().backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None]
    assert all(bool(torch.isfinite(p.grad).all()) for p in network.parameters() if p.grad is not None)
