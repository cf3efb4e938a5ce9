"""Generators of cabinets with faint seams: stacks of drawers, and fronts of which only a drag tells how they open."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from partrm.articulation.kinematics import JointType
from partrm.articulation.materials import Role
from partrm.articulation.procedural.builder import ObjectBuilder, pick
from partrm.articulation.procedural.carcass import (
    Carcass,
    FrontSlots,
    Hinge,
    add_base,
    add_carcass,
    add_top,
    front_slots,
    hinge_joint,
    sample_interior,
)
from partrm.articulation.procedural.fronts import FrontStyle, HandleStyle, PanelStyle, Rect, add_handle, add_panel
from partrm.articulation.procedural.shapes import Real, cylinder, loft

Pull = Literal["bar", "arch", "knob", "ring", "strip", "lip", "recess", "cup", "pair", "groove", "slot", "none"]
Opening = Literal["drawer", "pull_out", "left", "right", "top", "bottom"]

PANELS: tuple[PanelStyle, ...] = ("flat", "flat", "flat", "soft", "framed", "raised")
PULLS: tuple[Pull, ...] = (
    *("bar", "bar", "arch", "knob", "ring", "strip", "lip", "recess", "cup", "pair", "groove", "slot", "none", "none"),
)
OPENINGS: tuple[Opening, ...] = ("drawer", "drawer", "pull_out", "left", "right", "left", "right", "top", "bottom")


@dataclass(frozen=True)
class Look:
    """What all fronts of one cabinet share."""

    style: FrontStyle
    pull: Pull
    place: tuple[Real, Real]
    """Where the pull sits: fractions of a front's width and height."""
    upright: bool
    """Bars and strips stand instead of lying."""
    gap: Real
    """Width of the seams, metres."""
    inset: bool
    """Fronts lie between the walls instead of over them."""
    alike: bool
    """All fronts are of one material."""


def _sample_look(rng: np.random.Generator, cell: Real, size: Real) -> Look:
    """Random look for fronts of about ``cell`` metres on a cabinet of about ``size`` metres."""
    radius = float(np.clip(cell * rng.uniform(0.02, 0.05), 0.003, 0.012))
    style = FrontStyle(
        panel=pick(rng, PANELS),
        handle="none",
        thickness=rng.uniform(0.012, 0.025) * (0.5 + size),
        border=cell * rng.uniform(0.1, 0.22),
        handle_length=rng.uniform(0.15, 0.8),
        handle_depth=rng.uniform(2.5, 5.0) * radius,
        handle_radius=radius,
        round_handle=bool(rng.random() < 0.5),
        bevel=rng.uniform(0.0, 0.004),
        handle_vertical=False,
        handle_position=0.5,
    )
    height = rng.choice([0.5, rng.uniform(0.5, 0.85)])
    return Look(
        style=style,
        pull=pick(rng, PULLS),
        place=(0.5, float(height)),
        upright=False,
        gap=size / 0.6 * rng.uniform(0.0006, 0.004),
        inset=bool(rng.random() < 0.4),
        alike=bool(rng.random() < 0.7),
    )


def _add_cup(b: ObjectBuilder, part: int, at: tuple[Real, Real, Real], width: Real, slot: int) -> None:
    """A half shell, open below."""
    x, y, z = at
    angle = np.linspace(0, np.pi / 2, 6)
    wide, deep, tall = width / 2, 0.35 * width, 0.4 * width
    rings = []
    for side in (-1.0, -0.9, 0.0, 0.9, 1.0):
        reach = np.sqrt(1 - 0.8 * side**2)
        outer = np.stack([deep * reach * np.cos(angle), tall * reach * np.sin(angle)], -1)
        inner = 0.8 * outer[::-1]
        ring = np.concatenate([outer, inner])
        rings.append(np.stack([x + ring[:, 0], np.full(len(ring), y + side * wide), z + ring[:, 1]], -1))
    b.add(part, loft(np.stack(rings)), slot)


def _add_bar(b: ObjectBuilder, part: int, at: tuple[Real, Real, Real], half: Real, look: Look, slot: int) -> None:
    """An upright bar on two posts."""
    (x, y, z), r, out = at, look.style.handle_radius, look.style.handle_depth
    b.add(part, cylinder((x + out - r, y, z - half), "z", 2 * half, r, 8), slot)
    for end in (-0.8, 0.8):
        b.add_box(part, (x, y - 0.7 * r, z + end * half - r), (x + out - r, y + 0.7 * r, z + end * half + r), slot)


def _add_pull(b: ObjectBuilder, part: int, rect: Rect, x: Real, look: Look, slot: int) -> None:
    """The pull of one front whose outer face lies at ``x``; sized to stay on the front."""
    style, r = look.style, min(look.style.handle_radius, 0.12 * min(rect.width, rect.height))
    style = replace(style, handle_radius=r)
    u, v = look.place
    y, z = rect.at(u, v)
    half = 0.5 * style.handle_length * min(rect.width, 0.5)
    if look.pull == "cup":
        _add_cup(b, part, (x, y, z - 0.1 * half), min(0.1, 0.35 * rect.width, 1.1 * rect.height), slot)
    elif look.pull == "pair":
        for side in (0.25, 0.75):
            add_handle(b, part, _spot(rect, side, v, 6 * r), x, "centre", replace(style, handle="knob"), slot)
    elif look.pull == "groove":
        b.add_box(
            part, (x, rect.y0 + 0.001, rect.z1 - 2.5 * r), (x + 0.0006, rect.y1 - 0.001, rect.z1), b.slot(Role.DETAIL)
        )
    elif look.pull == "slot":
        b.add_box(part, (x, y - 8 * r, z - 1.5 * r), (x + 0.0008, y + 8 * r, z + 1.5 * r), b.slot(Role.INTERIOR))
    elif look.pull in ("lip", "strip"):
        add_handle(b, part, rect, x, "top", replace(style, handle=look.pull), slot)
    elif look.pull == "bar" and look.upright:
        _add_bar(b, part, (x, y, z), min(half, 0.4 * rect.height), look, slot)
    elif look.pull != "none":
        handle: HandleStyle = look.pull
        reach = max(2 * min(u, 1 - u) * 0.9 * rect.width, 4 * r)
        spot = _spot(rect, u, v, min(reach, 2 * half / style.handle_length))
        add_handle(b, part, spot, x, "centre", replace(style, handle=handle), slot)


def _spot(rect: Rect, u: Real, v: Real, width: Real) -> Rect:
    """A rectangle of ``width`` on a front about the fractions (u, v), within its height."""
    y, z = rect.at(u, v)
    tall = min(rect.z1 - z, z - rect.z0)
    return Rect(y - width / 2, y + width / 2, z - tall, z + tall)


def _add_box(b: ObjectBuilder, part: int, cell: Rect, back: Real, x: Real, slot: int, rim: Real) -> None:
    """The box behind a drawer's front: bottom, two sides, back and an inner front, ``rim`` (fraction) high."""
    body = cell.inset(0.004 + 0.015 * cell.width, 0.004 + 0.05 * cell.height)
    top, t = body.z0 + rim * body.height, 0.006 + 0.012 * min(cell.width, x - back)
    b.add_box(part, (back, body.y0, body.z0), (x, body.y1, body.z0 + t), slot)
    b.add_box(part, (back, body.y0, body.z0 + t), (x, body.y0 + t, top), slot)
    b.add_box(part, (back, body.y1 - t, body.z0 + t), (x, body.y1, top), slot)
    b.add_box(part, (back, body.y0 + t, body.z0 + t), (back + t, body.y1 - t, top), slot)
    b.add_box(part, (x - 0.5 * t, body.y0 + t, body.z0 + t), (x, body.y1 - t, top), slot)


def _add_pull_out(b: ObjectBuilder, part: int, cell: Rect, back: Real, x: Real, slot: int, trays: int) -> None:
    """What hangs on a tall pull-out: two side rails at the back, trays between."""
    body, t = cell.inset(0.004 + 0.03 * cell.width, 0.004 + 0.03 * cell.height), 0.006 + 0.015 * cell.width
    for y0, y1 in ((body.y0, body.y0 + t), (body.y1 - t, body.y1)):
        b.add_box(part, (back, y0, body.z0), (back + t, y1, body.z1), slot)
    for k in range(trays):
        z = body.z0 + (k + 0.02) / trays * body.height
        high = 0.3 * body.height / trays
        b.add_box(part, (back, body.y0, z), (x, body.y1, z + t), slot)
        for y0, y1 in ((body.y0, body.y0 + 0.5 * t), (body.y1 - 0.5 * t, body.y1)):
            b.add_box(part, (back + t, y0, z + t), (x, y1, z + t + high), slot)


def _edges(rng: np.random.Generator, low: Real, high: Real, count: int, kind: str) -> np.ndarray:
    """``count`` + 1 edges: equal, growing downwards (edges rise), or random."""
    share = np.ones(count)
    if kind == "graded":
        share = np.linspace(rng.uniform(1.2, 2.2), 1.0, count)
    elif kind == "random":
        share = rng.uniform(0.7, 1.4, count)
    return low + np.concatenate([[0.0], np.cumsum(share) / share.sum()]) * (high - low)


def _grid(rng: np.random.Generator, inner: Rect, rows: list[int], kind: str) -> list[list[Rect]]:
    """Cells column by column, each column from below: ``rows`` gives the number of each."""
    ys = _edges(rng, inner.y0, inner.y1, len(rows), "equal" if rng.random() < 0.7 else "random")
    columns, common = [], {}
    for column, count in enumerate(rows):
        if count not in common:
            common[count] = _edges(rng, inner.z0, inner.z1, count, kind)
        zs = common[count]
        columns.append([Rect(ys[column], ys[column + 1], zs[k], zs[k + 1]) for k in range(count)])
    return columns


def _add_dividers(b: ObjectBuilder, columns: list[list[Rect]], carcass: Carcass, front: Real, t: Real, rails: bool):
    """Boards between the columns and, where asked for, rails or boards between the rows; ``t`` thick."""
    x0 = carcass.back + carcass.wall
    for column, cells in enumerate(columns):
        if column:
            b.add_box(0, (x0, cells[0].y0 - t / 2, carcass.inner.z0), (front, cells[0].y0 + t / 2, carcass.inner.z1),
                      carcass.interior)  # fmt: skip
        for cell in cells[1:] if rails else []:
            y0, y1 = (cells[0].y0 + (t / 2 if column else 0)), cells[0].y1 - (t / 2 if column + 1 < len(columns) else 0)
            b.add_box(0, (x0, y0, cell.z0 - t / 2), (front, y1, cell.z0 + t / 2), carcass.interior)


def _hollow(cell: Rect, inner: Rect, t: Real) -> Rect:
    """What is left of a cell between the dividers."""
    low = (t / 2 if cell.y0 > inner.y0 + 1e-9 else 0.0, t / 2 if cell.z0 > inner.z0 + 1e-9 else 0.0)
    high = (t / 2 if cell.y1 < inner.y1 - 1e-9 else 0.0, t / 2 if cell.z1 < inner.z1 - 1e-9 else 0.0)
    return Rect(cell.y0 + low[0], cell.y1 - high[0], cell.z0 + low[1], cell.z1 - high[1])


def _front_rect(cell: Rect, carcass: Carcass, look: Look) -> tuple[Rect, float]:
    """Rectangle and back plane of the front before ``cell``; overlaid ones reach out to the carcass' edge."""
    inner, reach, half = carcass.inner, carcass.wall * 0.9, look.gap / 2
    if look.inset:
        return cell.inset(max(half, 0.0008)), carcass.front - look.style.thickness
    outside = [abs(cell.y0 - inner.y0), abs(cell.y1 - inner.y1), abs(cell.z0 - inner.z0), abs(cell.z1 - inner.z1)]
    low_y, high_y, low_z, high_z = (reach if d < 1e-9 else -half for d in outside)
    return Rect(cell.y0 - low_y, cell.y1 + high_y, cell.z0 - low_z, cell.z1 + high_z), carcass.front + 0.001


def _add_sliding(
    b: ObjectBuilder, kind: Opening, rect: Rect, cell: Rect, x: Real, back: Real, look: Look, slots: FrontSlots
) -> None:
    """A drawer or a pull-out, its box in the hollow ``cell`` as far as ``back``."""
    rng, depth = b.rng, (x - back) * b.rng.uniform(0.75, 0.97)
    travel, centre = depth * rng.uniform(0.55, 0.95), (x, *rect.at(0.5, 0.5))
    part = b.part(f"drawer_{len(b.names)}", JointType.PRISMATIC, (1, 0, 0), centre, travel)
    face = add_panel(b, part, rect, x, slots.panel, look.style)
    _add_pull(b, part, rect, face, look, slots.handle)
    if kind == "pull_out":
        _add_pull_out(b, part, cell, x - depth, x, slots.inside, int(rng.integers(2, 5)))
    else:
        _add_box(b, part, cell, x - depth, x, slots.inside, rng.uniform(0.5, 0.95))


def _add_hinged(b: ObjectBuilder, hinge: Hinge, rect: Rect, x: Real, look: Look, slots: FrontSlots) -> None:
    """A door or a flap on hinges at its outer face."""
    axis, pivot = hinge_joint(rect, x + look.style.thickness, hinge)
    upper = np.deg2rad(b.rng.uniform(75, 92) if hinge in ("bottom", "top") else b.rng.uniform(85, 120))
    part = b.part(f"door_{len(b.names)}", JointType.REVOLUTE, axis, pivot, upper)
    face = add_panel(b, part, rect, x, slots.panel, look.style)
    _add_pull(b, part, rect, face, look, slots.handle)
    t = 0.06 * look.style.thickness
    lining = rect.inset(0.06 * rect.width, 0.06 * rect.height)
    if not look.inset and b.rng.random() < 0.5:
        b.add_box(part, (x - min(t, 0.0005), lining.y0, lining.z0), (x, lining.y1, lining.z1), slots.inside)


def _cabinet_body(b: ObjectBuilder, width: Real, depth: Real, height: Real) -> Carcass:
    body, wall = b.slot(Role.BODY), (width + height) / 2 * b.rng.uniform(0.014, 0.035)
    outer = Rect(-width / 2, width / 2, 0, height)
    return add_carcass(b, outer, 0.0, depth, wall, body, sample_interior(b, body))


def _finish(b: ObjectBuilder, carcass: Carcass, size: Real, over: Real) -> None:
    """Base, top, and sometimes a rim about the fronts."""
    add_base(b, carcass, b.slot(Role.BODY), size)
    add_top(b, carcass, b.slot(Role.BODY), size, over)


def _slots(b: ObjectBuilder, look: Look, carcass: Carcass, shared: list[FrontSlots]) -> FrontSlots:
    """Material slots of the next front: those of the first where all are alike."""
    if not look.alike or not shared:
        shared.append(front_slots(b, carcass.interior))
    return shared[-1]


def drawer_stack(b: ObjectBuilder) -> None:
    """Two to ten drawers in one to four columns, faint seams, any pull or none; each a whole box."""
    rng = b.rng
    columns = int(rng.choice([1, 2, 3, 4], p=[0.5, 0.25, 0.15, 0.1]))
    rows = int(rng.integers(2 if columns == 1 else 1, 10 // columns + 1))
    counts = [rows] * columns
    if columns > 1 and rng.random() < 0.25:
        counts = [int(rng.integers(1, 10 // columns + 1)) for _ in range(columns)]
        counts[0] = max(counts[0], 2)
    high = rng.uniform(0.1, 0.28)
    width = columns * rng.uniform(0.25, 0.8 if columns == 1 else 0.5)
    height, depth = min(max(counts) * high, 1.5) + 0.05, rng.uniform(0.3, 0.65)
    size = (width + height) / 2
    carcass = _cabinet_body(b, width, depth, height)
    inner, look = carcass.inner, _sample_look(rng, min(width / columns, height / max(counts)), size)
    t = max(look.gap, 0.006) if look.inset and rng.random() < 0.5 else carcass.wall * rng.uniform(0.4, 0.8)
    grid = _grid(rng, inner, counts, pick(rng, ["equal", "equal", "graded", "graded", "random"]))
    # Dividers behind inset fronts leave the seam alone; at full depth they are the seam.
    full = look.inset and rng.random() < 0.4
    front = carcass.front - (0.0 if full or not look.inset else look.style.thickness + 0.002)
    _add_dividers(b, grid, carcass, front, t, rails=bool(full or rng.random() < 0.5))
    shared: list[FrontSlots] = []
    for cell in (cell for cells in grid for cell in cells):
        hollow = _hollow(cell, inner, t)
        rect, x = _front_rect(hollow if full else cell, carcass, look)
        back = carcass.back + carcass.wall + 0.004
        _add_sliding(b, "drawer", rect, hollow, x, back, look, _slots(b, look, carcass, shared))
    _finish(b, carcass, size, 0.0 if look.inset else look.style.thickness)


def _columns_of_openings(rng: np.random.Generator, columns: int) -> list[list[Opening]]:
    """What opens how, column by column from below; eleven at most in all."""
    plan: list[list[Opening]] = []
    for _ in range(columns):
        kind = pick(rng, ["doors", "doors", "mixed", "mixed", "drawers"])
        count = int(rng.integers(1, 3 if kind == "doors" else 5 if columns < 3 else 4))
        if kind == "drawers":
            plan.append(["drawer"] * max(count, 2))
        else:
            options = OPENINGS if kind == "mixed" else ("left", "right", "left", "right", "pull_out", "top", "bottom")
            plan.append([pick(rng, options) for _ in range(count)])
    return plan if sum(map(len, plan)) <= 11 else _columns_of_openings(rng, columns)


def mixed_fronts(b: ObjectBuilder) -> None:
    """Columns of drawers, doors, flaps and pull-outs with the same face and pull: only a drag tells which is which."""
    rng = b.rng
    columns = int(rng.choice([1, 2, 3, 4], p=[0.35, 0.35, 0.2, 0.1]))
    plan = _columns_of_openings(rng, columns)
    most = max(map(len, plan))
    width, depth = columns * rng.uniform(0.28, 0.6), rng.uniform(0.3, 0.6)
    height = min(max(most * rng.uniform(0.18, 0.42), 0.3), 1.8)
    size = (width + height) / 2
    carcass = _cabinet_body(b, width, depth, height)
    look = _sample_look(rng, min(width / columns, height / most), size)
    look = replace(look, place=(pick(rng, [0.5, 0.5, 0.15, 0.85]), look.place[1]), upright=bool(rng.random() < 0.35))
    inner, t = carcass.inner, carcass.wall * rng.uniform(0.5, 1.0)
    grid = _grid(rng, inner, [len(p) for p in plan], pick(rng, ["equal", "graded", "random"]))
    clear = carcass.front - (look.style.thickness + 0.002 if look.inset else 0.0)
    _add_dividers(b, grid, carcass, clear, t, rails=True)
    shared: list[FrontSlots] = []
    for cells, kinds in zip(grid, plan, strict=True):
        for cell, kind in zip(cells, kinds, strict=True):
            hollow, slots = _hollow(cell, inner, t), _slots(b, look, carcass, shared)
            rect, x = _front_rect(cell, carcass, look)
            if kind in ("drawer", "pull_out"):
                back = carcass.back + carcass.wall + 0.004
                _add_sliding(b, kind, rect, hollow, x, back, look, slots)
                continue
            _add_hinged(b, kind, rect, x, look, slots)
            for k in range(int(rng.integers(0, 3))):
                z = hollow.at(0, (k + 1) / 3)[1]
                b.add_box(0, (carcass.wall, hollow.y0, z), (0.85 * clear, hollow.y1, z + 0.3 * carcass.wall + 0.003),
                          carcass.interior)  # fmt: skip
    _finish(b, carcass, size, 0.0 if look.inset else look.style.thickness)
