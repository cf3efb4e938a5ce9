import dataclasses

import pytest
import torch
from einops import rearrange

pytest.importorskip("warp")

from support.boxes import cabinet

from partrm.geometry.joints import JointType
from partrm.geometry.transforms import transform_points
from partrm.inference.decode import read_motion
from partrm.inference.reading import Reading
from partrm.model.network import TINY, JointVotes, NetworkOutput, PartRMNetwork
from partrm.rendering.meshes import MeshScene, material_table
from partrm.synthesis.sampler import SampleConfig, make_samples
from partrm.synthesis.samples import MotionTargets, Samples
from partrm.synthesis.scenarios import JointTables
from partrm.training.config import LossWeights
from partrm.training.losses import REVOLUTE_SHARE, SMALL_MOTION, motion_error_loss, motion_losses, robust

VOTES = ("joint_type", "axis", "offset_to_axis", "angle", "carried")


@pytest.fixture(scope="module")
def samples() -> Samples:
    objects = [cabinet()]
    scene, tables = MeshScene.from_objects(objects), JointTables.from_objects(objects)
    which = torch.zeros(12, dtype=torch.long)
    config = SampleConfig(image_size_px=TINY.image_size_px, views=2)
    return make_samples(scene, tables, which, material_table(objects)[which], config, torch.Generator(), 6)


@pytest.fixture
def output(samples: Samples) -> NetworkOutput:
    torch.manual_seed(0)
    return PartRMNetwork(TINY)(samples.inputs)


def own_surface(samples: Samples) -> MotionTargets:
    """The part's whole surface, seen or hidden, which the votes are taught on."""
    assert samples.part is not None
    return samples.part


def true_votes(samples: Samples, surface: MotionTargets) -> JointVotes:
    """Votes from the samples' own displacements: by the nearest point of the axis that the truth's motion leaves."""
    point = rearrange(surface.point, "b v h w c -> b (v h w) c")
    joint, n = samples.joint, point.shape[1]
    axis = (joint.axis * joint.amount.sign()[:, None])[:, None].expand_as(point)
    along = ((joint.pivot[:, None] - point) * axis).sum(-1, keepdim=True)
    logit = torch.where(joint.type == JointType.REVOLUTE, 20.0, -20.0)[:, None].expand(-1, n)
    return JointVotes(
        logit, axis, joint.pivot[:, None] - point - along * axis, joint.amount.abs()[:, None].expand(-1, n)
    )


def test_true_votes_cost_nothing_and_others_do(samples: Samples, output: NetworkOutput) -> None:
    good = motion_losses(
        dataclasses.replace(output, votes=true_votes(samples, own_surface(samples))), samples, LossWeights()
    )
    for name in VOTES[:4]:
        assert abs(float(good[name])) < 1e-3, name
    turned = dataclasses.replace(
        true_votes(samples, own_surface(samples)), axis=-true_votes(samples, own_surface(samples)).axis
    )
    bad = motion_losses(dataclasses.replace(output, votes=turned), samples, LossWeights())
    assert float(bad["axis"]) > 1.5
    assert {int(kind) for kind in samples.joint.type} == {int(JointType.REVOLUTE), int(JointType.PRISMATIC)}


def test_true_votes_are_read_as_the_true_motion(samples: Samples, output: NetworkOutput) -> None:
    point, moving = (
        rearrange(getattr(samples.targets, name), "b v h w ... -> b (v h w) ...") for name in ("point", "moving")
    )
    moved = transform_points(samples.joint.T_after_before, point)
    told = Reading(
        gaussians=dataclasses.replace(output.gaussians, means=point),
        hidden=None,
        moving_logit=torch.where(moving, 9.0, -9.0),
        displacement=moved - point,
        votes=true_votes(samples, samples.targets),
        view_valid=output.view_valid,
    )
    drags = samples.inputs.drags  # some end a little beside where they should
    silent = dataclasses.replace(samples.inputs, drags=dataclasses.replace(drags, valid=drags.valid & False))
    for sample in range(len(moving)):
        before, part, joint = read_motion(told, silent, sample)
        truth = transform_points(samples.joint.T_after_before[sample], before.means[part])
        assert torch.allclose(transform_points(joint.T_after_before, before.means[part]), truth, atol=1e-4)


def test_undecided_votes_lean_neither_way_over_the_pool(samples: Samples, output: NetworkOutput) -> None:
    logit = torch.zeros_like(true_votes(samples, own_surface(samples)).revolute_logit).requires_grad_()
    votes = dataclasses.replace(true_votes(samples, own_surface(samples)), revolute_logit=logit)
    loss = motion_losses(dataclasses.replace(output, votes=votes), samples, LossWeights())["joint_type"]
    (grad,) = torch.autograd.grad(loss, logit)
    turns = samples.joint.type == JointType.REVOLUTE
    pulls = grad.sum(1)[samples.valid]
    up, down = -pulls[turns[samples.valid]].mean(), pulls[~turns[samples.valid]].mean()
    torch.testing.assert_close(REVOLUTE_SHARE * up, (1 - REVOLUTE_SHARE) * down)


def test_the_voted_joint_carries_true_points_to_their_goals(samples: Samples, output: NetworkOutput) -> None:
    own = own_surface(samples)
    point, goal = (rearrange(getattr(own, n), "b v h w c -> b (v h w) c") for n in ("point", "displacement"))
    moving = rearrange(own.moving, "b v h w -> b v (h w)").float()
    assert output.part is not None
    part = dataclasses.replace(output.part, gaussians=dataclasses.replace(output.part.gaussians, means=point))
    votes = true_votes(samples, own)
    true = dataclasses.replace(output, part=part, displacement=goal, votes=votes)
    assert float(motion_error_loss(true, samples, own).max()) < 1e-3
    still = dataclasses.replace(true, displacement=0 * goal, votes=dataclasses.replace(votes, angle=0 * votes.angle))
    length = rearrange(own.displacement.norm(dim=-1), "b v h w -> b v (h w)")
    mean = (length * moving).sum((1, 2)) / moving.sum((1, 2))
    torch.testing.assert_close(
        motion_error_loss(still, samples, own), robust(mean / (mean + SMALL_MOTION), 0.1), rtol=1e-4, atol=1e-4
    )


def test_the_voted_joint_teaches_votes_and_no_depths(samples: Samples, output: NetworkOutput) -> None:
    assert output.votes is not None
    assert output.part is not None
    leaves = [output.part.ray_distance, output.votes.offset_to_axis, output.votes.axis]
    error = motion_error_loss(output, samples, own_surface(samples)).sum()
    grads = torch.autograd.grad(error, leaves, allow_unused=True)
    assert grads[0] is None
    assert all(g is not None and float(g.abs().max()) > 0 for g in grads[1:])


def test_gradients_are_finite_where_votes_are_exact_or_zero(samples: Samples, output: NetworkOutput) -> None:
    for votes in (
        true_votes(samples, own_surface(samples)),
        JointVotes(*(torch.zeros_like(v) for v in vars(true_votes(samples, own_surface(samples))).values())),
    ):
        leaves = JointVotes(*(value.clone().requires_grad_() for value in vars(votes).values()))
        losses = motion_losses(dataclasses.replace(output, votes=leaves), samples, LossWeights())
        grads = torch.autograd.grad(sum(losses[name] for name in VOTES), list(vars(leaves).values()))
        assert all(torch.isfinite(g).all() for g in grads)
