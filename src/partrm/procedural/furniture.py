"""Generators of furniture: cabinets, drawers, sliding doors, chests, desks, doors and windows in their frames."""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from partrm.geometry.joints import JointType
from partrm.objects.materials import Role
from partrm.procedural.builder import ObjectBuilder, pick
from partrm.procedural.carcass import (
    Carcass,
    Hinge,
    add_base,
    add_carcass,
    add_door,
    add_drawer,
    add_shelves,
    add_slider,
    add_top,
    front_slots,
    sample_interior,
)
from partrm.procedural.fronts import FrontStyle, HandleStyle, PanelStyle, Rect, add_handle, sample_style
from partrm.procedural.registry import category
from partrm.procedural.shapes import Real, cylinder, frame

PANELS: tuple[PanelStyle, ...] = (
    "flat",
    "flat",
    "soft",
    "framed",
    "framed",
    "raised",
    "glass",
    "planks",
    "slats",
    "bowed",
)
DRAWER_PANELS: tuple[PanelStyle, ...] = ("flat", "flat", "soft", "framed", "raised", "bowed")
HANDLES: tuple[HandleStyle, ...] = ("bar", "bar", "arch", "knob", "knob", "lip", "recess", "ring", "strip", "none")


def _furniture_carcass(b: ObjectBuilder, width: Real, depth: Real, height: Real, wall: Real) -> Carcass:
    body = b.slot(Role.BODY)
    return add_carcass(b, Rect(-width / 2, width / 2, 0, height), 0.0, depth, wall, body, sample_interior(b, body))


def _fronts(b: ObjectBuilder, cell: Rect, style: FrontStyle, carcass: Carcass, inset: bool) -> tuple[Rect, float]:
    """Rectangle and back plane of a front over the opening ``cell``: inside it, or lying over the walls."""
    gap = b.rng.uniform(0.001, 0.006)
    if inset:
        return cell.inset(gap), carcass.front - style.thickness
    return cell.inset(-carcass.wall * 0.45), carcass.front + 0.001


@category("StorageFurniture")
def cabinet(b: ObjectBuilder) -> None:
    """Hinged cabinet: one or two doors, any hinge, a wide range of proportions."""
    rng = b.rng
    width, depth, height = rng.uniform(0.35, 1.2), rng.uniform(0.25, 0.8), rng.uniform(0.3, 1.4)
    size = (width + height) / 2
    carcass = _furniture_carcass(b, width, depth, height, size * rng.uniform(0.015, 0.05))
    style = sample_style(rng, PANELS, HANDLES, size)
    inset = bool(rng.random() < 0.4)
    inner = carcass.inner
    count = 2 if width > 0.55 and rng.random() < 0.6 else 1
    split = rng.choice([0.5, rng.uniform(0.35, 0.65)])
    pair: list[Hinge] = ["left", "right"]
    sides: list[Hinge] = [*pair, *pair, "top", "bottom"]
    hinges: list[Hinge]
    if count == 2:
        middle = inner.at(split, 0)[0]
        if rng.random() < 0.4:
            half = carcass.wall / 2
            b.add_box(
                0, (carcass.wall, middle - half, inner.z0), (carcass.front, middle + half, inner.z1), b.slot(Role.BODY)
            )
        cells = [Rect(inner.y0, middle, inner.z0, inner.z1), Rect(middle, inner.y1, inner.z0, inner.z1)]
        hinges = pair if rng.random() < 0.85 else [pick(rng, pair)] * 2
    else:
        cells = [inner]
        hinges = [pick(rng, sides)]
    add_shelves(b, inner, carcass.wall, carcass.front - 2 * style.thickness, int(rng.integers(0, 4)), carcass.interior)
    for cell, hinge in zip(cells, hinges, strict=True):
        rect, x = _fronts(b, cell, style, carcass, inset)
        if count == 2 and not inset:
            rect = Rect(
                max(rect.y0, cell.y0 + 0.002) if cell is cells[1] else rect.y0,
                min(rect.y1, cell.y1 - 0.002) if cell is cells[0] else rect.y1,
                rect.z0,
                rect.z1,
            )
        add_door(b, rect, x, hinge, style, front_slots(b, carcass.interior))
    add_base(b, carcass, b.slot(Role.BODY), size)
    add_top(b, carcass, b.slot(Role.BODY), size, 0.0 if inset else style.thickness)


def _split_cells(rng: np.random.Generator, rect: Rect, wall: Real, depth: int) -> list[tuple[Rect, bool]]:
    """Random guillotine partition: the cells and, between them, the partition boards (flagged True)."""
    longer_height = rect.height > rect.width * rng.uniform(0.5, 1.5)
    if depth == 0 or min(rect.width, rect.height) < 0.18 or (depth < 3 and rng.random() < 0.3):
        return [(rect, False)]
    u = rng.uniform(0.3, 0.7)
    if longer_height:
        z = rect.at(0, u)[1]
        first, second = Rect(rect.y0, rect.y1, rect.z0, z - wall / 2), Rect(rect.y0, rect.y1, z + wall / 2, rect.z1)
        board = Rect(rect.y0, rect.y1, z - wall / 2, z + wall / 2)
    else:
        y = rect.at(u, 0)[0]
        first, second = Rect(rect.y0, y - wall / 2, rect.z0, rect.z1), Rect(y + wall / 2, rect.y1, rect.z0, rect.z1)
        board = Rect(y - wall / 2, y + wall / 2, rect.z0, rect.z1)
    return [(board, True), *_split_cells(rng, first, wall, depth - 1), *_split_cells(rng, second, wall, depth - 1)]


@category("StorageFurniture", turn=1)
def mixed_cabinet(b: ObjectBuilder) -> None:
    """Cabinet partitioned at random into doors, drawers and open compartments."""
    rng = b.rng
    width, depth, height = rng.uniform(0.5, 1.5), rng.uniform(0.3, 0.6), rng.uniform(0.45, 1.6)
    size = (width + height) / 2
    carcass = _furniture_carcass(b, width, depth, height, size * rng.uniform(0.015, 0.035))
    door_style = sample_style(rng, PANELS, HANDLES, 0.6 * size)
    drawer_style = sample_style(rng, DRAWER_PANELS, HANDLES, 0.5 * size)
    inset = bool(rng.random() < 0.4)
    made = 0
    for cell, board in _split_cells(rng, carcass.inner, carcass.wall, int(rng.integers(1, 4))):
        if board:
            b.add_box(0, (carcass.wall, cell.y0, cell.z0), (depth, cell.y1, cell.z1), b.slot(Role.BODY))
            continue
        kind = "door" if made == 0 else rng.choice(["door", "drawer", "open"], p=[0.5, 0.4, 0.1])
        if cell.height < 0.5 * cell.width and rng.random() < 0.6:
            kind = "drawer"
        if kind == "open" or made >= 8:
            continue
        made += 1
        style = drawer_style if kind == "drawer" else door_style
        rect, x = _fronts(b, cell, style, carcass, inset)
        slots = front_slots(b, carcass.interior)
        if kind == "drawer":
            add_drawer(b, rect, cell, x, carcass.depth - (style.thickness if inset else 0), style, slots)
        else:
            add_shelves(b, cell, carcass.wall, x - style.thickness, int(rng.integers(0, 2)), carcass.interior)
            add_door(b, rect, x, pick(rng, ["left", "right", "left", "right", "top", "bottom"]), style, slots)
    add_base(b, carcass, b.slot(Role.BODY), size)
    add_top(b, carcass, b.slot(Role.BODY), size, 0.0 if inset else door_style.thickness)


@category("StorageFurniture", turn=3)
def drawers(b: ObjectBuilder) -> None:
    """Chest of one to five rows of drawers, some rows split in two."""
    rng = b.rng
    rows = int(rng.integers(1, 6))
    width, depth = rng.uniform(0.3, 1.1), rng.uniform(0.3, 0.7)
    height = rows * rng.uniform(0.14, 0.3) * rng.uniform(0.7, 1.3)
    size = (width + height) / 2
    carcass = _furniture_carcass(b, width, depth, height, size * rng.uniform(0.015, 0.05))
    style = sample_style(rng, DRAWER_PANELS, HANDLES, 0.7 * min(size, 3 * height / rows))
    inset = bool(rng.random() < 0.4)
    inner, wall = carcass.inner, carcass.wall * rng.uniform(0.3, 1.0)
    share = rng.uniform(0.7, 1.3, rows) if rng.random() < 0.4 else np.ones(rows)
    edges = inner.z0 + np.concatenate([[0.0], np.cumsum(share) / share.sum()]) * inner.height
    paired = rng.random() < 0.25
    for row in range(rows):
        low = edges[row] + (wall / 2 if row else 0)
        high = edges[row + 1] - (wall / 2 if row + 1 < rows else 0)
        if row:
            b.add_box(0, (carcass.wall, inner.y0, edges[row] - wall / 2), (depth, inner.y1, low), b.slot(Role.BODY))
        cells = [Rect(inner.y0, inner.y1, low, high)]
        if paired and width > 0.5 and rng.random() < 0.6:
            y = inner.at(0.5, 0)[0]
            b.add_box(0, (carcass.wall, y - wall / 2, low), (depth, y + wall / 2, high), b.slot(Role.BODY))
            cells = [Rect(inner.y0, y - wall / 2, low, high), Rect(y + wall / 2, inner.y1, low, high)]
        for cell in cells:
            rect = cell.inset(rng.uniform(0.001, 0.005)) if inset else cell.inset(-0.45 * wall)
            x = depth - style.thickness if inset else depth + 0.001
            slots = front_slots(b, carcass.interior)
            add_drawer(b, rect, cell, x, carcass.depth - (style.thickness if inset else 0), style, slots)
    add_base(b, carcass, b.slot(Role.BODY), size)
    add_top(b, carcass, b.slot(Role.BODY), size, 0.0 if inset else style.thickness)


@category("StorageFurniture", turn=5)
def sliding_cabinet(b: ObjectBuilder) -> None:
    """Cabinet with sideways-sliding doors: one over half of an open front, or two on two tracks."""
    rng = b.rng
    width, depth, height = rng.uniform(0.6, 1.6), rng.uniform(0.25, 0.6), rng.uniform(0.35, 1.3)
    size = (width + height) / 2
    carcass = _furniture_carcass(b, width, depth, height, size * rng.uniform(0.015, 0.05))
    style = sample_style(rng, PANELS[:-1], ("bar", "bar", "arch", "knob", "recess", "lip", "ring"), 0.7 * size)
    inner, t = carcass.inner, style.thickness
    add_shelves(b, inner, carcass.wall, depth - 3 * t, int(rng.integers(0, 3)), carcass.interior)
    split = rng.uniform(0.4, 0.6)
    y = inner.at(split, 0)[0]
    overlap = 0.02 * width
    outside = rng.random() < 0.4
    x0 = depth + 0.002 if outside else depth - 2.2 * t
    left, right = Rect(inner.y0, y + overlap, inner.z0, inner.z1), Rect(y - overlap, inner.y1, inner.z0, inner.z1)
    left, right = left.inset(0.002, 0.003), right.inset(0.002, 0.003)
    travel = 0.95 * min(left.width, right.width) - 2 * overlap
    sides = [1, -1] if rng.random() < 0.5 else [rng.choice([1, -1])]
    rng.shuffle(sides)
    for k, side in enumerate(sides):
        x = x0 + (1.1 * t * (len(sides) - 1 - k) if not outside or len(sides) == 2 else 0)
        add_slider(b, left if side > 0 else right, x, side * travel, style, front_slots(b, carcass.interior))
    if len(sides) == 1 and rng.random() < 0.6:
        panel = right if sides[0] > 0 else left
        back = (x0 - 1.05 * t) if not outside else depth - 1.02 * t
        slot = b.slot(Role.BODY) if rng.random() < 0.5 else b.slot(Role.GLASS)
        b.add_box(0, (back, panel.y0, panel.z0), (back + 0.8 * t, panel.y1, panel.z1), slot)
    add_base(b, carcass, b.slot(Role.BODY), size)
    add_top(b, carcass, b.slot(Role.BODY), size, 2.2 * t if outside else 0.0)


@category()
def window(b: ObjectBuilder) -> None:
    """Window in a thick frame: sliding sideways or up, or hinged like a casement."""
    rng = b.rng
    width, height = rng.uniform(0.5, 1.4), rng.uniform(0.5, 1.3)
    depth, border = rng.uniform(0.06, 0.2), rng.uniform(0.04, 0.14)
    body = b.slot(Role.BODY)
    outer = Rect(-width / 2, width / 2, 0, height)
    b.add(0, frame((0, outer.y0, 0), (depth, outer.y1, height), "x", border), body)
    inner = outer.inset(border)
    style = sample_style(rng, ("glass", "glass", "window", "framed"), ("knob", "bar", "arch", "lip", "none"), 0.6)
    kind = pick(rng, ["slide", "slide", "sash", "sash", "casement", "awning"])
    if rng.random() < 0.4:
        reach = rng.uniform(0.02, 0.15)
        b.add_box(0, (0, outer.y0 - 0.04, -0.06), (depth + reach, outer.y1 + 0.04, 0), body)
    bars = (int(rng.integers(0, 3)), int(rng.integers(0, 2))) if rng.random() < 0.5 else (0, 0)
    slots = front_slots(b, body)
    thickness = min(style.thickness, 0.4 * depth)
    style = replace(style, thickness=thickness, border=min(style.border, 0.12 * inner.width))
    x = depth - 1.1 * thickness
    if kind == "casement" or kind == "awning":
        add_door(b, inner.inset(0.003), x, pick(rng, ["left", "right"]) if kind == "casement" else "top", style, slots)
    elif kind == "slide":
        side = rng.choice([1, -1])
        half = inner.at(0.5, 0)[0]
        first, second = Rect(inner.y0, half + 0.02, inner.z0, inner.z1), Rect(half - 0.02, inner.y1, inner.z0, inner.z1)
        moving, still = (first, second) if side > 0 else (second, first)
        part = add_slider(b, moving.inset(0.002), x, side * 0.85 * moving.width, style, slots)
        if style.panel == "glass":
            _muntins(b, moving.inset(style.border), x, thickness, bars, slots.panel, part)
        _pane(b, still, x - 1.1 * thickness, thickness, style.border, body)
        _muntins(b, still.inset(style.border), x - 1.1 * thickness, thickness, bars, body)
    else:
        half = inner.at(0, 0.5)[1]
        low, high = Rect(inner.y0, inner.y1, inner.z0, half + 0.02), Rect(inner.y0, inner.y1, half - 0.02, inner.z1)
        part = b.part("sash", JointType.PRISMATIC, (0, 0, 1), (x, 0, half), 0.85 * low.height)
        _pane(b, low.inset(0.002), x, thickness, style.border, slots.panel, part)
        _muntins(b, low.inset(style.border), x, thickness, bars, slots.panel, part)
        rail = Rect(low.y0, low.y1, low.z0, low.z0 + 2 * style.border)
        add_handle(
            b, part, rail, x + thickness, "centre", replace(style, handle_length=rng.uniform(0.15, 0.5)), slots.handle
        )
        _pane(b, high, x - 1.1 * thickness, thickness, style.border, body)
        _muntins(b, high.inset(style.border), x - 1.1 * thickness, thickness, bars, body)


def _pane(b: ObjectBuilder, rect: Rect, x: Real, t: Real, border: Real, slot: int, part: int = 0) -> None:
    """Glass in a thin frame."""
    border = min(border, 0.25 * rect.width, 0.25 * rect.height)
    b.add(part, frame((x, rect.y0, rect.z0), (x + t, rect.y1, rect.z1), "x", border), slot)
    glass = rect.inset(border)
    b.add_box(part, (x + 0.4 * t, glass.y0, glass.z0), (x + 0.6 * t, glass.y1, glass.z1), b.slot(Role.GLASS))


def _muntins(b: ObjectBuilder, rect: Rect, x: Real, t: Real, bars: tuple[int, int], slot: int, part: int = 0) -> None:
    """Bars that divide a pane: upright ones and level ones."""
    w = 0.025 * (rect.width + rect.height)
    for k in range(bars[0]):
        y = rect.at((k + 1) / (bars[0] + 1), 0)[0]
        b.add_box(part, (x + 0.2 * t, y - w / 2, rect.z0), (x + 0.9 * t, y + w / 2, rect.z1), slot)
    for k in range(bars[1]):
        z = rect.at(0, (k + 1) / (bars[1] + 1))[1]
        b.add_box(part, (x + 0.2 * t, rect.y0, z - w / 2), (x + 0.9 * t, rect.y1, z + w / 2), slot)


@category()
def door(b: ObjectBuilder) -> None:
    """Door in its frame, between two posts or in a piece of wall; some have a lever that turns on the door."""
    rng = b.rng
    width, height, depth = rng.uniform(0.6, 1.1), rng.uniform(0.7, 2.1), rng.uniform(0.05, 0.2)
    border = rng.uniform(0.04, 0.25)
    body = b.slot(Role.BODY)
    outer = Rect(-width / 2 - border, width / 2 + border, 0, height + border)
    if rng.random() < 0.3:
        for y in (-width / 2 - border / 2, width / 2 + border / 2):
            if rng.random() < 0.5:
                b.add(0, cylinder((depth / 2, y, 0), "z", height, border / 2, 14), body)
            else:
                b.add_box(0, (0, y - border / 2, 0), (depth, y + border / 2, height), body)
    else:
        b.add(0, frame((0, outer.y0, 0), (depth, outer.y1, outer.z1), "x", (border, border, 0.01, border)), body)
        if rng.random() < 0.3:
            b.add_box(0, (-0.3 * depth, outer.y0, 0), (0.0, outer.y1, outer.z1), b.slot(Role.INTERIOR))
    panels: tuple[PanelStyle, ...] = ("flat", "flat", "framed", "raised", "planks", "glass")
    style = sample_style(rng, panels, ("knob", "knob", "bar", "arch", "ring", "none"), 0.9)
    style = replace(style, thickness=rng.uniform(0.3, 0.9) * depth, handle_length=rng.uniform(0.1, 0.3))
    lever = rng.random() < 0.35
    style = replace(style, handle="none" if lever else style.handle)
    hinge: Hinge = pick(rng, ["left", "right"])
    rect, slots = Rect(-width / 2, width / 2, 0.012, height).inset(0.004, 0.0), front_slots(b, body)
    part = add_door(b, rect, depth - style.thickness, hinge, style, slots)
    if lever:
        side = 1 if hinge == "left" else -1
        y, z = rect.at(0.5 + side * 0.42, rng.uniform(0.42, 0.55))
        _add_lever(b, part, (depth, y, z), -side * rng.uniform(0.12, 0.25), slots.handle)


def _add_lever(b: ObjectBuilder, door_part: int, at: tuple[Real, Real, Real], length: Real, slot: int) -> None:
    """A lever handle that turns about x on a door; it reaches ``length`` along y."""
    x, y, z = at
    r = b.rng.uniform(0.012, 0.025)
    b.add(door_part, cylinder(at, "x", 0.012, 2.5 * r, 12), slot)
    axis = (-1.0 if length < 0 else 1.0, 0.0, 0.0)
    part = b.part("lever", JointType.REVOLUTE, axis, at, -np.deg2rad(0), -np.deg2rad(b.rng.uniform(30, 90)), door_part)
    b.add(part, cylinder((x + 0.01, y, z), "x", 0.05, r, 10), slot)
    if b.rng.random() < 0.5:
        b.add(part, cylinder((x + 0.06, y, z), "y", length, r, 10), slot)
    else:
        b.add_box(
            part, (x + 0.05, min(y, y + length), z - 1.3 * r), (x + 0.05 + r, max(y, y + length), z + 1.3 * r), slot
        )


@category("StorageFurniture", turn=4)
def chest(b: ObjectBuilder) -> None:
    """Chest or box, open at the top, with a lid hinged at one of its upper edges."""
    rng = b.rng
    width, height, depth = rng.uniform(0.3, 1.0), rng.uniform(0.2, 0.9), rng.uniform(0.15, 0.6)
    size = (width + height) / 2
    carcass = _furniture_carcass(b, width, depth, height, size * rng.uniform(0.01, 0.06))
    style = sample_style(
        rng,
        ("flat", "flat", "soft", "framed", "raised", "planks", "bowed"),
        ("none", "none", "bar", "arch", "knob", "lip", "ring"),
        size,
    )
    style = replace(style, thickness=style.thickness * rng.choice([1.0, 1.0, 2.5]))
    inset = bool(rng.random() < 0.25)
    rect, x = _fronts(b, carcass.inner, style, carcass, inset)
    if not inset:
        rect = carcass.outer.inset(-size * rng.choice([0.0, rng.uniform(0.0, 0.03)]))
    hinge: Hinge = pick(rng, ["top", "top", "top", "left", "right"])
    add_door(b, rect, x, hinge, style, front_slots(b, carcass.interior))
    if rng.random() < 0.3:
        t = 0.03 * size
        for u in (0.15, 0.8):
            y = carcass.outer.at(u, 0)[0]
            b.add_box(
                0, (0.0, y, carcass.outer.z0 - 0.3 * t), (depth, y + 2 * t, carcass.outer.z0), b.slot(Role.DETAIL)
            )
    b.turn(np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))


@category("StorageFurniture", turn=6)
def desk(b: ObjectBuilder) -> None:
    """Table or desk with one to three drawers below its top."""
    rng = b.rng
    width, depth, height = rng.uniform(0.7, 1.6), rng.uniform(0.4, 0.8), rng.uniform(0.55, 0.85)
    body, top = b.slot(Role.BODY), rng.uniform(0.02, 0.06)
    apron, leg = rng.uniform(0.1, 0.25), rng.uniform(0.03, 0.08)
    count = int(rng.integers(1, 4))
    b.add_box(
        0,
        (0, -width / 2, height - top),
        (depth, width / 2, height),
        b.slot(Role.DETAIL) if rng.random() < 0.3 else body,
    )
    outer = Rect(-width / 2 + 0.02, width / 2 - 0.02, height - top - apron, height - top)
    carcass = add_carcass(b, outer, 0.02, depth - 0.05, rng.uniform(0.012, 0.03), body, sample_interior(b, body))
    for x in (0.02, depth - 0.05 - leg):
        for y in (outer.y0, outer.y1 - leg):
            b.add_box(0, (x, y, 0), (x + leg, y + leg, outer.z0), body)
    style = sample_style(rng, DRAWER_PANELS, HANDLES, 0.25)
    edges = np.linspace(carcass.inner.y0, carcass.inner.y1, count + 1)
    for y0, y1 in pairwise(edges):
        cell = Rect(y0 + 0.004, y1 - 0.004, carcass.inner.z0, carcass.inner.z1)
        b.add_box(0, (0.04, y1 - 0.004, cell.z0), (carcass.front, min(y1 + 0.004, carcass.inner.y1), cell.z1), body)
        slots = front_slots(b, carcass.interior)
        rect = cell.inset(0.002)
        add_drawer(b, rect, cell, carcass.front - style.thickness, carcass.depth - style.thickness, style, slots)
    if rng.random() < 0.4:
        side = rng.choice([0, 1])
        y0 = outer.y0 if side == 0 else outer.y1 - 0.35 * width
        pedestal = Rect(y0, y0 + 0.35 * width, 0.04, outer.z0)
        box = add_carcass(b, pedestal, 0.02, depth - 0.05, 0.02, body, carcass.interior)
        rows = int(rng.integers(1, 4))
        levels = np.linspace(box.inner.z0, box.inner.z1, rows + 1)
        for z0, z1 in pairwise(levels):
            cell = Rect(box.inner.y0, box.inner.y1, z0 + 0.003, z1 - 0.003)
            add_drawer(
                b,
                cell.inset(0.002),
                cell,
                box.front - style.thickness,
                box.depth - style.thickness,
                style,
                front_slots(b, box.interior),
            )
