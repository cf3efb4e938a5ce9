"""Networks of two layers and two depths: their starts, their losses, and what is read off them."""

import dataclasses
import math

import pytest
import torch
from einops import rearrange

pytest.importorskip("warp", reason="samples are rendered with warp-lang (extra `data`)")

from boxes import cabinet
from torch.testing import assert_close

from partrm.agreement import agree, agree_layers
from partrm.articulation.kinematics import JointType
from partrm.articulation.objects import ArticulatedObject
from partrm.articulation.procedural import generate
from partrm.carving import carve, carve_layers, own_distance, shown_distance
from partrm.data.gaussian_database import surface_gaussians
from partrm.data.online import SampleConfig, make_samples
from partrm.data.samples import MotionTargets, Samples
from partrm.data.scenarios import JointTables
from partrm.gaussians import Gaussians
from partrm.losses import LossWeights, mixed, motion_losses
from partrm.metrics import composite_on_white, psnr
from partrm.model.checkpoints import load_model, save_checkpoint, started_from
from partrm.model.network import (
    SECOND_DEPTH,
    TINY,
    DepthModes,
    JointVotes,
    Layer,
    NetworkOutput,
    PartRMNetwork,
    depth_modes,
)
from partrm.motion import carry, joint_of, read_motion
from partrm.objectives import image_scores
from partrm.rendering.meshes import MeshScene, material_table
from partrm.rendering.splats import render_splats
from partrm.transforms import transform_points

TWO = dataclasses.replace(TINY, layers=2)
WHOLE = dataclasses.replace(TINY, layers=2, depth_modes=2, features="efficientnet-lite0")


@pytest.fixture(scope="module")
def samples() -> Samples:
    return made([cabinet()], 64, 4)


def made(objects: list[ArticulatedObject], size_px: int, batch: int) -> Samples:
    scene, tables = MeshScene.from_objects(objects), JointTables.from_objects(objects)
    which = torch.zeros(batch + batch // 2, dtype=torch.long)
    config = SampleConfig(size_px, 1, novel_views=2, novel_size_px=size_px, layers=2, augment=False)
    generator = torch.Generator().manual_seed(5)
    return make_samples(scene, tables, which, material_table(objects)[which], config, generator, batch)


def true_layer(t: MotionTargets, samples: Samples) -> Layer:
    logit = torch.logit(rearrange(t.coverage, "b v h w -> b (v h w)"), eps=1e-7)
    distance = rearrange(t.distance, "b v h w -> b (v h w)")
    return Layer(surface_gaussians(t, samples.inputs.cameras), distance, logit, None)


def true_output(samples: Samples) -> NetworkOutput:
    """A network that knows everything."""
    still, part = (true_layer(t, samples) for t in (samples.still, samples.part))
    t, joint = samples.part, samples.joint
    forward = torch.where(joint.amount < 0, -1.0, 1.0)
    axis = (joint.axis * forward[:, None])[:, None]
    way = joint.pivot[:, None] - part.gaussians.means
    way = way - (way * axis).sum(-1, keepdim=True) * axis
    n = way.shape[1]
    turns = torch.where(joint.type == JointType.REVOLUTE, 30.0, -30.0)[:, None].expand(-1, n)
    moving = rearrange(samples.targets.moving, "b v h w -> b (v h w)")
    return NetworkOutput(
        still.gaussians,
        torch.where(moving, 30.0, -30.0),
        rearrange(t.displacement, "b v h w c -> b (v h w) c"),
        still.ray_distance,
        still.opacity_logit,
        samples.inputs.view_valid,
        JointVotes(turns, axis.expand(-1, n, 3), way, joint.amount.abs()[:, None].expand(-1, n)),
        part=part,
    )


def test_layers_together_show_what_the_views_do(samples):
    nearest = torch.full_like(samples.targets.distance, math.inf)
    for layer in (samples.still, samples.part):
        nearest = torch.where(layer.surface, torch.minimum(nearest, layer.distance), nearest)
    assert torch.equal(nearest.isfinite(), samples.targets.surface)
    assert_close(nearest[samples.targets.surface], samples.targets.distance[samples.targets.surface])
    part = samples.part
    assert torch.equal(part.moving, part.surface)
    assert bool(part.surface[samples.targets.moving].all())
    assert not bool(samples.still.moving.any())
    behind = samples.still.surface & samples.targets.moving
    assert bool(behind.any()), "the part hides something"
    assert bool((samples.still.distance > samples.targets.distance)[behind].all())
    # Points of the part go where the joint takes them, hidden ones too.
    points = rearrange(part.point, "b v h w c -> b (v h w) c")
    moved = transform_points(samples.joint.T_after_before, points) - points
    shift = rearrange(part.displacement, "b v h w c -> b (v h w) c")
    on = rearrange(part.surface, "b v h w -> b (v h w)")
    assert_close(shift[on], moved[on], atol=1e-5, rtol=0)


def test_the_truth_costs_nothing_and_swapped_layers_do(samples):
    right = true_output(samples)
    silent = ("opacity", "crisp")  # edges are half covered
    good = motion_losses(right, samples, LossWeights())
    for name, value in good.items():
        assert abs(float(value)) < (0.3 if name in silent else 0.02), name
    swapped = dataclasses.replace(
        right, gaussians=right.part.gaussians, ray_distance=right.part.ray_distance,
        opacity_logit=right.part.opacity_logit, part=right.still,
    )  # fmt: skip
    bad = motion_losses(swapped, samples, LossWeights())
    for name in ("distance", "point", "opacity"):
        assert float(bad[name]) > 10 * abs(float(good[name])) + 0.02, name
    with pytest.raises(ValueError, match="targets of both"):
        motion_losses(right, dataclasses.replace(samples, still=None), LossWeights())


def test_the_part_is_read_whole_and_moves_by_the_true_joint(samples):
    output = true_output(samples)
    for row in range(len(samples.valid)):
        gaussians, moving, joint = read_motion(output, samples.inputs, row)
        truth = samples.joint.T_after_before[row]
        part = output.part.gaussians[row]
        shown = part.means[part.opacities > 0.5]
        goal = transform_points(truth, shown)
        assert_close(transform_points(joint_of(output, row).T_after_before, shown), goal, atol=1e-4, rtol=0)
        # The drags' say comes from surfaces as coarse as the grid.
        assert joint.amount == pytest.approx(abs(float(samples.joint.amount[row])), rel=0.12)
        assert int(moving.sum()) == int((part.opacities >= 0.005).sum())
        after = carry(gaussians, moving, joint.T_after_before)
        assert torch.equal(after.means[~moving], gaussians.means[~moving])
        pixels, _ = samples.inputs.cameras[row, 0].project(gaussians.means[moving])
        assert bool(((pixels > 0) & (pixels < 64)).float().mean() > 0.5)


def test_two_true_layers_show_the_opened_state_better_than_one():
    """What the part hid is there: the pictures of the target state are nearer to the truth than with one layer."""
    samples = made([generate("drawers", 3)], 128, 4)
    two = image_scores(true_output(samples), samples)
    one = true_layer(samples.targets, samples)
    flat = dataclasses.replace(true_output(samples), gaussians=one.gaussians, part=None)
    single = image_scores(flat, samples)
    assert float(two["psnr_moved"].nanmean()) > float(single["psnr_moved"].nanmean()) + 0.3
    assert float(two["psnr"].mean()) > 20
    assert float(two["psnr_moved"].nanmean()) > float(two["copy_moved"].nanmean()) + 2


def test_source_states_are_seen_whatever_moves(samples):
    output = true_output(samples)
    assert samples.views is not None
    images = render_splats(output.before, samples.views.cameras).rgb.clamp(0, 1)
    expected = psnr(images, composite_on_white(samples.views.before)).mean(1)
    assert_close(image_scores(output, samples)["psnr"], expected, atol=1.5, rtol=0)  # but for what is carved


@pytest.mark.parametrize("config", [TWO, WHOLE], ids=["two", "whole"])
def test_a_started_network_answers_as_the_old_one_in_both_layers(samples, config):
    torch.manual_seed(1)
    old, new = PartRMNetwork(TINY).eval(), PartRMNetwork(config).eval()
    weights = {k: v for k, v in old.state_dict().items()}
    weights["stem.weight"], weights["look_again.weight"] = (
        weights["stem.weight"][:, :-16].clone(), weights["look_again.weight"][:, :-4].clone()
    )  # fmt: skip
    new.load_state_dict(started_from(weights, old.config, new))
    inputs = dataclasses.replace(samples.inputs, lens_known=torch.zeros_like(samples.inputs.view_valid))
    with torch.no_grad():
        before, after = old(inputs), new(inputs)
    for layer in (after.still, after.part):
        assert_close(layer.gaussians.means, before.gaussians.means, atol=1e-5, rtol=1e-4)
        assert_close(layer.opacity_logit, before.opacity_logit, atol=1e-5, rtol=1e-4)
        if config.depth_modes == 2:
            farther = layer.modes.distance[..., 1] - layer.modes.distance[..., 0]
            assert_close(farther, torch.full_like(farther, SECOND_DEPTH), atol=1e-5, rtol=0)
    assert_close(after.displacement, before.displacement, atol=1e-5, rtol=1e-4)
    assert_close(after.votes.axis, before.votes.axis, atol=1e-5, rtol=1e-4)


def test_every_parameter_of_the_whole_network_learns_and_the_trunk_has_none(samples, tmp_path):
    torch.manual_seed(0)
    network = PartRMNetwork(WHOLE)
    with torch.no_grad():
        for conv in network.taught:
            conv.weight.normal_(std=0.1)
    losses = motion_losses(network(samples.inputs), samples, LossWeights())
    torch.stack(list(losses.values())).sum().backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None or not bool(p.grad.isfinite().all())]
    assert not list(network.features.parameters())
    assert not [name for name in network.state_dict() if name.startswith("features.")]
    save_checkpoint(network.state_dict(), WHOLE, tmp_path / "w", half=False)
    loaded = load_model(tmp_path / "w")
    assert loaded.config == WHOLE
    with torch.no_grad():
        one, two = network.eval()(samples.inputs), loaded.network(samples.inputs)
    assert_close(one.part.gaussians.means, two.part.gaussians.means)


def test_whether_the_lens_is_known_reaches_the_network_for_present_views_only(samples):
    torch.manual_seed(0)
    network = PartRMNetwork(TINY).eval()
    valid = samples.inputs.view_valid
    told, untold, absent = (
        dataclasses.replace(samples.inputs, lens_known=known) for known in (valid, valid & False, ~valid)
    )
    with torch.no_grad():
        answers = [network(inputs).moving_logit for inputs in (told, untold, absent)]
    assert not torch.allclose(answers[0], answers[1])
    assert torch.equal(answers[1], answers[2])


def test_mixtures_are_what_torch_distributions_say(samples):
    g = torch.Generator().manual_seed(0)
    b, v, n = 2, 4, 50
    distance = torch.rand(b, v * n, 2, generator=g) + 2
    share = torch.log_softmax(torch.randn(b, v * n, 2, generator=g), -1)
    width = torch.rand(b, v * n, 2, generator=g) * 0.2 + 0.05
    truth = torch.rand(b, v, n, generator=g) + 2
    two = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=share), torch.distributions.Laplace(distance, width)
    )
    fake = dataclasses.replace(
        samples, inputs=dataclasses.replace(samples.inputs, view_valid=torch.ones(b, v, dtype=torch.bool))
    )
    found = mixed(DepthModes(distance, share, width), truth, fake)
    expected = -0.05 * two.log_prob(rearrange(truth, "b v n -> b (v n)"))
    # Rounded at the peak, by .01 over the width at most.
    assert_close(rearrange(found, "b v n -> b (v n)"), expected, atol=0.05 * 0.01 / 0.05, rtol=0)


def test_a_mixture_learns_one_of_two_depths_where_a_mean_lies_between(samples):
    g = torch.Generator().manual_seed(0)
    truth = torch.where(torch.rand(1, 1, 4000, generator=g) < 0.7, 2.0, 2.6)
    raw = torch.zeros(1, 1, 1, 1, 5, requires_grad=True)
    with torch.no_grad():
        raw[..., 1] = SECOND_DEPTH
    one = dataclasses.replace(
        samples.inputs, cameras=samples.inputs.cameras[:1, :1], view_valid=torch.ones(1, 1).bool()
    )
    away = float(one.cameras.positions.norm())
    fake = dataclasses.replace(samples, inputs=one)
    optimizer = torch.optim.Adam([raw], 0.02)
    for _ in range(600):
        modes = depth_modes(raw[..., :1], raw[..., 1:], one)
        everywhere = DepthModes(*(x.expand(1, 4000, 2) for x in (modes.distance, modes.log_share, modes.width)))
        loss = mixed(everywhere, truth + away - 2.2, fake).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = (modes.distance[0, 0] - away + 2.2).sort()
    assert_close(found.values.detach(), torch.tensor([2.0, 2.6]), atol=0.02, rtol=0)
    shares = modes.log_share[0, 0].exp()[found.indices]
    assert_close(shares.detach(), torch.tensor([0.7, 0.3]), atol=0.05, rtol=0)


def some_gaussians(b: int, n: int, g: torch.Generator) -> Gaussians:
    return Gaussians(
        torch.rand(b, n, 3, generator=g) - 0.5,
        torch.nn.functional.normalize(torch.randn(b, n, 4, generator=g), dim=-1),
        torch.full((b, n, 3), 0.01),
        torch.rand(b, n, generator=g),
        torch.rand(b, n, 3, generator=g),
    )


def test_guesses_are_contradicted_by_the_nearest_opaque_layer(samples):
    g = torch.Generator().manual_seed(2)
    inputs = samples.inputs
    n = 4 * 32 * 32
    first, second = some_gaussians(4, n, g), some_gaussians(4, n, g)
    shown = shown_distance([first, second], inputs)
    d1, d2 = own_distance(first, inputs.cameras), own_distance(second, inputs.cameras)
    o1, o2 = first.opacities > 0.5, second.opacities > 0.5
    expected = torch.where(o1 & o2, torch.minimum(d1, d2), torch.where(o2 & ~o1, d2, d1))
    assert_close(shown, expected)
    assert_close(carve_layers([first], inputs)[0].opacities, carve(first, inputs).opacities)


def test_layers_of_several_views_agree_as_what_is_shown_does(samples):
    g = torch.Generator().manual_seed(3)
    n = 4 * 32 * 32
    still, part = some_gaussians(4, n, g), some_gaussians(4, n, g)
    moving = torch.rand(4, n, generator=g)
    alone = agree_layers(still, part, moving, samples.inputs)
    assert torch.equal(alone[0].means, still.means)
    assert torch.equal(alone[1].means, part.means)
    several = dataclasses.replace(samples.inputs, view_valid=torch.ones(4, 4, dtype=torch.bool))
    several = dataclasses.replace(several, images=several.images[:, :1].expand(-1, 4, -1, -1, -1))
    # All of it the part's, or none: the other layer stays.
    opaque = [dataclasses.replace(x, opacities=torch.full((4, n), 0.9)) for x in (still, part)]
    for share, index in ((1.0, 1), (0.0, 0)):
        agreed = agree_layers(*opaque, torch.full((4, n), share), several)
        assert_close(agreed[index].means, agree(opaque[index], several).means)
        assert torch.equal(agreed[1 - index].means, opaque[1 - index].means)
