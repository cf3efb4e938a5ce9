"""The object class and its kinematics against scipy's rotations and trimesh's transformations."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from partrm.geometry.joints import JointType, forward_kinematics
from partrm.objects.articulated_object import ArticulatedObject, Joint, ObjectError, Part
from partrm.objects.materials import Material


def random_tree(rng, count):
    """A random tree of joints and joint positions, as numpy arrays."""
    axis = rng.normal(size=(count, 3))
    return {
        "parent": np.array([-1] + [int(rng.integers(-1, i)) for i in range(1, count)]),
        "joint_type": rng.integers(0, 4, count),
        "axis": axis / np.linalg.norm(axis, axis=-1, keepdims=True),
        "pivot": rng.normal(size=(count, 3)),
        "q": rng.uniform(-2, 2, count),
    }


def oracle(tree):
    """Poses by scipy, one part at a time."""
    poses = []
    for i, kind in enumerate(tree["joint_type"]):
        own = np.eye(4)
        if kind == JointType.PRISMATIC:
            own[:3, 3] = tree["axis"][i] * tree["q"][i]
        elif kind != JointType.FIXED:
            R = Rotation.from_rotvec(tree["axis"][i] * tree["q"][i]).as_matrix()
            own[:3, :3], own[:3, 3] = R, tree["pivot"][i] - R @ tree["pivot"][i]
        above = np.eye(4) if tree["parent"][i] < 0 else poses[tree["parent"][i]]
        poses.append(above @ own)
    return np.stack(poses)


def test_forward_kinematics_agrees_with_scipy_in_a_batch_of_trees():
    rng = np.random.default_rng(0)
    trees = [random_tree(rng, 7) for _ in range(20)]
    batch = {k: torch.from_numpy(np.stack([t[k] for t in trees])) for k in trees[0]}
    poses = forward_kinematics(**batch)
    np.testing.assert_allclose(poses.numpy(), np.stack([oracle(t) for t in trees]), atol=1e-12)


def test_rest_pose_is_the_identity():
    tree = random_tree(np.random.default_rng(1), 6)
    tree["q"] = np.zeros(6)
    poses = forward_kinematics(**{k: torch.from_numpy(v) for k, v in tree.items()})
    np.testing.assert_allclose(poses.numpy(), np.broadcast_to(np.eye(4), (6, 4, 4)), atol=1e-15)


def test_gradients_are_finite_at_rest():
    tree = {k: torch.from_numpy(v) for k, v in random_tree(np.random.default_rng(2), 5).items()}
    q = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    forward_kinematics(**{**tree, "q": q}).square().sum().backward()
    assert q.grad is not None
    assert torch.isfinite(q.grad).all()


def small_object(lower=0.0):
    """A box, a door on it and a slide on the door."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 2) for z in (0, 3)], dtype=float)
    faces = np.array([[0, 1, 2], [4, 5, 6], [1, 3, 7]])

    def part(name, shift, joint):
        return Part(name, corners * 0.5 + shift, faces, np.zeros(3, int), joint)

    door = Joint("door", JointType.REVOLUTE, 0, (0.0, 0.0, 1.0), (0.5, 1.0, 0.0), lower, 1.5)
    slide = Joint("slide", JointType.PRISMATIC, 1, (1.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.0, 0.4)
    parts = (part("body", 0.0, None), part("door", 0.5, door), part("slide", 1.0, slide))
    return ArticulatedObject("o", "Test", parts, (Material("m", (0.5, 0.5, 0.5)),))


def test_a_parent_moves_its_children():
    trimesh = pytest.importorskip("trimesh", reason="the oracle is trimesh")
    obj = small_object()
    posed = obj.posed_vertices(np.array([0.0, 0.7, 0.3]))
    door = trimesh.transformations.rotation_matrix(0.7, (0, 0, 1), (0.5, 1.0, 0.0))
    slide = door @ trimesh.transformations.translation_matrix((0.3, 0, 0))
    for vertices, part, T in zip(posed, obj.parts, (np.eye(4), door, slide), strict=True):
        np.testing.assert_allclose(vertices, trimesh.transform_points(part.vertices, T), atol=1e-12)


@pytest.mark.parametrize("lower", [0.0, 0.3])
def test_normalised_closed_state_has_a_centred_unit_diagonal_and_moves_alike(lower):
    obj = small_object(lower)
    normal = obj.normalised()
    points = np.concatenate(normal.posed_vertices(normal.closed_q()))
    np.testing.assert_allclose(points.max(0) + points.min(0), 0, atol=1e-12)
    assert np.linalg.norm(np.ptp(points, axis=0)) == pytest.approx(1)
    # Moving and scaling commute: prismatic limits scale with the object.
    before, after = (np.concatenate(o.posed_vertices(o.joint_limits[:, 1])) for o in (obj, normal))
    scale = np.ptp(after[:, 0]) / np.ptp(before[:, 0])
    np.testing.assert_allclose(after - after[0], scale * (before - before[0]), atol=1e-12)


def test_closed_q_is_the_limit_nearest_to_zero():
    np.testing.assert_array_equal(small_object(0.3).closed_q(), [0.0, 0.3, 0.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"joint": Joint("j", JointType.FIXED, 3)}, "after its parent"),
        ({"vertices": np.full((8, 3), np.nan)}, "not finite"),
        ({"faces": np.array([[0, 1, 8]]), "face_material": np.zeros(1, int)}, "missing vertices"),
        ({"face_material": np.ones(3, int)}, "does not exist"),
    ],
)
def test_unusable_objects_are_refused(change, message):
    from dataclasses import replace

    obj = small_object()
    with pytest.raises(ObjectError, match=message):
        replace(obj, parts=(obj.parts[0], replace(obj.parts[1], **change), obj.parts[2]))
    with pytest.raises(ObjectError, match="at least one part"):
        replace(obj, parts=())
