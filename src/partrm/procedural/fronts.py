"""Fronts that face +x: panels of doors, drawers and lids in several styles, and the handles on them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Float

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


@dataclass(frozen=True)
class _Handle:
    """Where a handle goes and what it is made of; metres, object frame."""

    part: int
    rect: Rect
    x: Real
    """Outer face of the front."""
    edge: Edge
    style: FrontStyle
    slot: int
    centre: Float[np.ndarray, "3"]
    """On the outer face."""
    vertical: bool
    half: Float[np.ndarray, "3"]
    """From the centre to the handle's upper or right end."""

    @property
    def across(self) -> Float[np.ndarray, "3"]:
        """1 for the direction of the face that the handle does not run along, else 0."""
        return np.array([0.0, 1.0, 0.0] if self.vertical else [0.0, 0.0, 1.0])


def add_handle(b: ObjectBuilder, part: int, rect: Rect, x: Real, edge: Edge, style: FrontStyle, slot: int) -> None:
    """Adds a handle on the outer face at ``x`` of a front, by its free ``edge``."""
    (y, z), vertical, length = handle_place(rect, edge, style)
    length = max(length, 4 * style.handle_radius)
    side = np.array([0.0, 0.0, 1.0]) if vertical else np.array([0.0, 1.0, 0.0])
    centre = np.array([x, y, z])
    HANDLES[style.handle](b, _Handle(part, rect, x, edge, style, slot, centre, vertical, side * length / 2))


def _add_bar(b: ObjectBuilder, h: _Handle) -> None:
    """A straight bar on two posts."""
    r, depth = h.style.handle_radius, h.style.handle_depth
    start = h.centre + np.array([depth - r, 0, 0]) - h.half
    if h.style.round_handle:
        length = 2 * float(h.half.max())
        b.add(h.part, cylinder(start.tolist(), "z" if h.vertical else "y", length, r, 8), h.slot)
    else:
        thick = r * h.across
        low, high = start - thick - [r, 0, 0], start + 2 * h.half + thick + [r, 0, 0]
        b.add_box(h.part, low.tolist(), high.tolist(), h.slot)
    for end in (-0.8, 0.8):
        post = h.centre + end * h.half
        spread = np.array([0.0, 0.8 * r, 0.8 * r])
        b.add_box(h.part, (post - spread).tolist(), (post + spread + [depth - r, 0, 0]).tolist(), h.slot)


def _add_arch(b: ObjectBuilder, h: _Handle) -> None:
    """A bow from the panel and back to it."""
    r = h.style.handle_radius
    path = _bar_path(h.style, h.x, 2 * float(h.half.max()))
    if h.vertical:
        path = path[:, [0, 2, 1]]
    section = circle(6, r) if h.style.round_handle else rounded_rectangle(2 * r, 1.2 * r, 0.0)
    up = [0.0, 1.0, 0.0] if h.vertical else [0.0, 0.0, 1.0]
    b.add(h.part, sweep(path + np.array([0, *h.centre[1:]]), section, up), h.slot)


def _add_knob(b: ObjectBuilder, h: _Handle) -> None:
    """A turned or a square knob."""
    radius, depth = 2.0 * h.style.handle_radius, h.style.handle_depth
    if h.style.round_handle:
        profile = [0.5, 0.45, 0.9, 1.0, 0.8], [0.0, 0.45, 0.6, 0.85, 1.0]
        radii, heights = [radius * p for p in profile[0]], [depth * height for height in profile[1]]
        b.add(h.part, turned(radii, heights, "x", h.centre.tolist(), 12), h.slot)
    else:
        low, high = h.centre - [0, radius, radius], h.centre + np.array([depth, radius, radius])
        b.add_box(h.part, low.tolist(), high.tolist(), h.slot)


def _add_ring(b: ObjectBuilder, h: _Handle) -> None:
    """A ring that hangs from a stud."""
    r, depth = h.style.handle_radius, h.style.handle_depth
    b.add(h.part, cylinder(h.centre.tolist(), "x", 0.3 * depth, 1.6 * r, 10), h.slot)
    ring = (h.centre + np.array([0.4 * depth, 0, -1.6 * r])).tolist()
    b.add(h.part, torus(ring, "x", 2.0 * r, 0.5 * r, 14, 6), h.slot)


def _add_recess(b: ObjectBuilder, h: _Handle) -> None:
    """A dark recess in a rim."""
    r = h.style.handle_radius
    wide = h.half * 0.6 + 2.0 * r * h.across
    low, high = h.centre - wide, h.centre + wide + [0.25 * r, 0, 0]
    b.add_box(h.part, low.tolist(), high.tolist(), b.slot(Role.DETAIL))
    rim = frame((low - [0, 0.4 * r, 0.4 * r]).tolist(), (high + [0.4 * r] * 3).tolist(), "x", 0.5 * r)
    b.add(h.part, rim, h.slot)


def _add_lip(b: ObjectBuilder, h: _Handle) -> None:
    """A lip that stands out along the free edge."""
    _add_along_edge(b, h, 0.5 * h.style.handle_depth, h.style.handle_radius * 0.8)


def _add_strip(b: ObjectBuilder, h: _Handle) -> None:
    """A flat strip on the free edge."""
    _add_along_edge(b, h, 0.25 * h.style.handle_radius, h.style.handle_radius * 3.0)


def _add_along_edge(b: ObjectBuilder, h: _Handle, out: Real, wide: Real) -> None:
    """A box along the free edge that stands out by ``out`` and covers ``wide`` of the front, at most a fifth."""
    rect = h.rect
    wide = min(wide, 0.2 * rect.width, 0.2 * rect.height)
    share = min(h.style.handle_length + 0.2, 1.0)
    (cy, cz), (dy, dz) = rect.at(0.5, 0.5), (share * rect.width / 2, share * rect.height / 2)
    spans = {
        "left": (rect.y0, rect.y0 + wide, cz - dz, cz + dz),
        "right": (rect.y1 - wide, rect.y1, cz - dz, cz + dz),
        "bottom": (cy - dy, cy + dy, rect.z0, rect.z0 + wide),
        "top": (cy - dy, cy + dy, rect.z1 - wide, rect.z1),
        "centre": (cy - dy, cy + dy, rect.z1 - wide, rect.z1),
    }
    y0, y1, z0, z1 = spans[h.edge]
    b.add_box(h.part, (h.x - 0.2 * h.style.handle_radius, y0, z0), (h.x + out, y1, z1), h.slot)


HANDLES: dict[HandleStyle, Callable[[ObjectBuilder, _Handle], None]] = {
    "none": lambda b, h: None,
    "bar": _add_bar,
    "arch": _add_arch,
    "knob": _add_knob,
    "ring": _add_ring,
    "recess": _add_recess,
    "lip": _add_lip,
    "strip": _add_strip,
}
"""What adds each style of handle."""
