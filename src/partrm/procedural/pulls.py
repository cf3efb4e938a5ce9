"""Pulls of drawers and doors beyond the plain handles, and ornament on their panels."""

from dataclasses import replace
from typing import Literal

import numpy as np

from partrm.objects.materials import Role
from partrm.procedural.builder import ObjectBuilder
from partrm.procedural.fronts import FrontStyle, HandleStyle, Rect, add_handle
from partrm.procedural.shapes import Real, frame, loft, prism, slab

Pull = Literal["knob", "bar", "arch", "ring", "cup", "tab", "label", "gap", "none"]
Ornament = Literal["plain", "moulding", "lattice", "cross", "tiles"]


def add_pull(
    b: ObjectBuilder, part: int, rect: Rect, x: Real, pull: Pull, at: tuple[Real, Real], style: FrontStyle, slot: int
) -> None:
    """A pull on a front ``rect`` whose outer face lies at ``x``.

    Args:
        at: its centre, fractions of the front's width and height.
        style: lengths of handles; those of cups and tabs follow from the front's.
    """
    (y, z), width = rect.at(*at), min(0.12, 0.4 * rect.width, 1.1 * rect.height)
    if pull == "cup":
        _add_cup(b, part, (x, y, z - 0.15 * width), width, slot)
    elif pull == "tab":
        _add_tab(b, part, Rect(y - 0.4 * width, y + 0.4 * width, rect.z1 - 0.3 * width, rect.z1), x, slot)
    elif pull == "label":
        _add_label(b, part, (x, y, z), 0.6 * width, slot)
    elif pull not in ("gap", "none"):
        handle: HandleStyle = pull
        r = min(style.handle_radius, 0.1 * min(rect.width, rect.height))
        half = max(0.5 * style.handle_length * min(rect.width, 0.5), 2.5 * r)
        low = min(z - rect.z0, rect.z1 - z)
        spot = Rect(y - half, y + half, z - low, z + low)
        add_handle(b, part, spot, x, "centre", replace(style, handle=handle, handle_radius=r, handle_length=0.95), slot)


def _add_cup(b: ObjectBuilder, part: int, at: tuple[Real, Real, Real], width: Real, slot: int) -> None:
    """A half shell, open below."""
    x, y, z = at
    angle, rings = np.linspace(0, np.pi / 2, 4), []
    for side in np.sin(np.linspace(-1.45, 1.45, 8)):
        reach = np.sqrt(1 - side**2)
        outer = np.stack([0.3 * width * reach * np.cos(angle), 0.4 * width * reach * np.sin(angle)], -1)
        ring = np.concatenate([outer, 0.8 * outer[::-1]])
        rings.append(np.stack([x + ring[:, 0], np.full(len(ring), y + side * width / 2), z + ring[:, 1]], -1))
    b.add(part, loft(np.stack(rings)), slot)


def _add_tab(b: ObjectBuilder, part: int, rect: Rect, x: Real, slot: int) -> None:
    """A bent strip over the upper edge: a plate on the face and a lip that stands out."""
    t = 0.06 * rect.height + 0.001
    b.add_box(part, (x, rect.y0, rect.z0), (x + t, rect.y1, rect.z1 - t), slot)
    b.add(part, slab((x, rect.y0, rect.z1 - t), (x + 0.5 * rect.height, rect.y1, rect.z1 + 0.0002), "z", t), slot)


def _add_label(b: ObjectBuilder, part: int, at: tuple[Real, Real, Real], width: Real, slot: int) -> None:
    """A holder of a paper label, with a lip below to pull by."""
    (x, y, z), half, tall = at, width / 2, 0.3 * width
    b.add(part, frame((x, y - half, z - tall), (x + 0.004, y + half, z + tall), "x", 0.08 * width), slot)
    b.add_box(
        part, (x, y - 0.9 * half, z - 0.8 * tall), (x + 0.001, y + 0.9 * half, z + 0.8 * tall), b.slot(Role.DETAIL)
    )
    b.add_box(part, (x, y - half, z - 1.25 * tall), (x + 0.25 * width, y + half, z - tall), slot)


def add_ornament(b: ObjectBuilder, part: int, rect: Rect, x: Real, kind: Ornament, border: Real, slot: int) -> None:
    """Relief on the middle of a front whose outer face lies at ``x``: a moulding, a lattice, a cross or tiles."""
    border = min(border, 0.25 * rect.width, 0.25 * rect.height)
    inner, out = rect.inset(border), 0.15 * border
    low, high = (x, inner.y0, inner.z0), (x + out, inner.y1, inner.z1)
    if kind == "moulding":
        b.add(part, frame(low, high, "x", 0.2 * border), slot)
    elif kind == "cross":
        b.add(part, frame(low, (x + 0.9 * out, *high[1:]), "x", 0.4 * border), slot)
        field = inner.inset(0.2 * border)
        for z0, z1, lift in ((field.z0, field.z1, 1.0), (field.z1, field.z0, 1.1)):
            _add_diagonal(b, part, field, (z0, z1), (x, x + lift * out), 0.35 * border, slot)
    elif kind in ("tiles", "lattice"):
        columns = int(np.clip(round(inner.width / (1.2 * border)), 1, 4))
        rows = int(np.clip(round(inner.height / (1.2 * border)), 1, 6))
        for row in range(rows):
            for column in range(columns):
                (y0, z0), (y1, z1) = (
                    inner.at((column + 0.06) / columns, (row + 0.06) / rows),
                    inner.at((column + 0.94) / columns, (row + 0.94) / rows),
                )
                if kind == "tiles":
                    b.add(part, slab((x, y0, z0), (x + out, y1, z1), "x", 0.0, 0.8 * out), slot)
                else:
                    y, z = (y0 + y1) / 2, (z0 + z1) / 2
                    b.add(part, prism(np.array([[y0, z], [y, z0], [y1, z], [y, z1]]), (x, x + out), "x"), slot)


def _add_diagonal(
    b: ObjectBuilder, part: int, rect: Rect, ends: tuple[Real, Real], span: tuple[Real, Real], width: Real, slot: int
) -> None:
    """A bar across a rectangle from ``ends[0]`` on the left to ``ends[1]`` on the right."""
    start, end = np.array([rect.y0, ends[0]]), np.array([rect.y1, ends[1]])
    along = (end - start) / np.linalg.norm(end - start)
    across = width / 2 * np.array([-along[1], along[0]])
    corners = [start - across, end - across, end + across, start + across]
    b.add(part, prism(np.array(corners), span, "x"), slot)
