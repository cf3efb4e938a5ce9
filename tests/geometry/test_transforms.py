import math

import pytest
import torch
from torch.testing import assert_close

from partrm.geometry.transforms import (
    invert_rigid,
    matrix_from_quaternion,
    multiply_quaternions,
    pose,
    quaternion_from_matrix,
    rotation_from_axis_angle,
    screw_motion,
    skew,
    transform_points,
)


def random_rotations(n, generator):
    q = torch.nn.functional.normalize(torch.randn(n, 4, generator=generator, dtype=torch.float64), dim=-1)
    return matrix_from_quaternion(q)


def random_poses(n, generator):
    return pose(random_rotations(n, generator), torch.randn(n, 3, generator=generator, dtype=torch.float64))


def unit(n, generator):
    return torch.nn.functional.normalize(torch.randn(n, 3, generator=generator, dtype=torch.float64), dim=-1)


def test_matrices_of_unit_quaternions_are_rotations(generator):
    R = random_rotations(50, generator)
    assert_close(R @ R.mT, torch.eye(3, dtype=R.dtype).expand_as(R))
    assert_close(torch.linalg.det(R), torch.ones(50, dtype=R.dtype))


def test_quaternion_and_matrix_are_inverses_at_every_angle(generator):
    axis = unit(200, generator)
    angle = torch.cat([torch.linspace(-math.pi, math.pi, 190, dtype=torch.float64), torch.zeros(5).double()])
    angle = torch.cat([angle, torch.full((5,), math.pi, dtype=torch.float64) - 10.0 ** -torch.arange(4, 9)])
    R = rotation_from_axis_angle(axis, angle)
    q = quaternion_from_matrix(R)
    assert (q[:, 0] >= 0).all()
    assert_close(q.norm(dim=-1), torch.ones(200, dtype=q.dtype))
    assert_close(matrix_from_quaternion(q), R, atol=1e-12, rtol=0)


def test_quaternion_from_matrix_has_finite_gradients_at_half_turns():
    for R in (torch.eye(3), torch.diag(torch.tensor([1.0, -1.0, -1.0])), torch.diag(torch.tensor([-1.0, -1.0, 1.0]))):
        R = R.clone().requires_grad_()
        quaternion_from_matrix(R).sum().backward()
        assert R.grad is not None
        assert torch.isfinite(R.grad).all()


def test_product_of_quaternions_is_the_product_of_matrices(generator):
    R1, R2 = random_rotations(20, generator), random_rotations(20, generator)
    q = multiply_quaternions(quaternion_from_matrix(R1), quaternion_from_matrix(R2))
    assert_close(matrix_from_quaternion(q), R1 @ R2)


def test_group_axioms(generator):
    T_a_b, T_b_c = random_poses(10, generator), random_poses(10, generator)
    eye = torch.eye(4, dtype=torch.float64).expand(10, 4, 4)
    assert_close(T_a_b @ invert_rigid(T_a_b), eye)
    assert_close(invert_rigid(T_a_b), torch.linalg.inv(T_a_b))
    points = torch.randn(10, 7, 3, generator=generator, dtype=torch.float64)
    assert_close(transform_points(T_a_b, transform_points(T_b_c, points)), transform_points(T_a_b @ T_b_c, points))


def test_axis_angle_is_the_matrix_exponential(generator):
    axis, angle = unit(20, generator), torch.linspace(-3, 3, 20, dtype=torch.float64)
    assert_close(rotation_from_axis_angle(axis, angle), torch.matrix_exp(skew(axis * angle[:, None])))


def test_rotation_is_right_handed():
    z, quarter = torch.tensor([0.0, 0.0, 1.0]), torch.tensor(math.pi / 2)
    turned = rotation_from_axis_angle(z, quarter) @ torch.tensor([1.0, 0.0, 0.0])
    assert_close(turned, torch.tensor([0.0, 1.0, 0.0]))


@pytest.mark.parametrize("prismatic", [False, True])
def test_screw_motions_of_one_joint_add_up(prismatic, generator):
    axis, pivot = unit(8, generator), torch.randn(8, 3, generator=generator, dtype=torch.float64)
    a, b = torch.randn(2, 8, generator=generator, dtype=torch.float64)
    kind = torch.full((8,), prismatic)
    both = screw_motion(axis, pivot, a, kind) @ screw_motion(axis, pivot, b, kind)
    assert_close(both, screw_motion(axis, pivot, a + b, kind))
    along = pivot + 0.7 * axis
    moved = transform_points(screw_motion(axis, pivot, a, kind), along[:, None])[:, 0]
    assert_close(moved, along + a[:, None] * axis if prismatic else along)


def test_axis_angle_has_finite_gradients_at_zero():
    axis = torch.tensor([0.0, 1.0, 0.0], requires_grad=True)
    angle = torch.zeros((), requires_grad=True)
    rotation_from_axis_angle(axis, angle)[0, 2].backward()
    assert_close(angle.grad, torch.tensor(1.0))
    assert axis.grad is not None
    assert torch.isfinite(axis.grad).all()
