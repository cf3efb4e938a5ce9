"""Generators of front loaders and hatches with round doors."""

from dataclasses import replace

import numpy as np

from partrm.geometry.joints import JointType
from partrm.objects.materials import Role
from partrm.procedural.builder import ObjectBuilder, pick
from partrm.procedural.carcass import Hinge, add_carcass, add_drawer, front_slots, hinge_joint
from partrm.procedural.fittings import add_controls, add_dial, add_feet
from partrm.procedural.fronts import Rect, sample_style
from partrm.procedural.registry import category
from partrm.procedural.shapes import (
    Real,
    annulus,
    box,
    cylinder,
    round_hole_panel,
    slab,
    torus,
    turned,
)


def _add_drum(b: ObjectBuilder, x: Real, centre: tuple[Real, Real], radius: Real, deep: Real) -> None:
    """A drum that opens at ``x`` towards +x: a pipe, its floor and three paddles."""
    interior, (y, z) = b.slot(Role.INTERIOR), centre
    b.add(0, annulus((x - deep, y, z), "x", deep, 1.06 * radius, radius, 28), interior)
    b.add(0, cylinder((x - deep, y, z), "x", 0.01, radius, 28), interior)
    for k in range(3):
        angle = 2 * np.pi * k / 3 + 0.4
        at = np.array([y + 0.93 * radius * np.cos(angle), z + 0.93 * radius * np.sin(angle)])
        b.add(0, cylinder((x - 0.9 * deep, *at), "x", 0.7 * deep, 0.06 * radius, 6), interior)


def _add_porthole(
    b: ObjectBuilder, x: Real, centre: tuple[Real, Real], radius: Real, opening: Real, hinge: Hinge, bowl: bool
) -> None:
    """A round door before ``x``: ring, glass or lid, with a bowl that reaches into an ``opening`` (radius, metres)."""
    rng, (y, z) = b.rng, centre
    ring, glass = front_slots(b, b.slot(Role.INTERIOR)), b.slot(Role.GLASS)
    t, inner = radius * rng.uniform(0.1, 0.26), radius * rng.uniform(0.55, 0.84)
    # Arms of the hinge put the axis before the body, so that the rim clears it.
    axis, pivot = hinge_joint(Rect(y - radius, y + radius, z - radius, z + radius), x + t, hinge)
    part = b.part("door", JointType.REVOLUTE, axis, pivot, np.deg2rad(rng.uniform(95, 160)))
    lip = rng.uniform(0.75, 1.0)
    rings = [radius, radius, radius * (0.5 + 0.5 * lip)]
    if rng.random() < 0.75:
        b.add(part, annulus((x, y, z), "x", 0.7 * t, radius, inner, 32), ring.panel)
        if rng.random() < 0.6:
            tube = (radius - inner) * rng.uniform(0.25, 0.48)
            b.add(part, torus((x + 0.7 * t, y, z), "x", (radius + inner) / 2, tube, 32, 8),
                  ring.panel if rng.random() < 0.5 else b.slot(Role.DETAIL))  # fmt: skip
        bulge = rng.uniform(0.0, 0.9) * t
        dome = turned([inner, 0.92 * inner, 0.5 * inner], [0.15 * t, 0.5 * t, 0.5 * t + bulge], "x", (x, y, z), 28)
        b.add(part, dome, glass)
    else:
        b.add(part, turned(rings, [0.0, 0.7 * t, t], "x", (x, y, z), 32), ring.panel)
        pane = glass if rng.random() < 0.6 else ring.handle
        b.add(part, cylinder((x + t, y, z), "x", 0.06 * t, 0.75 * lip * inner, 28), pane)
    if bowl:
        deep = min(rng.uniform(0.2, 0.45) * radius, 0.12)
        fit = 0.8 * min(opening, inner)
        b.add(part, turned([0.6 * fit, 0.8 * fit, fit], [-deep, -0.6 * deep, 0.15 * t], "x", (x, y, z), 24), glass)
    side = 1 if hinge == "left" else -1
    grip, high = y + side * (radius + inner) / 2, radius * rng.uniform(0.1, 0.3)
    wide, out = 0.4 * (radius - inner), radius * rng.uniform(0.04, 0.16)
    if rng.random() < 0.7:
        b.add_box(part, (x + 0.6 * t, grip - wide, z - high), (x + t + out, grip + wide, z + high), ring.handle)
    for end in (-0.3, 0.3):
        b.add(
            part,
            cylinder((x + t, y - side * 0.98 * radius, z + end * radius), "z", 0.12 * radius, 0.3 * t, 8),
            ring.handle,
        )


def _tray(b: ObjectBuilder, strip: Rect, x: Real, deep: Real, left: bool) -> Rect:
    """A detergent drawer at one end of a control strip; returns what is left of the strip."""
    wide = strip.width * b.rng.uniform(0.22, 0.4)
    rect = replace(strip, y1=strip.y0 + wide) if left else replace(strip, y0=strip.y1 - wide)
    style = sample_style(b.rng, ("flat", "soft"), ("lip", "recess", "bar", "none"), 0.15)
    style = replace(style, thickness=0.015, handle_radius=0.006, handle_depth=0.018)
    add_drawer(b, rect, rect.inset(0.008, 0.01), x, deep, style, front_slots(b, b.slot(Role.INTERIOR)))
    return replace(strip, y0=rect.y1 + 0.01) if left else replace(strip, y1=rect.y0 - 0.01)


def _front_loader(b: ObjectBuilder, outer: Rect, depth: Real, hinge: Hinge, washer: bool) -> None:
    """One machine: walls, a front with a round hole, drum, door, control strip above or below."""
    rng, body = b.rng, b.slot(Role.BODY)
    strip = outer.height * rng.uniform(0.1, 0.17)
    above = bool(rng.random() < 0.9)
    add_carcass(b, outer, 0, depth - 0.02, 0.012, body, b.slot(Role.INTERIOR))
    low, high = (outer.z0, outer.z1 - strip) if above else (outer.z0 + strip, outer.z1)
    radius = rng.uniform(0.28, 0.44) * min(outer.width, high - low)
    centre = (outer.at(0.5, 0)[0], low + (high - low) * rng.uniform(0.48, 0.55))
    opening = radius * rng.uniform(0.72, 0.9)
    b.add(0, round_hole_panel((depth - 0.02, outer.y0, low), (depth, outer.y1, high), centre, opening), body)
    panel = Rect(outer.y0, outer.y1, high, outer.z1) if above else Rect(outer.y0, outer.y1, outer.z0, low)
    face = b.slot(Role.DETAIL) if rng.random() < 0.5 else body
    rim, inner = 0.008, panel.inset(0.02, 0.12 * strip)
    tray = washer and rng.random() < 0.75
    controls = inner
    if tray:
        left = bool(rng.random() < 0.75)
        controls = _tray(b, inner, depth + 0.001, 0.6 * depth * rng.uniform(0.5, 0.8), left)
        wide = Rect(controls.y0 - 0.01, panel.y1, panel.z0, panel.z1)
        wide = wide if left else Rect(panel.y0, controls.y1 + 0.01, panel.z0, panel.z1)
        b.add(0, box((depth - 0.02, wide.y0, wide.z0), (depth, wide.y1, wide.z1)), face)
        slit = Rect(panel.y0, wide.y0, panel.z0, panel.z1) if left else Rect(wide.y1, panel.y1, panel.z0, panel.z1)
        for z0, z1 in ((slit.z0, slit.z0 + rim), (slit.z1 - rim, slit.z1)):
            b.add_box(0, (depth - 0.02, slit.y0, z0), (depth, slit.y1, z1), face)
    else:
        b.add_box(0, (depth - 0.02, panel.y0, panel.z0), (depth, panel.y1, panel.z1), face)
    add_controls(b, controls, depth)
    if rng.random() < 0.5:
        add_dial(b, 0, depth, *controls.at(0.5, 0.5), 0.32 * min(controls.height, controls.width), b.slot(Role.HANDLE))
    _add_drum(b, depth - 0.02, centre, 1.02 * opening, depth * rng.uniform(0.5, 0.8))
    if rng.random() < 0.5:
        b.add(0, annulus((depth, *centre), "x", 0.004, 1.1 * opening, opening, 28), b.slot(Role.DETAIL))
    _add_porthole(b, depth + 0.006, centre, radius, opening, hinge, bowl=bool(rng.random() < 0.75))


@category()
def round_washer(b: ObjectBuilder) -> None:
    """Front loader or dryer with a round door and, as a rule, a detergent drawer; some are stacked or side by side."""
    rng = b.rng
    width, depth, height = rng.uniform(0.5, 0.72), rng.uniform(0.42, 0.75), rng.uniform(0.65, 1.0)
    first = Rect(-width / 2, width / 2, 0, height)
    hinge: Hinge = pick(rng, ["left", "left", "right"])
    arrangement = pick(rng, ["one", "one", "one", "stacked", "beside"])
    _front_loader(b, first, depth, hinge, washer=bool(rng.random() < 0.8))
    if arrangement == "stacked":
        second = Rect(-width / 2, width / 2, height + 0.01, height * 2 + 0.01)
        _front_loader(b, second, depth, hinge, washer=False)
    elif arrangement == "beside":
        second = Rect(width / 2 + 0.02, 1.5 * width + 0.02, 0, height)
        _front_loader(b, second, depth, pick(rng, ["left", "right"]), washer=False)
    if rng.random() < 0.6:
        add_feet(b, first, depth, rng.uniform(0.01, 0.04))


@category()
def hatch(b: ObjectBuilder) -> None:
    """Round door in a wall, a plate or a drum: portholes, hatches of boilers, vaults, pet doors."""
    rng = b.rng
    radius = rng.uniform(0.12, 0.35)
    centre, body = (0.0, radius * rng.uniform(1.2, 2.0)), b.slot(Role.BODY)
    opening = radius * rng.uniform(0.75, 0.92)
    thick = rng.uniform(0.02, 0.1)
    kind = pick(rng, ["plate", "plate", "box", "pipe"])
    if kind == "pipe":
        deep = radius * rng.uniform(0.5, 3.0)
        b.add(0, annulus((-deep, *centre), "x", deep, rng.uniform(1.0, 1.15) * radius, opening, 32), body)
        b.add(0, cylinder((-deep, *centre), "x", 0.02, opening, 32), b.slot(Role.INTERIOR))
    else:
        half = radius * rng.uniform(1.15, 2.0)
        low, high = (-thick, -half, centre[1] - radius * 1.15), (0.0, half, centre[1] + radius * rng.uniform(1.15, 2.0))
        b.add(0, round_hole_panel(low, high, centre, opening), body)
        if kind == "box":
            deep = thick + half * rng.uniform(0.5, 1.5)
            add_carcass(b, Rect(low[1], high[1], low[2], high[2]), -deep, -thick, 0.02, body, b.slot(Role.INTERIOR))
    if rng.random() < 0.6:
        b.add(0, annulus((0.0, *centre), "x", 0.004, 1.04 * opening, opening, 32), b.slot(Role.DETAIL))
    hinge: Hinge = pick(rng, ["left", "left", "right", "right", "top", "bottom"])
    if hinge in ("left", "right"):
        _add_porthole(b, 0.006, centre, radius, opening, hinge, bowl=bool(rng.random() < 0.3))
    else:
        _add_lid(b, centre, radius, hinge)


def _add_lid(b: ObjectBuilder, centre: tuple[Real, Real], radius: Real, hinge: Hinge) -> None:
    """A plain round lid with a wheel or a grip, hinged above or below."""
    rng, (y, z), x = b.rng, centre, 0.006
    slots, t = front_slots(b, b.slot(Role.INTERIOR)), radius * rng.uniform(0.08, 0.25)
    axis, pivot = hinge_joint(Rect(y - radius, y + radius, z - radius, z + radius), x + t, hinge)
    part = b.part("door", JointType.REVOLUTE, axis, pivot, np.deg2rad(rng.uniform(75, 110)))
    b.add(part, turned([radius, radius, 0.9 * radius], [0.0, 0.7 * t, t], "x", (x, y, z), 32), slots.panel)
    if rng.random() < 0.5:
        b.add(part, torus((x + 1.8 * t, y, z), "x", 0.4 * radius, 0.05 * radius, 24, 6), slots.handle)
        b.add(part, cylinder((x + t, y, z), "x", 0.9 * t, 0.08 * radius, 10), slots.handle)
        low, high = (
            (x + 1.7 * t, y - 0.4 * radius, z - 0.03 * radius),
            (x + 1.9 * t, y + 0.4 * radius, z + 0.03 * radius),
        )
        b.add_box(part, low, high, slots.handle)
    else:
        free = z + (-1 if hinge == "top" else 1) * 0.65 * radius
        low, high = (x + t, y - 0.3 * radius, free - 0.06 * radius), (x + 2 * t, y + 0.3 * radius, free + 0.06 * radius)
        b.add(part, slab(low, high, "x", 0.0), slots.handle)
