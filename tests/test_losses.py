import dataclasses

import pytest
import torch
from einops import rearrange

pytest.importorskip("warp")

from boxes import cabinet

from partrm.articulation.kinematics import JointType
from partrm.data.online import SampleConfig, make_samples
from partrm.data.samples import Samples
from partrm.data.scenarios import JointTables
from partrm.losses import LossWeights, motion_losses
from partrm.model.network import TINY, JointVotes, NetworkOutput, PartRMNetwork
from partrm.pipeline import read_motion
from partrm.rendering.meshes import MeshScene, material_table
from partrm.transforms import transform_points

VOTES = ("joint_type", "axis", "to_axis", "angle")


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


def true_votes(samples: Samples) -> JointVotes:
    """Votes from the samples' own displacements: by the nearest point of the axis that the truth's motion leaves."""
    point = rearrange(samples.targets.point, "b v h w c -> b (v h w) c")
    joint, n = samples.joint, point.shape[1]
    axis = (joint.axis * joint.amount.sign()[:, None])[:, None].expand_as(point)
    along = ((joint.pivot[:, None] - point) * axis).sum(-1, keepdim=True)
    logit = torch.where(joint.type == JointType.REVOLUTE, 20.0, -20.0)[:, None].expand(-1, n)
    return JointVotes(
        logit, axis, joint.pivot[:, None] - point - along * axis, joint.amount.abs()[:, None].expand(-1, n)
    )


def test_true_votes_cost_nothing_and_others_do(samples: Samples, output: NetworkOutput) -> None:
    good = motion_losses(dataclasses.replace(output, votes=true_votes(samples)), samples, LossWeights())
    for name in VOTES:
        assert abs(float(good[name])) < 1e-3, name
    turned = dataclasses.replace(true_votes(samples), axis=-true_votes(samples).axis)
    bad = motion_losses(dataclasses.replace(output, votes=turned), samples, LossWeights())
    assert float(bad["axis"]) > 1.5
    assert {int(kind) for kind in samples.joint.type} == {int(JointType.REVOLUTE), int(JointType.PRISMATIC)}


def test_true_votes_are_read_as_the_true_motion(samples: Samples, output: NetworkOutput) -> None:
    point, moving = (
        rearrange(getattr(samples.targets, name), "b v h w ... -> b (v h w) ...") for name in ("point", "moving")
    )
    gaussians = dataclasses.replace(output.gaussians, means=point)
    moved = transform_points(samples.joint.T_after_before, point)
    told = dataclasses.replace(
        output,
        gaussians=gaussians,
        moving_logit=torch.where(moving, 9.0, -9.0),
        displacement=moved - point,
        votes=true_votes(samples),
    )
    drags = samples.inputs.drags  # some end a little beside where they should
    silent = dataclasses.replace(samples.inputs, drags=dataclasses.replace(drags, valid=drags.valid & False))
    for sample in range(len(moving)):
        before, part, joint = read_motion(told, silent, sample)
        truth = transform_points(samples.joint.T_after_before[sample], before.means[part])
        assert torch.allclose(transform_points(joint.T_after_before, before.means[part]), truth, atol=1e-4)


def test_networks_without_votes_have_no_such_terms(samples: Samples) -> None:
    network = PartRMNetwork(dataclasses.replace(TINY, joint_votes=False))
    losses = motion_losses(network(samples.inputs), samples, LossWeights())
    assert not set(VOTES) & set(losses)


def test_gradients_are_finite_where_votes_are_exact_or_zero(samples: Samples, output: NetworkOutput) -> None:
    for votes in (true_votes(samples), JointVotes(*(torch.zeros_like(v) for v in vars(true_votes(samples)).values()))):
        leaves = JointVotes(*(value.clone().requires_grad_() for value in vars(votes).values()))
        losses = motion_losses(dataclasses.replace(output, votes=leaves), samples, LossWeights())
        grads = torch.autograd.grad(sum(losses[name] for name in VOTES), list(vars(leaves).values()))
        assert all(torch.isfinite(g).all() for g in grads)
