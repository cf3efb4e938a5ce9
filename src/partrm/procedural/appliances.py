"""Generators of kitchen appliances: microwave, toaster oven, oven, refrigerator, dishwasher."""

from dataclasses import replace
from typing import Literal

import numpy as np

from partrm.geometry.joints import JointType
from partrm.objects.materials import Role
from partrm.procedural.builder import ObjectBuilder, pick
from partrm.procedural.carcass import (
    Carcass,
    Hinge,
    add_base,
    add_carcass,
    add_door,
    add_drawer,
    add_shelves,
    front_slots,
    sample_interior,
)
from partrm.procedural.fittings import add_controls, add_feet
from partrm.procedural.fronts import HandleStyle, Rect, sample_style
from partrm.procedural.registry import category
from partrm.procedural.shapes import Real, annulus, turned

APPLIANCE_HANDLES: tuple[HandleStyle, ...] = ("bar", "bar", "bar", "arch", "arch", "lip", "recess", "strip", "none")


@category("Microwave")
def microwave(b: ObjectBuilder, toaster: bool = False) -> None:
    """Microwave or toaster oven: glass door beside (or below) a control panel."""
    rng = b.rng
    width, depth, height = rng.uniform(0.4, 0.65), rng.uniform(0.28, 0.5), rng.uniform(0.22, 0.42)
    body = b.slot(Role.BODY)
    wall = rng.uniform(0.012, 0.04)
    outer = Rect(-width / 2, width / 2, 0, height)
    panel_width = width * rng.choice([rng.uniform(0.14, 0.3), 0.0], p=[0.85, 0.15])
    left_panel = rng.random() < 0.2
    oven = Rect(outer.y0 + (panel_width if left_panel else 0), outer.y1 - (0 if left_panel else panel_width), 0, height)
    carcass = add_carcass(b, oven, 0, depth, wall, body, sample_interior(b, body))
    style = sample_style(rng, ("window", "window", "glass", "window", "flat"), APPLIANCE_HANDLES, 0.4)
    style = replace(style, handle_position=0.5, handle_length=rng.uniform(0.5, 0.95), border=rng.uniform(0.02, 0.09))
    hinge: Hinge = "bottom" if toaster or rng.random() < 0.08 else ("right" if left_panel else "left")
    if toaster and rng.random() < 0.2:
        hinge = "left"
    inset = bool(rng.random() < 0.35)
    reach = 0.0 if inset else style.thickness
    door_rect = carcass.inner.inset(0.002) if inset else oven.inset(0.001)
    if panel_width > 0:
        side = Rect(outer.y0, oven.y0, 0, height) if left_panel else Rect(oven.y1, outer.y1, 0, height)
        slot = b.new_slot(Role.DETAIL) if rng.random() < 0.4 else body
        b.add_box(0, (0, side.y0, 0), (depth, side.y1, height), body)
        b.add_box(0, (depth, side.y0, 0), (depth + max(reach, 0.004), side.y1, height), slot)
        add_controls(b, side.inset(0.08 * side.width, 0.05 * height), depth + max(reach, 0.004))
    x = depth - style.thickness if inset else depth + 0.0005
    add_door(b, door_rect, x, hinge, style, front_slots(b, carcass.interior))
    inner = carcass.inner
    if toaster:
        add_shelves(b, inner, wall, depth - 0.05, 1, b.slot(Role.HANDLE))
    elif rng.random() < 0.7:
        centre = ((wall + depth) / 2, (inner.y0 + inner.y1) / 2, wall)
        b.add(0, turned([0.1, 0.11], [0.008, 0.014], "z", centre, 20), b.slot(Role.GLASS))
    add_feet(b, outer, depth, rng.uniform(0.005, 0.02))


@category("Oven", turn=2)
def toaster_oven(b: ObjectBuilder) -> None:
    """Toaster oven: a microwave's shape with a drop-down door and a rack."""
    microwave(b, toaster=True)


@category("Oven")
def oven(b: ObjectBuilder) -> None:
    """Oven or range: drop-down glass door, controls above, maybe a drawer below and burners on top."""
    rng = b.rng
    width, depth, height = rng.uniform(0.5, 0.95), rng.uniform(0.5, 0.75), rng.uniform(0.5, 1.0)
    body, size = b.slot(Role.BODY), width
    strip = height * rng.uniform(0.08, 0.2)
    low = height * rng.choice([0.0, rng.uniform(0.15, 0.28)])
    outer = Rect(-width / 2, width / 2, 0, height)
    main = Rect(outer.y0, outer.y1, low, height - strip)
    carcass = add_carcass(b, main, 0, depth, rng.uniform(0.03, 0.08), body, sample_interior(b, body))
    style = sample_style(
        rng, ("window", "window", "window", "glass", "flat", "soft"), ("bar", "bar", "arch", "lip", "recess"), 0.6
    )
    style = replace(style, handle_length=rng.uniform(0.5, 0.95), border=rng.uniform(0.05, 0.16))
    t = style.thickness
    b.add_box(0, (0, outer.y0, main.z1), (depth, outer.y1, height), body)
    panel = b.new_slot(Role.DETAIL) if rng.random() < 0.4 else body
    b.add_box(0, (depth, outer.y0, main.z1), (depth + t, outer.y1, height), panel)
    add_controls(b, Rect(outer.y0, outer.y1, main.z1, height).inset(0.03 * width, 0.15 * strip), depth + t)
    add_shelves(b, carcass.inner, carcass.wall, depth, int(rng.integers(0, 3)), b.slot(Role.HANDLE))
    hinge: Hinge = "bottom" if rng.random() < 0.85 else pick(rng, ["left", "right"])
    add_door(b, main.inset(0.004), depth + 0.001, hinge, style, front_slots(b, carcass.interior))
    if low > 0:
        box = Rect(outer.y0, outer.y1, 0, low)
        below = add_carcass(b, box, 0, depth, 0.02, body, carcass.interior)
        plain = replace(style, panel="flat", handle=rng.choice([style.handle, "none", "lip"]))
        add_drawer(
            b, box.inset(0.004), below.inner, depth + 0.001, below.depth, plain, front_slots(b, carcass.interior)
        )
    if rng.random() < 0.6:
        top = b.slot(Role.DETAIL)
        b.add_box(0, (0, outer.y0, height), (depth + t, outer.y1, height + 0.012), top if rng.random() < 0.6 else body)
        for x in (0.28, 0.72):
            for u in (0.27, 0.73):
                centre = (x * depth, outer.at(u, 0)[0], height + 0.012)
                b.add(0, annulus(centre, "z", 0.01, 0.16 * size, 0.11 * size, 18), b.slot(Role.HANDLE))
        if rng.random() < 0.3:
            b.add_box(0, (0, outer.y0, height), (0.06, outer.y1, height + 0.15 * size), body)
    add_base(b, replace(carcass, outer=outer), b.slot(Role.DETAIL), 0.5)


@category("Refrigerator")
def refrigerator(b: ObjectBuilder) -> None:
    """Refrigerator: single, top or bottom freezer (door or drawer), French doors, side by side, minibar."""
    rng = b.rng
    kind = rng.choice(["single", "top", "bottom", "french", "side", "mini"], p=[0.15, 0.25, 0.2, 0.15, 0.15, 0.1])
    width = rng.uniform(0.7, 1.0) if kind in ("french", "side") else rng.uniform(0.5, 0.8)
    height = rng.uniform(0.5, 0.95) if kind == "mini" else rng.uniform(1.3, 1.95)
    depth, wall = rng.uniform(0.5, 0.75), rng.uniform(0.03, 0.07)
    outer = Rect(-width / 2, width / 2, 0, height)
    body = b.slot(Role.BODY)
    style = sample_style(rng, ("flat", "flat", "soft", "bowed", "flat", "glass"), APPLIANCE_HANDLES, 1.0)
    style = replace(
        style,
        thickness=rng.uniform(0.035, 0.08),
        handle_vertical=bool(rng.random() < 0.9),
        handle_radius=rng.uniform(0.01, 0.02),
    )
    shares = {"top": rng.uniform(0.62, 0.75), "bottom": rng.uniform(0.28, 0.42), "french": rng.uniform(0.28, 0.42)}
    z = shares.get(kind, 1.0) * height
    lower, upper = Rect(outer.y0, outer.y1, 0, z), Rect(outer.y0, outer.y1, z, height)
    regions = [outer] if kind in ("single", "mini", "side") else [lower, upper]
    hinge: Hinge = pick(rng, ("left", "right"))
    interior = b.slot(Role.INTERIOR)
    cells = [
        cell
        for index, region in enumerate(regions)
        for cell in _compartment(b, region, kind, index, hinge, add_carcass(b, region, 0, depth, wall, body, interior))
    ]
    shared = front_slots(b, interior)
    for rect, carcass, opens in cells:
        slots = shared if rng.random() < 0.8 else front_slots(b, interior)
        front = rect.inset(0.004)
        if opens == "drawer":
            add_drawer(b, front, carcass.inner, depth + 0.002, carcass.depth, replace(style, handle_length=0.6), slots)
        else:
            near = 0.5 if len(regions) == 1 else rng.uniform(0.3, 0.4) if rect.z0 > 0 else rng.uniform(0.6, 0.7)
            part = add_door(b, front, depth + 0.002, opens, replace(style, handle_position=near), slots)
            inside = front.inset(wall, wall * 1.3)
            _door_shelves(b, part, inside, depth, min(0.12, 0.14 * depth), int(rng.integers(0, 4)), interior)
    rect, carcass, _ = cells[-1]
    if rng.random() < 0.3:
        y, zc = rect.at(0.5, 0.55)
        low = (depth + style.thickness, y - 0.08, zc - 0.1)
        high = (depth + style.thickness * 1.1 + 0.01, y + 0.08, zc + 0.12)
        b.add_box(len(b.names) - 1, low, high, b.slot(Role.DETAIL))
    add_base(b, replace(carcass, outer=outer), b.slot(Role.DETAIL), 0.5)


def _compartment(
    b: ObjectBuilder, region: Rect, kind: str, index: int, hinge: Hinge, carcass: Carcass
) -> list[tuple[Rect, Carcass, Hinge | Literal["drawer"]]]:
    """Shelves of one compartment of a refrigerator (0 is the lower one), and its one or two fronts."""
    rng = b.rng
    freezer = kind in ("bottom", "french") and index == 0
    double = kind == "side" or (kind == "french" and index == 1)
    wall, interior = carcass.wall, carcass.interior
    drawer = not double and freezer and rng.random() < 0.7
    y = region.at(rng.uniform(0.4, 0.55) if kind == "side" else 0.5, 0)[0]
    if kind == "side":
        b.add_box(0, (wall, y - wall / 2, wall), (carcass.front, y + wall / 2, region.z1 - wall), interior)
    count = 0 if drawer else int(rng.integers(1, 5))
    slot = b.slot(Role.GLASS) if rng.random() < 0.4 else interior
    add_shelves(b, carcass.inner, wall, carcass.front * 0.85, count, slot)
    if double:
        left, right = Rect(region.y0, y, region.z0, region.z1), Rect(y, region.y1, region.z0, region.z1)
        return [(left, carcass, "left"), (right, carcass, "right")]
    return [(region, carcass, "drawer" if drawer else hinge)]


def _door_shelves(b: ObjectBuilder, part: int, rect: Rect, x: Real, depth: Real, count: int, slot: int) -> None:
    """Bins on the inside of a refrigerator's door."""
    inner = rect.inset(0.12 * rect.width, 0.0)
    for k in range(count):
        z = rect.z0 + (k + 0.15) / count * rect.height
        high = min(0.35 * rect.height / count, depth)
        b.add_box(part, (x - depth, inner.y0, z), (x, inner.y1, z + 0.008), slot)
        b.add_box(part, (x - depth, inner.y0, z + 0.008), (x - depth + 0.008, inner.y1, z + high), slot)


@category("Dishwasher")
def dishwasher(b: ObjectBuilder) -> None:
    """Dishwasher: a drop-down door over a lined tub with two racks that pull out."""
    rng = b.rng
    width, depth, height = rng.uniform(0.45, 0.7), rng.uniform(0.5, 0.7), rng.uniform(0.6, 0.95)
    body, wall = b.slot(Role.BODY), rng.uniform(0.02, 0.04)
    outer = Rect(-width / 2, width / 2, 0, height)
    carcass = add_carcass(b, outer, 0, depth, wall, body, b.slot(Role.INTERIOR))
    style = sample_style(rng, ("flat", "flat", "soft", "raised", "framed"), APPLIANCE_HANDLES, 0.6)
    style = replace(style, handle_length=rng.uniform(0.4, 0.95))
    strip = rng.choice([0.0, rng.uniform(0.08, 0.16)]) * height
    if strip > 0:
        b.add_box(
            0, (depth, outer.y0, height - strip), (depth + style.thickness, outer.y1, height), b.slot(Role.DETAIL)
        )
        add_controls(
            b, Rect(outer.y0, outer.y1, height - strip, height).inset(0.02, 0.1 * strip), depth + style.thickness
        )
    toe = rng.choice([0.0, rng.uniform(0.05, 0.12)]) * height
    front = Rect(outer.y0, outer.y1, toe, height - strip).inset(0.003)
    door = add_door(b, front, depth + 0.001, "bottom", style, front_slots(b, carcass.interior))
    if strip == 0 and rng.random() < 0.5:
        x = depth + style.thickness + 0.001
        display = Rect(*front.at(0.35, 0)[:1], front.at(0.65, 0)[0], front.at(0, 0.93)[1], front.at(0, 0.97)[1])
        b.add_box(door, (x, display.y0, display.z0), (x + 0.003, display.y1, display.z1), b.slot(Role.GLASS))
    inner = carcass.inner
    for k, z in enumerate(np.linspace(inner.z0, inner.z1, 3)[:2]):
        rack = inner.inset(0.02, 0.0)
        z0, z1 = z + 0.06 * height, z + 0.06 * height + rng.uniform(0.1, 0.2) * height
        part = b.part(f"rack_{k}", JointType.PRISMATIC, (1, 0, 0), (0, 0, z), 0.6 * depth)
        _rack(b, part, Rect(rack.y0, rack.y1, z0, z1), wall + 0.02, depth - 0.03, b.slot(Role.HANDLE))


def _rack(b: ObjectBuilder, part: int, rect: Rect, x0: Real, x1: Real, slot: int) -> None:
    """An open basket of bars."""
    w = 0.006
    for y in np.linspace(rect.y0, rect.y1 - w, 7):
        b.add_box(part, (x0, y, rect.z0), (x1, y + w, rect.z0 + w), slot)
    for x in (x0, x1 - w):
        b.add_box(part, (x, rect.y0, rect.z1 - w), (x + w, rect.y1, rect.z1), slot)
        for y in np.linspace(rect.y0, rect.y1 - w, 7):
            b.add_box(part, (x, y, rect.z0), (x + w, y + w, rect.z1), slot)
    for y in (rect.y0, rect.y1 - w):
        b.add_box(part, (x0, y, rect.z1 - w), (x1, y + w, rect.z1), slot)
