"""Closed triangle meshes of simple solids in plain numpy: boxes, lofts, sweeps and what is made of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

Real = float | int
"""A number of either kind (the run-time type checker tells them apart)."""

Vector = Sequence[Real] | Float[np.ndarray, "3"]
"""A point or a direction."""


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh; faces of closed solids are wound counter-clockwise seen from outside."""

    vertices: Float[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "f 3"]

    def moved(self, matrix: Float[np.ndarray, "3 3"], shift: Float[np.ndarray, "3"] | None = None) -> "Mesh":
        """``p -> matrix @ p + shift``; a reflection keeps the winding outward."""
        faces = self.faces if np.linalg.det(matrix) > 0 else self.faces[:, ::-1]
        return Mesh(self.vertices @ matrix.T + (0.0 if shift is None else shift), faces)


BOX_SIDES = ("-x", "+x", "-y", "+y", "-z", "+z")
"""Order of the sides of :func:`box`, two faces each."""


def box(low: Vector, high: Vector) -> Mesh:
    """Axis-aligned box; its faces come two a side in the order of ``BOX_SIDES``."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=np.float64)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [f for a, b, c, d in quads for f in ((a, b, c), (a, c, d))]
    low_, high_ = np.minimum(low, high), np.maximum(low, high)
    return Mesh(low_ + corners * (high_ - low_), np.array(faces))


def concatenate(meshes: Sequence[Mesh]) -> Mesh:
    """All the meshes as one."""
    starts = np.cumsum([0] + [len(m.vertices) for m in meshes[:-1]])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.faces + s for m, s in zip(meshes, starts, strict=True)]),
    )


def signed_volume(mesh: Mesh) -> float:
    """Volume of a closed mesh, negative where it is inside out."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    return float(np.einsum("fi,fi->", a, np.cross(b, c)) / 6)


def outward(mesh: Mesh) -> Mesh:
    """The same closed solid, wound outwards."""
    return mesh if signed_volume(mesh) >= 0 else Mesh(mesh.vertices, mesh.faces[:, ::-1])


def loft(rings: Float[np.ndarray, "k n 3"], closed: bool = False) -> Mesh:
    """Solid through closed rings of n corners each: capped by convex fans, or joined end to start when ``closed``."""
    k, n, _ = rings.shape
    vertices = rings.reshape(-1, 3)
    column = np.arange(n)
    after = (column + 1) % n
    faces = []
    for row in range(k if closed else k - 1):
        a, b = row * n, (row + 1) % k * n
        faces += [np.stack([a + column, a + after, b + after], -1), np.stack([a + column, b + after, b + column], -1)]
    if not closed:
        fan = np.stack([np.zeros(n - 2, dtype=np.int64), column[1:-1], column[2:]], -1)
        faces += [fan[:, ::-1], fan + (k - 1) * n]
    return outward(Mesh(vertices, np.concatenate(faces)))


def circle(segments: int, radius: Real = 1.0) -> Float[np.ndarray, "n 2"]:
    """Corners of a regular polygon."""
    angle = (np.arange(segments) + 0.5) * (2 * np.pi / segments)
    return radius * np.stack([np.cos(angle), np.sin(angle)], -1)


def rounded_rectangle(width: Real, height: Real, radius: Real, segments: int = 3) -> Float[np.ndarray, "n 2"]:
    """Outline centred at the origin, ``segments`` edges a corner (1: a chamfer; radius 0: four sharp corners)."""
    radius = min(radius, 0.499 * width, 0.499 * height)
    if radius <= 0:
        return np.array([[1, -1], [1, 1], [-1, 1], [-1, -1]]) * (width / 2, height / 2)
    arc = np.linspace(0, np.pi / 2, segments + 1)
    points = []
    for turn, (sx, sy) in enumerate([(1, 1), (-1, 1), (-1, -1), (1, -1)]):
        angle = arc + turn * np.pi / 2
        centre = np.array([sx * (width / 2 - radius), sy * (height / 2 - radius)])
        points.append(centre + radius * np.stack([np.cos(angle), np.sin(angle)], -1))
    return np.concatenate(points)


_AXES = {"x": (1, 2, 0), "y": (2, 0, 1), "z": (0, 1, 2)}


def stand(outlines: Sequence[Float[np.ndarray, "n 2"]], heights: Sequence[Real], axis: str) -> np.ndarray:
    """Rings [k, n, 3] of 2D outlines at heights along ``axis``; outlines are in (y, z), (z, x) or (x, y)."""
    rings = [np.concatenate([o, np.full((len(o), 1), h)], -1) for o, h in zip(outlines, heights, strict=True)]
    u, v, w = _AXES[axis]
    out = np.empty((len(rings), len(outlines[0]), 3))
    out[..., [u, v, w]] = np.stack(rings)
    return out


def prism(outline: Float[np.ndarray, "n 2"], span: Sequence[Real], axis: str) -> Mesh:
    """An outline (see :func:`stand`) drawn out along ``axis`` from one height to the other."""
    return loft(stand([outline, outline], span, axis))


def turned(radii: Sequence[Real], heights: Sequence[Real], axis: str, centre: Vector, segments: int) -> Mesh:
    """Solid of revolution about ``axis`` through ``centre``: radius at each height (a lathe)."""
    mesh = loft(stand([circle(segments, max(r, 1e-4)) for r in radii], heights, axis))
    return Mesh(mesh.vertices + np.asarray(centre), mesh.faces)


def cylinder(start: Vector, axis: str, length: Real, radius: Real, segments: int = 12) -> Mesh:
    """Cylinder from ``start`` along ``axis`` (a negative length goes the other way)."""
    return turned([radius, radius], [0.0, length], axis, start, segments)


def slab(low: Vector, high: Vector, axis: str, radius: Real, bevel: Real = 0.0) -> Mesh:
    """Box whose four edges along ``axis`` are rounded and whose high end is bevelled."""
    low_, high_ = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    u, v, w = _AXES[axis]
    size = high_ - low_
    bevel = min(bevel, 0.45 * size[w], 0.2 * size[u], 0.2 * size[v])
    outlines, heights = [rounded_rectangle(size[u], size[v], radius)], [0.0]
    outlines.append(outlines[0])
    heights.append(size[w] - bevel)
    if bevel > 0:
        outlines.append(outlines[0] * (1 - 2 * bevel / size[u], 1 - 2 * bevel / size[v]))
        heights.append(size[w])
    mesh = loft(stand(outlines, heights, axis))
    centre = (low_ + high_) / 2
    centre[w] = low_[w]
    return Mesh(mesh.vertices + centre, mesh.faces)


def frame(low: Vector, high: Vector, axis: str, border: Real | Sequence[Real], radius: Real = 0.0):
    """Slab with a rectangular hole along ``axis``; ``border``: one width, or (u low, u high, v low, v high)."""
    low_, high_ = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    u, v, w = _AXES[axis]
    b = np.broadcast_to(np.asarray(border, dtype=np.float64), (4,))
    size = high_ - low_
    outer = rounded_rectangle(size[u], size[v], radius) + (low_[[u, v]] + high_[[u, v]]) / 2
    inner_low, inner_high = low_[[u, v]] + b[[0, 2]], high_[[u, v]] - b[[1, 3]]
    inner_width, inner_height = (inner_high - inner_low).tolist()
    inner = rounded_rectangle(inner_width, inner_height, radius * 0.6) + (inner_low + inner_high) / 2
    return loft(stand([outer, outer, inner, inner], [low_[w], high_[w], high_[w], low_[w]], axis), closed=True)


def annulus(start: Vector, axis: str, length: Real, outer: Real, inner: Real, segments: int = 24) -> Mesh:
    """Flat ring or short pipe."""
    big, small = circle(segments, outer), circle(segments, inner)
    mesh = loft(stand([big, big, small, small], [0.0, length, length, 0.0], axis), closed=True)
    return Mesh(mesh.vertices + np.asarray(start), mesh.faces)


def round_hole_panel(low: Sequence[Real], high: Sequence[Real], centre: Sequence[Real], radius: Real) -> Mesh:
    """Slab along x, [low, high], with a round hole of ``radius`` about ``centre`` = (y, z)."""
    angle = (np.arange(32) + 0.5) * (2 * np.pi / 32)
    ray = np.stack([np.cos(angle), np.sin(angle)], -1)
    centre_ = np.asarray(centre)
    reach = np.where(ray > 0, np.asarray(high)[1:] - centre_, np.asarray(low)[1:] - centre_)
    distance = (reach / ray).min(-1, keepdims=True)
    outer = centre_ + ray * distance
    for cy in (low[1], high[1]):
        for cz in (low[2], high[2]):
            corner = np.array([cy, cz])
            outer[np.linalg.norm(outer - corner, axis=-1).argmin()] = corner
    inner = centre_ + ray * radius
    return loft(stand([outer, outer, inner, inner], [low[0], high[0], high[0], low[0]], "x"), closed=True)


def cup(outer: Sequence[Float[np.ndarray, "n 2"]], heights: Sequence[Real], wall: Real, floor: Real) -> Mesh:
    """Open vessel standing on z: outlines at rising heights, walls of about ``wall``, a floor of ``floor``."""
    shrink = [1 - 2 * wall / float(np.ptp(o, axis=0).min()) for o in outer]
    inner = [o * s for o, s in zip(outer, shrink, strict=True)][::-1]
    inner_heights = [*list(heights)[:0:-1], heights[0] + floor]
    return loft(stand([*outer, *inner], [*heights, *inner_heights], "z"))


def sweep(path: Float[np.ndarray, "k 3"], section: Float[np.ndarray, "n 2"], up: Vector, closed: bool = False):
    """A section swept along a path: its first coordinate lies along ``up`` x tangent, its second along ``up``."""
    ahead = np.roll(path, -1, 0) - np.roll(path, 1, 0)
    if not closed:
        ahead[0], ahead[-1] = path[1] - path[0], path[-1] - path[-2]
    tangent = ahead / np.linalg.norm(ahead, axis=-1, keepdims=True)
    side = np.cross(np.asarray(up, dtype=np.float64), tangent)
    side /= np.linalg.norm(side, axis=-1, keepdims=True)
    upward = np.cross(tangent, side)
    rings = path[:, None] + side[:, None] * section[None, :, :1] + upward[:, None] * section[None, :, 1:]
    return loft(rings, closed=closed)


def torus(centre: Vector, axis: str, radius: Real, tube: Real, segments: int = 24, sides: int = 8) -> Mesh:
    """Ring of round section about ``axis``."""
    path = stand([circle(segments, radius)], [0.0], axis)[0] + np.asarray(centre)
    up = np.eye(3)[_AXES[axis][2]]
    return sweep(path, circle(sides, tube), up.tolist(), closed=True)


def spin(axis: str, angle: Real) -> np.ndarray:
    """Rotation about a coordinate axis, right-handed."""
    c, s = np.cos(angle), np.sin(angle)
    u, v = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[u, u], matrix[u, v], matrix[v, u], matrix[v, v] = c, -s, s, c
    return matrix


def ball(centre: Vector, radius: Real, rings: int = 7, segments: int = 12, pole: Real = 0.15) -> Mesh:
    """Sphere on z, cut flat ``pole`` radians from its poles."""
    angles = np.linspace(pole, np.pi - pole, rings)
    return turned([radius * np.sin(a) for a in angles], [-radius * np.cos(a) for a in angles], "z", centre, segments)
