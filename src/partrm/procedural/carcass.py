"""Hollow carcasses open towards +x, and what moves in them: hinged doors, drawers, sliding panels."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from partrm.geometry.joints import JointType
from partrm.objects.materials import Role
from partrm.procedural.builder import ObjectBuilder, pick
from partrm.procedural.fronts import Edge, FrontStyle, Rect, add_handle, add_panel
from partrm.procedural.shapes import Real, frame

Hinge = Literal["left", "right", "bottom", "top"]

FREE_EDGE: dict[Hinge, Edge] = {"left": "right", "right": "left", "bottom": "top", "top": "bottom"}


@dataclass(frozen=True)
class Carcass:
    """Five walls, open towards +x."""

    outer: Rect
    back: Real
    front: Real
    wall: Real
    interior: int
    """Material slot of the inner faces."""

    @property
    def inner(self) -> Rect:
        return self.outer.inset(self.wall)

    @property
    def depth(self) -> float:
        """Of the cavity, metres."""
        return self.front - self.back - self.wall


def add_carcass(b: ObjectBuilder, outer: Rect, back: Real, front: Real, wall: Real, slot: int, interior: int):
    """Adds the five walls to the body; inner faces take the ``interior`` slot."""
    inner = outer.inset(wall)
    b.add_box(0, (back, outer.y0, outer.z0), (back + wall, outer.y1, outer.z1), slot, {"+x": interior})
    x0 = back + wall
    b.add_box(0, (x0, outer.y0, outer.z0), (front, inner.y0, outer.z1), slot, {"+y": interior})
    b.add_box(0, (x0, inner.y1, outer.z0), (front, outer.y1, outer.z1), slot, {"-y": interior})
    b.add_box(0, (x0, inner.y0, outer.z0), (front, inner.y1, inner.z0), slot, {"+z": interior})
    b.add_box(0, (x0, inner.y0, inner.z1), (front, inner.y1, outer.z1), slot, {"-z": interior})
    return Carcass(outer, back, front, wall, interior)


def sample_interior(b: ObjectBuilder, body: int) -> int:
    """The slot of inner faces: the body's own or one apart."""
    return body if b.rng.random() < 0.3 else b.slot(Role.INTERIOR)


def add_shelves(b: ObjectBuilder, rect: Rect, back: Real, front: Real, count: int, slot: int) -> None:
    """Evenly spaced shelves across the cavity ``rect``."""
    t = 0.012 * max(rect.height, rect.width)
    for k in range(count):
        z = rect.z0 + (k + 1) / (count + 1) * rect.height
        b.add_box(0, (back, rect.y0, z - t / 2), (back + 0.92 * (front - back), rect.y1, z + t / 2), slot)


def hinge_joint(rect: Rect, x: Real, hinge: Hinge) -> tuple[tuple[Real, Real, Real], tuple[Real, Real, Real]]:
    """Axis and pivot with which a front opens outwards (towards +x) at a positive angle, hinged at ``x``."""
    return {
        "left": ((0.0, 0.0, -1.0), (x, rect.y0, 0.0)),
        "right": ((0.0, 0.0, 1.0), (x, rect.y1, 0.0)),
        "bottom": ((0.0, 1.0, 0.0), (x, 0.0, rect.z0)),
        "top": ((0.0, -1.0, 0.0), (x, 0.0, rect.z1)),
    }[hinge]


@dataclass(frozen=True)
class FrontSlots:
    """Material slots of one moving front."""

    panel: int
    handle: int
    inside: int


def front_slots(b: ObjectBuilder, inside: int) -> FrontSlots:
    """A slot for a new front's panel; its handle has the object's handle slot or the panel's own."""
    panel = b.new_slot(Role.MOVING)
    return FrontSlots(panel, b.slot(Role.HANDLE) if b.rng.random() < 0.85 else panel, inside)


def add_door(
    b: ObjectBuilder, rect: Rect, x: Real, hinge: Hinge, style: FrontStyle, slots: FrontSlots, pivot_depth: Real = 1.0
) -> int:
    """Hinged door whose back lies at ``x``; ``pivot_depth`` puts the hinge at its back (0) or outer face (1)."""
    axis, pivot = hinge_joint(rect, x + pivot_depth * style.thickness, hinge)
    upper = np.deg2rad(b.rng.uniform(70, 95) if hinge in ("bottom", "top") else b.rng.choice([90, 110, 140, 170]))
    part = b.part(f"door_{len(b.names)}", JointType.REVOLUTE, axis, pivot, upper)
    face = add_panel(b, part, rect, x, slots.panel, style)
    add_handle(b, part, rect, face, FREE_EDGE[hinge], style, slots.handle)
    if b.rng.random() < 0.5:
        lining, t = rect.inset(0.08 * rect.width, 0.08 * rect.height), 0.1 * style.thickness
        if style.panel not in ("glass",):
            b.add_box(part, (x - t, lining.y0, lining.z0), (x, lining.y1, lining.z1), slots.inside)
    return part


def add_drawer(
    b: ObjectBuilder, rect: Rect, cavity: Rect, x: Real, depth: Real, style: FrontStyle, slots: FrontSlots
) -> int:
    """Drawer with a front ``rect`` whose back lies at ``x`` and a box of about ``depth`` in the ``cavity``."""
    depth *= b.rng.uniform(0.7, 0.95)
    part = b.part(
        f"drawer_{len(b.names)}",
        JointType.PRISMATIC,
        (1, 0, 0),
        (x, *rect.at(0.5, 0.5)),
        depth * b.rng.uniform(0.5, 0.95),
    )
    face = add_panel(b, part, rect, x, slots.panel, style)
    edge: Edge = "centre" if style.handle_position == 0.5 or style.handle in ("lip", "strip") else "top"
    add_handle(b, part, rect, face, edge, style, slots.handle)
    add_drawer_box(b, part, cavity, x, depth, slots.inside)
    return part


def add_drawer_box(b: ObjectBuilder, part: int, cavity: Rect, x: Real, depth: Real, slot: int) -> None:
    """Bottom, sides and back of a drawer behind a front whose back lies at ``x``, in the ``cavity``."""
    body = cavity.inset(0.02 * cavity.width, 0.06 * cavity.height)
    top = body.z0 + body.height * b.rng.uniform(0.5, 0.95)
    t = 0.02 * min(cavity.width, depth) + 0.002
    back = x - depth
    b.add_box(part, (back, body.y0, body.z0), (x, body.y1, body.z0 + t), slot)
    b.add_box(part, (back, body.y0, body.z0 + t), (x, body.y0 + t, top), slot)
    b.add_box(part, (back, body.y1 - t, body.z0 + t), (x, body.y1, top), slot)
    b.add_box(part, (back, body.y0 + t, body.z0 + t), (back + t, body.y1 - t, top), slot)


def add_slider(b: ObjectBuilder, rect: Rect, x: Real, travel: Real, style: FrontStyle, slots: FrontSlots) -> int:
    """Panel that slides along y by ``travel`` metres (negative: to the left)."""
    side = float(np.sign(travel))
    pivot = (x, *rect.at(0.5, 0.5))
    part = b.part(f"slider_{len(b.names)}", JointType.PRISMATIC, (0, side, 0), pivot, abs(travel))
    face = add_panel(b, part, rect, x, slots.panel, style)
    add_handle(b, part, rect, face, "left" if side > 0 else "right", style, slots.handle)
    return part


def add_base(b: ObjectBuilder, carcass: Carcass, slot: int, size: Real) -> None:
    """Something below the carcass or nothing: legs, a recessed plinth, a footed frame."""
    kind = pick(b.rng, ["none", "none", "legs", "plinth", "frame", "runners"])
    outer, x0, x1 = carcass.outer, carcass.back, carcass.front
    height, w = size * b.rng.uniform(0.02, 0.16), size * b.rng.uniform(0.02, 0.05)
    z0, z1 = outer.z0 - height, outer.z0
    if kind == "legs":
        for x in (x0, x1 - w):
            for y in (outer.y0, outer.y1 - w):
                b.add_box(0, (x, y, z0), (x + w, y + w, z1), slot)
    elif kind == "plinth":
        b.add_box(0, (x0, outer.y0 + w, z0), (x1 - w, outer.y1 - w, z1), slot)
    elif kind == "runners":
        for y in (outer.y0, outer.y1 - w):
            b.add_box(0, (x0, y, z0), (x1, y + w, z1), slot)
    elif kind == "frame":
        b.add(0, frame((x0, outer.y0, z0), (x1, outer.y1, z1), "z", w), slot)


def add_top(b: ObjectBuilder, carcass: Carcass, slot: int, size: Real, overhang_front: Real) -> None:
    """A top board that may overhang, or nothing."""
    if b.rng.random() < 0.55:
        return
    t, o = size * b.rng.uniform(0.015, 0.06), size * b.rng.uniform(0.0, 0.05)
    outer = carcass.outer
    low = (carcass.back, outer.y0 - o, outer.z1)
    b.add_box(0, low, (carcass.front + overhang_front + o, outer.y1 + o, outer.z1 + t), slot)
