"""Generators of washing machines and safes."""

from dataclasses import replace

import numpy as np

from partrm.geometry.joints import JointType
from partrm.objects.materials import Role
from partrm.procedural.builder import ObjectBuilder, pick
from partrm.procedural.carcass import (
    Hinge,
    add_carcass,
    add_door,
    add_drawer,
    add_shelves,
    front_slots,
    hinge_joint,
    sample_interior,
)
from partrm.procedural.fittings import add_buttons, add_controls, add_dial, add_feet, add_wheel
from partrm.procedural.fronts import Rect, sample_style
from partrm.procedural.registry import category
from partrm.procedural.shapes import Real, annulus, cylinder, round_hole_panel, turned


@category("WashingMachine")
def washing_machine(b: ObjectBuilder) -> None:
    """Front loader with a round door over a drum, or a top loader with a lid."""
    rng = b.rng
    width, depth, height = rng.uniform(0.5, 0.75), rng.uniform(0.45, 0.75), rng.uniform(0.7, 1.05)
    body, outer = b.slot(Role.BODY), Rect(-width / 2, width / 2, 0, height)
    strip = height * rng.uniform(0.1, 0.2)
    if rng.random() < 0.25:
        return _top_loader(b, width, depth, height)
    hollow = add_carcass(b, outer, 0, depth, 0.012, body, b.slot(Role.INTERIOR))
    radius = rng.uniform(0.28, 0.42) * min(width, height - strip)
    centre = (0.0, (height - strip) * rng.uniform(0.48, 0.56))
    t = 0.02
    opening = radius * rng.uniform(0.75, 0.92)
    b.add(0, round_hole_panel((depth, outer.y0, 0), (depth + t, outer.y1, height - strip), centre, opening), body)
    b.add_box(
        0,
        (depth, outer.y0, height - strip),
        (depth + t, outer.y1, height),
        b.slot(Role.DETAIL) if rng.random() < 0.4 else body,
    )
    drum = annulus((depth - 0.7 * hollow.depth, *centre), "x", 0.7 * hollow.depth, 1.03 * opening, opening, 24)
    b.add(0, drum, b.slot(Role.INTERIOR))
    b.add(0, cylinder((depth - 0.7 * hollow.depth, *centre), "x", 0.01, opening, 24), b.slot(Role.INTERIOR))
    controls = Rect(outer.y0, outer.y1, height - strip, height).inset(0.03, 0.1 * strip)
    has_tray = rng.random() < 0.4
    add_controls(b, replace(controls, y0=controls.y0 + (0.35 * width if has_tray else 0)), depth + t)
    _round_door(b, depth + t + 0.001, centre, radius, pick(rng, ["left", "left", "right"]))
    if has_tray:
        style = sample_style(rng, ("flat",), ("lip", "recess", "none"), 0.15)
        tray = replace(controls, y1=controls.y0 + 0.3 * width)
        cavity = tray.inset(0.02, 0.015)
        add_drawer(
            b,
            tray,
            cavity,
            depth + t + 0.001,
            0.25,
            replace(style, thickness=0.015),
            front_slots(b, b.slot(Role.INTERIOR)),
        )
    add_feet(b, outer, depth, rng.uniform(0.01, 0.03))
    return None


def _round_door(b: ObjectBuilder, x: Real, centre: tuple[Real, Real], radius: Real, hinge: Hinge) -> None:
    """Porthole: ring and domed glass, hinged at one side."""
    rng = b.rng
    y, z = centre
    ring, glass = front_slots(b, b.slot(Role.INTERIOR)), b.slot(Role.GLASS)
    box = Rect(y - radius, y + radius, z - radius, z + radius)
    axis, pivot = hinge_joint(box, x, hinge)
    part = b.part("door", JointType.REVOLUTE, axis, pivot, np.deg2rad(rng.choice([100, 130, 170])))
    t, inner = radius * rng.uniform(0.1, 0.28), radius * rng.uniform(0.6, 0.82)
    b.add(part, annulus((x, y, z), "x", t, radius, inner, 28), ring.panel)
    bulge = rng.uniform(0.05, 0.5) * t
    b.add(
        part, turned([inner, inner * 0.9, inner * 0.5], [0.2 * t, 0.5 * t, 0.5 * t + bulge], "x", (x, y, z), 28), glass
    )
    if rng.random() < 0.6:
        back = [0.97 * inner, 0.75 * inner, 0.5 * inner]
        b.add(part, turned(back, [0.2 * t, -0.15 * radius, -0.3 * radius], "x", (x, y, z), 20), glass)
    side = 1 if hinge == "left" else -1
    grip = y + side * (radius + inner) / 2
    if rng.random() < 0.7:
        h, w = radius * rng.uniform(0.12, 0.3), 0.35 * (radius - inner)
        b.add_box(
            part, (x + t, grip - w, z - h), (x + t + radius * rng.uniform(0.04, 0.15), grip + w, z + h), ring.handle
        )


def _top_loader(b: ObjectBuilder, width: Real, depth: Real, height: Real) -> None:
    """Top loader: drum below a lid hinged at the back, console behind."""
    rng = b.rng
    body, interior = b.slot(Role.BODY), b.slot(Role.INTERIOR)
    console = depth * rng.uniform(0.12, 0.25)
    carcass = add_carcass(b, Rect(-width / 2, width / 2, -depth, 0), 0, height, 0.03, body, interior)
    inner = carcass.inner
    b.add_box(0, (0.05, inner.y0, -depth), (height, inner.y1, -depth + 0.03), body)
    b.add_box(0, (height - 0.05, inner.y0, -console), (height, inner.y1, inner.z1), body)
    cells = Rect(inner.y0, inner.y1, inner.z0, -console)
    radius = 0.42 * min(cells.width, cells.height)
    panel = round_hole_panel(
        (height - 0.03, cells.y0, cells.z0), (height, cells.y1, cells.z1), cells.at(0.5, 0.5), radius
    )
    b.add(0, panel, body)
    b.add(0, annulus((0.3 * height, *cells.at(0.5, 0.5)), "x", 0.67 * height, 1.02 * radius, radius), interior)
    b.add(0, cylinder((0.3 * height, *cells.at(0.5, 0.5)), "x", 0.02, radius, 24), interior)
    rise = rng.uniform(0.05, 0.2)
    b.add_box(0, (height, -width / 2, -console), (height + rise, width / 2, 0), body)
    style = sample_style(rng, ("flat", "soft", "window", "glass"), ("none", "lip", "recess", "bar"), 0.5)
    lid = Rect(-width / 2, width / 2, -depth, -console).inset(rng.uniform(0.0, 0.08) * width, 0.004)
    add_door(b, lid, height + 0.001, "top", style, front_slots(b, interior))
    b.turn(np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))


@category()
def safe(b: ObjectBuilder) -> None:
    """Safe: thick walls, a thick hinged door with a wheel or a lever, a dial or a keypad."""
    rng = b.rng
    width, depth, height = rng.uniform(0.3, 0.8), rng.uniform(0.3, 0.6), rng.uniform(0.3, 1.1)
    size, body = (width + height) / 2, b.slot(Role.BODY)
    outer = Rect(-width / 2, width / 2, 0, height)
    carcass = add_carcass(b, outer, 0, depth, size * rng.uniform(0.05, 0.14), body, sample_interior(b, body))
    style = sample_style(rng, ("flat", "flat", "soft", "raised", "framed"), ("none",), size)
    style = replace(style, thickness=size * rng.uniform(0.05, 0.15))
    inset = bool(rng.random() < 0.5)
    hinge: Hinge = pick(rng, ["left", "left", "right"])
    rect = carcass.inner.inset(0.003) if inset else carcass.inner.inset(-carcass.wall * rng.uniform(0.2, 0.95))
    x = depth - style.thickness if inset else depth + 0.001
    slots = front_slots(b, carcass.interior)
    door = add_door(b, rect, x, hinge, style, slots)
    face = x + style.thickness * (1.3 if style.panel == "raised" else 0.6 if style.panel == "framed" else 1.0)
    radius, side = 0.16 * min(rect.width, rect.height), 1 if hinge == "left" else -1
    y, z = rect.at(0.5 + side * rng.uniform(0.0, 0.2), rng.uniform(0.4, 0.6))
    kind = pick(rng, ["wheel", "lever", "dial", "keypad"])
    if kind == "wheel":
        add_wheel(b, door, face, y, z, radius * rng.uniform(0.8, 1.4), int(rng.integers(3, 6)), slots.handle)
    elif kind == "lever":
        b.add(door, cylinder((face, y, z), "x", 0.5 * radius, 0.3 * radius, 12), slots.handle)
        b.add_box(
            door,
            (face + 0.4 * radius, y - 0.12 * radius, z - radius),
            (face + 0.65 * radius, y + 0.12 * radius, z),
            slots.handle,
        )
    if kind == "dial" or rng.random() < 0.4:
        add_dial(b, door, face, rect.at(0.5, 0)[0], rect.at(0, 0.8)[1], 0.5 * radius, slots.handle)
    if kind == "keypad":
        pad = Rect(y - radius, y + radius, z - radius, z + 1.2 * radius)
        b.add_box(door, (face, pad.y0, pad.z0), (face + 0.1 * radius, pad.y1, pad.z1), b.slot(Role.DETAIL))
        add_buttons(b, door, pad.inset(0.15 * radius), face + 0.1 * radius, 4, 3, slots.handle)
    for k in range(int(rng.integers(0, 4))):
        bolt = rect.y0 if hinge == "right" else rect.y1
        b.add(
            door,
            cylinder((x + 0.5 * style.thickness, bolt, rect.at(0, 0.25 + 0.25 * k)[1]), "y", -0.02, 0.012, 8),
            slots.handle,
        )
    add_shelves(b, carcass.inner, carcass.wall, depth - style.thickness, int(rng.integers(0, 3)), carcass.interior)
    add_feet(b, outer, depth, 0.02) if rng.random() < 0.5 else None
