"""Arcs against the kinematics of joints, and the estimator against arcs with noise."""

import numpy as np
import pytest
import torch

from partrm.geometry.joints import JointMotion, JointType
from partrm.geometry.transforms import transform_points
from partrm.robotics.arcs import Arc, ArcPrior, estimate_arc

AXIS = np.array([0.36, 0.48, 0.8])
PIVOT = np.array([0.1, -0.2, 0.3])
POINT = np.array([0.4, 0.1, 0.2])
KINDS = [JointType.REVOLUTE, JointType.PRISMATIC]


def arc_of(kind: JointType) -> Arc:
    return Arc.of_joint(kind, AXIS, PIVOT, POINT)


def angle_deg(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip(abs(a @ b), 0, 1))))


@pytest.mark.parametrize("kind", KINDS)
def test_points_are_where_the_joint_carries_them(kind):
    arc, lengths = arc_of(kind), np.linspace(0, 0.5, 6)
    radius = 1.0 if kind == JointType.PRISMATIC else 1 / np.linalg.norm(arc.curvature)
    for point, length in zip(arc.points(lengths), lengths, strict=True):
        joint = JointMotion(kind, torch.tensor(AXIS), torch.tensor(PIVOT), length / radius, 1.0)
        carried = transform_points(joint.T_after_before, torch.tensor(POINT)[None])[0]
        np.testing.assert_allclose(point, carried, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_undo_points_beyond_a_full_turn(kind):
    arc, lengths = arc_of(kind), np.linspace(0, 4, 60)
    np.testing.assert_allclose(arc.lengths(arc.points(lengths)), lengths, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_joint_of_an_arc_is_the_joint(kind):
    found, axis, pivot = arc_of(kind).joint()
    assert found == kind
    np.testing.assert_allclose(axis, AXIS, atol=1e-12)
    if kind == JointType.REVOLUTE:
        np.testing.assert_allclose(np.cross(pivot - PIVOT, AXIS), 0, atol=1e-12)


def test_a_point_on_the_axis_has_a_finite_way():
    arc = Arc.of_joint(JointType.REVOLUTE, AXIS, PIVOT, PIVOT + 0.1 * AXIS)
    assert np.isfinite(arc.points(np.linspace(0, 1, 5))).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_estimator_recovers_a_screw_from_a_noisy_arc(seed):
    true, generator = arc_of(JointType.REVOLUTE), np.random.default_rng(seed)
    path = true.points(np.arange(0.01, 0.25, 0.01))
    path = path + generator.normal(0, 0.001, path.shape)
    tilted = true.tangent + 0.3 * AXIS
    wrong = Arc(POINT, tilted / np.linalg.norm(tilted), np.zeros(3))
    kind, axis, pivot = estimate_arc(path, wrong, ArcPrior()).joint()
    assert kind == JointType.REVOLUTE
    assert angle_deg(axis, AXIS) < 6
    assert angle_deg(wrong.tangent, true.tangent) > 15
    true_pivot = true.joint()[2]
    assert np.linalg.norm(pivot - true_pivot) < 0.1 / np.linalg.norm(true.curvature)


@pytest.mark.parametrize("off_deg", [20, 80, 150])
def test_the_estimator_finds_a_slide_where_a_hinge_was_predicted(off_deg):
    generator, true = np.random.default_rng(0), arc_of(JointType.PRISMATIC)
    side, turned = arc_of(JointType.REVOLUTE).tangent, np.radians(off_deg)
    tangent = np.cos(turned) * AXIS + np.sin(turned) * side
    predicted = Arc(POINT, tangent, 2.5 * np.cross(AXIS, side))
    path = true.points(np.arange(0.01, 0.3, 0.01))
    found = estimate_arc(path + generator.normal(0, 0.001, path.shape), predicted, ArcPrior())
    assert np.linalg.norm(found.curvature) < 0.1 * np.linalg.norm(predicted.curvature)
    end = np.array([0.3])
    assert np.linalg.norm(found.points(end) - true.points(end)) < 0.005


def test_a_short_path_leaves_the_prediction():
    predicted = arc_of(JointType.REVOLUTE)
    path = predicted.points(np.array([0.01])) + np.array([[0.001, -0.001, 0.001]])
    found = estimate_arc(path, predicted, ArcPrior())
    np.testing.assert_allclose(found.curvature, predicted.curvature, atol=0.15)
    assert angle_deg(found.tangent, predicted.tangent) < 6
