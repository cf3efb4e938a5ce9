"""Triangle meshes of the primitives of robot description files, with outward faces, and box-projected UVs.

Every solid is centred at the origin of its own frame; round ones have z as their axis.
"""

import math

import numpy as np
from jaxtyping import Float, Int

SEGMENTS = 32
"""Segments around a round solid."""

Mesh = tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "f 3"]]


def solid_box(half_x: float, half_y: float, half_z: float) -> Mesh:
    """Axis-aligned box of the given half extents: 8 vertices, 12 faces."""
    corners = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [triangle for a, b, c, d in quads for triangle in ((a, b, c), (a, c, d))]
    return corners * np.array([half_x, half_y, half_z]), np.array(faces, dtype=np.int64)


def solid_cylinder(radius: float, half_height: float) -> Mesh:
    """Closed cylinder."""
    return _revolve(np.array([[0.0, -half_height], [radius, -half_height], [radius, half_height], [0.0, half_height]]))


def solid_capsule(radius: float, half_height: float) -> Mesh:
    """Cylinder of half length ``half_height`` with a hemisphere at either end."""
    angle = np.linspace(-math.pi / 2, math.pi / 2, SEGMENTS // 2 + 2)
    profile = radius * np.stack([np.cos(angle), np.sin(angle)], -1)
    profile[: len(angle) // 2, 1] -= half_height
    profile[len(angle) // 2 :, 1] += half_height
    return _revolve(profile)


def solid_ellipsoid(radius_x: float, radius_y: float, radius_z: float) -> Mesh:
    """Ellipsoid (or sphere) of the given radii."""
    angle = np.linspace(-math.pi / 2, math.pi / 2, SEGMENTS // 2 + 1)
    vertices, faces = _revolve(np.stack([np.cos(angle), np.sin(angle)], -1))
    return vertices * np.array([radius_x, radius_y, radius_z]), faces


def _revolve(profile: Float[np.ndarray, "n 2"]) -> Mesh:
    """Surface of revolution about z of a profile (radius, z) that rises from the axis and returns to it."""
    ring = np.arange(SEGMENTS) * (2 * math.pi / SEGMENTS)
    inner = profile[1:-1]
    radius, height = np.repeat(inner, SEGMENTS, 0).T
    turn = np.tile(ring, len(inner))
    circles = np.stack([radius * np.cos(turn), radius * np.sin(turn), height], -1)
    poles = np.array([[0.0, 0.0, profile[0, 1]], [0.0, 0.0, profile[-1, 1]]])
    here, there = np.arange(SEGMENTS), (np.arange(SEGMENTS) + 1) % SEGMENTS
    bottom, top = len(circles), len(circles) + 1
    last = (len(inner) - 1) * SEGMENTS
    faces = [np.stack([np.full(SEGMENTS, bottom), there, here], -1)]
    for row in range(len(inner) - 1):
        a, b = row * SEGMENTS + here, row * SEGMENTS + there
        faces += [np.stack([a, b, b + SEGMENTS], -1), np.stack([a, b + SEGMENTS, a + SEGMENTS], -1)]
    faces.append(np.stack([np.full(SEGMENTS, top), last + here, last + there], -1))
    return np.concatenate([circles, poles]), np.concatenate(faces)


def box_uv(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Float[np.ndarray, "f 3 2"]:
    """Texture coordinates by projection onto the six sides of the bounding box, each side one whole image.

    The side is the largest component of the face's normal. Upright sides have the image upright (v along z) and not
    mirrored when seen from outside; the top and the bottom have v along y.
    """
    low, high = vertices.min(0), vertices.max(0)
    unit = ((vertices - low) / np.where(high > low, high - low, 1.0))[faces]
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    side = np.abs(normals).argmax(-1)
    positive = np.take_along_axis(normals, side[:, None], 1)[:, 0] >= 0
    along_u, along_v = np.array([1, 0, 0])[side], np.array([2, 2, 1])[side]
    u = np.take_along_axis(unit, along_u[:, None, None], 2)[..., 0]
    v = np.take_along_axis(unit, along_v[:, None, None], 2)[..., 0]
    forwards = np.where(side == 1, ~positive, positive)  # seen from +x, +y is on the right; seen from +y, -x is
    return np.stack([np.where(forwards[:, None], u, 1.0 - u), v], -1)
