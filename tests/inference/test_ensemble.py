from dataclasses import fields, replace

import pytest
import torch
from support.network_inputs import some_input
from torch.testing import assert_close

from partrm.geometry.gaussians import Gaussians
from partrm.geometry.joints import JointMotion, JointType
from partrm.geometry.transforms import matrix_from_quaternion, transform_points
from partrm.inference import ensemble
from partrm.inference.decode import run_network
from partrm.inference.ensemble import (
    AS_GIVEN,
    OTHERS,
    REACH,
    Question,
    chance_right,
    conclude,
    consult,
    differ,
    distinct_joints,
    first_view_alone,
    leading,
    mean_joint,
    mirrored_gaussians,
    mirrored_input,
    mirrored_joint,
    mirrored_points,
    pulled_further,
    with_first_view,
)
from partrm.model.network import TINY, PartRMNetwork

MIRROR = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))


def asked(network, inputs, others=OTHERS, refine=None):
    """The surest answer, then the others."""
    return conclude(consult(network, [inputs], [others])[0], refine)


def ask(network, inputs, questions):
    """The answers to some questions about one sample, all in one batch."""
    return [answer for answer, _ in ensemble._asked(network, [inputs] * len(questions), questions)]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    net = PartRMNetwork(TINY).eval()
    torch.nn.init.normal_(net.head.weight, std=0.05)  # answers that differ from pixel to pixel
    return net


@pytest.fixture
def inputs():
    return some_input(1, TINY.image_size_px)


def some_joint(kind):
    axis = torch.nn.functional.normalize(torch.tensor([0.3, 0.8, -0.5]), dim=0)
    return JointMotion(kind, axis, torch.tensor([0.2, -0.1, 0.3]), 0.6, 0.9)


@pytest.mark.parametrize("kind", [JointType.REVOLUTE, JointType.PRISMATIC])
def test_a_mirrored_joint_moves_mirrored_points_to_mirrored_places(kind, generator):
    joint, points = some_joint(kind), torch.randn(20, 3, generator=generator)
    moved = transform_points(joint.T_after_before[None], points[None])[0]
    behind = transform_points(mirrored_joint(joint).T_after_before[None], mirrored_points(points)[None])[0]
    assert_close(behind, mirrored_points(moved), atol=1e-5, rtol=0)
    back = mirrored_joint(mirrored_joint(joint))
    assert all(bool(torch.as_tensor(getattr(back, f.name) == getattr(joint, f.name)).all()) for f in fields(joint))


def test_chance_grows_with_confidence_and_with_agreement(network, inputs):
    answers = asked(network, inputs)
    slide, turn = some_joint(JointType.PRISMATIC), some_joint(JointType.REVOLUTE)

    def chance(confidence, *others):
        joints = [replace(slide, confidence=confidence), *others]
        return chance_right([replace(answers[0], joint=joint) for joint in joints])

    found = [chance(0.7, turn, turn), chance(0.9, turn, turn), chance(0.9, slide, turn), chance(0.9, slide, slide)]
    assert found == sorted(found)
    assert found[0] < 0.1 < 0.7 < found[-1] < chance(1.0, slide, slide) < 1
    assert chance(0.9, slide) is None, "the network was not asked all questions"


def test_mirrored_gaussians_have_mirrored_covariances(generator):
    quats = torch.nn.functional.normalize(torch.randn(30, 4, generator=generator), dim=-1)
    scales = torch.rand(30, 3, generator=generator) + 0.1
    gaussians = Gaussians(torch.randn(30, 3, generator=generator), quats, scales, torch.rand(30), torch.rand(30, 3))

    def covariance(g):
        R = matrix_from_quaternion(g.quats)
        return R @ torch.diag_embed(g.scales**2) @ R.mT

    behind = mirrored_gaussians(gaussians)
    assert_close(covariance(behind), MIRROR @ covariance(gaussians) @ MIRROR, atol=1e-5, rtol=0)
    assert_close(behind.means, gaussians.means @ MIRROR)


def test_mirroring_twice_gives_the_input_back(inputs):
    back = mirrored_input(mirrored_input(inputs))
    for name, leaf in inputs.leaves().items():
        assert_close(back.leaves()[name], leaf, atol=1e-6, rtol=0)


def test_a_mirrored_camera_sees_mirrored_points_at_mirrored_pixels(inputs, generator):
    points = 0.3 * torch.randn(1, 4, 9, 3, generator=generator)
    pixels, depth = inputs.cameras.project(points)
    flipped, same = mirrored_input(inputs).cameras.project(mirrored_points(points))
    assert_close(same, depth, atol=1e-5, rtol=0)
    assert_close(flipped[..., 0], inputs.cameras.width - pixels[..., 0], atol=1e-3, rtol=0)
    assert_close(flipped[..., 1], pixels[..., 1], atol=1e-3, rtol=0)


def test_asking_the_mirrored_sample_in_the_mirror_is_asking_the_sample(network, inputs):
    """What the network says of the mirrored question is mirrored back exactly."""
    (plain,) = ask(network, mirrored_input(inputs), [AS_GIVEN])
    (question,) = ask(network, inputs, [Question(mirror=True)])
    assert_close(question.gaussians.means, mirrored_points(plain.gaussians.means), atol=1e-5, rtol=0)
    assert_close(question.probability, plain.probability.flip(-1), atol=1e-5, rtol=0)
    assert question.joint.type == plain.joint.type
    assert_close(question.joint.axis, mirrored_joint(plain.joint).axis, atol=1e-4, rtol=0)
    assert_close(question.joint.pivot, mirrored_joint(plain.joint).pivot, atol=1e-4, rtol=0)
    assert question.joint.amount == pytest.approx(plain.joint.amount, abs=1e-4)
    side = plain.probability.shape[0]
    grid = plain.surface.means.reshape(side, side, 3)
    assert_close(question.surface.means.reshape(side, side, 3), mirrored_points(grid.flip(1)), atol=1e-5, rtol=0)


def test_a_batch_of_questions_answers_as_each_alone(network, inputs):
    together = ask(network, first_view_alone(inputs), OTHERS)
    for question, answer in zip(OTHERS, together, strict=True):
        (alone,) = ask(network, first_view_alone(inputs), [question])
        assert_close(answer.probability, alone.probability, atol=1e-4, rtol=0)
        assert answer.joint.confidence == pytest.approx(alone.joint.confidence, abs=1e-3)


def test_drags_pulled_further_start_where_they_did(inputs):
    further = pulled_further(inputs).drags
    assert_close(further.start, inputs.drags.start)
    assert_close(further.end - further.start, REACH * (inputs.drags.end - inputs.drags.start))


def test_the_other_answers_come_the_surest_first(network, inputs):
    best, *others = asked(network, inputs)
    confidences = [answer.joint.confidence for answer in others if answer.question != AS_GIVEN]
    assert confidences == sorted(confidences, reverse=True)
    alone = asked(network, inputs, ())
    assert len(alone) == 1
    (plain,) = ask(network, inputs, [AS_GIVEN])
    assert_close(alone[0].probability, plain.probability, atol=1e-3, rtol=0)
    assert best.question in (AS_GIVEN, *OTHERS)


def test_a_surer_answer_with_another_joint_wins(network, inputs, monkeypatch):
    """Only the mirrored question finds a hinge, and it is sure of it: it is asked again in full, and taken."""

    def read(output, drawn, reach):
        def told(row, joint):
            mirrored = bool((drawn.drags.start[row] != inputs.drags.start[0]).any())
            sure = mirrored and float(reach[row]) == 1.0
            return replace(
                joint, type=JointType.REVOLUTE if sure else JointType.PRISMATIC, confidence=0.9 if sure else 0.4
            )

        return [told(row, joint) for row, joint in enumerate(READ(output, drawn, reach))]

    READ = ensemble.read_joints
    monkeypatch.setattr(ensemble, "read_joints", read)
    best, *others = asked(network, inputs)
    assert best.question == Question(mirror=True)
    assert best.joint.type == JointType.REVOLUTE
    assert others[0].question == AS_GIVEN


def test_two_that_agree_lead_a_surer_one_and_their_mean_is_the_joint():
    hinge, slide = some_joint(JointType.REVOLUTE), replace(some_joint(JointType.PRISMATIC), confidence=0.95)
    turned = torch.nn.functional.normalize(hinge.axis + 0.1 * torch.tensor([0.8, -0.3, 0.0]), dim=0)
    # The other way about, and its pivot elsewhere along its axis.
    other = replace(hinge, axis=-turned, pivot=hinge.pivot + 0.02 + 5 * turned, amount=-0.8, confidence=0.6)
    joints = [slide, hinge, other]
    assert leading(joints) == 1
    mean = mean_joint(joints)
    assert mean.type == JointType.REVOLUTE
    assert float(mean.axis @ hinge.axis) > float(hinge.axis @ turned)
    assert float(mean.axis @ turned) > float(hinge.axis @ turned)
    assert mean.amount == pytest.approx(0.6 * 0.6 + 0.8 * 0.4, abs=1e-6)
    assert float((mean.pivot - hinge.pivot).norm()) < 0.03
    assert mean_joint([slide, hinge]).type == JointType.PRISMATIC, "each finds its own: the surest leads"
    alone = mean_joint([hinge])
    assert_close(alone.pivot, hinge.pivot)
    assert_close(alone.axis, hinge.axis)


def test_the_refined_mask_decides_which_seen_splats_move(network, inputs):
    side = TINY.image_size_px // 2
    left = torch.zeros(side, side)
    left[:, : side // 2] = 1.0
    best, *_ = asked(network, inputs, (), refine=lambda probability: left[None])
    assert_close(best.probability, left, atol=1e-3, rtol=0)
    visible = best.surface.opacities >= 0.005
    assert best.moving[: int(visible.sum())].tolist() == (left.flatten() > 0.5)[visible].tolist()


def test_the_first_view_is_told_and_the_others_stay(network, inputs):
    with torch.inference_mode():
        output = network(inputs)
    side = TINY.image_size_px // 2
    told = with_first_view(output, torch.full((1, side, side), 0.25))
    assert_close(torch.sigmoid(told.moving_logit[0, : side * side]), torch.full((side * side,), 0.25))
    assert_close(told.moving_logit[0, side * side :], output.moving_logit[0, side * side :])
    assert run_network(network, inputs).moving_logit.shape == told.moving_logit.shape


def test_distinct_joints_leave_out_what_is_the_same():
    hinge, slide = some_joint(JointType.REVOLUTE), some_joint(JointType.PRISMATIC)
    near = replace(hinge, pivot=hinge.pivot + 0.01)
    far = replace(hinge, pivot=hinge.pivot + torch.tensor([0.4, 0.0, 0.0]))
    assert differ(hinge, slide)
    assert differ(hinge, far)
    assert not differ(hinge, near)

    assert distinct_joints([hinge, near, slide, far, hinge]) == (hinge, slide, far)
    assert distinct_joints([hinge, slide, far], most=2) == (hinge, slide)
