"""Generator of things that are nothing in particular: simple bodies with random mechanisms on random sides.

Kinds of objects teach a network where hinges of such kinds are; those of an unknown kind must be read off the shape.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from partrm.objects.materials import Role
from partrm.procedural.attachments import COVERS, MECHANISMS, Face
from partrm.procedural.builder import ObjectBuilder, pick
from partrm.procedural.registry import category
from partrm.procedural.shapes import (
    cylinder,
    frame,
    slab,
    spin,
    turned,
)

SIDES = {
    "front": np.eye(3),
    "top": spin("y", -np.pi / 2),
    "left": spin("z", -np.pi / 2),
    "right": spin("z", np.pi / 2),
}
"""Rotations that turn +x to the outward normal of a side."""


@category()
def assembly(b: ObjectBuilder) -> None:
    """A body of one or two simple solids with one to three mechanisms."""
    rng = b.rng
    faces = pick(rng, [_block, _block, _block, _plate, _column, _table, _opening, _opening])(b)
    order = rng.permutation(len(faces))
    faces = [faces[i] for i in sorted(order[: int(rng.integers(1, 4))])]
    if rng.random() < 0.35:
        faces = faces[1:] + faces[0].halves()
    for face in faces:
        mechanism = pick(rng, COVERS if face.hollow else MECHANISMS)
        face = face.turned(int(rng.integers(0, 4)))
        with b.placed(face.R, face.t):
            mechanism(b, face)
    b.turn(spin("z", rng.choice([0.0, rng.uniform(-0.6, 0.6)])))


def _box_faces(low: np.ndarray, high: np.ndarray, sides: Sequence[str]) -> list[Face]:
    size, centre, faces = high - low, (low + high) / 2, []
    for side in sides:
        R = SIDES[side]
        extent = np.abs(R.T @ size)
        faces.append(Face(R, centre + R[:, 0] * extent[0] / 2, extent[1], extent[2], extent[0]))
    return faces


def _sizes(rng: np.random.Generator) -> np.ndarray:
    return np.exp(rng.uniform(np.log(0.25), 0.0, 3))


def _block(b: ObjectBuilder) -> list[Face]:
    rng, size = b.rng, _sizes(b.rng)
    low, high = -size / 2, size / 2
    corner = size.min() * rng.choice([0.0, rng.uniform(0, 0.3)])
    b.add(0, slab(low, high, pick(rng, ["x", "y", "z"]), corner), b.slot(Role.BODY))
    if rng.random() < 0.4:
        other = size * rng.uniform(0.3, 1.1, 3)
        where = pick(rng, [(-1, 0, 0), (0, 0, -1), (-1, 0, 1)])
        middle = np.array(where) * (size + other) / 2
        b.add_box(0, middle - other / 2, middle + other / 2, b.new_slot(Role.BODY))
    if rng.random() < 0.3:
        foot = 0.06 * size.min()
        for sx in (-0.4, 0.4):
            for sy in (-0.4, 0.4):
                b.add(0, cylinder((sx * size[0], sy * size[1], low[2]), "z", -foot, foot, 8), b.slot(Role.DETAIL))
    return _box_faces(low, high, tuple(SIDES))


def _plate(b: ObjectBuilder) -> list[Face]:
    """A board that stands, leans or lies."""
    rng, size = b.rng, _sizes(b.rng) * [0.1, 1.0, 1.0]
    lean = spin("y", -np.deg2rad(rng.choice([0.0, 90.0, rng.uniform(0, 70)])))
    corner = size[1:].min() * rng.choice([0.0, rng.uniform(0, 0.4)])
    with b.placed(lean):
        b.add(0, slab(-size / 2, size / 2, "x", corner, 0.2 * size[0]), b.slot(Role.BODY))
    face = _box_faces(-size / 2, size / 2, ["front"])[0]
    return [replace(face, R=lean, t=lean @ face.t)]


def _column(b: ObjectBuilder) -> list[Face]:
    rng, r, height = b.rng, b.rng.uniform(0.1, 0.4), b.rng.uniform(0.1, 1.0)
    radii = [r * rng.uniform(0.6, 1.4), r * rng.uniform(0.6, 1.2), r]
    b.add(0, turned(radii, [0.0, 0.6 * height, height], "z", (0, 0, 0), int(rng.choice([6, 8, 24]))), b.slot(Role.BODY))
    R = SIDES["top"] @ spin("x", rng.uniform(-np.pi, np.pi))
    return [Face(R, np.array([0.0, 0.0, height]), 1.3 * r, 1.3 * r, height)]


def _table(b: ObjectBuilder) -> list[Face]:
    rng, (dx, dy, height) = b.rng, b.rng.uniform(0.4, 1.0, 3)
    t, w, body = rng.uniform(0.03, 0.15), rng.uniform(0.02, 0.06), b.slot(Role.BODY)
    b.add_box(0, (-dx / 2, -dy / 2, height - t), (dx / 2, dy / 2, height), body)
    for sx in (-1, 1):
        for sy in (-1, 1):
            x, y = sx * (dx / 2 - w), sy * (dy / 2 - w)
            b.add_box(0, (x - w / 2, y - w / 2, 0), (x + w / 2, y + w / 2, height - t), body)
    return _box_faces(np.array([-dx / 2, -dy / 2, height - t]), np.array([dx / 2, dy / 2, height]), ["top"])


def _opening(b: ObjectBuilder) -> list[Face]:
    """A hollow box or a frame whose opening faces the front or the top."""
    rng, size, wall = b.rng, _sizes(b.rng), b.rng.uniform(0.03, 0.1)
    side, other = pick(rng, [("front", "top"), ("front", "top"), ("top", "front")])
    R, extent = SIDES[side], np.abs(SIDES[side].T @ size)
    low, high, border = -extent / 2, extent / 2, wall * extent[1:].min()
    with b.placed(R):
        b.add(0, frame(low, high, "x", border), b.slot(Role.BODY))
        if rng.random() < 0.7:
            b.add_box(0, low, (low[0] + border, high[1], high[2]), b.slot(Role.INTERIOR))
    width, height = (extent[1:] - border).tolist()
    opening = Face(R, R[:, 0] * extent[0] / 2, width, height, extent[0] - border, hollow=True)
    return [opening, *(_box_faces(-size / 2, size / 2, [other]) if rng.random() < 0.3 else [])]
