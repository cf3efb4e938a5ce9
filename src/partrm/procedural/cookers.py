"""Generators of cookers: stoves, ranges with many doors, rice cookers."""

from dataclasses import replace

import numpy as np

from partrm.geometry.joints import JointType
from partrm.objects.materials import Role
from partrm.procedural.builder import ObjectBuilder, pick
from partrm.procedural.carcass import Hinge, add_carcass, add_door, add_drawer, front_slots
from partrm.procedural.fittings import add_dial
from partrm.procedural.fronts import FrontStyle, HandleStyle, Rect, sample_style
from partrm.procedural.registry import category
from partrm.procedural.shapes import (
    Real,
    annulus,
    circle,
    cup,
    cylinder,
    frame,
    loft,
    prism,
    rounded_rectangle,
    slab,
    stand,
    sweep,
    turned,
)

STOVE_HANDLES: tuple[HandleStyle, ...] = ("bar", "bar", "bar", "arch", "lip", "recess")


def _add_hob(b: ObjectBuilder, depth: Real, width: Real, height: Real) -> None:
    """Plates, coils or gas rings with grates on the top."""
    rng, dark = b.rng, b.slot(Role.DETAIL)
    kind, r = pick(rng, ["glass", "plates", "gas"]), 0.17 * min(width, depth)
    if kind == "glass":
        b.add_box(
            0, (0.05 * depth, -0.47 * width, height), (0.95 * depth, 0.47 * width, height + 0.005), b.slot(Role.GLASS)
        )
    for x in (0.28, 0.72):
        for y in (-0.24, 0.24):
            at = (x * depth, y * width, height)
            size = r * rng.uniform(0.7, 1.1)
            if kind == "glass":
                b.add(0, annulus((at[0], at[1], height + 0.005), "z", 0.001, size, 0.9 * size, 20), dark)
            elif kind == "plates":
                b.add(0, turned([size, size, 0.9 * size], [0.0, 0.012, 0.016], "z", at, 20), dark)
            else:
                b.add(0, cylinder(at, "z", 0.015, 0.5 * size, 14), dark)
                for low, high in (((-1.0, -0.05), (1.0, 0.05)), ((-0.05, -1.0), (0.05, 1.0))):
                    b.add_box(0, (at[0] + low[0] * size, at[1] + low[1] * size, height + 0.02),
                              (at[0] + high[0] * size, at[1] + high[1] * size, height + 0.03), dark)  # fmt: skip


@category()
def stove(b: ObjectBuilder) -> None:
    """Stove: hob, row of knobs, one or two oven doors that drop or swing, as a rule a drawer below."""
    rng = b.rng
    width, depth, height = rng.uniform(0.5, 0.95), rng.uniform(0.5, 0.7), rng.uniform(0.8, 0.95)
    body, wall, interior = b.slot(Role.BODY), 0.03, b.slot(Role.INTERIOR)
    panel = height * rng.uniform(0.09, 0.15)
    below = height * rng.uniform(0.14, 0.24) if rng.random() < 0.75 else 0.0
    toe = rng.choice([0.0, rng.uniform(0.03, 0.09)])
    oven = Rect(-width / 2, width / 2, toe + below, height - panel)
    style = sample_style(rng, ("window", "window", "flat", "framed", "soft"), STOVE_HANDLES, 0.5)
    style = replace(style, thickness=rng.uniform(0.025, 0.05), handle_length=rng.uniform(0.6, 0.9))
    b.add_box(0, (0, -width / 2, height - panel), (depth + 0.8 * style.thickness, width / 2, height), body)
    if toe:
        b.add_box(0, (0.02, -width / 2 + 0.01, 0), (depth - 0.05, width / 2 - 0.01, toe), b.slot(Role.DETAIL))
    split = rng.uniform(0.5, 0.65) if width > 0.75 and rng.random() < 0.6 else 1.0
    cells = [replace(oven, y1=oven.at(split, 0)[0])] + ([replace(oven, y0=oven.at(split, 0)[0])] if split < 1 else [])
    for k, cell in enumerate(cells):
        inside = add_carcass(b, cell, 0, depth, wall, body, interior)
        for u in (0.35, 0.65) if rng.random() < 0.8 else (0.5,):
            z = inside.inner.at(0, u)[1]
            for y in np.linspace(inside.inner.y0 + 0.005, inside.inner.y1 - 0.009, 8):
                b.add_box(0, (wall, y, z), (0.9 * depth, y + 0.004, z + 0.004), b.slot(Role.HANDLE))
        hinge: Hinge = "bottom" if k == 0 or rng.random() < 0.6 else pick(rng, ["left", "right"])
        add_door(b, cell.inset(0.002), depth + 0.001, hinge, style, front_slots(b, interior))
    if below:
        rect = Rect(-width / 2, width / 2, toe, toe + below)
        hollow = add_carcass(b, rect, 0, depth, 0.015, body, interior)
        drawer = replace(style, panel="flat", handle=pick(rng, ["none", "lip", "recess", "bar"]))
        add_drawer(b, rect.inset(0.002), hollow.inner, depth + 0.001, hollow.depth, drawer, front_slots(b, interior))
    x, count = depth + 0.8 * style.thickness, int(rng.integers(3, 8))
    for k in range(count):
        y = (-0.45 + 0.9 * (k + 0.5) / count) * width
        add_dial(b, 0, x, y, height - 0.5 * panel, min(0.28 * panel, 0.3 * width / count), b.slot(Role.HANDLE))
    _add_hob(b, depth, width, height)
    if rng.random() < 0.4:
        b.add_box(0, (-0.03, -width / 2, 0.7 * height), (0.0, width / 2, height * rng.uniform(1.08, 1.25)), body)


def _add_oven_cell(b: ObjectBuilder, cell: Rect, depth: Real, style: FrontStyle, seam: Real) -> None:
    """One compartment of a range: a drawer, or an oven with racks behind a door on any hinge."""
    rng, interior = b.rng, b.slot(Role.INTERIOR)
    inside, rect = add_carcass(b, cell, 0, depth, 0.02, b.slot(Role.BODY), interior), cell.inset(seam)
    low = cell.height < 0.2
    if low and rng.random() < 0.7:
        drawer = replace(style, panel="flat")
        add_drawer(b, rect, inside.inner, depth + 0.001, inside.depth, drawer, front_slots(b, interior))
        return
    for u in () if low else (0.35, 0.65):
        z = inside.inner.at(0, u)[1]
        for y in np.linspace(inside.inner.y0 + 0.005, inside.inner.y1 - 0.009, 7):
            b.add_box(0, (0.02, y, z), (0.9 * depth, y + 0.004, z + 0.004), b.slot(Role.HANDLE))
    hinge: Hinge = "bottom" if cell.height < 0.6 * cell.width else pick(rng, ["bottom", "bottom", "left", "right"])
    near = replace(style, handle_length=min(style.handle_length, 0.5)) if hinge in ("left", "right") else style
    add_door(b, rect, depth + 0.001, hinge, near, front_slots(b, interior))


def _add_hob_lid(b: ObjectBuilder, depth: Real, width: Real, height: Real) -> None:
    """A hollow cover over the hob, hinged at the back."""
    low, high, slot = height + 0.002, height + 0.036, b.new_slot(Role.MOVING)
    opening = np.deg2rad(b.rng.uniform(75, 95))
    part = b.part("lid", JointType.REVOLUTE, (0, -1, 0), (0.005, 0, high), opening)
    b.add(part, frame((0.01, -0.49 * width, low), (0.99 * depth, 0.49 * width, high), "z", 0.012), slot)
    b.add_box(part, (0.01, -0.49 * width, high), (0.99 * depth, 0.49 * width, high + 0.012), slot)
    b.add_box(part, (0.99 * depth, -0.1 * width, high), (depth + 0.02, 0.1 * width, high + 0.01), b.slot(Role.HANDLE))


@category()
def range_cooker(b: ObjectBuilder) -> None:
    """Range: one to three columns of oven doors and drawers with towel bars, dials in front or on a back panel."""
    rng = b.rng
    width, depth, height = rng.uniform(0.45, 1.3), rng.uniform(0.5, 0.68), rng.uniform(0.78, 0.95)
    body, foot = b.slot(Role.BODY), rng.uniform(0.03, 0.2)
    behind = bool(rng.random() < 0.5)
    strip = height * (rng.uniform(0.02, 0.04) if behind else rng.uniform(0.09, 0.15))
    style = sample_style(rng, ("window", "window", "flat", "raised", "framed", "soft"), STOVE_HANDLES, 0.4)
    style = replace(style, thickness=rng.uniform(0.02, 0.045), handle_length=rng.uniform(0.5, 0.92),
                    border=rng.uniform(0.04, 0.1), handle_radius=rng.uniform(0.007, 0.013),
                    handle_depth=rng.uniform(0.03, 0.06))  # fmt: skip
    most = 1 if width < 0.65 else 3 if width > 1.0 else 2
    columns, seam = int(rng.integers(1, most + 1)), rng.uniform(0.002, 0.014)
    edges = np.linspace(-width / 2, width / 2, columns + 1)
    for column in range(columns):
        share = rng.uniform(0.6, 1.5, int(rng.integers(1, 4)))
        rows = foot + np.concatenate([[0.0], np.cumsum(share) / share.sum()]) * (height - strip - foot)
        for row in range(len(share)):
            cell = Rect(edges[column], edges[column + 1], rows[row], rows[row + 1])
            _add_oven_cell(b, cell, depth, style, seam)
    face = depth + style.thickness
    b.add_box(0, (0, -width / 2, height - strip), (face, width / 2, height), body)
    if rng.random() < 0.5:
        for x in (0.02, depth - 0.06):
            for y in (-width / 2 + 0.01, width / 2 - 0.05):
                b.add_box(0, (x, y, 0), (x + 0.04, y + 0.04, foot), body)
    else:
        b.add_box(0, (0.02, -width / 2 + 0.01, 0), (depth - 0.05, width / 2 - 0.01, foot), b.slot(Role.DETAIL))
    _add_hob(b, depth, width, height)
    if behind:
        top, x = height + rng.uniform(0.12, 0.28), 0.07
        b.add(0, slab((-0.01, -width / 2, height), (x, width / 2, top), "y", 0.02), body)
        face_slot = b.slot(Role.DETAIL)
        panel = Rect(-0.47 * width, 0.47 * width, height + 0.03, top - 0.02)
        b.add_box(0, (x, panel.y0, panel.z0), (x + 0.004, panel.y1, panel.z1), face_slot)
        b.add_box(0, (x + 0.004, -0.1 * width, panel.at(0, 0.3)[1]), (x + 0.006, 0.1 * width, panel.at(0, 0.8)[1]),
                  b.slot(Role.GLASS))  # fmt: skip
        for u in (0.08, 0.2, 0.8, 0.92):
            radius = min(0.3 * panel.height, 0.05 * width)
            add_dial(b, 0, x + 0.004, *panel.at(u, 0.5), radius, b.slot(Role.HANDLE))
        return
    count = int(rng.integers(3, 9))
    for k in range(count):
        y = (-0.45 + 0.9 * (k + 0.5) / count) * width
        add_dial(b, 0, face, y, height - 0.5 * strip, min(0.28 * strip, 0.3 * width / count), b.slot(Role.HANDLE))
    if rng.random() < 0.4:
        _add_hob_lid(b, depth, width, height)


@category()
def rice_cooker(b: ObjectBuilder) -> None:
    """Rice cooker, steamer, cool box for butter: a round or square pot in a casing, a domed lid hinged at the back."""
    rng = b.rng
    radius, height = rng.uniform(0.1, 0.16), rng.uniform(0.12, 0.24)
    wide = rng.uniform(0.85, 1.1)
    outline = circle(28, radius) * (1, wide) if rng.random() < 0.65 else (
        rounded_rectangle(2 * radius, 2 * radius * wide, rng.uniform(0.3, 0.8) * radius, 4))  # fmt: skip
    body, slope = b.slot(Role.BODY), rng.uniform(0.78, 0.98)
    shares = [slope * 0.9, slope, 1.0, 0.98, 0.8, 0.8]
    rings = [share * outline for share in shares]
    heights = [0.0, 0.08 * height, 0.7 * height, height, height, 0.12 * height]
    b.add(0, loft(stand(rings, heights, "z")), body)
    pot = cup([0.7 * outline, 0.77 * outline, 0.77 * outline], [0.13 * height, 0.3 * height, height], 0.003, 0.004)
    b.add(0, pot, b.slot(Role.INTERIOR))
    z, rise = height + 0.004, height * rng.uniform(0.12, 0.35)
    hinge, opening = (-1.06 * radius, 0.0, height + 0.008), np.deg2rad(rng.uniform(70, 100))
    lid, slot = b.part("lid", JointType.REVOLUTE, (0, -1, 0), hinge, opening), b.new_slot(Role.MOVING)
    dome = [0.98 * outline, outline, 0.85 * outline, rng.uniform(0.3, 0.7) * outline]
    b.add(lid, loft(stand(dome, [z, z + 0.25 * rise, z + 0.8 * rise, z + rise], "z")), slot)
    b.add(lid, prism(0.72 * outline, (z - 0.008, z), "z"), b.slot(Role.INTERIOR))
    b.add(lid, cylinder((-0.3 * radius, 0, z + rise), "z", 0.006, 0.15 * radius, 14), b.slot(Role.DETAIL))
    for y in (-0.3 * radius, 0.18 * radius):
        b.add_box(0, (-1.12 * radius, y, 0.6 * height), (-0.95 * radius, y + 0.12 * radius, height + 0.003), body)
    tab = (-1.06 * radius, -0.15 * radius, z), (-0.85 * radius, 0.15 * radius, z + 0.3 * rise)
    b.add_box(lid, *tab, slot)
    x, button = radius, b.slot(Role.HANDLE)
    if rng.random() < 0.7:
        plate = Rect(-0.35 * radius, 0.35 * radius, 0.25 * height, 0.6 * height)
        b.add(
            0, slab((0.8 * radius, plate.y0, plate.z0), (x + 0.006, plate.y1, plate.z1), "x", 0.01), b.slot(Role.DETAIL)
        )
        b.add(0, cylinder((x + 0.006, 0, 0.38 * height), "x", 0.004, 0.14 * radius, 14), button)
    else:
        b.add_box(0, (0.9 * radius, -0.2 * radius, 0.3 * height), (x + 0.012, 0.2 * radius, 0.4 * height), button)
    b.add_box(lid, (0.9 * radius, -0.14 * radius, z + 0.05 * rise), (x + 0.01, 0.14 * radius, z + 0.5 * rise), button)
    if rng.random() < 0.55:
        _add_bail(b, max(1.2 * radius, 0.15 * height + rise + 0.03), 1.08 * wide * radius, 0.85 * height)
    for y in (-0.5 * radius, 0.5 * radius):
        for x in (-0.5 * radius, 0.5 * radius):
            b.add(0, cylinder((x, y, -0.008), "z", 0.009, 0.1 * radius, 8), b.slot(Role.DETAIL))


def _add_bail(b: ObjectBuilder, reach: Real, half: Real, z: Real) -> None:
    """A bow from side to side, ``half`` either way, that lies down before the casing; on some it lifts."""
    rng, angle = b.rng, np.linspace(-np.pi / 2, np.pi / 2, 15)
    across = np.sign(angle) * np.abs(np.sin(angle)) ** 0.5
    path = np.stack([reach * np.cos(angle).clip(0) ** 0.5, half * across, np.full(15, z)], -1)
    part = 0
    if rng.random() < 0.4:
        part = b.part("handle", JointType.REVOLUTE, (0, -1, 0), (0, 0, z), np.deg2rad(rng.uniform(60, 90)))
    slot = b.new_slot(Role.MOVING) if part else b.slot(Role.HANDLE)
    b.add(part, sweep(path, rounded_rectangle(0.008, 0.016, 0.0), [0.0, 0.0, 1.0]), slot)
    for side in (-1, 1):
        start = side * (half - 0.01)
        b.add(0, cylinder((0, start, z), "y", -side * 0.12 * half, 0.012, 10), b.slot(Role.DETAIL))
