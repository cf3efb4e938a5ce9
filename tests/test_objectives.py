"""State heads, the peer and the stages: what they are taught, and that the right answer costs nothing."""

import dataclasses
import math

import pytest
import torch
from einops import rearrange

pytest.importorskip("warp")

from boxes import cabinet

from partrm.cameras import Cameras
from partrm.carving import carve
from partrm.data.online import SampleConfig, make_samples
from partrm.data.samples import Samples
from partrm.data.scenarios import JointTables
from partrm.gaussians import Gaussians
from partrm.losses import PERFECT_MSE, LossWeights, image_losses, mostly_carved, moved_softly, render_white
from partrm.model.network import TINY, NetworkOutput, PartRMNetwork, StateOutput
from partrm.model.peer import SMALLEST_PEER, PeerNetwork
from partrm.objectives import target_database, training_losses, watched_scores
from partrm.rendering.meshes import MeshScene, material_table
from partrm.transforms import transform_points

STATE = dataclasses.replace(TINY, head="state")


@pytest.fixture(scope="module")
def samples() -> Samples:
    return made()


def made(**changes) -> Samples:
    objects = [cabinet()]
    scene, tables = MeshScene.from_objects(objects), JointTables.from_objects(objects)
    which = torch.zeros(4, dtype=torch.long)
    config = SampleConfig(image_size_px=32, views=4, novel_views=1, novel_size_px=32, **changes)
    generator = torch.Generator().manual_seed(3)
    return make_samples(scene, tables, which, material_table(objects)[which], config, generator, 3)


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
    good = training_losses(right, samples, LossWeights(), motion=True, appearance=False)
    for name in ("distance", "displacement", "rgb", "shape"):
        assert abs(float(good[name])) < 1e-4, name
    source = rearrange(samples.targets.point, "b v h w c -> b (v h w) c")
    unmoved = dataclasses.replace(right, gaussians=dataclasses.replace(right.gaussians, means=source))
    bad = training_losses(unmoved, samples, LossWeights(), motion=True, appearance=False)
    assert float(bad["displacement"]) > 0.1
    assert float(watched_scores(right, samples)["arrival_ratio"].max()) < 1e-5
    ratio = watched_scores(unmoved, samples)["arrival_ratio"][samples.valid]
    assert torch.allclose(ratio, torch.ones_like(ratio), atol=1e-4)


def test_l2_of_the_peer_is_a_mean_over_14_parameters(samples: Samples) -> None:
    goal = target_database(samples)
    assert float(training_losses(goal, samples, LossWeights(), True, False)["l2"]) < 1e-12
    off = Gaussians(goal.means + 0.1, goal.quats + 0.1, goal.scales + 0.1, goal.opacities + 0.1, goal.colors + 0.1)
    assert float(training_losses(off, samples, LossWeights(), True, False)["l2"]) == pytest.approx(0.01, rel=1e-3)
    with pytest.raises(ValueError, match="the database has"):
        training_losses(goal[:, :-1], samples, LossWeights(), True, False)


def test_appearance_compares_the_target_state_alone(samples: Samples) -> None:
    """Of a state head, renders before the motion say nothing: other truths for them change nothing."""
    assert samples.views is not None
    output = true_state(samples)
    lied = dataclasses.replace(samples, views=dataclasses.replace(samples.views, before=samples.views.after * 0))
    for answer in (output, output.gaussians):
        first = training_losses(answer, samples, LossWeights(), False, True)
        second = training_losses(answer, lied, LossWeights(), False, True)
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert set(training_losses(output.gaussians, samples, LossWeights(), True, True)) == {"image", "alpha"}
    with pytest.raises(ValueError, match="a phase needs"):
        training_losses(output, samples, LossWeights(), False, False)


@pytest.mark.parametrize("motion", [True, False])
def test_renders_teach_displacements_only_without_motion_terms(samples: Samples, motion: bool) -> None:
    torch.manual_seed(0)
    output: NetworkOutput = PartRMNetwork(TINY)(samples.inputs)
    output.displacement.retain_grad()
    silent = {f.name: 0.0 for f in dataclasses.fields(LossWeights)}
    weights = LossWeights(**silent | {"image": 1.0, "absent_views": 1.0})
    losses = training_losses(output, samples, weights, motion, True)
    torch.stack(list(losses.values())).sum().backward()
    gradient = output.displacement.grad
    taught = gradient is not None and float(gradient.abs().max()) > 0
    assert taught != motion


def test_two_samples_of_three_are_rendered_without_contradicted_guesses(samples: Samples) -> None:
    single = dataclasses.replace(samples.inputs, view_valid=(torch.arange(4) < 1).expand(len(samples.valid), 4))
    one = dataclasses.replace(samples, inputs=single)
    torch.manual_seed(0)
    output: NetworkOutput = PartRMNetwork(TINY)(single)
    gaussians = output.gaussians
    told, carved = mostly_carved(output, one).gaussians.opacities, carve(gaussians, single).opacities
    assert not torch.equal(carved, gaussians.opacities)
    assert torch.equal(told[0], gaussians.opacities[0])
    assert torch.equal(told[1:], carved[1:])


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
        costs.append(float(image_losses([(gaussians, truth)], wrong, weights)["image_log"]))
    expected = [math.log(error**2 + PERFECT_MSE) for error in (0.1, 0.2, 0.4)]
    assert costs == pytest.approx(expected, abs=1e-3)


def test_going_by_true_displacements_is_going_by_the_true_motion(samples: Samples) -> None:
    torch.manual_seed(0)
    output: NetworkOutput = PartRMNetwork(TINY)(samples.inputs)
    T = samples.joint.T_after_before
    means = output.gaussians.means
    told = dataclasses.replace(output, displacement=transform_points(T, means) - means)
    n = means.shape[1]
    own, given = moved_softly(told, None), moved_softly(told, T)
    assert torch.allclose(own.means[:, n:], given.means[:, n:], atol=1e-5)
    assert torch.equal(own.opacities, given.opacities)


@pytest.mark.parametrize("config", [STATE, SMALLEST_PEER], ids=["state", "peer"])
@pytest.mark.parametrize("appearance", [False, True])
def test_every_parameter_learns(samples: Samples, config, appearance: bool) -> None:
    torch.manual_seed(0)
    network = PeerNetwork(config) if config is SMALLEST_PEER else PartRMNetwork(config)
    losses = training_losses(network(samples.inputs), samples, LossWeights(), not appearance, appearance)
    torch.stack(list(losses.values())).sum().backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None]
    assert all(bool(torch.isfinite(p.grad).all()) for p in network.parameters() if p.grad is not None)


def test_the_peer_gives_as_many_gaussians_as_ours_under_true_rays() -> None:
    inputs = made(filled=False).inputs
    network = PeerNetwork(SMALLEST_PEER).eval()
    assert len(network(inputs)) == len(PartRMNetwork(TINY)(inputs).gaussians)
    rays = network.input_map(inputs)[:, :, 3:]
    assert isinstance(inputs.cameras, Cameras)
    assert torch.allclose(rays, inputs.cameras.plucker(), atol=1e-5)
