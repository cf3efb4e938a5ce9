"""Poses of a gripper along the motion, against the joint's own kinematics."""

import json
import math

import pytest
import torch
from torch.testing import assert_close

from partrm.geometry.cameras import canonical_orbit
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.joints import JointMotion, JointType
from partrm.geometry.transforms import invert_rigid, pose, rotation_from_axis_angle
from partrm.inference.trajectory import (
    TrajectoryError,
    box_diagonal,
    depth_in,
    gripper_at,
    gripper_trajectory,
    metres_per_unit,
)

HINGE = JointMotion(JointType.REVOLUTE, torch.tensor([0.0, 1.0, 0.0]), torch.tensor([-0.3, 0.0, 0.2]), 1.2, 0.9)
SLIDE = JointMotion(JointType.PRISMATIC, torch.tensor([0.0, 0.6, 0.8]), torch.tensor([0.0, 0.0, 0.2]), 0.3, 0.9)
HELD = pose(rotation_from_axis_angle(torch.tensor([0.6, 0.8, 0.0]), torch.tensor(0.4)), torch.tensor([0.2, 0.1, 0.25]))


def panel(z: float = 0.2) -> Gaussians:
    """A square of side .6 across the canonical z axis."""
    steps = torch.linspace(-0.3, 0.3, 25)
    x, y = (v.reshape(-1) for v in torch.meshgrid(steps, steps, indexing="xy"))
    n = len(x)
    quats = torch.tensor([1.0, 0, 0, 0]).expand(n, 4)
    means = torch.stack([x, y, torch.full_like(x, z)], 1)
    return Gaussians(means, quats, torch.full((n, 3), 0.01), torch.full((n,), 0.9), torch.full((n, 3), 0.5))


@pytest.mark.parametrize("joint", [HINGE, SLIDE])
def test_the_joint_carries_the_gripper(joint):
    trajectory = gripper_trajectory(HELD, joint, 5, reach=1.5)
    assert_close(trajectory.T_frame_gripper[0], HELD.double())
    for T, share, displacement in zip(
        trajectory.T_frame_gripper, trajectory.share, trajectory.displacement, strict=True
    ):
        assert_close(T, joint.motion(float(share)).double() @ HELD.double(), atol=1e-6, rtol=0)
        assert float(displacement) == pytest.approx(float(share) * joint.amount)
    assert float(trajectory.share[-1]) == 1.5


def test_a_hinge_keeps_its_distance_and_turns_by_its_angle():
    T = gripper_trajectory(HELD, HINGE, 7).T_frame_gripper
    arm = T[:, :3, 3] - HINGE.pivot.double()
    arm = arm - (arm @ HINGE.axis.double())[:, None] * HINGE.axis.double()
    assert_close(arm.norm(dim=-1), arm[0].norm().expand(7))
    turned = T[-1, :3, :3] @ T[0, :3, :3].mT
    assert math.acos((float(turned.trace()) - 1) / 2) == pytest.approx(HINGE.amount)


@pytest.mark.parametrize("joint", [HINGE, SLIDE])
def test_camera_frame_and_metres_are_the_same_poses(joint):
    camera = canonical_orbit(3, 64).T_world_camera[1]
    plain = gripper_trajectory(HELD, joint, 4)
    seen = gripper_trajectory(HELD, joint, 4, T_canonical_camera=camera, metres_per_unit=0.5)
    assert (seen.frame, seen.unit) == ("camera", "m")
    wanted = invert_rigid(camera.double()) @ plain.T_frame_gripper
    assert_close(seen.T_frame_gripper[:, :3, :3], wanted[:, :3, :3])
    assert_close(seen.T_frame_gripper[:, :3, 3], 0.5 * wanted[:, :3, 3])
    scale = 1.0 if joint.type == JointType.REVOLUTE else 0.5
    assert_close(seen.displacement, scale * plain.displacement)


def test_the_gripper_comes_straight_at_what_the_pixel_shows():
    front, back = panel(0.2), panel(-0.2)
    gaussians = Gaussians.concatenate([front, back])
    moving, camera = torch.ones(len(gaussians), dtype=torch.bool), canonical_orbit(1, 256)[0]
    wanted = torch.tensor([0.15, -0.1, 0.2])
    pixel, _ = camera.project(wanted[None])
    T = gripper_at(gaussians, moving, HINGE, camera, pixel[0])
    assert_close(T[:3, 3].float(), wanted, atol=0.03, rtol=0)
    assert_close(T[:3, :3], torch.tensor([[-1.0, 0, 0], [0, 1, 0], [0, 0, -1]]).double(), atol=1e-6, rtol=0)
    assert float(torch.linalg.det(T[:3, :3])) == pytest.approx(1)
    with pytest.raises(TrajectoryError, match="nothing opaque moves"):
        gripper_at(gaussians, torch.zeros_like(moving), HINGE, camera, pixel[0])
    assert box_diagonal(front) == pytest.approx(0.6 * math.sqrt(2), rel=1e-5)


def test_json_says_frames_and_units(tmp_path):
    trajectory = gripper_trajectory(HELD, SLIDE, 3, metres_per_unit=0.6)
    trajectory.save(tmp_path / "trajectory.json")
    content = json.loads((tmp_path / "trajectory.json").read_text(encoding="utf-8"))
    assert content["length_unit"] == content["joint"]["unit"] == "m"
    assert content["frame"]["name"] == "canonical"
    assert [p["share"] for p in content["poses"]] == [0.0, 0.5, 1.0]
    assert_close(torch.tensor(content["poses"][2]["T_frame_gripper"]).double(), trajectory.T_frame_gripper[2])


@pytest.mark.parametrize(("n", "reach", "size"), [(1, 1.0, None), (4, 0.0, None), (4, math.inf, None), (4, 1.0, -1.0)])
def test_what_is_no_trajectory_is_refused(n, reach, size):
    with pytest.raises(TrajectoryError):
        gripper_trajectory(HELD, HINGE, n, reach, metres_per_unit=size)


def test_a_measured_depth_puts_the_held_point_there():
    camera = canonical_orbit(3, 64).T_world_camera[1]
    unit_m = metres_per_unit(None, 0.83, diagonal=1.1, depth=depth_in(camera, HELD))
    seen = gripper_trajectory(HELD, HINGE, 4, T_canonical_camera=camera, metres_per_unit=unit_m)
    assert float(seen.T_frame_gripper[0, 2, 3]) == pytest.approx(0.83)
    assert metres_per_unit(0.6, None, diagonal=1.2, depth=2.0) == pytest.approx(0.5)
    assert metres_per_unit(None, None, diagonal=1.2, depth=2.0) is None


@pytest.mark.parametrize(("size", "depth"), [(0.6, 0.8), (None, 0.0), (None, math.nan), (-1.0, None), (math.inf, None)])
def test_scales_that_cannot_be_are_refused(size, depth):
    with pytest.raises(TrajectoryError):
        metres_per_unit(size, depth, diagonal=1.0, depth=2.0)
