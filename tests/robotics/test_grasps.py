"""Grasps on points of made-up parts."""

import numpy as np
import pytest

from partrm.robotics.grasps import GraspScene, GraspSettings, find_grasps, inside_gripper

SETTINGS = GraspSettings(places=12)
CAMERA = np.array([1.5, 0.0, 0.3])


def sheet(low, high, spacing: float = 0.005) -> np.ndarray:
    """Points on a box's surface."""
    axes = [np.arange(a, b + 1e-9, spacing) if b > a else np.array([a]) for a, b in zip(low, high, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    ends = ((points - low < 1e-9) | (np.array(high) - points < spacing)).any(1)
    return points[ends]


PANEL = sheet([0, -0.2, -0.2], [0, 0.2, 0.2])
"""The front of a closed door."""
BODY = np.concatenate([sheet([-0.3, -0.25, -0.25], [-0.006, 0.25, 0.25]), sheet([0, 0.2, -0.25], [0, 0.25, 0.25])])
BAR = sheet([0.03, -0.15, -0.06], [0.042, -0.138, 0.06])
"""An upright handle before it."""


def scene(*part: np.ndarray, start=(0.035, -0.145, 0.0)) -> GraspScene:
    points = np.concatenate([*part, BODY])
    moving = np.arange(len(points)) < len(points) - len(BODY)
    way = np.array([1.0, 0.0, 0.0])
    return GraspScene(points, moving, np.array(start), way, np.ones(len(points)), CAMERA)


def test_a_handle_is_grasped_across_it_and_the_fingers_stay_off_the_door():
    seen = scene(PANEL, BAR)
    grasps = find_grasps(seen, SETTINGS, lambda grasp: True)
    assert grasps
    best = grasps[0]
    R, at = best.T_object_gripper[:3, :3], best.T_object_gripper[:3, 3]
    np.testing.assert_allclose(R.T @ R, np.eye(3), atol=1e-9)
    assert np.linalg.det(R) == pytest.approx(1.0)
    assert np.linalg.norm(at[:2] - [0.036, -0.144]) < 0.03
    assert abs(best.T_object_gripper[2, 1]) < 0.5, "fingers close across the upright bar"
    local = (seen.points - at) @ R
    assert np.count_nonzero(inside_gripper(local, best.opening, SETTINGS.gripper)) <= SETTINGS.strays
    assert [g.score for g in grasps] == sorted((g.score for g in grasps), reverse=True)


def test_a_flush_door_gives_no_grasp():
    assert find_grasps(scene(PANEL, start=(0.0, 0.0, 0.0)), SETTINGS, lambda grasp: True) == []


def test_an_open_panel_is_taken_by_its_edge():
    panel = sheet([0.05, -0.2, -0.2], [0.06, 0.2, 0.2])
    best = find_grasps(scene(panel, start=(0.06, -0.19, 0.0)), SETTINGS, lambda grasp: True)[0]
    assert abs(best.T_object_gripper[0, 1]) > 0.9, "fingers close across the sheet"


def test_only_grasps_that_are_allowed():
    assert find_grasps(scene(PANEL, BAR), SETTINGS, lambda grasp: False) == []


def test_flipped_fingers_are_the_same_grasp():
    grasp = find_grasps(scene(PANEL, BAR), SETTINGS, lambda grasp: True)[0]
    other = grasp.flipped
    np.testing.assert_allclose(other.approach, grasp.approach)
    assert np.linalg.det(other.T_object_gripper[:3, :3]) == pytest.approx(1.0)
    np.testing.assert_allclose(
        grasp.shifted(0.02).T_object_gripper[:3, 3], other.shifted(-0.02).T_object_gripper[:3, 3]
    )
