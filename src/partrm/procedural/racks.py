"""Generators of racks whose baskets and trays slide out, of filing cabinets, and of trolley suitcases."""

from dataclasses import replace

import numpy as np

from partrm.geometry.joints import JointType
from partrm.objects.materials import Role
from partrm.procedural.builder import ObjectBuilder, pick
from partrm.procedural.carcass import add_carcass, add_drawer, front_slots
from partrm.procedural.fittings import add_dial
from partrm.procedural.fronts import HandleStyle, PanelStyle, Rect, sample_style
from partrm.procedural.registry import category
from partrm.procedural.shapes import (
    Real,
    circle,
    cup,
    cylinder,
    frame,
    rounded_rectangle,
    slab,
    spin,
    sweep,
    torus,
)


def _add_wires(b: ObjectBuilder, part: int, low: np.ndarray, high: np.ndarray, wire: Real, slot: int) -> None:
    """An open basket of square wires: floor, four walls, a thicker rim."""
    rng, w = b.rng, wire
    across, along = int(rng.integers(5, 10)), int(rng.integers(3, 7))
    levels = int(rng.integers(1, 4))
    for y in np.linspace(low[1], high[1] - w, across):
        b.add_box(part, (low[0], y, low[2]), (high[0], y + w, low[2] + w), slot)
        for x in (low[0], high[0] - w):
            b.add_box(part, (x, y, low[2] + w), (x + w, y + w, high[2]), slot)
    for x in np.linspace(low[0] + w, high[0] - 2 * w, along):
        b.add_box(part, (x, low[1], low[2] - w), (x + w, high[1], low[2]), slot)
        for y in (low[1], high[1] - w):
            b.add_box(part, (x, y, low[2] + w), (x + w, y + w, high[2]), slot)
    for k in range(1, levels):
        z = low[2] + k / levels * (high[2] - low[2])
        b.add(part, frame((low[0] - w, low[1] - w, z), (high[0] + w, high[1] + w, z + w), "z", w), slot)
    b.add(part, frame((low[0] - w, low[1] - w, high[2] - w), (high[0] + w, high[1] + w, high[2] + w), "z", 2 * w), slot)


def _add_tray(b: ObjectBuilder, part: int, low: np.ndarray, high: np.ndarray, slot: int) -> None:
    """A tub with a low or high rim, its front cut lower or with a grip."""
    rng, (dx, dy, dz) = b.rng, high - low
    wall = 0.02 * min(dx, dy) + 0.001
    if rng.random() < 0.5:
        outline = rounded_rectangle(dx, dy, rng.uniform(0.02, 0.15) * min(dx, dy))
        vessel = cup([rng.uniform(0.88, 1.0) * outline, outline], [0.0, dz], wall, wall)
        b.add(part, vessel.moved(np.eye(3), np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])), slot)
    else:
        front = low[2] + dz * rng.uniform(0.35, 1.0)
        b.add_box(part, low, (high[0], high[1], low[2] + wall), slot)
        for y in (low[1], high[1] - wall):
            b.add_box(part, (low[0], y, low[2] + wall), (high[0], y + wall, high[2]), slot)
        for x, top in ((low[0], high[2]), (high[0] - wall, front)):
            b.add_box(part, (x, low[1] + wall, low[2] + wall), (x + wall, high[1] - wall, top), slot)
    half, middle = dy * rng.uniform(0.08, 0.25), (low[1] + high[1]) / 2
    grip = pick(rng, ["none", "lip", "label", "hole"])
    z = low[2] + 0.3 * dz
    if grip == "lip":
        b.add_box(part, (high[0], middle - half, z - 0.004), (high[0] + 0.015, middle + half, z + 0.004), slot)
    elif grip != "none":
        b.add_box(part, (high[0], middle - half, z - 0.12 * dz), (high[0] + 0.002, middle + half, z + 0.12 * dz),
                  b.slot(Role.DETAIL if grip == "label" else Role.INTERIOR))  # fmt: skip


def _add_posts(b: ObjectBuilder, outer: Rect, depth: Real, wire: Real, round_: bool, ends: list[Real]) -> None:
    """Four posts and rungs at the heights ``ends`` on the left, the right and the back."""
    body = b.slot(Role.BODY)
    for x in (wire, depth - wire):
        for y in (outer.y0 + wire, outer.y1 - wire):
            if round_:
                b.add(0, cylinder((x, y, outer.z0), "z", outer.height, wire, 8), body)
            else:
                b.add_box(0, (x - wire, y - wire, outer.z0), (x + wire, y + wire, outer.z1), body)
    for z in ends:
        for y in (outer.y0 + wire, outer.y1 - wire):
            b.add_box(0, (wire, y - 0.5 * wire, z - 0.5 * wire), (depth - wire, y + 0.5 * wire, z + 0.5 * wire), body)
        b.add_box(0, (0.5 * wire, outer.y0 + wire, z - 0.5 * wire), (1.5 * wire, outer.y1 - wire, z + 0.5 * wire), body)


def _levels(rng: np.random.Generator, low: Real, high: Real, count: int) -> np.ndarray:
    share = rng.uniform(0.8, 1.3, count) if rng.random() < 0.3 else np.ones(count)
    return low + np.concatenate([[0.0], np.cumsum(share) / share.sum()]) * (high - low)


@category()
def wire_basket_shelf(b: ObjectBuilder) -> None:
    """Frame of posts or boards in which one to six wire baskets slide on ledges."""
    rng, count = b.rng, int(b.rng.integers(1, 7))
    width, depth = rng.uniform(0.25, 0.7), rng.uniform(0.25, 0.6)
    height = count * rng.uniform(0.14, 0.3) + 0.05
    outer, wire = Rect(-width / 2, width / 2, 0, height), rng.uniform(0.006, 0.016)
    edges = _levels(rng, 0.04, height - 0.015, count)
    boards = rng.random() < 0.35
    if boards:
        wall = rng.uniform(0.012, 0.025)
        inner = add_carcass(b, outer, 0, depth, wall, b.slot(Role.BODY), b.slot(Role.INTERIOR)).inner
    else:
        _add_posts(b, outer, depth, wire, bool(rng.random() < 0.5), [0.02, height - 0.01])
        wall, inner = 2 * wire, outer.inset(2 * wire)
    alike, thin = b.new_slot(Role.MOVING), rng.uniform(0.003, 0.006)
    shared, clear = bool(rng.random() < 0.7), 3 * thin + 0.008
    for k in range(count):
        low = np.array([wall + clear, inner.y0 + clear, edges[k] + 0.02])
        fill = edges[k] + rng.uniform(0.5, 0.85) * (edges[k + 1] - edges[k])
        high = np.array([depth - 0.01, inner.y1 - clear, max(fill, low[2] + 0.04)])
        travel = depth * rng.uniform(0.45, 0.9)
        part = b.part(f"basket_{k}", JointType.PRISMATIC, (1, 0, 0), (depth, 0, low[2]), travel)
        slot = alike if shared else b.new_slot(Role.MOVING)
        if rng.random() < 0.85:
            _add_wires(b, part, low, high, thin, slot)
        else:
            _add_tray(b, part, low, high, slot)
        for y0, y1 in ((inner.y0 - 0.5 * wire, inner.y0 + clear), (inner.y1 - clear, inner.y1 + 0.5 * wire)):
            b.add_box(
                0, (wall, y0, low[2] - thin - 0.006), (0.98 * depth, y1, low[2] - thin - 0.002), b.slot(Role.BODY)
            )
        if rng.random() < 0.3:
            bar = (high[0] + 2 * thin, -0.2 * width, high[2] - 0.02), (high[0] + 2 * thin + 0.003, 0.2 * width, high[2])
            b.add_box(part, *bar, b.slot(Role.DETAIL))
    if not boards and rng.random() < 0.5:
        b.add_box(0, (0, outer.y0, height), (depth, outer.y1, height + rng.uniform(0.01, 0.03)), b.slot(Role.DETAIL))


@category()
def tray_tower(b: ObjectBuilder) -> None:
    """Tower of two to eight trays or tubs: letter trays, sorting towers, plastic drawer carts, bread racks."""
    rng, count = b.rng, int(b.rng.integers(2, 9))
    width, depth = rng.uniform(0.2, 0.5), rng.uniform(0.25, 0.5)
    height = count * rng.uniform(0.06, 0.2)
    outer, wall = Rect(-width / 2, width / 2, 0, height), rng.uniform(0.006, 0.014)
    edges = _levels(rng, wall, height - wall, count)
    kind = pick(rng, ["shell", "shell", "open", "posts"])
    body = b.slot(Role.BODY)
    if kind == "shell":
        add_carcass(b, outer, 0, depth, wall, body, b.slot(Role.INTERIOR))
    elif kind == "open":
        b.add(0, frame((0, outer.y0, 0), (depth, outer.y1, height), "x", wall), body)
    else:
        _add_posts(b, outer, depth, wall, bool(rng.random() < 0.5), [0.5 * wall, height - 0.5 * wall])
    inner = outer.inset(wall if kind != "posts" else 2 * wall)
    back = wall * (1 if kind != "posts" else 2) + 0.004
    shelf, alike, shared = rng.uniform(0.002, 0.006), b.new_slot(Role.MOVING), bool(rng.random() < 0.65)
    full, reach = bool(rng.random() < 0.6), rng.uniform(0.0, 0.015)
    for k in range(count):
        if k:
            b.add_box(0, (back, inner.y0, edges[k] - shelf / 2), (0.97 * depth, inner.y1, edges[k] + shelf / 2), body)
        low = np.array([back + 0.004, inner.y0 + 0.003, edges[k] + shelf / 2 + 0.002])
        tall = edges[k + 1] - edges[k] - shelf - 0.004
        high = np.array([depth + reach, inner.y1 - 0.003, low[2] + tall * (0.95 if full else rng.uniform(0.4, 0.9))])
        part = b.part(f"tray_{k}", JointType.PRISMATIC, (1, 0, 0), (depth, 0, low[2]), depth * rng.uniform(0.5, 0.9))
        _add_tray(b, part, low, high, alike if shared else b.new_slot(Role.MOVING))
    if rng.random() < 0.4:
        r = rng.uniform(0.015, 0.03)
        for x in (0.15 * depth, 0.85 * depth):
            for y in (0.85 * outer.y0, 0.85 * outer.y1):
                b.add(0, cylinder((x, y - 0.3 * r, -r), "y", 0.6 * r, r, 12), b.slot(Role.DETAIL))


@category()
def filing_cabinet(b: ObjectBuilder) -> None:
    """Tall steel cabinet of two to five deep drawers with label holders, locks and grips."""
    rng, count = b.rng, int(b.rng.integers(2, 6))
    width, depth = rng.uniform(0.36, 0.6) * rng.choice([1.0, 1.0, 1.8]), rng.uniform(0.4, 0.75)
    height = count * rng.uniform(0.24, 0.36)
    carcass = add_carcass(b, Rect(-width / 2, width / 2, 0, height), 0, depth, rng.uniform(0.012, 0.025),
                          b.slot(Role.BODY), b.slot(Role.INTERIOR))  # fmt: skip
    panels: tuple[PanelStyle, ...] = ("flat", "flat", "soft", "raised")
    handles: tuple[HandleStyle, ...] = ("bar", "arch", "recess", "strip", "lip")
    style = sample_style(rng, panels, handles, 0.3)
    style = replace(style, thickness=rng.uniform(0.015, 0.03), handle_length=rng.uniform(0.15, 0.45))
    inset, gap, t = bool(rng.random() < 0.6), rng.uniform(0.001, 0.004), rng.uniform(0.008, 0.02)
    edges = np.linspace(carcass.inner.z0, carcass.inner.z1, count + 1)
    slots, x = front_slots(b, carcass.interior), depth - style.thickness if inset else depth + 0.001
    label = bool(rng.random() < 0.7)
    for k in range(count):
        cell = Rect(
            carcass.inner.y0, carcass.inner.y1, edges[k] + t / 2 * (k > 0), edges[k + 1] - t / 2 * (k + 1 < count)
        )
        if k:
            back = depth - 0.05
            b.add_box(
                0, (back, cell.y0, cell.z0 - t), (depth - (0 if inset else 0.002), cell.y1, cell.z0), b.slot(Role.BODY)
            )
        rect = cell.inset(gap) if inset else cell.inset(-0.4 * min(t, carcass.wall))
        part = add_drawer(b, rect, cell, x, carcass.depth - (style.thickness if inset else 0), style, slots)
        face = x + style.thickness * (1.3 if style.panel == "raised" else 1.0)
        if label:
            y, z = rect.at(0.5, 0.8)
            b.add(part, frame((face, y - 0.05, z - 0.02), (face + 0.004, y + 0.05, z + 0.02), "x", 0.005), slots.handle)
            b.add_box(part, (face, y - 0.045, z - 0.015), (face + 0.001, y + 0.045, z + 0.015), b.slot(Role.DETAIL))
        if rng.random() < 0.3:
            add_dial(b, part, face, *rect.at(0.9, 0.85), 0.012, slots.handle)


def _add_wheels(b: ObjectBuilder, width: Real, depth: Real, r: Real) -> None:
    """Two or four wheels below a case that stands on z = 0."""
    rng, dark = b.rng, b.slot(Role.DETAIL)
    for x in (0.1 * depth, 0.9 * depth) if rng.random() < 0.6 else (0.1 * depth,):
        for y in (-0.4 * width, 0.4 * width):
            b.add(0, cylinder((x, y - 0.25 * r, -r), "y", 0.5 * r, r, 14), dark)
            b.add_box(0, (x - 0.6 * r, y - 0.4 * r, -0.8 * r), (x + 0.6 * r, y + 0.4 * r, 0.002), dark)


def _add_telescope(b: ObjectBuilder, width: Real, height: Real, x: Real) -> None:
    """A bow on one or two tubes that is drawn up out of the case."""
    rng = b.rng
    half, tube, slot = rng.uniform(0.1, 0.33) * width, rng.uniform(0.005, 0.012), b.new_slot(Role.MOVING)
    travel = height * rng.uniform(0.35, 0.75)
    rest = rng.choice([0.0, 0.0, rng.uniform(0.1, 0.9), 1.0]) * travel
    part = b.part("handle", JointType.PRISMATIC, (0, 0, 1), (x, 0, height), travel - rest, lower=-rest)
    top, grip = height + 0.02 + rest, rng.uniform(1.2, 2.4) * tube
    tubes = (0.0,) if rng.random() < 0.15 else (-half, half)
    for y in tubes:
        b.add(part, cylinder((x, y, top - 0.92 * height), "z", 0.92 * height, tube, 8), slot)
        w = 2.2 * tube
        collar = frame((x - w, y - w, height + 0.0005), (x + w, y + w, height + 0.006), "z", tube)
        b.add(0, collar, b.slot(Role.DETAIL))
    bar = slab((x - grip, -half - 1.5 * tube, top), (x + grip, half + 1.5 * tube, top + 2 * grip), "y", 0.6 * grip)
    b.add(part, bar, b.slot(Role.HANDLE))


@category()
def trolley_suitcase(b: ObjectBuilder) -> None:
    """Upright case on wheels with a telescopic handle; front half, as a rule, a lid hinged at one side or below."""
    rng = b.rng
    width, height, depth = rng.uniform(0.32, 0.52), rng.uniform(0.45, 0.8), rng.uniform(0.18, 0.34)
    share = rng.uniform(0.4, 0.75)
    deep, wall, round_ = share * depth, 0.008, rng.uniform(0.02, 0.3) * width
    body, lid_slot = b.slot(Role.BODY), b.new_slot(Role.MOVING)
    outline = rounded_rectangle(height, width, round_, 4)
    stand = spin("y", np.pi / 2)
    place = np.array([0.0, 0.0, height / 2])
    tubes = 0.035
    shell = cup([0.93 * outline, outline, outline], [0.0, 0.2 * deep, deep], wall, wall).moved(stand, place)
    b.add(0, shell, body)
    b.add_box(
        0, (wall, -0.42 * width, 0.04 * height), (wall + tubes, 0.42 * width, 0.96 * height), b.slot(Role.INTERIOR)
    )
    # The handle's tubes run in a housing behind the shell, so that it never meets the shell or the load.
    back = -tubes
    b.add(0, frame((back, -0.36 * width, 0.03 * height), (-0.0005, 0.36 * width, height), "z", 0.005), body)
    _add_telescope(b, width, height, -0.5 * tubes)
    front = depth - deep - 0.002
    if rng.random() < 0.75:
        hinge = pick(rng, ["left", "left", "right", "bottom"])
        axis, pivot = {"left": ((0, 0, -1), (deep, -width / 2, 0)), "right": ((0, 0, 1), (deep, width / 2, 0)),
                       "bottom": ((0, 1, 0), (deep, 0, 0))}[hinge]  # fmt: skip
        part = b.part("lid", JointType.REVOLUTE, axis, pivot, np.deg2rad(rng.uniform(80, 130)))
    else:
        part = 0
    flip = np.diag([1.0, 1.0, -1.0])
    lid = cup([0.93 * outline, outline, outline], [0.0, 0.3 * front, front], wall, min(wall, 0.3 * front))
    b.add(part, lid.moved(flip).moved(stand, place + np.array([depth, 0.0, 0.0])), lid_slot if part else body)
    for k in range(int(rng.integers(0, 5))):
        z = (k + 1) / 6 * height
        b.add_box(part, (depth - 0.001, -0.38 * width, z), (depth + 0.006, 0.38 * width, z + 0.02 * height),
                  lid_slot if part else body)  # fmt: skip
    grip = np.linspace(-1, 1, 7)
    bow = np.stack([np.full(7, 0.5 * deep), 0.12 * width * grip, height + 0.03 * (1 - grip**4)], -1)
    b.add(0, sweep(bow, circle(6, 0.008), [1.0, 0.0, 0.0]), b.slot(Role.HANDLE))
    _add_wheels(b, width, depth, rng.uniform(0.02, 0.045))
    if rng.random() < 0.3:
        b.add(0, torus((0.5 * deep, width / 2 + 0.002, 0.55 * height), "y", 0.05, 0.006, 16, 6), b.slot(Role.HANDLE))
