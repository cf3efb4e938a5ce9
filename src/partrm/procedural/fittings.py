"""Small things on objects: dials, keypads, hand wheels, control panels, feet."""

import numpy as np

from partrm.objects.materials import Role
from partrm.procedural.builder import ObjectBuilder
from partrm.procedural.fronts import Rect
from partrm.procedural.shapes import Real, annulus, circle, cylinder, sweep, torus, turned


def add_dial(b: ObjectBuilder, part: int, x: Real, y: Real, z: Real, radius: Real, slot: int) -> None:
    """A dial facing +x with a pointer."""
    b.add(part, turned([radius, radius, 0.85 * radius], [0.0, 0.5 * radius, 0.7 * radius], "x", (x, y, z), 14), slot)
    pointer = (x + 0.7 * radius, y - 0.12 * radius, z), (x + 0.85 * radius, y + 0.12 * radius, z + 0.85 * radius)
    b.add_box(part, *pointer, b.slot(Role.DETAIL))


def add_buttons(b: ObjectBuilder, part: int, rect: Rect, x: Real, rows: int, columns: int, slot: int) -> None:
    """A keypad: rows x columns of small boxes facing +x."""
    depth = 0.06 * min(rect.width / columns, rect.height / rows)
    for row in range(rows):
        for column in range(columns):
            y0, z0 = rect.at((column + 0.18) / columns, (row + 0.18) / rows)
            y1, z1 = rect.at((column + 0.82) / columns, (row + 0.82) / rows)
            b.add_box(part, (x, y0, z0), (x + depth, y1, z1), slot)


def add_wheel(b: ObjectBuilder, part: int, x: Real, y: Real, z: Real, radius: Real, spokes: int, slot: int) -> None:
    """A hand wheel facing +x: hub, spokes and, with four spokes or more, a rim."""
    depth = 0.5 * radius
    b.add(part, cylinder((x, y, z), "x", depth, 0.22 * radius, 12), slot)
    for angle in np.arange(spokes) * (2 * np.pi / spokes) + 0.3:
        tip = np.array([0.0, np.cos(angle), np.sin(angle)]) * radius
        path = np.array([[x + 0.8 * depth, y, z], [x + 0.8 * depth, y + tip[1], z + tip[2]]])
        b.add(part, sweep(path, circle(6, 0.08 * radius), [1.0, 0.0, 0.0]), slot)
    if spokes != 3:
        b.add(part, torus((x + 0.8 * depth, y, z), "x", radius, 0.1 * radius), slot)
    else:
        b.add(part, annulus((x, y, z), "x", 0.1 * depth, 0.5 * radius, 0.3 * radius, 16), slot)


def add_controls(b: ObjectBuilder, rect: Rect, x: Real) -> None:
    """Display, buttons and dials on the face at ``x`` of a control panel."""
    rng = b.rng
    tall = rect.height > rect.width
    kind = rng.choice(["keypad", "dials", "display", "mixed", "none"], p=[0.3, 0.25, 0.15, 0.2, 0.1])
    slot, short = b.slot(Role.DETAIL), min(rect.width, rect.height)
    if kind in ("display", "keypad", "mixed"):
        (y0, z0), (y1, z1) = (
            (rect.at(0.15, 0.78), rect.at(0.85, 0.93)) if tall else (rect.at(0.4, 0.3), rect.at(0.6, 0.75))
        )
        b.add_box(0, (x, y0, z0), (x + 0.03 * short, y1, z1), b.slot(Role.GLASS))
    if kind == "keypad":
        (y0, z0), (y1, z1) = (
            (rect.at(0.12, 0.2), rect.at(0.88, 0.72)) if tall else (rect.at(0.65, 0.2), rect.at(0.95, 0.8))
        )
        add_buttons(b, 0, Rect(y0, y1, z0, z1), x, *((5, 3) if tall else (2, 4)), slot)
    if kind in ("dials", "mixed"):
        count = int(rng.integers(1, 4)) if tall else int(rng.integers(2, 6))
        for k in range(count):
            u = (k + 0.5) / count
            y, z = rect.at(0.5, 0.08 + 0.65 * u) if tall else rect.at(0.06 + 0.3 * u, 0.5)
            add_dial(b, 0, x, y, z, 0.32 * min(short, (rect.height if tall else 0.3 * rect.width) / count), slot)


def add_feet(b: ObjectBuilder, outer: Rect, depth: Real, height: Real) -> None:
    """Four round feet below the rectangle ``outer`` of a body of ``depth``."""
    for x in (0.12 * depth, 0.88 * depth):
        for u in (0.1, 0.9):
            b.add(
                0,
                cylinder((x, outer.at(u, 0)[0], outer.z0 - height), "z", height, 0.7 * height + 0.008, 8),
                b.slot(Role.DETAIL),
            )
