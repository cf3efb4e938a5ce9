"""Generators of appliances: microwave, oven, refrigerator, dishwasher, washing machine, safe, toaster oven."""

from dataclasses import replace

import numpy as np

from partrm.articulation.kinematics import JointType
from partrm.articulation.materials import Role
from partrm.articulation.procedural.builder import ObjectBuilder
from partrm.articulation.procedural.carcass import (
    Carcass,
    Hinge,
    add_base,
    add_carcass,
    add_door,
    add_drawer,
    add_shelves,
    front_slots,
    hinge_joint,
    sample_interior,
)
from partrm.articulation.procedural.fronts import (
    HandleStyle,
    Rect,
    add_buttons,
    add_dial,
    add_wheel,
    sample_style,
)
from partrm.articulation.procedural.shapes import annulus, cylinder, round_hole_panel, slab, turned

APPLIANCE_HANDLES: tuple[HandleStyle, ...] = ("bar", "bar", "bar", "arch", "arch", "lip", "recess", "strip", "none")


def _controls(b: ObjectBuilder, rect: Rect, x: float) -> None:
    """Display, buttons and dials on the face at ``x`` of a control panel."""
    rng = b.rng
    tall = rect.height > rect.width
    kind = rng.choice(["keypad", "dials", "display", "mixed", "none"], p=[0.3, 0.25, 0.15, 0.2, 0.1])
    slot, short = b.slot(Role.DETAIL), min(rect.width, rect.height)
    if kind in ("display", "keypad", "mixed"):
        (y0, z0), (y1, z1) = (rect.at(0.15, 0.78), rect.at(0.85, 0.93)) if tall else (rect.at(0.4, 0.3), rect.at(0.6, 0.75))
        b.add_box(0, (x, y0, z0), (x + 0.03 * short, y1, z1), b.slot(Role.GLASS))
    if kind == "keypad":
        (y0, z0), (y1, z1) = (rect.at(0.12, 0.2), rect.at(0.88, 0.72)) if tall else (rect.at(0.65, 0.2), rect.at(0.95, 0.8))
        add_buttons(b, 0, Rect(y0, y1, z0, z1), x, *((5, 3) if tall else (2, 4)), slot)
    if kind in ("dials", "mixed"):
        count = int(rng.integers(1, 4)) if tall else int(rng.integers(2, 6))
        for k in range(count):
            u = (k + 0.5) / count
            y, z = rect.at(0.5, 0.08 + 0.65 * u) if tall else rect.at(0.06 + 0.3 * u, 0.5)
            add_dial(b, 0, x, y, z, 0.32 * min(short, (rect.height if tall else 0.3 * rect.width) / count), slot)


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
        _controls(b, side.inset(0.08 * side.width, 0.05 * height), depth + max(reach, 0.004))
    x = depth - style.thickness if inset else depth + 0.0005
    add_door(b, door_rect, x, hinge, style, front_slots(b, carcass.interior))
    inner = carcass.inner
    if toaster:
        add_shelves(b, inner, wall, depth - 0.05, 1, b.slot(Role.HANDLE))
    elif rng.random() < 0.7:
        centre = ((wall + depth) / 2, (inner.y0 + inner.y1) / 2, wall)
        b.add(0, turned([0.1, 0.11], [0.008, 0.014], "z", centre, 20), b.slot(Role.GLASS))
    _feet(b, outer, depth, rng.uniform(0.005, 0.02))


def toaster_oven(b: ObjectBuilder) -> None:
    """Toaster oven: a microwave's shape with a drop-down door and a rack."""
    microwave(b, toaster=True)


def _feet(b: ObjectBuilder, outer: Rect, depth: float, height: float) -> None:
    for x in (0.12 * depth, 0.88 * depth):
        for u in (0.1, 0.9):
            b.add(0, cylinder((x, outer.at(u, 0)[0], outer.z0 - height), "z", height, 0.7 * height + 0.008, 8), b.slot(Role.DETAIL))


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
    style = sample_style(rng, ("window", "window", "window", "glass", "flat", "soft"), ("bar", "bar", "arch", "lip", "recess"), 0.6)
    style = replace(style, handle_length=rng.uniform(0.5, 0.95), border=rng.uniform(0.05, 0.16))
    t = style.thickness
    b.add_box(0, (0, outer.y0, main.z1), (depth, outer.y1, height), body)
    panel = b.new_slot(Role.DETAIL) if rng.random() < 0.4 else body
    b.add_box(0, (depth, outer.y0, main.z1), (depth + t, outer.y1, height), panel)
    _controls(b, Rect(outer.y0, outer.y1, main.z1, height).inset(0.03 * width, 0.15 * strip), depth + t)
    add_shelves(b, carcass.inner, carcass.wall, depth, rng.integers(0, 3), b.slot(Role.HANDLE))
    hinge: Hinge = "bottom" if rng.random() < 0.85 else rng.choice(["left", "right"])
    add_door(b, main.inset(0.004), depth + 0.001, hinge, style, front_slots(b, carcass.interior))
    if low > 0:
        box = Rect(outer.y0, outer.y1, 0, low)
        below = add_carcass(b, box, 0, depth, 0.02, body, carcass.interior)
        plain = replace(style, panel="flat", handle=rng.choice([style.handle, "none", "lip"]))
        add_drawer(b, box.inset(0.004), below.inner, depth + 0.001, below.depth, plain, front_slots(b, carcass.interior))
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


def _door_shelves(b: ObjectBuilder, part: int, rect: Rect, x: float, depth: float, count: int, slot: int) -> None:
    """Bins on the inside of a refrigerator's door."""
    inner = rect.inset(0.12 * rect.width, 0.0)
    for k in range(count):
        z = rect.z0 + (k + 0.15) / count * rect.height
        high = min(0.35 * rect.height / count, depth)
        b.add_box(part, (x - depth, inner.y0, z), (x, inner.y1, z + 0.008), slot)
        b.add_box(part, (x - depth, inner.y0, z + 0.008), (x - depth + 0.008, inner.y1, z + high), slot)


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
    style = replace(style, thickness=rng.uniform(0.035, 0.08), handle_vertical=bool(rng.random() < 0.9), handle_radius=rng.uniform(0.01, 0.02))
    share = {"top": rng.uniform(0.62, 0.75), "bottom": rng.uniform(0.28, 0.42), "french": rng.uniform(0.28, 0.42)}.get(kind, 1.0)
    z = share * height
    regions = [outer] if kind in ("single", "mini", "side") else [Rect(outer.y0, outer.y1, 0, z), Rect(outer.y0, outer.y1, z, height)]
    hinge: Hinge = rng.choice(["left", "right"])
    cells: list[tuple[Rect, Carcass, str]] = []
    interior = b.slot(Role.INTERIOR)
    for index, region in enumerate(regions):
        carcass = add_carcass(b, region, 0, depth, wall, body, interior)
        freezer = kind in ("bottom", "french") and index == 0
        double = kind == "side" or (kind == "french" and index == 1)
        kinds = ["left", "right"] if double else ["drawer" if freezer and rng.random() < 0.7 else hinge]
        y = region.at(rng.uniform(0.4, 0.55) if kind == "side" else 0.5, 0)[0]
        halves = [Rect(region.y0, y, region.z0, region.z1), Rect(y, region.y1, region.z0, region.z1)] if double else [region]
        if kind == "side":
            b.add_box(0, (wall, y - wall / 2, wall), (depth, y + wall / 2, height - wall), interior)
        add_shelves(b, carcass.inner, wall, depth * 0.85, 0 if "drawer" in kinds else rng.integers(1, 5), b.slot(Role.GLASS) if rng.random() < 0.4 else interior)
        cells += [(half, carcass, k) for half, k in zip(halves, kinds, strict=True)]
    shared = front_slots(b, interior)
    for rect, carcass, k in cells:
        slots = shared if rng.random() < 0.8 else front_slots(b, interior)
        front = rect.inset(0.004)
        if k == "drawer":
            add_drawer(b, front, carcass.inner, depth + 0.002, carcass.depth, replace(style, handle_length=0.6), slots)
        else:
            near = 0.5 if len(regions) == 1 else rng.uniform(0.3, 0.4) if rect.z0 > 0 else rng.uniform(0.6, 0.7)
            part = add_door(b, front, depth + 0.002, k, replace(style, handle_position=near), slots)
            inside = front.inset(wall, wall * 1.3)
            _door_shelves(b, part, inside, depth, min(0.12, 0.14 * depth), int(rng.integers(0, 4)), interior)
    if rng.random() < 0.3:
        rect, _, _ = cells[-1]
        y, zc = rect.at(0.5, 0.55)
        b.add_box(len(b.names) - 1, (depth + style.thickness, y - 0.08, zc - 0.1), (depth + style.thickness * 1.1 + 0.01, y + 0.08, zc + 0.12), b.slot(Role.DETAIL))
    add_base(b, replace(carcass, outer=outer), b.slot(Role.DETAIL), 0.5)


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
        b.add_box(0, (depth, outer.y0, height - strip), (depth + style.thickness, outer.y1, height), b.slot(Role.DETAIL))
        _controls(b, Rect(outer.y0, outer.y1, height - strip, height).inset(0.02, 0.1 * strip), depth + style.thickness)
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


def _rack(b: ObjectBuilder, part: int, rect: Rect, x0: float, x1: float, slot: int) -> None:
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


def _round_door(b: ObjectBuilder, x: float, centre: tuple[float, float], radius: float, hinge: Hinge) -> None:
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
    b.add(part, turned([inner, inner * 0.9, inner * 0.5], [0.2 * t, 0.5 * t, 0.5 * t + bulge], "x", (x, y, z), 28), glass)
    if rng.random() < 0.6:
        back = [0.97 * inner, 0.75 * inner, 0.5 * inner]
        b.add(part, turned(back, [0.2 * t, -0.15 * radius, -0.3 * radius], "x", (x, y, z), 20), glass)
    side = 1 if hinge == "left" else -1
    grip = y + side * (radius + inner) / 2
    if rng.random() < 0.7:
        h, w = radius * rng.uniform(0.12, 0.3), 0.35 * (radius - inner)
        b.add_box(part, (x + t, grip - w, z - h), (x + t + radius * rng.uniform(0.04, 0.15), grip + w, z + h), ring.handle)


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
    b.add_box(0, (depth, outer.y0, height - strip), (depth + t, outer.y1, height), b.slot(Role.DETAIL) if rng.random() < 0.4 else body)
    drum = annulus((depth - 0.7 * hollow.depth, *centre), "x", 0.7 * hollow.depth, 1.03 * opening, opening, 24)
    b.add(0, drum, b.slot(Role.INTERIOR))
    b.add(0, cylinder((depth - 0.7 * hollow.depth, *centre), "x", 0.01, opening, 24), b.slot(Role.INTERIOR))
    controls = Rect(outer.y0, outer.y1, height - strip, height).inset(0.03, 0.1 * strip)
    has_tray = rng.random() < 0.4
    _controls(b, replace(controls, y0=controls.y0 + (0.35 * width if has_tray else 0)), depth + t)
    _round_door(b, depth + t + 0.001, centre, radius, rng.choice(["left", "left", "right"]))
    if has_tray:
        style = sample_style(rng, ("flat",), ("lip", "recess", "none"), 0.15)
        tray = replace(controls, y1=controls.y0 + 0.3 * width)
        cavity = tray.inset(0.02, 0.015)
        add_drawer(b, tray, cavity, depth + t + 0.001, 0.25, replace(style, thickness=0.015), front_slots(b, b.slot(Role.INTERIOR)))
    _feet(b, outer, depth, rng.uniform(0.01, 0.03))
    return None


def _top_loader(b: ObjectBuilder, width: float, depth: float, height: float) -> None:
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
    panel = round_hole_panel((height - 0.03, cells.y0, cells.z0), (height, cells.y1, cells.z1), cells.at(0.5, 0.5), radius)
    b.add(0, panel, body)
    b.add(0, annulus((0.3 * height, *cells.at(0.5, 0.5)), "x", 0.67 * height, 1.02 * radius, radius), interior)
    b.add(0, cylinder((0.3 * height, *cells.at(0.5, 0.5)), "x", 0.02, radius, 24), interior)
    rise = rng.uniform(0.05, 0.2)
    b.add_box(0, (height, -width / 2, -console), (height + rise, width / 2, 0), body)
    style = sample_style(rng, ("flat", "soft", "window", "glass"), ("none", "lip", "recess", "bar"), 0.5)
    lid = Rect(-width / 2, width / 2, -depth, -console).inset(rng.uniform(0.0, 0.08) * width, 0.004)
    add_door(b, lid, height + 0.001, "top", style, front_slots(b, interior))
    b.turn(np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))


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
    hinge: Hinge = rng.choice(["left", "left", "right"])
    rect = carcass.inner.inset(0.003) if inset else carcass.inner.inset(-carcass.wall * rng.uniform(0.2, 0.95))
    x = depth - style.thickness if inset else depth + 0.001
    slots = front_slots(b, carcass.interior)
    door = add_door(b, rect, x, hinge, style, slots)
    face = x + style.thickness * (1.3 if style.panel == "raised" else 0.6 if style.panel == "framed" else 1.0)
    radius, side = 0.16 * min(rect.width, rect.height), 1 if hinge == "left" else -1
    y, z = rect.at(0.5 + side * rng.uniform(0.0, 0.2), rng.uniform(0.4, 0.6))
    kind = rng.choice(["wheel", "lever", "dial", "keypad"])
    if kind == "wheel":
        add_wheel(b, door, face, y, z, radius * rng.uniform(0.8, 1.4), int(rng.integers(3, 6)), slots.handle)
    elif kind == "lever":
        b.add(door, cylinder((face, y, z), "x", 0.5 * radius, 0.3 * radius, 12), slots.handle)
        b.add_box(door, (face + 0.4 * radius, y - 0.12 * radius, z - radius), (face + 0.65 * radius, y + 0.12 * radius, z), slots.handle)
    if kind == "dial" or rng.random() < 0.4:
        add_dial(b, door, face, rect.at(0.5, 0)[0], rect.at(0, 0.8)[1], 0.5 * radius, slots.handle)
    if kind == "keypad":
        pad = Rect(y - radius, y + radius, z - radius, z + 1.2 * radius)
        b.add_box(door, (face, pad.y0, pad.z0), (face + 0.1 * radius, pad.y1, pad.z1), b.slot(Role.DETAIL))
        add_buttons(b, door, pad.inset(0.15 * radius), face + 0.1 * radius, 4, 3, slots.handle)
    for k in range(int(rng.integers(0, 4))):
        bolt = rect.y0 if hinge == "right" else rect.y1
        b.add(door, cylinder((x + 0.5 * style.thickness, bolt, rect.at(0, 0.25 + 0.25 * k)[1]), "y", -0.02, 0.012, 8), slots.handle)
    add_shelves(b, carcass.inner, carcass.wall, depth - style.thickness, rng.integers(0, 3), carcass.interior)
    _feet(b, outer, depth, 0.02) if rng.random() < 0.5 else None

