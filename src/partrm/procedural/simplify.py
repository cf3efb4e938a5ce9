"""Makes a generated object fit for training: small and hidden movables fixed, at most twelve parts."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from partrm.objects.articulated_object import ArticulatedObject, Part

MAX_PARTS = 12
MAX_FACES = 6000
_DIRECTIONS = (*((azimuth, elevation) for elevation in (10, 35) for azimuth in (-60, -25, 10, 45, 80)), (0, 80))
"""Views (azimuth and elevation, degrees) that decide what can be seen from outside."""


def surface_area(part: Part) -> float:
    """Area of a part's triangles."""
    a, b, c = (part.vertices[part.faces[:, k]] for k in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=-1).sum() / 2)


def _surface_points(obj: ArticulatedObject, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Evenly strewn surface points of the closed object [count, 3] and the part of each, always the same."""
    posed = obj.posed_vertices(obj.closed_q())
    corners = np.concatenate([v[p.faces] for v, p in zip(posed, obj.parts, strict=True)])
    owner = np.concatenate([np.full(len(p.faces), i) for i, p in enumerate(obj.parts)])
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=-1)
    steps = np.cumsum(area)
    face = np.searchsorted(steps, (np.arange(count) + 0.5) / count * steps[-1]).clip(max=len(area) - 1)
    # Additive recurrence on the unit square (golden-ratio like, M. Roberts, 2018), folded into the triangle.
    uv = (0.5 + np.arange(1, count + 1)[:, None] * [0.7548776662466927, 0.5698402909980532]) % 1
    uv = np.where(uv.sum(-1, keepdims=True) > 1, 1 - uv, uv)
    a, b, c = (corners[face, k] for k in range(3))
    return a + uv[:, :1] * (b - a) + uv[:, 1:] * (c - a), owner[face]


def visible_shares(obj: ArticulatedObject, points: int = 12000, cells: int = 36) -> Float[np.ndarray, " parts"]:
    """Share of the closed object's picture that each part fills, on average over views from the front half.

    Estimated with a depth buffer of ``cells`` x ``cells`` over surface points, orthographic; deterministic.
    """
    position, owner = _surface_points(obj, points)
    radius = np.linalg.norm(position, axis=-1).max() + 1e-9
    shares = np.zeros(len(obj.parts))
    for azimuth, elevation in np.deg2rad(_DIRECTIONS):
        ca, sa, ce, se = np.cos(azimuth), np.sin(azimuth), np.cos(elevation), np.sin(elevation)
        view = np.array([[-sa, ca, 0.0], [-ca * se, -sa * se, ce], [ca * ce, sa * ce, se]])
        u, v, depth = (position @ view.T).T
        cell = np.floor((np.stack([u, v]) / radius + 1) / 2 * cells).astype(np.int64).clip(0, cells - 1)
        pixel = cell[0] * cells + cell[1]
        order = np.lexsort((-depth, pixel))
        first = np.ones(len(order), dtype=bool)
        first[1:] = pixel[order][1:] != pixel[order][:-1]
        shares += np.bincount(owner[order[first]], minlength=len(obj.parts)) / first.sum()
    return shares / len(_DIRECTIONS)


def merge_parts(obj: ArticulatedObject, keep: list[int]) -> ArticulatedObject:
    """Only the parts in ``keep`` (ascending, with the root) stay; the others become pieces of what carries them."""
    target: list[int] = []
    for index, part in enumerate(obj.parts):
        target.append(index if index in keep or part.joint is None else target[part.joint.parent])
    merged: list[Part] = []
    for index in keep:
        pieces = [p for p, t in zip(obj.parts, target, strict=True) if t == index]
        starts = np.cumsum([0] + [len(p.vertices) for p in pieces[:-1]])
        joint = obj.parts[index].joint
        merged.append(
            replace(
                obj.parts[index],
                vertices=np.concatenate([p.vertices for p in pieces]),
                faces=np.concatenate([p.faces + s for p, s in zip(pieces, starts, strict=True)]),
                face_material=np.concatenate([p.face_material for p in pieces]),
                joint=None if joint is None else replace(joint, parent=keep.index(target[joint.parent])),
            )
        )
    return replace(obj, parts=tuple(merged))


def without_minor_movables(obj: ArticulatedObject, area: float = 0.01, seen: float = 0.002) -> ArticulatedObject:
    """Small and hidden movables become rigid pieces of what carries them.

    Small: less than ``area`` of the area of the bounding box's largest face, or beyond the ``MAX_PARTS`` largest.
    Hidden: less than ``seen`` of the closed object's picture (a rack behind a door would stick out through it).
    """
    size = np.sort(np.ptp(np.concatenate([p.vertices for p in obj.parts]), axis=0))
    # Half of a closed surface faces away.
    areas = np.array([surface_area(p) / 2 for p in obj.parts])
    movable = np.isin(np.arange(len(obj.parts)), obj.movable)
    fit = movable & (areas > area * size[1] * size[2]) & (visible_shares(obj) > seen)
    order = sorted(np.flatnonzero(fit).tolist(), key=lambda i: -areas[i])[: MAX_PARTS - 1]
    return merge_parts(obj, [0, *sorted(order)])
