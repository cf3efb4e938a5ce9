"""The measures of the assets' benchmark on surfaces and joints whose errors are known."""

import math

import assets
import numpy as np
import pytest
import torch

from partrm.geometry.joints import JointMotion, JointType


def test_a_shifted_surface_is_as_far_as_its_shift():
    plane = np.stack(np.meshgrid(np.linspace(0, 1, 90), np.linspace(0, 1, 90), [0.0]), -1).reshape(-1, 3)
    shifted = assets.compare(plane + np.array([0, 0, 0.03]), plane)
    assert shifted is not None
    # Either way 0.03, and a little more between random points.
    assert 0.06 <= shifted.chamfer < 0.063
    assert (shifted.f05, shifted.f02) == (1.0, 0.0)
    same = assets.compare(plane, plane)
    assert same is not None
    assert same.f02 == 1.0
    half = assets.compare(plane[plane[:, 0] < 0.5], plane)
    assert half is not None
    assert half.f02 == pytest.approx(2 * 0.52 / 1.52, abs=0.02)
    assert assets.compare(plane[:0], plane) is None


def test_joint_errors_are_those_of_lines():
    def joint(type, axis, pivot):
        return JointMotion(type, torch.tensor(axis), torch.tensor(pivot), 1.0, 1.0)

    upright = joint(JointType.REVOLUTE, [0.0, 0.0, 1.0], [0.0, 0.0, 0.0])
    along = assets.joint_errors(joint(JointType.REVOLUTE, [0.0, 0.0, -1.0], [0.3, 0.4, 7.0]), upright, 2.0)
    assert along["type_right"]
    assert (along["axis_rad"], along["pivot"]) == pytest.approx((0.0, 0.25), abs=1e-6)
    tilted = [0.0, math.sin(0.2), math.cos(0.2)]
    crossing = assets.joint_errors(joint(JointType.REVOLUTE, tilted, [0.1, 0.0, 0.0]), upright, 1.0)
    assert (crossing["axis_rad"], crossing["pivot"]) == pytest.approx((0.2, 0.1), abs=1e-6)
    slide = assets.joint_errors(joint(JointType.PRISMATIC, tilted, [0.1, 0.0, 0.0]), upright, 1.0)
    assert not slide["type_right"]
    assert slide["pivot"] is None


def test_the_cameras_stand_all_around():
    cameras = assets.around()
    assert cameras.batch_shape == (1, assets.VIEWS)
    assert torch.allclose(cameras.positions.norm(dim=-1), torch.tensor(assets.DISTANCE))
    assert float(cameras.positions.mean(1).norm()) < 0.05
