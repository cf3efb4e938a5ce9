"""Generators of things with flaps, seats, lids, panes and screens: toilets, letter boxes, windows, cameras, chests."""

from dataclasses import replace

import numpy as np

from partrm.geometry.joints import JointType
from partrm.objects.materials import Role
from partrm.procedural.builder import ObjectBuilder, pick
from partrm.procedural.carcass import Hinge, add_carcass, add_door, add_drawer, front_slots, hinge_joint
from partrm.procedural.fronts import PanelStyle, Rect, add_handle, sample_style
from partrm.procedural.registry import category
from partrm.procedural.shapes import (
    Mesh,
    Real,
    cylinder,
    frame,
    loft,
    prism,
    slab,
    spin,
    stand,
    torus,
    turned,
)


def _bowl_outline(rng: np.random.Generator, length: Real, width: Real) -> np.ndarray:
    """Outline in (x, y) from x = 0 to ``length``: an egg, a D or a rounded square."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, 15)
    power = rng.uniform(0.75, 1.1)
    waist = rng.uniform(0.3, 0.6) * length
    arc = np.stack([waist + (length - waist) * np.cos(angle) ** power, width / 2 * np.sin(angle)], -1)
    narrow = rng.uniform(0.6, 1.0) * width / 2
    corner = min(0.02, 0.1 * narrow)
    back = np.array([[corner, narrow], [0.0, narrow - corner], [0.0, corner - narrow], [corner, -narrow]])
    return np.concatenate([arc, back])


def _shrunk(outline: np.ndarray, border: Real, centre: Real) -> np.ndarray:
    """The outline about (``centre``, 0) made smaller by about ``border`` on every side."""
    middle = np.array([centre, 0.0])
    half = np.abs(outline - middle).max(0)
    return (outline - middle) * (1 - border / half) + middle


@category()
def toilet_seat(b: ObjectBuilder) -> None:
    """Toilet of one or two pieces: hollow bowl, seat ring and lid on hinges at the back, tank or none."""
    rng = b.rng
    length, width, height = rng.uniform(0.38, 0.52), rng.uniform(0.33, 0.42), rng.uniform(0.34, 0.45)
    body, outline = b.slot(Role.BODY), _bowl_outline(rng, length, width)
    centre, opening = 0.55 * length, np.deg2rad(rng.uniform(80, 104))
    rim, deep = rng.uniform(0.05, 0.08), rng.uniform(0.12, 0.2)
    inner = _shrunk(outline, rim, centre)
    foot = _shrunk(outline, rng.uniform(0.02, 0.09), 0.4 * length)
    wall_hung = rng.random() < 0.25
    low = height - deep - 0.05 if wall_hung else 0.0
    rings = [foot, foot, outline, outline, inner, 0.6 * (inner - [centre, 0.0]) + [centre, 0.0]]
    heights = [low, low + 0.45 * (height - low), height - 0.04, height, height, height - deep]
    b.add(0, loft(stand(rings, heights, "z")), body)
    water = 0.62 * (inner - [centre, 0.0]) + [centre, 0.0]
    b.add(0, prism(water, (height - deep + 0.02, height - deep + 0.023), "z"), b.slot(Role.GLASS))
    t, gap = rng.uniform(0.012, 0.026), 0.004
    clear = 3.2 * t + max(0.0, 1.05 * length * -np.cos(opening)) + 0.03
    tank = rng.uniform(0.12, 0.2)
    b.add(0, slab((-clear - tank, -0.42 * width, low), (0.02, 0.42 * width, height - 0.002), "z", 0.02), body)
    if not wall_hung:
        top, wide = height + rng.uniform(0.25, 0.42), rng.uniform(0.5, 0.62) * width
        x0, x1 = -clear - tank, -clear
        b.add(0, slab((x0, -wide, height), (x1, wide, top), "z", 0.03), body)
        b.add(
            0, slab((x0 - 0.008, -wide - 0.008, top), (x1 + 0.004, wide + 0.008, top + 0.025), "z", 0.03, 0.008), body
        )
        b.add(0, cylinder(((x0 + x1) / 2, 0, top + 0.025), "z", 0.006, 0.022, 14), b.slot(Role.HANDLE))
    else:
        wall = b.slot(Role.DETAIL)
        b.add_box(0, (-clear - tank - 0.02, -width, 0), (-clear - tank, width, height + 0.4), wall)
    hinge = (-0.01, 0.0, height + gap + 0.5 * t)
    moving = b.new_slot(Role.MOVING)
    # Seat and lid on joints of their own could pass through each other: one of them moves, or both together.
    way = pick(rng, ["lid", "lid", "seat", "both", "no_lid"])
    seat = 0 if way == "lid" else b.part("seat", JointType.REVOLUTE, (0, -1, 0), hinge, opening)
    z, hole = height + gap, _shrunk(outline, rng.uniform(0.055, 0.085), centre)
    ring = _shrunk(outline, -0.004, centre)
    b.add(seat, loft(stand([ring, ring, hole, hole], [z, z + t, z + t, z], "z"), closed=True), moving)
    for y in (-0.2 * width, 0.2 * width):
        b.add(0, cylinder((-0.024, y - 0.015, hinge[2]), "y", 0.03, 0.006, 8), b.slot(Role.HANDLE))
    if way == "no_lid":
        return
    cover = _shrunk(outline, rng.uniform(-0.012, 0.004), centre)
    dome = _shrunk(cover, rng.uniform(0.005, 0.05), centre)
    slot, base = moving if rng.random() < 0.7 else b.new_slot(Role.MOVING), z + t + 0.002
    mesh = loft(stand([cover, cover, dome], [base, base + 0.6 * t, base + 1.2 * t], "z"))
    if way == "lid":
        b.add(b.part("lid", JointType.REVOLUTE, (0, -1, 0), hinge, opening), mesh, slot)
    elif way == "both":
        b.add(seat, mesh, slot)
    else:
        # The lid stands open behind the seat, a little farther than that will go.
        up, pivot = spin("y", -opening - np.deg2rad(2)), np.array(hinge)
        b.add(0, mesh.moved(up, pivot - up @ pivot), slot)


def _arched(width: Real, side: Real, arch: Real) -> np.ndarray:
    """Outline in (y, z), counter-clockwise: a rectangle ``side`` high under an elliptic arch."""
    angle = np.linspace(0, np.pi, 13)
    top = np.stack([width / 2 * np.cos(angle), side + arch * np.sin(angle)], -1)
    return np.concatenate([[[-width / 2, 0.0], [width / 2, 0.0]], top])


def _tunnel(outer: np.ndarray, inner: np.ndarray, x0: Real, x1: Real) -> Mesh:
    """The pipe between two outlines in (y, z)."""
    return loft(stand([outer, outer, inner, inner], [x0, x1, x1, x0], "x"), closed=True)


def _arched_box(b: ObjectBuilder) -> None:
    """Rural mailbox: a tunnel with an arched door hinged below, a flag, a post."""
    rng = b.rng
    width, depth = rng.uniform(0.16, 0.3), rng.uniform(0.35, 0.6)
    side, arch, wall = rng.uniform(0.06, 0.2), width * rng.uniform(0.3, 0.55), 0.006
    body, outer = b.slot(Role.BODY), _arched(width, side, arch)
    inner = _arched(width - 2 * wall, side - wall, arch - wall) + np.array([0.0, wall])
    b.add(0, _tunnel(outer, inner, 0, depth), body)
    b.add(0, prism(outer, (-wall, 0.0), "x"), body)
    slots, t = front_slots(b, b.slot(Role.INTERIOR)), rng.uniform(0.005, 0.015)
    part = b.part("door", JointType.REVOLUTE, (0, 1, 0), (depth + 0.001 + t, 0, 0), np.deg2rad(rng.uniform(75, 110)))
    b.add(part, prism(outer, (depth + 0.001, depth + 0.001 + t), "x"), slots.panel)
    top, face = side + arch, depth + 0.001 + t
    b.add_box(part, (face, -0.02, 0.86 * top), (face + 0.02, 0.02, 0.9 * top), slots.handle)
    if rng.random() < 0.8:
        y, at = width / 2, (0.6 * depth, width / 2, 0.6 * side)
        turn = float(np.deg2rad(rng.uniform(75, 95)))
        flag = b.part("flag", JointType.REVOLUTE, (0, float(rng.choice([-1, 1])), 0), at, turn)
        up = rng.uniform(0.7, 1.3) * top
        b.add_box(
            flag, (at[0] - 0.01, y + 0.002, at[2]), (at[0] + 0.01, y + 0.007, at[2] + up), b.new_slot(Role.MOVING)
        )
        b.add_box(
            flag, (at[0] - 0.07, y + 0.0021, at[2] + 0.6 * up), (at[0] + 0.01, y + 0.0069, at[2] + up), slots.handle
        )
    if rng.random() < 0.7:
        post, r = rng.uniform(0.3, 0.9), rng.uniform(0.02, 0.05)
        b.add_box(0, (0.4 * depth - r, -r, -post), (0.4 * depth + r, r, -0.001), b.slot(Role.DETAIL))


def _wall_box(b: ObjectBuilder) -> None:
    """Box on a wall: a sloping flap over the slot, a door in front or none."""
    rng = b.rng
    width, height, depth = rng.uniform(0.22, 0.45), rng.uniform(0.25, 0.6), rng.uniform(0.08, 0.22)
    body, wall = b.slot(Role.BODY), 0.006
    slope = rng.uniform(0.0, 0.5) * depth
    inside = b.slot(Role.INTERIOR)
    b.add_box(0, (0, -width / 2, 0), (wall, width / 2, height), body, {"+x": inside})
    side = np.array([[0.0, wall], [0.0, depth], [height - slope, depth], [height, wall]])
    for y in (-width / 2, width / 2 - wall):
        b.add(0, prism(side, (y, y + wall), "y"), body)
    b.add_box(0, (wall, -width / 2 + wall, 0), (depth, width / 2 - wall, wall), body, {"+z": inside})
    front, has_door = height - slope, bool(rng.random() < 0.5)
    style = sample_style(rng, ("flat", "flat", "soft", "framed"), ("none", "knob", "lip", "none"), 0.2)
    style = replace(style, thickness=0.008)
    if has_door:
        b.add_box(0, (depth - wall, -width / 2 + wall, 0.75 * front), (depth, width / 2 - wall, front), body)
        rect = Rect(-width / 2, width / 2, 0.0, 0.75 * front).inset(0.003)
        add_door(b, rect, depth + 0.001, pick(rng, ["bottom", "left", "right"]), style, front_slots(b, inside))
    else:
        b.add_box(0, (depth - wall, -width / 2 + wall, wall), (depth, width / 2 - wall, front), body)
        slit = Rect(-0.3 * width, 0.3 * width, 0.1 * front, 0.3 * front)
        b.add_box(0, (depth, slit.y0, slit.z0), (depth + 0.001, slit.y1, slit.z1), b.slot(Role.DETAIL))
    tilt, long = float(np.arctan2(slope, depth - wall)), float(np.hypot(slope, depth - wall))
    hinge, over = np.array([wall, 0.0, height + 0.004]), rng.uniform(0.005, 0.03)
    lid = b.part("flap", JointType.REVOLUTE, (0, -1, 0), hinge, np.deg2rad(rng.uniform(60, 100)) + tilt)
    plate = slab((0.0, -width / 2 - 0.004, 0.0), (long + over, width / 2 + 0.004, 0.006), "z", 0.0)
    slots = front_slots(b, inside)
    b.add(lid, plate.moved(spin("y", tilt), hinge), slots.panel)
    lip = slab((long + over - 0.006, -width / 4, 0.0062), (long + over, width / 4, 0.014), "z", 0.0)
    b.add(lid, lip.moved(spin("y", tilt), hinge), slots.handle)


def _letter_plate(b: ObjectBuilder) -> None:
    """Plates with slots behind flaps: one in a piece of a door, or a bank of boxes with small doors."""
    rng = b.rng
    columns, rows = pick(rng, [(1, 1), (1, 1), (1, 3), (2, 2), (3, 2), (2, 4), (1, 5)])
    w, h = rng.uniform(0.24, 0.4), rng.uniform(0.09, 0.2)
    width, height, depth = columns * w + 0.04, rows * h + 0.04, rng.uniform(0.08, 0.35)
    body, inside, bar = b.slot(Role.BODY), b.slot(Role.INTERIOR), 0.006
    carcass = add_carcass(b, Rect(-width / 2, width / 2, 0, height), 0, depth, 0.02, body, inside)
    style = sample_style(rng, ("flat", "flat", "soft", "framed"), ("none", "lip", "knob", "none"), 0.15)
    style = replace(style, thickness=0.008)
    hinge: Hinge = pick(rng, ["top", "top", "bottom", "left"])
    same, shared = front_slots(b, inside), bool(rng.random() < 0.7)
    inner = carcass.inner
    for column in range(1, columns):
        y = inner.at(column / columns, 0)[0]
        b.add_box(0, (0.02, y - bar, inner.z0), (depth, y + bar, inner.z1), body)
    for row in range(1, rows):
        z = inner.at(0, row / rows)[1]
        b.add_box(0, (0.02, inner.y0, z - bar), (depth - 0.001, inner.y1, z + bar), body)
    for column in range(columns):
        for row in range(rows):
            (y0, z0), (y1, z1) = (
                inner.at(column / columns, row / rows),
                inner.at((column + 1) / columns, (row + 1) / rows),
            )
            rect = Rect(y0, y1, z0, z1).inset(bar + 0.001)
            add_door(b, rect, depth - style.thickness, hinge, style, same if shared else front_slots(b, inside))


@category()
def letter_box(b: ObjectBuilder) -> None:
    """Letter box: a rural tunnel with door and flag, a wall box with a flap, or a plate or bank of flaps."""
    pick(b.rng, [_arched_box, _wall_box, _wall_box, _letter_plate])(b)


def _sash(b: ObjectBuilder, part: int, rect: Rect, x: Real, t: Real, border: Real, slot: int, bars: tuple[int, int]):
    """A frame with a pane and glazing bars, back at ``x``."""
    b.add(part, frame((x, rect.y0, rect.z0), (x + t, rect.y1, rect.z1), "x", border), slot)
    glass, w = rect.inset(border), 0.35 * border
    b.add_box(part, (x + 0.4 * t, glass.y0, glass.z0), (x + 0.6 * t, glass.y1, glass.z1), b.slot(Role.GLASS))
    for k in range(bars[0]):
        y = glass.at((k + 1) / (bars[0] + 1), 0)[0]
        b.add_box(part, (x + 0.2 * t, y - w, glass.z0), (x + 0.85 * t, y + w, glass.z1), slot)
    for k in range(bars[1]):
        z = glass.at(0, (k + 1) / (bars[1] + 1))[1]
        b.add_box(part, (x + 0.21 * t, glass.y0, z - w), (x + 0.84 * t, glass.y1, z + w), slot)


@category()
def sash_window(b: ObjectBuilder) -> None:
    """Window of two or three sashes that slide up and down or aside, or of one that tilts or pivots."""
    rng = b.rng
    width, height = rng.uniform(0.5, 1.4), rng.uniform(0.6, 1.5)
    border, t = rng.uniform(0.04, 0.1), rng.uniform(0.02, 0.04)
    depth, body = 2.4 * t + rng.uniform(0.03, 0.1), b.slot(Role.BODY)
    outer = Rect(-width / 2, width / 2, 0, height)
    b.add(0, frame((0, outer.y0, 0), (depth, outer.y1, height), "x", border), body)
    inner, rail = outer.inset(border + 0.003), rng.uniform(0.03, 0.06)
    bars = (int(rng.integers(0, 3)), int(rng.integers(0, 3))) if rng.random() < 0.5 else (0, 0)
    near, far = depth - 1.1 * t, depth - 2.2 * t
    kind = pick(rng, ["up", "up", "aside", "aside", "tilt", "pivot"])
    if rng.random() < 0.4:
        b.add_box(0, (-0.02, outer.y0 - 0.05, -0.04), (depth + rng.uniform(0.02, 0.1), outer.y1 + 0.05, -0.001), body)
    if kind in ("up", "aside"):
        slots = [body if rng.random() < 0.3 else b.new_slot(Role.MOVING)] * 2
        share = rng.uniform(0.42, 0.58)
        both = rng.random() < 0.7
        if kind == "up":
            z = inner.at(0, share)[1]
            cells, axis = [replace(inner, z1=z + rail / 2), replace(inner, z0=z - rail / 2)], (0.0, 0.0, 1.0)
            travel = 0.9 * min(cells[0].height, cells[1].height) - rail
        else:
            y = inner.at(share, 0)[0]
            cells, axis = [replace(inner, y1=y + rail / 2), replace(inner, y0=y - rail / 2)], (0.0, 1.0, 0.0)
            travel = 0.9 * min(cells[0].width, cells[1].width) - rail
        first = int(rng.integers(2))
        for k, cell in enumerate(cells):
            moves = both or k == first
            sign = 1.0 if k == 0 else -1.0
            way = tuple(sign * a for a in axis)
            part = b.part("sash", JointType.PRISMATIC, way, (near, *cell.at(0.5, 0.5)), travel) if moves else 0
            x = near if k == 0 else far
            _sash(b, part, cell, x, t, rail, slots[k] if moves else body, bars)
            if moves and k == 0 and rng.random() < 0.7:
                style = sample_style(rng, ("flat",), ("knob", "bar", "lip"), 0.3)
                place = replace(cell, z1=cell.z0 + rail) if kind == "up" else replace(cell, y1=cell.y0 + rail)
                add_handle(b, part, place, near + t, "centre", replace(style, handle_length=0.2), b.slot(Role.HANDLE))
        return
    cell, slot = inner.inset(0.002), b.new_slot(Role.MOVING)
    if kind == "pivot":
        level = bool(rng.random() < 0.6)
        axis, angle = ((0, 1, 0) if level else (0, 0, 1)), np.deg2rad(rng.uniform(40, 85))
        part = b.part("sash", JointType.REVOLUTE, axis, (near + t / 2, *cell.at(0.5, 0.5)), angle)
    else:
        axis, pivot = hinge_joint(cell, near + t, pick(rng, ["bottom", "top", "left", "right"]))
        part = b.part("sash", JointType.REVOLUTE, axis, pivot, np.deg2rad(rng.uniform(20, 90)))
    _sash(b, part, cell, near, t, rail, slot, bars)


def _add_screen(b: ObjectBuilder, part: int, rect: Rect, x: Real, t: Real, slot: int, glass_out: bool) -> None:
    """A thin rounded plate with its glass on the outer or the inner face, its back at ``x``."""
    edge = 0.08 * min(rect.width, rect.height)
    b.add(part, slab((x, rect.y0, rect.z0), (x + t, rect.y1, rect.z1), "x", 0.5 * edge, 0.1 * t), slot)
    pane, thin = rect.inset(edge), 0.0004
    at = x + t if glass_out else x - thin
    b.add_box(part, (at, pane.y0, pane.z0), (at + thin, pane.y1, pane.z1), b.slot(Role.GLASS))


def _camera_back(b: ObjectBuilder) -> None:
    """Camera or camcorder seen from the side of its screen, which flips out at one of its edges."""
    rng = b.rng
    width, height, depth = rng.uniform(0.09, 0.16), rng.uniform(0.06, 0.11), rng.uniform(0.03, 0.09)
    body, dark = b.slot(Role.BODY), b.slot(Role.DETAIL)
    b.add(0, slab((-depth, -width / 2, 0), (0, width / 2, height), "x", rng.uniform(0.0, 0.2) * height, 0.003), body)
    left = rng.uniform(0.02, 0.08) * width
    rect = Rect(-width / 2 + left, -width / 2 + left + rng.uniform(0.5, 0.72) * width, 0.1 * height, 0.85 * height)
    hinge: Hinge = pick(rng, ["left", "left", "left", "top", "bottom"])
    t = rng.uniform(0.004, 0.009)
    axis, pivot = hinge_joint(rect, 0.001 + t, hinge)
    part = b.part("screen", JointType.REVOLUTE, axis, pivot, np.deg2rad(rng.uniform(90, 175)))
    _add_screen(b, part, rect, 0.001, t, b.new_slot(Role.MOVING), bool(rng.random() < 0.5))
    b.add_box(
        0, (0.0, rect.y0 + 0.004, rect.z0 + 0.004), (0.0005, rect.y1 - 0.004, rect.z1 - 0.004), b.slot(Role.INTERIOR)
    )
    y = (rect.y1 + width / 2) / 2
    wheel = min(0.35 * (width / 2 - rect.y1), 0.15 * height)
    b.add(0, turned([wheel, wheel, 0.8 * wheel], [0, 0.003, 0.004], "x", (0, y, 0.4 * height), 18), dark)
    for z in (0.65, 0.82):
        b.add(0, cylinder((0, y, z * height), "x", 0.002, 0.3 * wheel, 10), dark)
    lens = height * rng.uniform(0.25, 0.42)
    long = -rng.uniform(0.01, 0.08)
    b.add(0, cylinder((-depth, -0.05 * width, 0.48 * height), "x", long, lens, 24), dark)
    b.add(0, cylinder((-depth + long, -0.05 * width, 0.48 * height), "x", -0.001, 0.8 * lens, 24), b.slot(Role.GLASS))
    if rng.random() < 0.6:
        b.add_box(0, (-0.8 * depth, -0.15 * width, height), (-0.2 * depth, 0.12 * width, 1.2 * height), body)
    b.add(0, cylinder((-0.4 * depth, 0.35 * width, height), "z", 0.005, 0.07 * width, 14), dark)


def _folding_console(b: ObjectBuilder) -> None:
    """Handheld or tablet: a base with pad and buttons, a screen hinged at its far edge; the base lies or stands."""
    rng = b.rng
    width, depth, t = rng.uniform(0.12, 0.3), rng.uniform(0.07, 0.2), rng.uniform(0.008, 0.02)
    body, dark = b.slot(Role.BODY), b.slot(Role.DETAIL)
    b.add(0, slab((0, -width / 2, 0), (depth, width / 2, t), "z", rng.uniform(0.0, 0.15) * depth, 0.1 * t), body)
    if rng.random() < 0.5:
        b.add_box(0, (0.15 * depth, -0.25 * width, t), (0.75 * depth, 0.25 * width, t + 0.0005), b.slot(Role.GLASS))
    r, z = 0.05 * width, t
    for low, high in (((-0.3, -1.0), (0.3, 1.0)), ((-1.0, -0.3), (1.0, 0.3))):
        b.add_box(0, (0.45 * depth + low[0] * r, -0.38 * width + low[1] * r, z),
                  (0.45 * depth + high[0] * r, -0.38 * width + high[1] * r, z + 0.002), dark)  # fmt: skip
    for k in range(4):
        dx, dy = np.cos(k * np.pi / 2) * r, np.sin(k * np.pi / 2) * r
        b.add(0, cylinder((0.45 * depth + dx, 0.38 * width + dy, z), "z", 0.002, 0.35 * r, 10), dark)
    lid_t, gap = rng.uniform(0.005, 0.012), 0.0035
    hinge, opening = (0.0, 0.0, t + gap), np.deg2rad(rng.uniform(100, 165))
    rest = float(rng.choice([0.0, rng.uniform(0.0, 0.9)])) * opening
    part = b.part("screen", JointType.REVOLUTE, (0, -1, 0), hinge, opening - rest, lower=-rest)
    place = np.array(hinge)
    plate = slab((0.002, -width / 2, 0.0), (depth, width / 2, lid_t), "z", 0.05 * depth, 0.1 * lid_t)
    b.add(part, plate.moved(spin("y", -rest), place), b.new_slot(Role.MOVING))
    pane = slab((0.12 * depth, -0.36 * width, -0.0006), (0.9 * depth, 0.36 * width, -0.0001), "z", 0.0)
    b.add(part, pane.moved(spin("y", -rest), place), b.slot(Role.GLASS))
    for y in (-0.42 * width, 0.32 * width):
        b.add(part, cylinder((0, y, t + gap), "y", 0.1 * width, gap, 8), b.slot(Role.DETAIL))


def _ceiling_screen(b: ObjectBuilder) -> None:
    """Monitor under a console or on an arm that flips down or up, as in cars and aeroplanes."""
    rng = b.rng
    width, height, t = rng.uniform(0.15, 0.3), rng.uniform(0.1, 0.2), rng.uniform(0.008, 0.016)
    body, deep = b.slot(Role.BODY), rng.uniform(1.1, 1.5) * height
    thick = t + 0.03
    b.add(0, slab((0, -0.56 * width, 0), (deep, 0.56 * width, thick), "z", 0.02, 0.004), body)
    part = b.part("screen", JointType.REVOLUTE, (0, 1, 0), (0.03, 0, -0.004), np.deg2rad(rng.uniform(80, 120)))
    plate = slab((0.03, -width / 2, -0.004 - t), (0.03 + height, width / 2, -0.004), "z", 0.005)
    b.add(part, plate, b.new_slot(Role.MOVING))
    b.add_box(part, (0.042, -0.45 * width, -0.0038), (0.018 + height, 0.45 * width, -0.0034), b.slot(Role.GLASS))
    if rng.random() < 0.5:
        b.turn(np.diag([1.0, -1.0, -1.0]))


@category()
def flip_screen(b: ObjectBuilder) -> None:
    """Camera, handheld or console whose screen flips out."""
    pick(b.rng, [_camera_back, _camera_back, _folding_console, _ceiling_screen])(b)


def _vault(depth: Real, width: Real, rise: Real, wall: Real) -> list[Mesh]:
    """Hollow barrel lid on z = 0 over x in [0, depth], open below, and its two ends."""
    angle = np.linspace(0, np.pi, 11)
    arc = np.stack([np.cos(angle), np.sin(angle)], -1)
    outer = arc * (depth / 2, rise) + [depth / 2, 0.0]
    inner = arc * (depth / 2 - wall, rise - wall) + [depth / 2, 0.0]
    rings = np.zeros((11, 4, 3))
    for k, (points, y) in enumerate([(outer, -width / 2), (outer, width / 2), (inner, width / 2), (inner, -width / 2)]):
        rings[:, k] = np.stack([points[:, 0], np.full(11, y), points[:, 1]], -1)
    ends = [prism(inner[:, ::-1], (y, y + wall), "y") for y in (-width / 2, width / 2 - wall)]
    return [loft(rings), *ends]


@category()
def chest_with_lid(b: ObjectBuilder) -> None:
    """Trunk, treasure chest, cool box, toy box: hollow, with a flat, thick or vaulted lid hinged at the back."""
    rng = b.rng
    width, depth, height = rng.uniform(0.4, 1.2), rng.uniform(0.3, 0.6), rng.uniform(0.22, 0.55)
    wall, body = rng.uniform(0.012, 0.03), b.slot(Role.BODY)
    inside = b.slot(Role.INTERIOR)
    b.add(0, frame((0, -width / 2, 0), (depth, width / 2, height), "z", wall), body)
    b.add_box(0, (wall, -width / 2 + wall, 0), (depth - wall, width / 2 - wall, wall), inside)
    slot, metal = b.new_slot(Role.MOVING), b.slot(Role.HANDLE)
    opening = np.deg2rad(rng.uniform(70, 105))
    lid = b.part("lid", JointType.REVOLUTE, (0, -1, 0), (0.0, 0, height + 0.002), opening)
    kind, z = pick(rng, ["flat", "flat", "soft", "vault", "vault", "hollow"]), height + 0.002
    rise = rng.uniform(0.15, 0.5) * depth if kind == "vault" else rng.uniform(0.015, 0.05)
    if kind == "vault":
        for mesh in _vault(depth, width, rise, wall):
            b.add(lid, mesh.moved(np.eye(3), np.array([0.0, 0.0, z])), slot)
    elif kind == "hollow":
        rise = rng.uniform(0.06, 0.15)
        b.add(lid, frame((0, -width / 2, z), (depth, width / 2, z + rise - wall), "z", wall), slot)
        b.add_box(lid, (0, -width / 2, z + rise - wall), (depth, width / 2, z + rise), slot)
    else:
        over = rng.choice([0.0, rng.uniform(0.0, 0.02)])
        b.add(lid, slab((0, -width / 2 - over, z), (depth + over, width / 2 + over, z + rise), "z",
                        0.0 if kind == "flat" else 0.03, 0.3 * rise), slot)  # fmt: skip
    for k in range(int(rng.integers(0, 4))):
        y = (-0.4 + 0.8 * rng.random()) * width if k else 0.0
        b.add_box(0, (depth, y - 0.02, 0.6 * height), (depth + 0.006, y + 0.02, height - 0.002), metal)
        if kind != "vault":
            b.add_box(lid, (depth + 0.021, y - 0.015, z - 0.05), (depth + 0.027, y + 0.015, z + 0.012), metal)
            b.add_box(lid, (depth - 0.01, y - 0.015, z + 0.002), (depth + 0.027, y + 0.015, z + 0.01), metal)
    if rng.random() < 0.5:
        for y in (-1, 1):
            b.add(0, torus((depth / 2, y * (width / 2 + 0.004), 0.6 * height), "y", 0.04, 0.005, 16, 6), metal)
    drawer = rng.random() < 0.15
    feet = 0.0 if drawer else rng.choice([0.0, rng.uniform(0.01, 0.06)])
    if feet:
        for x in (0.0, depth - 0.05):
            for y in (-width / 2, width / 2 - 0.05):
                b.add_box(0, (x, y, -feet), (x + 0.05, y + 0.05, -0.0005), b.slot(Role.DETAIL))
    if drawer:
        low = Rect(-width / 2, width / 2, -rng.uniform(0.1, 0.2), 0.0)
        below = add_carcass(b, low, 0, depth, wall, body, inside)
        panels: tuple[PanelStyle, ...] = ("flat", "framed")
        style = replace(sample_style(rng, panels, ("knob", "bar", "none"), 0.3), thickness=0.018)
        add_drawer(
            b, below.inner.inset(0.002), below.inner, depth - 0.018, below.depth - 0.018, style, front_slots(b, inside)
        )
