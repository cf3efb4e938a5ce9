"""Generators of built-in storage: stacks of drawers with faint seams, and fronts of one face that open in many ways."""

from dataclasses import replace
from itertools import pairwise
from typing import Literal

import numpy as np

from partrm.objects.materials import Role
from partrm.procedural.builder import ObjectBuilder, pick
from partrm.procedural.carcass import (
    Carcass,
    FrontSlots,
    add_base,
    add_carcass,
    add_door,
    add_drawer,
    add_shelves,
    add_top,
    sample_interior,
)
from partrm.procedural.fronts import FrontStyle, HandleStyle, PanelStyle, Rect, sample_style
from partrm.procedural.registry import category

PLAIN_PANELS: tuple[PanelStyle, ...] = ("flat", "flat", "flat", "flat", "soft", "framed", "raised", "planks")
QUIET_HANDLES: tuple[HandleStyle, ...] = (
    "none", "none", "recess", "strip", "lip", "knob", "knob", "bar", "bar", "bar", "arch", "ring",
)  # fmt: skip
Opening = Literal["drawers", "left", "right", "bottom", "top", "pull_out"]


@category()
def drawer_stack(b: ObjectBuilder) -> None:
    """Drawers in one to four columns, of equal, graded or random heights, over the carcass or inside it."""
    rng = b.rng
    columns = int(rng.choice([1, 2, 3, 4], p=[0.5, 0.3, 0.13, 0.07]))
    width = rng.uniform(0.3, 0.75) * columns**0.75
    depth, height = rng.uniform(0.3, 0.65), rng.uniform(0.35, 1.4)
    carcass, style, gap, inset = _case(b, width, depth, height)
    rows = int(rng.integers(2, 9 if columns < 3 else 7))
    if columns * rows > FEW:
        style = _plainer(style)
    shared = _heights(rng, rows)
    borders = _heights(rng, columns) if rng.random() < 0.2 else np.linspace(0, 1, columns + 1)
    for column in _split(carcass, borders):
        edges = shared if rng.random() < 0.8 else _heights(rng, int(rng.integers(2, rows + 1)))
        _drawers(b, column, edges, carcass, style, gap, inset)
    _finish(b, carcass, style, (width + height) / 2)


FEW = 8
"""Fronts beyond which all are plain, so that objects keep within their number of faces."""


def _plainer(style: FrontStyle) -> FrontStyle:
    """The style with flat panels and angular handles."""
    handle: HandleStyle = "bar" if style.handle in ("arch", "ring") else style.handle
    return replace(style, panel="flat", handle=handle, round_handle=False)


@category()
def one_faced_cabinet(b: ObjectBuilder) -> None:
    """Columns of drawers, doors, flaps and pull-outs with the same face, so that only handles and the drag tell."""
    rng = b.rng
    columns = int(rng.integers(1, 5))
    width = rng.uniform(0.3, 0.6) * columns
    depth, height = rng.uniform(0.3, 0.65), rng.uniform(0.4, 1.6)
    carcass, style, gap, inset = _case(b, width, depth, height)
    if columns > 1:
        style = _plainer(style)
    for column in _split(carcass, np.linspace(0, 1, columns + 1)):
        cells = int(rng.choice([1, 2, 3], p=[0.5, 0.35, 0.15]))
        edges = np.concatenate([[0.0], np.sort(rng.uniform(0.25, 0.8, cells - 1)), [1.0]])
        if cells > 1 and float(np.diff(edges).min()) < 0.15:
            edges = np.linspace(0, 1, cells + 1)
        for z0, z1 in pairwise(edges):
            cell = Rect(column.y0, column.y1, column.at(0, z0)[1], column.at(0, z1)[1])
            low = cell.height < 0.35 * cell.width
            ways: list[Opening] = ["drawers", "left", "right", "pull_out", "bottom", "top"]
            odds = [0.34, 0.0, 0.0, 0.26, 0.2, 0.2] if low else [0.2, 0.27, 0.27, 0.1, 0.09, 0.07]
            _compartment(b, cell, ways[int(rng.choice(6, p=odds))], carcass, style, gap, inset)
    _finish(b, carcass, style, (width + height) / 2)


def _case(b: ObjectBuilder, width: float, depth: float, height: float) -> tuple[Carcass, FrontStyle, float, bool]:
    """Carcass, style of the fronts, half the width of a seam, and whether fronts lie inside of the opening."""
    rng, size = b.rng, (width + height) / 2
    wall = size * rng.uniform(0.012, 0.035)
    body = b.slot(Role.BODY)
    carcass = add_carcass(b, Rect(-width / 2, width / 2, 0, height), 0.0, depth, wall, body, sample_interior(b, body))
    style = sample_style(rng, PLAIN_PANELS, QUIET_HANDLES, size)
    style = replace(style, thickness=size * rng.uniform(0.015, 0.035), bevel=size * rng.uniform(0.0, 0.006))
    if rng.random() < 0.5:
        style = replace(style, handle_depth=0.5 * style.handle_depth, handle_radius=0.55 * style.handle_radius)
    return carcass, style, size * 10 ** rng.uniform(-3.3, -2.2), bool(rng.random() < 0.35)


def _heights(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Edges of rows from 0 to 1: equal, growing downwards, or free."""
    kind = pick(rng, ["equal", "equal", "graded", "free"])
    if kind == "equal":
        return np.linspace(0, 1, rows + 1)
    sizes = np.linspace(rng.uniform(1.2, 2.5), 1.0, rows) if kind == "graded" else rng.uniform(1.0, 2.2, rows)
    return np.concatenate([[0.0], np.cumsum(sizes) / sizes.sum()])


def _split(carcass: Carcass, edges: np.ndarray) -> list[Rect]:
    """The carcass' outer rectangle in columns, whose borders are the middles of partition walls."""
    outer = carcass.outer
    return [Rect(outer.at(u0, 0)[0], outer.at(u1, 0)[0], outer.z0, outer.z1) for u0, u1 in pairwise(edges)]


def _front(cell: Rect, carcass: Carcass, style: FrontStyle, gap: float, inset: bool) -> tuple[Rect, float]:
    """Rectangle and back plane of a front before a cell of the outer rectangle."""
    outer, wall = carcass.outer, carcass.wall
    if not inset:
        return cell.inset(gap), carcass.front + 0.001
    inner = Rect(
        cell.y0 + (wall if cell.y0 <= outer.y0 + 1e-6 else wall / 2),
        cell.y1 - (wall if cell.y1 >= outer.y1 - 1e-6 else wall / 2),
        cell.z0 + (wall if cell.z0 <= outer.z0 + 1e-6 else 0.0),
        cell.z1 - (wall if cell.z1 >= outer.z1 - 1e-6 else 0.0),
    )
    return inner.inset(gap), carcass.front - style.thickness


def _drawers(
    b: ObjectBuilder, cell: Rect, edges: np.ndarray, carcass: Carcass, style: FrontStyle, gap: float, inset: bool
) -> None:
    for z0, z1 in pairwise(edges):
        row = Rect(cell.y0, cell.y1, cell.at(0, z0)[1], cell.at(0, z1)[1])
        rect, x = _front(row, carcass, style, gap, inset)
        cavity = rect.inset(1.2 * carcass.wall, min(0.6 * carcass.wall, 0.2 * rect.height))
        slots = FrontSlots(_panel_slot(b), b.slot(Role.HANDLE), carcass.interior)
        add_drawer(b, rect, cavity, x, carcass.depth, style, slots)


def _panel_slot(b: ObjectBuilder) -> int:
    """One look for all fronts, mostly."""
    return b.slot(Role.MOVING) if b.rng.random() < 0.93 else b.new_slot(Role.MOVING)


def _compartment(
    b: ObjectBuilder, cell: Rect, way: Opening, carcass: Carcass, style: FrontStyle, gap: float, inset: bool
) -> None:
    """A cell behind one front, or a stack of drawers."""
    rng = b.rng
    if way == "drawers":
        count = max(1, min(5, round(cell.height / cell.width * rng.uniform(1.5, 3.5))))
        _drawers(b, cell, _heights(rng, count), carcass, style, gap, inset)
        return
    rect, x = _front(cell, carcass, style, gap, inset)
    slots = FrontSlots(_panel_slot(b), b.slot(Role.HANDLE), carcass.interior)
    if way == "pull_out":
        cavity = rect.inset(1.2 * carcass.wall, min(0.6 * carcass.wall, 0.2 * rect.height))
        add_drawer(b, rect, cavity, x, carcass.depth, style, slots)
        return
    add_door(b, rect, x, way, style, slots, pivot_depth=float(rng.uniform(0.0, 1.0)))
    inner = rect.inset(carcass.wall)
    shelves = int(rng.integers(0, 4))
    add_shelves(b, inner, carcass.back + carcass.wall, carcass.front - 0.03, shelves, carcass.interior)


def _finish(b: ObjectBuilder, carcass: Carcass, style: FrontStyle, size: float) -> None:
    """Partition-free base and top board."""
    body = b.slot(Role.BODY)
    add_base(b, carcass, body, size)
    add_top(b, carcass, body, size, style.thickness + 0.002)
