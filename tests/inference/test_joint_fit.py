import math

import pytest
import torch

from partrm.geometry.joints import JointMotion, JointType
from partrm.geometry.transforms import screw_motion, transform_points
from partrm.inference.joint_fit import estimate_joint, joints_from_votes


def moved_cloud(prismatic: bool, amount: float, seed: int, noise: float = 0.0):
    g = torch.Generator().manual_seed(seed)
    axis = torch.nn.functional.normalize(torch.randn(3, generator=g, dtype=torch.float64), dim=0)
    pivot = torch.randn(3, generator=g, dtype=torch.float64)
    points = pivot + 0.4 * torch.randn(500, 3, generator=g, dtype=torch.float64)
    T = screw_motion(axis, pivot, torch.tensor(amount, dtype=torch.float64), torch.tensor(prismatic))
    d = transform_points(T, points) - points
    return axis, pivot, T, points, d + noise * torch.randn(500, 3, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("prismatic", "amount"), [(True, 0.3), (False, 0.05), (False, 1.5), (False, math.pi - 1e-3), (False, math.pi)]
)
def test_exact_motion_is_recovered(prismatic: bool, amount: float, seed: int) -> None:
    axis, pivot, T, points, d = moved_cloud(prismatic, amount, seed)
    joint = estimate_joint(points, d, torch.ones(500))
    assert joint.type == (JointType.PRISMATIC if prismatic else JointType.REVOLUTE)
    assert abs(float(joint.axis.double() @ axis)) > 1 - 1e-6
    assert joint.amount == pytest.approx(amount, abs=1e-5)
    assert joint.confidence > 0.999
    assert torch.allclose(joint.T_after_before.double(), T, atol=1e-4)
    if not prismatic:
        offset = joint.pivot.double() - pivot
        assert float((offset - axis * (axis @ offset)).norm()) < 1e-4


def test_half_of_a_half_turn_composes_to_the_whole() -> None:
    _, _, _, points, d = moved_cloud(False, 1.2, 7)
    joint = estimate_joint(points, d, torch.ones(500))
    assert torch.allclose(joint.motion(0.5) @ joint.motion(0.5), joint.motion(1.0), atol=1e-5)


def test_outliers_and_noise_bend_the_fit_little() -> None:
    axis, _, _, points, d = moved_cloud(False, 0.8, 3, noise=0.02)
    d[:50] = 0.0
    joint = estimate_joint(points, d, torch.ones(500))
    assert math.degrees(math.acos(min(1.0, abs(float(joint.axis.double() @ axis))))) < 3
    assert joint.amount == pytest.approx(0.8, abs=0.04)


def test_weights_choose_the_part() -> None:
    axis, _, _, points, d = moved_cloud(True, 0.3, 5)
    weights = torch.ones(500)
    weights[250:] = 0.0
    d[250:] = torch.randn(250, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    joint = estimate_joint(points, d, weights)
    assert float(joint.axis.double() @ axis) > 1 - 1e-6


def test_no_weight_is_an_error() -> None:
    with pytest.raises(ValueError, match="positive weight"):
        estimate_joint(torch.zeros(3, 3), torch.zeros(3, 3), torch.zeros(3))


def joint_from_votes(*votes: torch.Tensor) -> JointMotion:
    (joint,) = joints_from_votes(*(values[None] for values in votes)).unbatched()
    return joint


def votes_for(axis, pivot, prismatic: bool, amount: float, points, seed: int, noise: float) -> tuple:
    g = torch.Generator().manual_seed(seed)

    def shaken(values):
        return values + noise * torch.randn(values.shape, generator=g, dtype=torch.float64)

    to_pivot = pivot - points
    offset_to_axis = to_pivot - (to_pivot @ axis)[:, None] * axis
    logit = torch.full((len(points),), -3.0 if prismatic else 3.0, dtype=torch.float64)
    return shaken(logit), shaken(axis.expand_as(points)), shaken(offset_to_axis), shaken(torch.full_like(logit, amount))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("prismatic", "amount"), [(True, 0.3), (False, 0.05), (False, 1.5), (False, 2.6)])
def test_true_votes_give_the_true_joint(prismatic: bool, amount: float, seed: int) -> None:
    axis, pivot, T, points, d = moved_cloud(prismatic, amount, seed)
    joint = joint_from_votes(points, d, torch.ones(500), *votes_for(axis, pivot, prismatic, amount, points, seed, 0.0))
    assert joint.type == (JointType.PRISMATIC if prismatic else JointType.REVOLUTE)
    assert joint.amount == pytest.approx(amount, abs=1e-5)
    assert torch.allclose(joint.T_after_before.double(), T, atol=1e-5)
    assert joint.confidence > 0.999


def test_votes_outlive_displacements_that_hedge() -> None:
    """Displacements that are all their mean say drawer; the votes say by how much the door turned, and about what."""
    axis, pivot, _, points, d = moved_cloud(False, 1.2, 4)
    hedged = d.mean(0).expand_as(d)
    assert estimate_joint(points, hedged, torch.ones(500)).type == JointType.PRISMATIC
    joint = joint_from_votes(points, hedged, torch.ones(500), *votes_for(axis, pivot, False, 1.2, points, 0, 0.1))
    assert joint.type == JointType.REVOLUTE
    assert float(joint.axis.double() @ axis) > 0.999
    offset = joint.pivot.double() - pivot
    assert float((offset - axis * (axis @ offset)).norm()) < 0.03


def test_votes_without_weight_are_an_error() -> None:
    three, one = torch.zeros(3, 3), torch.zeros(3)
    with pytest.raises(ValueError, match="positive weight"):
        joint_from_votes(three, three, one, one, three, three, one)
