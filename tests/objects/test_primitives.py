"""Primitive meshes against the volumes of geometry books, and UVs against what a viewer from outside sees."""

import math

import numpy as np
import pytest

from partrm.objects.primitives import box_uv, solid_box, solid_capsule, solid_cylinder, solid_ellipsoid


def volume(vertices, faces):
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


@pytest.mark.parametrize(
    ("mesh", "expected", "half_extents", "tolerance"),
    [
        (solid_box(0.1, 0.2, 0.3), 8 * 0.1 * 0.2 * 0.3, (0.1, 0.2, 0.3), 1e-12),
        (solid_cylinder(0.3, 0.5), math.pi * 0.3**2 * 1.0, (0.3, 0.3, 0.5), 0.02),
        (solid_capsule(0.2, 0.4), math.pi * 0.2**2 * 0.8 + 4 / 3 * math.pi * 0.2**3, (0.2, 0.2, 0.6), 0.02),
        (solid_ellipsoid(0.1, 0.2, 0.4), 4 / 3 * math.pi * 0.1 * 0.2 * 0.4, (0.1, 0.2, 0.4), 0.02),
    ],
    ids=["box", "cylinder", "capsule", "ellipsoid"],
)
def test_solids_are_closed_outward_and_of_the_right_size(mesh, expected, half_extents, tolerance):
    vertices, faces = mesh
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    directed = {tuple(e) for e in edges.tolist()}
    assert len(directed) == len(edges), "an edge is used twice in one direction"
    assert directed == {(b, a) for a, b in directed}, "the surface is not closed"
    assert volume(vertices, faces) == pytest.approx(expected, rel=tolerance)
    np.testing.assert_allclose(vertices.max(0), half_extents, rtol=5e-3)
    np.testing.assert_allclose(vertices.min(0), -np.array(half_extents), rtol=5e-3)


def test_images_on_the_sides_of_a_box_are_upright_and_not_mirrored():
    vertices, faces = solid_box(0.5, 1.0, 2.0)
    uv = box_uv(vertices, faces)
    assert uv.min() == 0
    assert uv.max() == 1
    for corners, texture in zip(vertices[faces], uv, strict=True):
        normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
        normal /= np.linalg.norm(normal)
        up = np.array([0.0, 1.0, 0.0]) if abs(normal[2]) > 0.5 else np.array([0.0, 0.0, 1.0])
        right = np.cross(up, normal)  # of a viewer outside who looks at the face
        seen = np.stack([corners @ right, corners @ up], -1)
        for axis in range(2):
            rising = np.diff(seen[:, axis]) * np.diff(texture[:, axis])
            assert (rising >= 0).all()
            assert (rising > 0).any()
