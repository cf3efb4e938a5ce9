"""The amount that a joint moved, agreed with where the dragged points shall arrive."""

import math
from dataclasses import replace

import pytest
import torch

from partrm.geometry.cameras import Cameras, canonical_orbit
from partrm.geometry.drags import Drags
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.joints import JointMotion, JointType
from partrm.geometry.transforms import transform_points
from partrm.inference.drag_constraint import constrain_to_drags, drag_anchors
from partrm.inference.joint_fit import JointBatch
from partrm.inference.reading import Reading
from partrm.model.inputs import NetworkInput

DOOR = JointMotion(JointType.REVOLUTE, torch.tensor([0.0, 1.0, 0.0]), torch.tensor([-0.3, 0.0, 0.2]), 0.9, 1.0)
DRAWER = JointMotion(JointType.PRISMATIC, torch.tensor([0.3, 0.0, 0.954]), torch.zeros(3), 0.25, 1.0)
POINTS = torch.tensor([[0.2, 0.1, 0.2], [0.1, -0.2, 0.2]])


def cameras(count: int) -> Cameras:
    one = canonical_orbit(4, 64)
    return Cameras(one.T_world_camera[:1].expand(count, 4, 4), one.fovy_rad[:1].expand(count), 64, 64)


def ends_of(joint: JointMotion, points: torch.Tensor) -> torch.Tensor:
    moved = transform_points(joint.T_after_before[None], points[None])[0]
    return cameras(len(points)).project(moved[:, None])[0][:, 0] / 64


def constrained(joint: JointMotion, points: torch.Tensor, ends: torch.Tensor) -> JointMotion:
    count = len(points)
    seen_from, touched = cameras(max(1, count)), torch.full((1, max(1, count)), count > 0)
    points, ends = (points, ends) if count else (torch.zeros(1, 3), torch.zeros(1, 2))
    told = constrain_to_drags(JointBatch.of([joint]), points[None], ends[None], seen_from[None], touched)
    (agreed,) = told.unbatched()
    return agreed


@pytest.mark.parametrize("joint", [DOOR, DRAWER])
def test_a_wrong_amount_is_mended_by_the_drags_and_a_right_one_stays(joint: JointMotion) -> None:
    ends = ends_of(joint, POINTS)
    for factor in (0.75, 1.0, 1.2):
        agreed = constrained(replace(joint, amount=factor * joint.amount), POINTS, ends)
        assert abs(agreed.amount - joint.amount) < 0.35 * abs(factor - 1) * joint.amount + 2e-3
        assert torch.equal(agreed.axis, joint.axis)


def test_a_motion_the_other_way_turns_the_axis() -> None:
    slide = replace(DRAWER, axis=torch.tensor([1.0, 0.0, 0.0]))
    ends = ends_of(replace(slide, amount=-0.05), POINTS)
    agreed = constrained(replace(slide, amount=0.02), POINTS, ends)
    assert torch.equal(agreed.axis, -slide.axis)
    assert 0.03 < agreed.amount <= 0.05


def test_one_wild_drag_does_not_rule() -> None:
    """No amount brings the point there: the network's amount stays, about."""
    ends = ends_of(DOOR, POINTS[:1]) + torch.tensor([[0.0, 0.6]])
    agreed = constrained(DOOR, POINTS[:1], ends)
    assert abs(agreed.amount - DOOR.amount) < 0.5


def test_no_touched_point_leaves_the_joint() -> None:
    agreed = constrained(DOOR, torch.zeros(0, 3), torch.zeros(0, 2))
    assert (agreed.type, agreed.amount, agreed.confidence) == (DOOR.type, DOOR.amount, DOOR.confidence)
    assert torch.equal(agreed.axis, DOOR.axis)
    assert torch.equal(agreed.pivot, DOOR.pivot)


def test_touched_points_lie_on_the_start_rays_at_the_parts_depth() -> None:
    """A plane of Gaussians in every view, 0.1 before the origin; only the left half moves."""
    orbit = canonical_orbit(4, 64)
    side = 32
    origins, directions = orbit.resized(side).rays()
    forward = orbit.T_world_camera[:, None, None, :3, 2]
    depth = 2.3 / (directions * forward).sum(-1, keepdim=True)
    means = (origins[:, None, None] + depth * directions).reshape(1, -1, 3)
    n = means.shape[1]
    moving = torch.full((1, 4, side, side), -9.0)
    moving[..., : side // 2] = 9.0
    ones = torch.ones(1, n)
    gaussians = Gaussians(
        means, torch.tensor([1.0, 0, 0, 0]).expand(1, n, 4), ones[..., None].expand(1, n, 3), ones, means
    )
    valid = torch.ones(1, 4, dtype=torch.bool)
    output = Reading(gaussians, None, moving.reshape(1, -1), means, None, valid)
    start = torch.tensor([[[0.2, 0.4], [0.9, 0.5], [0.3, 0.7], [0.3, 0.7]]])
    drags = Drags(start, start + 0.1, torch.tensor([[0, 0, 2, 0]]), torch.tensor([[True, True, True, False]]))
    batched = Cameras(orbit.T_world_camera[None], orbit.fovy_rad[None], 64, 64)
    inputs = NetworkInput(torch.zeros(1, 4, 4, 64, 64), batched, torch.ones(1, 4, dtype=torch.bool), drags)
    points, ends, seen_from, touched = drag_anchors(output, inputs)
    assert touched.tolist() == [[True, False, True, False]]  # the second start shows what stays, the fourth is padding
    points, ends, seen_from = points[touched], ends[touched], seen_from[touched]
    torch.testing.assert_close(ends, start[0, [0, 2]] + 0.1)
    pixels, depths = seen_from.project(points[:, None])
    torch.testing.assert_close(pixels[:, 0] / 64, start[0, [0, 2]])
    torch.testing.assert_close(depths[:, 0], torch.full((2,), 2.3))
    assert math.isclose(float(seen_from.T_world_camera[1, 0, 3]), float(orbit.T_world_camera[2, 0, 3]))
