"""Fronts that face +x: panels of doors, drawers and lids in several styles, and the handles on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from partrm.objects.materials import Role
from partrm.procedural.builder import ObjectBuilder, pick
from partrm.procedural.shapes import (
    Real,
    circle,
    cylinder,
    frame,
    loft,
    rounded_rectangle,
    slab,
    sweep,
    torus,
    turned,
)

PanelStyle = Literal["flat", "soft", "framed", "raised", "glass", "window", "planks", "slats", "bowed"]
HandleStyle = Literal["bar", "arch", "knob", "lip", "recess", "ring", "strip", "none"]
Edge = Literal["left", "right", "bottom", "top", "centre"]


@dataclass(frozen=True)
class Rect:
    """A rectangle facing +x."""

    y0: Real
    y1: Real
    z0: Real
    z1: Real

    @property
    def width(self) -> float:
        return self.y1 - self.y0

    @property
    def height(self) -> float:
        return self.z1 - self.z0

    def inset(self, y: Real, z: Real | None = None) -> "Rect":
        """Smaller (larger where negative) by ``y`` on the left and right, ``z`` at the bottom and the top."""
        z = y if z is None else z
        return Rect(self.y0 + y, self.y1 - y, self.z0 + z, self.z1 - z)

    def at(self, u: Real, v: Real) -> tuple[float, float]:
        """(y, z) at fractions of the width and the height."""
        return self.y0 + u * self.width, self.z0 + v * self.height


@dataclass(frozen=True)
class FrontStyle:
    """What the fronts of one object have in common."""

    panel: PanelStyle
    handle: HandleStyle
    thickness: Real
    """Of the panel, metres."""
    border: Real
    """Width of frames around glass or a recessed centre, metres."""
    handle_length: Real
    """Fraction of the side along which the handle lies."""
    handle_depth: Real
    """How far it stands out, metres."""
    handle_radius: Real
    """Half of its thickness, metres."""
    round_handle: bool
    bevel: Real
    handle_vertical: bool
    """On sideways-hinged doors: along the free edge."""
    handle_position: Real
    """Along the free edge, fraction from the bottom."""


def sample_style(
    rng: np.random.Generator, panels: Sequence[PanelStyle], handles: Sequence[HandleStyle], size: Real
) -> FrontStyle:
    """Random style for fronts of about ``size`` metres."""
    return FrontStyle(
        panel=pick(rng, panels),
        handle=pick(rng, handles),
        thickness=size * rng.uniform(0.025, 0.07),
        border=size * rng.uniform(0.07, 0.18),
        handle_length=rng.uniform(0.18, 0.8) if rng.random() < 0.7 else rng.uniform(0.8, 0.97),
        handle_depth=size * rng.uniform(0.04, 0.11),
        handle_radius=size * rng.uniform(0.01, 0.028),
        round_handle=bool(rng.random() < 0.5),
        bevel=size * rng.uniform(0.0, 0.02),
        handle_vertical=bool(rng.random() < 0.85),
        handle_position=rng.choice([0.5, rng.uniform(0.25, 0.75)]),
    )


def add_panel(b: ObjectBuilder, part: int, rect: Rect, x: Real, slot: int, style: FrontStyle) -> float:
    """Adds a front whose back lies at ``x``; returns the x of its outer face."""
    t, front = style.thickness, x + style.thickness
    border = min(style.border, 0.3 * rect.width, 0.3 * rect.height)
    low, high = (x, rect.y0, rect.z0), (front, rect.y1, rect.z1)
    inner = rect.inset(border)
    if style.panel in ("framed", "glass", "slats"):
        b.add(part, frame(low, high, "x", border), slot)
    if style.panel in ("flat", "window", "raised"):
        b.add_box(part, low, high, slot)
    if style.panel == "soft":
        b.add(part, slab(low, high, "x", 3 * style.bevel, style.bevel), slot)
    if style.panel == "framed":
        b.add_box(part, (x + 0.1 * t, inner.y0, inner.z0), (x + 0.6 * t, inner.y1, inner.z1), slot)
    if style.panel == "glass":
        b.add_box(part, (x + 0.4 * t, inner.y0, inner.z0), (x + 0.6 * t, inner.y1, inner.z1), b.slot(Role.GLASS))
    if style.panel == "raised":
        b.add(part, slab((front, inner.y0, inner.z0), (front + 0.3 * t, inner.y1, inner.z1), "x", 0.0, 0.2 * t), slot)
    if style.panel == "window":
        pane = slab((front, inner.y0, inner.z0), (front + 0.12 * t, inner.y1, inner.z1), "x", border * 0.3)
        b.add(part, pane, b.slot(Role.GLASS))
    if style.panel == "planks":
        count = max(2, min(8, round(rect.width / (2.0 * border))))
        edges = np.linspace(rect.y0, rect.y1, count + 1)
        groove = 0.04 * rect.width / count
        b.add_box(part, low, (x + 0.7 * t, rect.y1, rect.z1), slot)
        for y0, y1 in pairwise(edges):
            b.add_box(part, (x + 0.7 * t, y0 + groove, rect.z0), (front, y1 - groove, rect.z1), slot)
    if style.panel == "slats":
        edges = np.linspace(inner.z0, inner.z1, max(3, min(9, round(inner.height / border))) + 1)
        b.add_box(part, (x + 0.1 * t, inner.y0, inner.z0), (x + 0.3 * t, inner.y1, inner.z1), slot)
        for z0, z1 in pairwise(edges):
            b.add_box(part, (x + 0.3 * t, inner.y0, z0 + 0.15 * (z1 - z0)), (x + 0.8 * t, inner.y1, z1), slot)
    if style.panel == "bowed":
        y = np.linspace(-1, 1, 9)
        bow = x + t * (0.6 + 0.8 * (1 - y**2))
        path = np.stack([(bow + x) / 2, rect.y0 + (y + 1) / 2 * rect.width, np.full(9, (rect.z0 + rect.z1) / 2)], -1)
        rings = np.repeat(path[:, None], 4, 1)
        rings[:, :, 0] = np.stack([np.full(9, x), np.full(9, x), bow, bow], -1)
        rings[:, :, 2] = [rect.z0, rect.z1, rect.z1, rect.z0]
        b.add(part, loft(rings), slot)
        return x + 1.35 * t
    return front + (0.3 * t if style.panel == "raised" else 0.12 * t if style.panel == "window" else 0.0)


def handle_place(rect: Rect, edge: Edge, style: FrontStyle) -> tuple[tuple[float, float], bool, float]:
    """Centre (y, z), whether it lies vertically, and the length of a handle at the free ``edge`` of a front."""
    margin = min(0.4 * style.border + 1.5 * style.handle_radius, 0.2 * min(rect.width, rect.height))
    if edge in ("left", "right"):
        y = rect.y0 + margin if edge == "left" else rect.y1 - margin
        z = rect.at(0.5, style.handle_position)[1]
        if style.handle_vertical:
            reach = 2 * min(z - rect.z0, rect.z1 - z) * 0.95
            return (y, z), True, min(style.handle_length * rect.height, reach)
        length = 0.35 * rect.width
        return (y + (length / 2 if edge == "left" else -length / 2), z), False, length
    z = {"bottom": rect.z0 + margin, "top": rect.z1 - margin, "centre": (rect.z0 + rect.z1) / 2}[edge]
    return ((rect.y0 + rect.y1) / 2, z), False, style.handle_length * rect.width


def _bar_path(style: FrontStyle, x: Real, length: Real) -> np.ndarray:
    """Arch over [-length/2, length/2] in the (x, along) plane, from and to the panel."""
    along = np.cos(np.linspace(np.pi, 0, 11)) * length / 2
    sharp = np.linspace(np.pi, 0, 11)
    out = np.clip(np.sin(sharp) ** 0.6, 0, 1) * style.handle_depth
    return np.stack([x + out - 0.1 * style.handle_radius, along, np.zeros(11)], -1)


def add_handle(b: ObjectBuilder, part: int, rect: Rect, x: Real, edge: Edge, style: FrontStyle, slot: int) -> None:
    """Adds a handle on the outer face at ``x`` of a front, by its free ``edge``."""
    (y, z), vertical, length = handle_place(rect, edge, style)
    r, depth = style.handle_radius, style.handle_depth
    axis, side = ("z", np.array([0.0, 0.0, 1.0])) if vertical else ("y", np.array([0.0, 1.0, 0.0]))
    centre = np.array([x, y, z])
    length = max(length, 4 * r)
    half = side * length / 2
    thick = np.array([0.0, r, r]) * (1 - side)
    if style.handle == "bar":
        start = centre + np.array([depth - r, 0, 0]) - half
        if style.round_handle:
            b.add(part, cylinder(start.tolist(), axis, length, r, 8), slot)
        else:
            b.add_box(part, (start - thick - [r, 0, 0]).tolist(), (start + 2 * half + thick + [r, 0, 0]).tolist(), slot)
        for end in (-0.8, 0.8):
            post = centre + end * half
            spread = np.array([0.0, 0.8 * r, 0.8 * r])
            b.add_box(part, (post - spread).tolist(), (post + spread + [depth - r, 0, 0]).tolist(), slot)
    elif style.handle == "arch":
        path = _bar_path(style, x, length)
        if vertical:
            path = path[:, [0, 2, 1]]
        section = circle(6, r) if style.round_handle else rounded_rectangle(2 * r, 1.2 * r, 0.0)
        up = [0.0, 1.0, 0.0] if vertical else [0.0, 0.0, 1.0]
        b.add(part, sweep(path + np.array([0, y, z]), section, up), slot)
    elif style.handle == "knob":
        radius = 2.0 * r
        if style.round_handle:
            profile = [0.5, 0.45, 0.9, 1.0, 0.8], [0.0, 0.45, 0.6, 0.85, 1.0]
            radii, heights = [radius * p for p in profile[0]], [depth * h for h in profile[1]]
            b.add(part, turned(radii, heights, "x", centre.tolist(), 12), slot)
        else:
            b.add_box(
                part,
                (centre - [0, radius, radius]).tolist(),
                (centre + np.array([depth, radius, radius])).tolist(),
                slot,
            )
    elif style.handle == "ring":
        b.add(part, cylinder(centre.tolist(), "x", 0.3 * depth, 1.6 * r, 10), slot)
        b.add(part, torus((centre + np.array([0.4 * depth, 0, -1.6 * r])).tolist(), "x", 2.0 * r, 0.5 * r, 14, 6), slot)
    elif style.handle == "recess":
        wide = half * 0.6 + np.array([0.0, 2.0 * r, 2.0 * r]) * (1 - side)
        low, high = centre - wide, centre + wide + [0.25 * r, 0, 0]
        b.add_box(part, low.tolist(), high.tolist(), b.slot(Role.DETAIL))
        b.add(part, frame((low - [0, 0.4 * r, 0.4 * r]).tolist(), (high + [0.4 * r] * 3).tolist(), "x", 0.5 * r), slot)
    elif style.handle in ("lip", "strip"):
        _add_edge_handle(b, part, rect, x, edge, style, slot)


def _add_edge_handle(
    b: ObjectBuilder, part: int, rect: Rect, x: Real, edge: Edge, style: FrontStyle, slot: int
) -> None:
    """A lip that stands out along the free edge, or a flat strip on it."""
    out = 0.5 * style.handle_depth if style.handle == "lip" else 0.25 * style.handle_radius
    wide = style.handle_radius * (0.8 if style.handle == "lip" else 3.0)
    wide = min(wide, 0.2 * rect.width, 0.2 * rect.height)
    share = min(style.handle_length + 0.2, 1.0)
    (cy, cz), (dy, dz) = rect.at(0.5, 0.5), (share * rect.width / 2, share * rect.height / 2)
    spans = {
        "left": (rect.y0, rect.y0 + wide, cz - dz, cz + dz),
        "right": (rect.y1 - wide, rect.y1, cz - dz, cz + dz),
        "bottom": (cy - dy, cy + dy, rect.z0, rect.z0 + wide),
        "top": (cy - dy, cy + dy, rect.z1 - wide, rect.z1),
        "centre": (cy - dy, cy + dy, rect.z1 - wide, rect.z1),
    }
    y0, y1, z0, z1 = spans[edge]
    b.add_box(part, (x - 0.2 * style.handle_radius, y0, z0), (x + out, y1, z1), slot)
