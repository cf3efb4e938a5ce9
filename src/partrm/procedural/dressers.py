"""Generators of joiners' furniture: sideboards, chests of drawers and china cabinets, with faces laid out in order."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np

from partrm.geometry.joints import JointType
from partrm.objects.materials import Role
from partrm.procedural.builder import ObjectBuilder, pick
from partrm.procedural.carcass import (
    FREE_EDGE,
    Carcass,
    FrontSlots,
    Hinge,
    add_carcass,
    add_drawer_box,
    add_shelves,
    hinge_joint,
    sample_interior,
)
from partrm.procedural.fronts import FrontStyle, HandleStyle, PanelStyle, Rect, add_handle, add_panel
from partrm.procedural.pulls import Ornament, Pull, add_ornament, add_pull
from partrm.procedural.registry import category
from partrm.procedural.shapes import Real, cylinder, frame, loft, prism, turned

Way = Literal["drawer", "left", "right", "pair", "bottom", "open"]
Cell = tuple[Rect, Way]

PULLS: tuple[Pull, ...] = (
    *("knob", "knob", "knob", "bar", "bar", "arch", "arch", "ring", "cup", "cup", "tab", "label", "gap", "none"),
)
DOOR_HANDLES: dict[Pull, tuple[HandleStyle, ...]] = {
    "knob": ("knob",), "bar": ("bar", "bar", "knob"), "arch": ("arch", "arch", "knob"), "ring": ("ring",),
    "cup": ("knob", "bar"), "tab": ("lip", "bar"), "label": ("knob", "bar"), "gap": ("none", "lip"),
    "none": ("none", "recess"),
}  # fmt: skip
"""What the doors of a piece have whose drawers have a pull."""

MAX_DRAWERS = 10


@dataclass(frozen=True)
class Look:
    """What the fronts of one piece share."""

    style: FrontStyle
    """Of the panels; its handle is that of the doors."""
    pull: Pull
    height: Real
    """Of a drawer's pull, fraction of the front's."""
    two_above: Real
    """Drawers wider than this have two pulls, metres."""
    drawer_ornament: Ornament
    door_ornament: Ornament
    gap: Real
    """Between a front and what surrounds it, metres."""
    inset: bool
    """Fronts lie between the rails, else before them."""
    rail: Real
    """Width of what parts two cells, metres."""
    slots: FrontSlots


def _sample_look(b: ObjectBuilder, interior: int) -> Look:
    rng = b.rng
    pull, radius = pick(rng, PULLS), rng.uniform(0.004, 0.011)
    panels: tuple[PanelStyle, ...] = ("flat", "flat", "flat", "soft", "framed", "framed", "raised", "planks")
    ornaments: tuple[Ornament, ...] = ("plain", "plain", "moulding", "moulding", "lattice", "cross", "tiles")
    style = FrontStyle(
        panel=pick(rng, panels),
        handle=pick(rng, DOOR_HANDLES[pull]),
        thickness=rng.uniform(0.014, 0.026),
        border=rng.uniform(0.035, 0.085),
        handle_length=rng.uniform(0.15, 0.5),
        handle_depth=rng.uniform(0.02, 0.04),
        handle_radius=radius,
        round_handle=bool(rng.random() < 0.75),
        bevel=rng.uniform(0.0, 0.006),
        handle_vertical=bool(rng.random() < 0.9),
        handle_position=float(rng.choice([0.5, rng.uniform(0.45, 0.85)])),
    )
    ornament = pick(rng, ornaments) if style.panel == "flat" else "plain"
    return Look(
        style=style,
        pull=pull,
        height=float(rng.choice([0.5, rng.uniform(0.5, 0.75)])),
        two_above=float(rng.choice([0.35, 0.6, 2.0])),
        drawer_ornament=ornament if rng.random() < 0.5 else pick(rng, ["plain", "moulding"]),
        door_ornament=ornament,
        gap=10 ** rng.uniform(-3.3, -2.4),
        inset=bool(rng.random() < 0.55),
        rail=rng.uniform(0.012, 0.045),
        slots=FrontSlots(b.slot(Role.MOVING), b.slot(Role.HANDLE), interior),
    )


def _along(rect: Rect, shares: Sequence[Real] | np.ndarray, upright: bool) -> list[Rect]:
    """The rectangle cut into columns, or into rows from the top, of these shares."""
    edges = np.concatenate([[0.0], np.cumsum(shares) / np.sum(shares)])
    if upright:
        return [replace(rect, y0=rect.at(u, 0)[0], y1=rect.at(v, 0)[0]) for u, v in pairwise(edges)]
    return [replace(rect, z0=rect.at(0, 1 - v)[1], z1=rect.at(0, 1 - u)[1]) for u, v in pairwise(edges)]


def _rows(rng: np.random.Generator, count: int) -> np.ndarray:
    """Heights of rows from the top: equal, or lower ones higher."""
    return np.ones(count) if rng.random() < 0.6 else np.linspace(1.0, rng.uniform(1.2, 2.0), count)


def _drawers(rng: np.random.Generator, rect: Rect, rows: int, columns: int = 1) -> list[Cell]:
    """A grid of drawers, the upper row sometimes split once more."""
    cells: list[Cell] = []
    for index, row in enumerate(_along(rect, _rows(rng, rows), upright=False)):
        more = int(index == 0 and columns < 3 and rng.random() < 0.25)
        for cell in _along(row, np.ones(columns + more), upright=True):
            cells.append((cell, "drawer"))
    return cells


def _doors(rng: np.random.Generator, rect: Rect) -> list[Cell]:
    """One door or a pair, or pairs beside each other, before a rectangle."""
    if rect.width > 1.0 and rng.random() < 0.8:
        return [(cell, "pair") for cell in _along(rect, [1, 1], upright=True)]
    if rect.width > 0.42 and rng.random() < 0.85:
        return [(rect, "pair")]
    return [(rect, pick(rng, ["left", "right"]))]


def _face(rng: np.random.Generator, rect: Rect) -> list[Cell]:
    """How a sideboard's face is laid out."""
    kind = pick(rng, ["over", "over", "beside", "beside", "middle", "flanked", "bench"])
    if kind == "over":
        top, rest = _along(rect, [rng.uniform(0.15, 0.35), rng.uniform(0.7, 0.9)], upright=False)
        return _drawers(rng, top, 1, int(rng.integers(1, 4))) + _doors(rng, rest)
    if kind == "beside":
        share = rng.uniform(0.4, 0.62)
        left, right = _along(rect, [share, 1 - share], upright=True)
        left, right = (left, right) if rng.random() < 0.5 else (right, left)
        return _drawers(rng, left, int(rng.integers(2, 6))) + _doors(rng, right)
    if kind == "middle":
        first, middle, last = _along(rect, [1, rng.uniform(0.8, 1.4), 1], upright=True)
        return [(first, "left"), *_drawers(rng, middle, int(rng.integers(2, 5))), (last, "right")]
    if kind == "flanked":
        first, middle, last = _along(rect, [1, rng.uniform(0.8, 1.6), 1], upright=True)
        rows = int(rng.integers(2, 5))
        return _drawers(rng, first, rows) + _doors(rng, middle) + _drawers(rng, last, rows)
    top, rest = _along(rect, [rng.uniform(0.3, 0.5), 0.6], upright=False)
    if rng.random() < 0.5:
        return [(top, "open"), *_drawers(rng, rest, 1, int(rng.integers(2, 4)))]
    return [(top, "open"), *([(rest, "bottom")] if rng.random() < 0.5 else _doors(rng, rest))]


def _fill(b: ObjectBuilder, carcass: Carcass, cells: Sequence[Cell], look: Look) -> None:
    """Boards between the cells and what moves in them."""
    made = 0
    for cell, way in cells:
        hollow = _add_boards(b, carcass, cell, way, look)
        if way == "open" or (way == "drawer" and made >= MAX_DRAWERS):
            continue
        rect, x = _front(carcass, cell, hollow, look)
        made += 1
        if way == "drawer":
            _add_drawer(b, carcass, rect, hollow, x, look)
            continue
        inner, count = hollow.inset(0.001), int(b.rng.integers(0, 3))
        add_shelves(b, inner, carcass.back + carcass.wall, carcass.front - 0.04, count, carcass.interior)
        if way == "pair":
            left, right = _along(rect, [1, 1], upright=True)
            _add_door(b, replace(left, y1=left.y1 - look.gap / 2), x, "left", look)
            _add_door(b, replace(right, y0=right.y0 + look.gap / 2), x, "right", look)
        else:
            _add_door(b, rect, x, way, look)


def _add_boards(b: ObjectBuilder, carcass: Carcass, cell: Rect, way: Way, look: Look) -> Rect:
    """The cell's halves of the boards about it, and what is left of it; between drawers there are but rails."""
    inner, half, slot = carcass.inner, look.rail / 2, b.slot(Role.BODY)
    x0, x1 = carcass.back + carcass.wall, carcass.front
    near = max(x0, x1 - 0.05) if way == "drawer" else x0
    left, right = cell.y0 > inner.y0 + 1e-6, cell.y1 < inner.y1 - 1e-6
    below, above = cell.z0 > inner.z0 + 1e-6, cell.z1 < inner.z1 - 1e-6
    hollow = Rect(cell.y0 + half * left, cell.y1 - half * right, cell.z0 + half * below, cell.z1 - half * above)
    if left:
        b.add_box(0, (x0, cell.y0, cell.z0), (x1, hollow.y0, cell.z1), slot)
    if right:
        b.add_box(0, (x0, hollow.y1, cell.z0), (x1, cell.y1, cell.z1), slot)
    if below:
        b.add_box(0, (near, hollow.y0, cell.z0), (x1, hollow.y1, hollow.z0), slot)
    if above:
        b.add_box(0, (near, hollow.y0, hollow.z1), (x1, hollow.y1, cell.z1), slot)
    return hollow


def _front(carcass: Carcass, cell: Rect, hollow: Rect, look: Look) -> tuple[Rect, float]:
    """Rectangle and back plane of the front before a cell."""
    if look.inset:
        return hollow.inset(max(look.gap, 0.0008)), carcass.front - look.style.thickness
    inner, reach = carcass.inner, 0.8 * carcass.wall
    out = [reach if abs(a - c) < 1e-6 else -look.gap / 2 for a, c in zip(_sides(cell), _sides(inner), strict=True)]
    return Rect(cell.y0 - out[0], cell.y1 + out[1], cell.z0 - out[2], cell.z1 + out[3]), carcass.front + 0.001


def _sides(rect: Rect) -> tuple[Real, Real, Real, Real]:
    return rect.y0, rect.y1, rect.z0, rect.z1


def _add_drawer(b: ObjectBuilder, carcass: Carcass, rect: Rect, hollow: Rect, x: Real, look: Look) -> None:
    rng, style = b.rng, look.style
    depth = (x - carcass.back - carcass.wall) * rng.uniform(0.75, 0.97)
    pivot = (x, *rect.at(0.5, 0.5))
    part = b.part(f"drawer_{len(b.names)}", JointType.PRISMATIC, (1, 0, 0), pivot, depth * rng.uniform(0.5, 0.95))
    if look.pull == "gap":
        # The gap above the front is the grip.
        rect = replace(rect, z1=rect.z1 - min(0.022, 0.15 * rect.height))
    style = replace(style, border=min(style.border, 0.22 * rect.height))
    face = add_panel(b, part, rect, x, look.slots.panel, style)
    add_ornament(b, part, rect, face, look.drawer_ornament, style.border, look.slots.panel)
    spots = (0.22, 0.78) if rect.width > look.two_above else (0.5,)
    for u in spots:
        add_pull(b, part, rect, face, look.pull, (u, look.height), style, look.slots.handle)
    add_drawer_box(b, part, hollow, x, depth, look.slots.inside)


def _add_door(b: ObjectBuilder, rect: Rect, x: Real, hinge: Hinge, look: Look) -> None:
    rng, style = b.rng, look.style
    axis, pivot = hinge_joint(rect, x + style.thickness, hinge)
    upper = np.deg2rad(rng.uniform(70, 95) if hinge == "bottom" else rng.choice([85, 95, 110, 140]))
    part = b.part(f"door_{len(b.names)}", JointType.REVOLUTE, axis, pivot, upper)
    face = add_panel(b, part, rect, x, look.slots.panel, style)
    add_ornament(b, part, rect, face, look.door_ornament, style.border, look.slots.panel)
    bar = replace(style, handle_length=min(style.handle_length, 0.25 / max(rect.height, 0.1)))
    add_handle(b, part, rect, face, FREE_EDGE[hinge], bar, look.slots.handle)


def _add_crown(b: ObjectBuilder, outer: Rect, depth: Real, front: Real) -> None:
    """A board on top that overhangs, sometimes in steps, sometimes of another material."""
    rng = b.rng
    slot = b.slot(Role.DETAIL) if rng.random() < 0.35 else b.slot(Role.BODY)
    z, over = outer.z1, rng.uniform(0.0, 0.03)
    for share in (1.0,) if rng.random() < 0.6 else (0.5, 1.0):
        t = rng.uniform(0.008, 0.03)
        b.add_box(
            0, (0.0, outer.y0 - share * over, z), (depth + front + share * over, outer.y1 + share * over, z + t), slot
        )
        z += t


def _add_stand(b: ObjectBuilder, outer: Rect, depth: Real) -> None:
    """What a piece stands on: tapered, turned or round legs, corner posts, a moulded plinth, brackets, or nothing."""
    rng, slot, z = b.rng, b.slot(Role.BODY), outer.z0
    kind = pick(rng, ["tapered", "tapered", "turned", "posts", "plinth", "brackets", "round", "none"])
    high, w = rng.uniform(0.04, 0.18), rng.uniform(0.03, 0.06)
    corners = [(x, y) for x in (w / 2, depth - w / 2) for y in (outer.y0 + w / 2, outer.y1 - w / 2)]
    square = w / 2 * np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    splay, taper = rng.choice([0.0, rng.uniform(0.1, 0.5)]), rng.uniform(0.5, 0.8)
    for x, y in corners if kind not in ("plinth", "brackets", "none") else []:
        out = np.array([np.sign(x - depth / 2), np.sign(y)])
        if kind == "tapered":
            foot = taper * square + splay * w * out
            at = np.array([x, y])
            rings = np.stack([foot + at, square + at])
            heights = np.array([z - high, z])[:, None, None]
            b.add(0, loft(np.concatenate([rings, np.broadcast_to(heights, (2, 4, 1))], -1)), slot)
        elif kind == "turned":
            radii = np.array([0.45, 0.8, 1.0, 0.8, 0.5, 0.75]) * w / 2
            b.add(0, turned(radii.tolist(), (np.linspace(-1, 0, 6) * high).tolist(), "z", (x, y, z), 12), slot)
        elif kind == "round":
            b.add(0, cylinder((x, y, z - high), "z", high, 0.25 * w, 8), b.slot(Role.HANDLE))
        else:
            side = 0.008 * out[1]
            low = (x - w / 2 if out[0] > 0 else 0.0, y - w / 2 + side, z - high)
            b.add_box(0, low, (x + w / 2, y + w / 2 + side, z), slot)
            b.add_box(0, (x - 0.49 * w, y - w / 2 if out[1] < 0 else y + w / 2, z),
                      (x + 0.49 * w, y - w / 2 + side if out[1] < 0 else y + w / 2 + side, outer.z1), slot)  # fmt: skip
    if kind == "plinth":
        out = rng.uniform(0.0, 0.015)
        b.add(0, frame((0, outer.y0 - out, z - high), (depth + out, outer.y1 + out, z), "z", 0.02 + out), slot)
    elif kind == "brackets":
        long = 0.18 * outer.width
        for y0, y1 in ((outer.y0, outer.y0 + long), (outer.y1 - long, outer.y1)):
            b.add_box(0, (0.01, y0, z - high), (depth - 0.004, y1, z), slot)
        b.add_box(0, (depth - 0.024, outer.y0 + long, z - 0.4 * high), (depth - 0.004, outer.y1 - long, z), slot)


def _case(b: ObjectBuilder, outer: Rect, depth: Real) -> Carcass:
    body = b.slot(Role.BODY)
    return add_carcass(b, outer, 0.0, depth, b.rng.uniform(0.015, 0.04), body, sample_interior(b, body))


def _finish(b: ObjectBuilder, outer: Rect, depth: Real, look: Look) -> None:
    """The top board and what the case stands on."""
    _add_crown(b, outer, depth, 0.0 if look.inset else look.style.thickness)
    _add_stand(b, outer, depth)


@category()
def sideboard(b: ObjectBuilder) -> None:
    """Sideboard, washstand, media bench: drawers over doors or beside them, doors about drawers."""
    rng = b.rng
    width, depth, height = rng.uniform(0.55, 1.6), rng.uniform(0.32, 0.55), rng.uniform(0.45, 1.1)
    outer = Rect(-width / 2, width / 2, 0.0, height)
    carcass = _case(b, outer, depth)
    look = _sample_look(b, carcass.interior)
    _fill(b, carcass, _face(rng, carcass.inner), look)
    _finish(b, outer, depth, look)


@category()
def dresser(b: ObjectBuilder) -> None:
    """Chest of drawers in one to three columns under a top board, with any pull."""
    rng = b.rng
    columns = int(rng.choice([1, 2, 3], p=[0.5, 0.35, 0.15]))
    rows = int(rng.integers(2 if columns > 1 else 3, {1: 8, 2: 6, 3: 4}[columns]))
    width, depth = rng.uniform(0.35, 0.7) * columns**0.7, rng.uniform(0.35, 0.55)
    outer = Rect(-width / 2, width / 2, 0.0, rows * rng.uniform(0.13, 0.26))
    carcass = _case(b, outer, depth)
    look = _sample_look(b, carcass.interior)
    look = replace(look, rail=look.rail * rng.choice([0.3, 1.0]))
    _fill(b, carcass, _drawers(rng, carcass.inner, rows, columns), look)
    _finish(b, outer, depth, look)


@category()
def china_cabinet(b: ObjectBuilder) -> None:
    """Dresser with a shallower case of glazed doors above, under a straight or arched crown."""
    rng = b.rng
    width, depth, height = rng.uniform(0.7, 1.4), rng.uniform(0.38, 0.52), rng.uniform(0.55, 0.9)
    outer = Rect(-width / 2, width / 2, 0.0, height)
    carcass = _case(b, outer, depth)
    look = _sample_look(b, carcass.interior)
    top, rest = _along(carcass.inner, [rng.uniform(0.18, 0.35), 0.75], upright=False)
    below = _doors(rng, rest)
    _fill(b, carcass, _drawers(rng, top, 1, int(rng.integers(1, 4))) + below if rng.random() < 0.7 else below, look)
    _finish(b, outer, depth, look)
    low, deep = height + 0.07, depth * rng.uniform(0.55, 0.85)
    upper = Rect(outer.y0 + 0.01, outer.y1 - 0.01, low, low + rng.uniform(0.7, 1.2))
    for y0, y1 in ((upper.y0, upper.y0 + 0.03), (upper.y1 - 0.03, upper.y1)):
        b.add_box(0, (0.0, y0, height), (deep, y1, low), b.slot(Role.BODY))
    b.add_box(0, (0.0, upper.y0 + 0.03, height), (0.015, upper.y1 - 0.03, low), b.slot(Role.BODY))
    case = _case(b, upper, deep)
    glazed = replace(look.style, panel="glass", border=rng.uniform(0.03, 0.06))
    glass = replace(look, style=glazed, door_ornament="plain", drawer_ornament="plain")
    shares = pick(rng, [[1.0], [1.0, 1.0], [1.0, 0.9, 1.0]])
    middle: Way = "left" if rng.random() < 0.6 else "open"
    by_count: dict[int, list[Way]] = {1: ["pair"], 2: ["left", "right"], 3: ["left", middle, "right"]}
    ways = by_count[len(shares)]
    _fill(b, case, list(zip(_along(case.inner, shares, upright=True), ways, strict=True)), glass)
    add_shelves(b, case.inner.inset(0.001), case.wall, deep - 0.06, int(rng.integers(2, 5)), case.interior)
    _add_crown(b, upper, deep, 0.0 if look.inset else look.style.thickness)
    if rng.random() < 0.4:
        angle, rise = np.linspace(0, np.pi, 13), rng.uniform(0.05, 0.16)
        z = upper.z1 + 0.015
        arch = np.stack([0.47 * width * np.cos(angle), z + rise * np.sin(angle)], -1)
        b.add(0, prism(arch, (deep - 0.03, deep - 0.005), "x"), b.slot(Role.BODY))
