"""Generators of notebooks seen from any side, photo printers and office printers."""

from dataclasses import replace

import numpy as np

from partrm.geometry.joints import JointType
from partrm.objects.materials import Role
from partrm.procedural.builder import ObjectBuilder, pick
from partrm.procedural.carcass import add_carcass, add_drawer, front_slots
from partrm.procedural.fittings import add_buttons, add_dial
from partrm.procedural.fronts import Rect, sample_style
from partrm.procedural.registry import category
from partrm.procedural.shapes import Mesh, Real, box, cylinder, frame, slab, spin


@category()
def notebook(b: ObjectBuilder) -> None:
    """Thin laptop, closed or open, turned so that its keys or the back of its lid are seen."""
    rng = b.rng
    width = rng.uniform(0.26, 0.4)
    depth, t, lid_t = width * rng.uniform(0.6, 0.76), rng.uniform(0.008, 0.024), rng.uniform(0.004, 0.01)
    corner, body = rng.uniform(0.0, 0.018), b.slot(Role.BODY)
    b.add(0, slab((0, -width / 2, 0), (depth, width / 2, t), "z", corner, 0.15 * t), body)
    keys = Rect(-0.44 * width, 0.44 * width, 0.14 * depth, 0.58 * depth)
    key_slot = b.slot(Role.DETAIL)
    b.add_box(0, (keys.z0, keys.y0, t), (keys.z1, keys.y1, t + 0.0004), body if rng.random() < 0.4 else key_slot)
    rows, columns = 5, int(rng.integers(10, 15))
    for row in range(rows):
        for column in range(columns):
            y0, x0 = keys.at((column + 0.1) / columns, (row + 0.1) / rows)
            y1, x1 = keys.at((column + 0.9) / columns, (row + 0.9) / rows)
            b.add_box(0, (x0, y0, t + 0.0004), (x1, y1, t + 0.0014), key_slot)
    pad = rng.uniform(0.12, 0.2) * width
    b.add_box(0, (0.64 * depth, -pad, t), (0.95 * depth, pad, t + 0.0006), body if rng.random() < 0.5 else key_slot)
    limit = np.deg2rad(rng.uniform(110, 150))
    rest = 0.0 if rng.random() < 0.35 else float(rng.uniform(0.15, 0.95)) * limit
    pivot = np.array([0.0, 0.0, t + 0.003])
    lid = b.part("lid", JointType.REVOLUTE, (0, -1, 0), pivot.tolist(), limit - rest, lower=-rest)
    edge, glass = rng.uniform(0.01, 0.06) * width, b.slot(Role.GLASS)
    screen = Rect(-width / 2 + edge, width / 2 - edge, edge, depth - edge)
    pieces: list[tuple[Mesh, int]] = [
        (slab((0.0, -width / 2, 0.0), (depth, width / 2, lid_t), "z", corner, 0.3 * lid_t), b.new_slot(Role.MOVING)),
        (box((screen.z0, screen.y0, -0.0008), (screen.z1, screen.y1, 0.0)), glass),
    ]
    if rng.random() < 0.6:
        rim = frame((0.002, -0.498 * width, -0.0012), (0.998 * depth, 0.498 * width, 0.0), "z", edge)
        pieces.append((rim, b.new_slot(Role.DETAIL)))
    if rng.random() < 0.6:
        logo = slab((0.47 * depth, -0.04 * width, lid_t), (0.53 * depth, 0.04 * width, lid_t + 0.0006), "z",
                    float(rng.choice([0.0, 0.45])) * 0.06 * depth)  # fmt: skip
        pieces.append((logo, b.slot(Role.DETAIL)))
    if rng.random() < 0.25:
        cover = slab((0.05 * depth, -0.45 * width, lid_t), (0.95 * depth, 0.45 * width, lid_t + 0.0006), "z", corner)
        pieces.append((cover, b.new_slot(Role.DETAIL)))
    for mesh, slot in pieces:
        b.add(lid, mesh.moved(spin("y", -rest), pivot), slot)
    barrel = min(0.4 * t, 0.0028)
    b.add(0, cylinder((0.0, -0.35 * width, pivot[2] - 0.001), "y", 0.7 * width, barrel, 8), b.slot(Role.DETAIL))
    b.turn(spin("z", pick(rng, [0.0, 0.0, np.pi, np.pi]) + rng.uniform(-0.9, 0.9)))


def _add_flip_screen(b: ObjectBuilder, x: Real, y: Real, z: Real, width: Real, height: Real) -> None:
    """A small screen on a top face, hinged at its back edge, anywhere between flat and upright."""
    rng, t = b.rng, 0.008
    limit = np.deg2rad(rng.uniform(75, 115))
    rest = float(rng.choice([0.0, 1.0, rng.uniform(0.2, 0.9)])) * limit
    pivot = np.array([x, y, z + 0.003])
    part = b.part("screen", JointType.REVOLUTE, (0, -1, 0), pivot.tolist(), limit - rest, lower=-rest)
    face = slab((0.0, -width / 2, 0.0), (height, width / 2, t), "z", 0.004)
    pane = box((0.1 * height, -0.44 * width, -0.0008), (0.92 * height, 0.44 * width, 0.0))
    for mesh, slot in ((face, b.new_slot(Role.MOVING)), (pane, b.slot(Role.GLASS))):
        b.add(part, mesh.moved(spin("y", -rest), pivot), slot)


@category()
def photo_printer(b: ObjectBuilder) -> None:
    """Low printer with a screen that flips up, buttons about it, and a flap or a tray in front."""
    rng = b.rng
    width, depth, height = rng.uniform(0.22, 0.42), rng.uniform(0.16, 0.3), rng.uniform(0.07, 0.14)
    body, dark, wall = b.slot(Role.BODY), b.slot(Role.DETAIL), 0.012
    mouth = Rect(-rng.uniform(0.28, 0.42) * width, 0.0, 0.1 * height, rng.uniform(0.35, 0.6) * height)
    mouth = replace(mouth, y1=-mouth.y0)
    # Built of a top, a floor and two cheeks, so that the mouth in front is hollow.
    b.add(0, slab((0, -width / 2, mouth.z1), (depth, width / 2, height), "z", 0.1 * depth, 0.25 * height), body)
    b.add_box(0, (0.05 * depth, -0.48 * width, 0), (0.98 * depth, 0.48 * width, mouth.z0), body)
    for y0, y1 in ((-0.48 * width, mouth.y0), (mouth.y1, 0.48 * width)):
        b.add_box(0, (0.05 * depth, y0, mouth.z0), (0.98 * depth, y1, mouth.z1), body)
    b.add_box(0, (0.05 * depth, mouth.y0, mouth.z0), (0.05 * depth + wall, mouth.y1, mouth.z1), b.slot(Role.INTERIOR))
    wide, tall = rng.uniform(0.2, 0.36) * width, rng.uniform(0.3, 0.45) * depth
    _add_flip_screen(b, 0.2 * depth, 0.0, height, wide, tall)
    for side in (-1, 1):
        for k in range(int(rng.integers(1, 4))):
            at = ((0.35 + 0.18 * k) * depth, side * 0.34 * width, height)
            b.add(0, cylinder(at, "z", 0.004, rng.uniform(0.02, 0.04) * width, 12), dark)
    b.add(0, cylinder((0.78 * depth, 0, height), "z", 0.004, 0.06 * width, 16), b.slot(Role.HANDLE))
    rect, slot = mouth.inset(0.0015), b.new_slot(Role.MOVING)
    if rng.random() < 0.6:
        axis, pivot = (0, 1, 0), (0.98 * depth, 0, rect.z0)
        part = b.part("flap", JointType.REVOLUTE, axis, pivot, np.deg2rad(rng.uniform(70, 95)))
        b.add_box(part, (0.98 * depth - 0.008, rect.y0, rect.z0), (0.98 * depth, rect.y1, rect.z1), slot)
    else:
        travel = rng.uniform(0.4, 0.75) * depth
        part = b.part("tray", JointType.PRISMATIC, (1, 0, 0), (depth, 0, rect.z0), travel)
        b.add_box(part, (0.12 * depth, rect.y0, rect.z0), (depth, rect.y1, rect.z0 + 0.004), slot)
        for y0, y1 in ((rect.y0, rect.y0 + 0.004), (rect.y1 - 0.004, rect.y1)):
            b.add_box(part, (0.12 * depth, y0, rect.z0 + 0.004), (depth, y1, rect.z0 + 0.5 * rect.height), slot)
        b.add_box(part, (depth, -0.2 * width, rect.z0), (depth + 0.012, 0.2 * width, rect.z0 + 0.006), slot)
    b.turn(spin("z", rng.uniform(-0.5, 0.5)))


@category()
def office_printer(b: ObjectBuilder) -> None:
    """Copier or multifunction printer: paper drawers, an output gap, a scanner with a lid, a control panel."""
    rng = b.rng
    width, depth = rng.uniform(0.38, 0.6), rng.uniform(0.36, 0.55)
    body, inside, count = b.slot(Role.BODY), b.slot(Role.INTERIOR), int(rng.integers(1, 4))
    drawer, block = rng.uniform(0.06, 0.13), rng.uniform(0.06, 0.16)
    style = sample_style(rng, ("flat", "flat", "soft"), ("recess", "lip", "none", "bar"), 0.2)
    style = replace(style, thickness=rng.uniform(0.008, 0.02))
    slots = front_slots(b, inside)
    for k in range(count):
        cell = Rect(-width / 2, width / 2, k * drawer, (k + 1) * drawer)
        hollow = add_carcass(b, cell, 0, depth, 0.012, body, inside)
        add_drawer(b, cell.inset(0.0015), hollow.inner, depth + 0.001, hollow.depth, style, slots)
    z = count * drawer
    b.add_box(0, (0, -width / 2, z), (depth, width / 2, z + block), body)
    top, face = z + block, depth + style.thickness
    if rng.random() < 0.5:
        rect = Rect(-0.46 * width, 0.46 * width, z + 0.006, z + 0.9 * block)
        axis, pivot = (0, 1, 0), (face, 0, rect.z0)
        part = b.part("door", JointType.REVOLUTE, axis, pivot, np.deg2rad(rng.uniform(70, 92)))
        b.add_box(part, (depth + 0.001, rect.y0, rect.z0), (face, rect.y1, rect.z1), slots.panel, {"-x": inside})
    gap = rng.uniform(0.05, 0.13)
    if rng.random() < 0.75:
        b.add_box(0, (0, -width / 2, top), (0.2 * depth, width / 2, top + gap), body)
        side = 0.5 - rng.uniform(0.08, 0.2)
        b.add_box(0, (0.2 * depth, side * width, top), (0.95 * depth, width / 2, top + gap), body)
        b.add_box(0, (0.25 * depth, -0.42 * width, top), (0.85 * depth, 0.26 * width, top + 0.002), inside)
        top += gap
    bed = rng.uniform(0.03, 0.07)
    b.add_box(0, (0, -width / 2, top), (depth, width / 2, top + bed), body)
    top += bed
    b.add_box(0, (0.12 * depth, -0.42 * width, top), (0.9 * depth, 0.42 * width, top + 0.001), b.slot(Role.GLASS))
    t = rng.uniform(0.015, 0.05)
    hinge, moving = (0.02 * depth, 0.0, top + 0.003), b.new_slot(Role.MOVING)
    lid = b.part("lid", JointType.REVOLUTE, (0, -1, 0), hinge, np.deg2rad(rng.uniform(50, 90)))
    low = (0.03 * depth, -0.49 * width, top + 0.003)
    b.add(lid, slab(low, (0.98 * depth, 0.49 * width, top + 0.003 + t), "z", 0.01, 0.2 * t), moving)
    if rng.random() < 0.45:
        hump = slab((0.1 * depth, -0.45 * width, top + 0.003 + t), (0.75 * depth, 0.05 * width, top + 0.06 + t), "z",
                    0.02, 0.03)  # fmt: skip
        b.add(lid, hump, moving if rng.random() < 0.6 else b.slot(Role.DETAIL))
    panel = Rect(-0.45 * width, 0.45 * width, top - 0.9 * bed, top - 0.1 * bed)
    b.add_box(0, (depth, panel.y0, panel.z0), (depth + 0.012, panel.y1, panel.z1), b.slot(Role.DETAIL))
    y0, y1 = panel.at(0.35, 0)[0], panel.at(0.65, 0)[0]
    b.add_box(
        0, (depth + 0.012, y0, panel.at(0, 0.15)[1]), (depth + 0.014, y1, panel.at(0, 0.85)[1]), b.slot(Role.GLASS)
    )
    keys = Rect(panel.at(0.72, 0)[0], panel.at(0.95, 0)[0], panel.at(0, 0.1)[1], panel.at(0, 0.9)[1])
    add_buttons(b, 0, keys, depth + 0.012, 2, 4, b.slot(Role.HANDLE))
    add_dial(b, 0, depth + 0.012, *panel.at(0.15, 0.5), 0.25 * panel.height, b.slot(Role.HANDLE))
