"""Generators of smaller things: laptop, lidded boxes, bins, pots, switches, levers, faucets, suitcases, folders."""

import numpy as np

from partrm.articulation.kinematics import JointType
from partrm.articulation.materials import Role
from partrm.articulation.procedural.builder import ObjectBuilder
from partrm.articulation.procedural.fronts import Rect
from partrm.articulation.procedural.shapes import (
    annulus,
    box,
    circle,
    cup,
    cylinder,
    frame,
    loft,
    rounded_rectangle,
    slab,
    stand,
    sweep,
    torus,
    turned,
)


def _tilt(angle: float) -> np.ndarray:
    """Rotation about +y: positive turns +z towards +x."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def laptop(b: ObjectBuilder) -> None:
    """Laptop whose rest is anywhere between nearly closed and wide open; the lid turns both ways from there."""
    rng = b.rng
    width, depth = rng.uniform(0.26, 0.42), rng.uniform(0.18, 0.3)
    base_t, lid_t = rng.uniform(0.008, 0.03), rng.uniform(0.005, 0.016)
    if rng.random() < 0.25:
        base_t, lid_t = rng.uniform(0.02, 0.05), rng.uniform(0.01, 0.035)
    radius = rng.choice([0.0, rng.uniform(0.004, 0.02)])
    body, lid_slot = b.slot(Role.BODY), b.new_slot(Role.MOVING)
    b.add(0, slab((0, -width / 2, 0), (depth, width / 2, base_t), "z", radius, 0.1 * base_t), body)
    keys, detail = b.slot(Role.DETAIL), b.slot(Role.DETAIL)
    x0, x1, y0, y1 = 0.12 * depth, 0.58 * depth, -0.45 * width, 0.45 * width
    if rng.random() < 0.5:
        b.add_box(0, (x0, y0, base_t), (x1, y1, base_t + 0.0006), b.new_slot(Role.DETAIL))
    rows, columns = int(rng.integers(4, 6)), int(rng.integers(10, 14))
    for row in range(rows):
        for column in range(columns):
            u, v = x0 + (row + 0.1) / rows * (x1 - x0), y0 + (column + 0.1) / columns * (y1 - y0)
            size = 0.8 * (x1 - x0) / rows, 0.8 * (y1 - y0) / columns
            b.add_box(0, (u, v, base_t), (u + size[0], v + size[1], base_t + 0.0016), keys)
    pad = rng.uniform(0.12, 0.22) * width
    b.add_box(0, (0.66 * depth, -pad, base_t), (0.94 * depth, pad, base_t + 0.0008), detail if rng.random() < 0.5 else body)
    rest = np.deg2rad(rng.uniform(3, 130)) if rng.random() < 0.6 else 0.0
    limit = np.deg2rad(rng.uniform(105, 150))
    hinge_z = base_t + 0.003
    lid = b.part("lid", JointType.REVOLUTE, (0, -1, 0), (0.004, 0, hinge_z), limit - rest, lower=-rest)
    screen = Rect(-width / 2, width / 2, 0.004, depth)
    pieces = [
        (slab((0.0, screen.y0, 0.0), (depth, screen.y1, lid_t), "z", radius, 0.2 * lid_t), lid_slot),
        (box((0.05 * depth, 0.96 * screen.y0, -0.0008), (0.97 * depth, 0.96 * screen.y1, 0.0)), b.slot(Role.GLASS)),
    ]
    if rng.random() < 0.5:
        bezel = frame((0.005, screen.y0, -0.0012), (depth, screen.y1, 0.0), "z", 0.035 * width)
        pieces.append((bezel, b.new_slot(Role.DETAIL)))
    if rng.random() < 0.5:
        logo = cylinder((0.5 * depth, 0, lid_t), "z", 0.0008, 0.05 * width, 12)
        pieces.append((logo, b.slot(Role.DETAIL)))
    for mesh, slot in pieces:
        turned_lid = mesh.moved(_tilt(-rest), np.array([0.004, 0.0, hinge_z]))
        b.add(lid, turned_lid, slot)
    hinge = cylinder((0.002, -0.3 * width, hinge_z - 0.001), "y", 0.6 * width, 0.4 * base_t + 0.002, 8)
    b.add(0, hinge, b.slot(Role.DETAIL) if rng.random() < 0.5 else body)


def _outline(rng: np.random.Generator, width: float, depth: float) -> np.ndarray:
    """A rounded rectangle or an ellipse of about these sizes."""
    if rng.random() < 0.45:
        return circle(20) * (depth / 2, width / 2)
    return rounded_rectangle(depth, width, min(width, depth) * rng.choice([0.02, 0.1, rng.uniform(0, 0.4)]), 3)


def lidded_box(b: ObjectBuilder) -> None:
    """Box or tin with a lid hinged at the back, flat, capped or with a rim that hangs over."""
    rng = b.rng
    width, depth, height = rng.uniform(0.1, 0.5), rng.uniform(0.1, 0.4), rng.uniform(0.05, 0.4)
    wall = rng.uniform(0.02, 0.08) * min(width, depth)
    outline = _outline(rng, width, depth)
    body, moving = b.slot(Role.BODY), b.new_slot(Role.MOVING)
    taper = rng.choice([1.0, rng.uniform(0.75, 1.1)])
    b.add(0, cup([outline * taper, outline], [0.0, height], wall, wall), body)
    kind = rng.choice(["flat", "cap", "dome", "loose"])
    reach = outline * (1 + 2 * wall / min(width, depth) * rng.choice([0.0, 1.0]))
    loose = kind == "loose"
    back = float(reach[:, 0].min())
    opening = np.deg2rad(rng.uniform(70, 160))
    if loose:
        lid = b.part("lid", JointType.PRISMATIC, (0, 0, 1), (0, 0, height), rng.uniform(0.4, 1.2) * max(height, 0.5 * width))
    else:
        lid = b.part("lid", JointType.REVOLUTE, (0, -1, 0), (back, 0, height), opening)
    t = rng.uniform(0.02, 0.2) * min(height + 0.1, width)
    gap = 0.01 * wall
    if kind == "dome":
        scale = [1.0, 0.97, 0.85, 0.6]
        b.add(lid, loft(stand([reach * s for s in scale], [height + gap + t * h for h in (0, 0.5, 1.0, 1.3)], "z")), moving)
    elif kind == "cap":
        skirt = rng.uniform(0.1, 0.4) * height
        hull = outline * (1 + 3 * wall / min(width, depth))
        inner = outline * (1 + 0.4 * wall / min(width, depth))
        top = height + gap
        rings = [hull, hull, inner, inner]
        b.add(lid, loft(stand(rings, [top - skirt, top, top, top - skirt], "z"), closed=True), moving)
        b.add(lid, loft(stand([hull, hull * 0.98], [top, top + 0.3 * t + wall], "z")), moving)
    else:
        b.add(lid, loft(stand([reach, reach, reach * 0.98], [height + gap, height + 0.8 * t, height + t], "z")), moving)
    top = height + (1.3 * t if kind == "dome" else 0.3 * t + wall if kind == "cap" else t)
    slot = b.slot(Role.HANDLE) if rng.random() < 0.7 else moving
    grip = rng.uniform(0.05, 0.12) * min(width, depth)
    handle = rng.choice(["knob", "tab", "arch", "none"]) if not loose else rng.choice(["knob", "arch"])
    if handle == "knob":
        b.add(lid, turned([0.6 * grip, grip, 0.8 * grip], [-0.02, grip, 1.5 * grip], "z", (0, 0, top), 12), slot)
    elif handle == "tab":
        x = float(reach[:, 0].max())
        b.add_box(lid, (x - 0.2 * grip, -grip, height + gap), (x + 0.6 * grip, grip, height + gap + 0.4 * t), slot)
    elif handle == "arch":
        angle = np.linspace(np.pi, 0, 11)
        path = np.stack([np.zeros(11), 3 * grip * np.cos(angle), top - 0.1 * grip + 2 * grip * np.sin(angle)], -1)
        b.add(lid, sweep(path, circle(6, 0.3 * grip), [1.0, 0.0, 0.0]), slot)


def trash_can(b: ObjectBuilder) -> None:
    """Bin: tapered shell with a lid hinged at the back, a swing flap, or a pedal."""
    rng = b.rng
    width, depth, height = rng.uniform(0.2, 0.5), rng.uniform(0.2, 0.45), rng.uniform(0.3, 1.0)
    outline = _outline(rng, width, depth)
    taper = rng.uniform(0.7, 1.0)
    wall = 0.025 * width
    body, moving = b.slot(Role.BODY), b.new_slot(Role.MOVING)
    b.add(0, cup([outline * taper, outline], [0.0, height], wall, 0.02), body)
    if rng.random() < 0.5:
        rim = outline * 1.03
        rings = [rim, rim, outline * 0.97, outline * 0.97]
        b.add(0, loft(stand(rings, [height - 0.03, height, height, height - 0.03], "z"), closed=True), b.slot(Role.DETAIL))
    lid_height = rng.uniform(0.02, 0.25) * width
    cover = outline * rng.uniform(1.0, 1.07)
    gap = 0.002
    if rng.random() < 0.25:
        collar = height + rng.uniform(0.3, 0.7) * width
        rings = [cover, cover * 0.72, cover * 0.66, cover * 0.94]
        b.add(0, loft(stand(rings, [height, collar, collar, height], "z"), closed=True), b.slot(Role.DETAIL))
        hole = cover * 0.65
        flap = b.part("flap", JointType.REVOLUTE, (0, 1, 0), (0, 0, collar), np.deg2rad(75), lower=-np.deg2rad(75))
        b.add(flap, loft(stand([hole, hole], [collar - 0.012, collar + 0.004], "z")), moving)
    else:
        back = float(cover[:, 0].min())
        pivot = (back, 0, height + gap)
        lid = b.part("lid", JointType.REVOLUTE, (0, -1, 0), pivot, np.deg2rad(rng.uniform(60, 110)))
        shrink = rng.uniform(0.6, 0.98)
        heights = [height + gap + h * lid_height for h in (0.0, 0.4, 0.8, 1.0)]
        rings = [cover, cover * (1 + shrink) / 2, cover * shrink, cover * shrink * 0.8]
        b.add(lid, loft(stand(rings, heights, "z")), moving)
        if rng.random() < 0.4:
            x, w = float(cover[:, 0].max()), rng.uniform(0.1, 0.3) * width
            b.add_box(lid, (x - 0.02, -w / 2, height + gap), (x + 0.03, w / 2, height + 0.014), b.slot(Role.HANDLE))
    kind = rng.choice(["pedal", "wheels", "base", "none"])
    x, low = float(outline[:, 0].max()) * taper, b.slot(Role.DETAIL)
    if kind == "pedal":
        b.add_box(0, (x - 0.03, -0.06, 0.0), (x + 0.05, 0.06, 0.02), low)
    elif kind == "wheels":
        for y in (-0.5, 0.42):
            b.add(0, cylinder((-0.8 * x, y * width * taper, 0.02), "y", 0.08 * width, 0.07, 14), low)
    elif kind == "base":
        b.add(0, loft(stand([outline * taper * 1.03] * 2, [-0.02, 0.04], "z")), low)


def kettle(b: ObjectBuilder) -> None:
    """Kettle or pot: turned vessel with a lid that lifts or tips, spout and handle."""
    rng = b.rng
    radius, height = rng.uniform(0.08, 0.16), rng.uniform(0.08, 0.24)
    body, moving, grip = b.slot(Role.BODY), b.new_slot(Role.MOVING), b.slot(Role.HANDLE)
    mouth = radius * rng.uniform(0.5, 1.0)
    bulge = rng.choice([1.0, rng.uniform(1.0, 1.15)])
    rings = [circle(24, radius), circle(24, radius * bulge), circle(24, mouth)]
    b.add(0, cup(rings, [0.0, 0.45 * height, height], 0.06 * radius, 0.01), body)
    lid_height, cover = rng.uniform(0.1, 0.4) * radius, mouth * rng.uniform(0.98, 1.08)
    if rng.random() < 0.4:
        lid = b.part("lid", JointType.REVOLUTE, (0, -1, 0), (-cover, 0, height), np.deg2rad(rng.uniform(60, 100)))
    else:
        lid = b.part("lid", JointType.PRISMATIC, (0, 0, 1), (0, 0, height), rng.uniform(0.5, 1.2) * height)
    b.add(lid, turned([cover, cover, 0.7 * cover, 0.2 * cover], [0.001, 0.15 * lid_height, 0.7 * lid_height, lid_height], "z", (0, 0, height), 24), moving)
    b.add(lid, turned([0.08, 0.16, 0.12], [0.0, 0.15, 0.25], "z", (0, 0, 0), 12).moved(np.eye(3) * radius, np.array([0, 0, height + 0.95 * lid_height])), grip)
    turn = rng.uniform(0, 2 * np.pi)
    c, s = np.cos(turn), np.sin(turn)
    spin = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    kind = rng.choice(["kettle", "pot"])
    angle = np.linspace(-0.4 * np.pi, 0.4 * np.pi, 9)
    side = np.stack([0.75 * radius + 0.75 * radius * np.cos(angle), np.zeros(9), height * (0.5 + 0.42 * np.sin(angle) / np.sin(0.4 * np.pi))], -1)
    handle = sweep(side, circle(8, 0.09 * radius), [0.0, 1.0, 0.0])
    b.add(0, handle.moved(spin), grip)
    if kind == "kettle":
        path = np.array([[0.85, 0, 0.3], [1.2, 0, 0.45], [1.5, 0, 0.8], [1.75, 0, 0.95]]) * [radius, 1, height]
        b.add(0, sweep(path, circle(8, 0.16 * radius), [0.0, 1.0, 0.0]).moved(spin @ np.diag([-1.0, -1.0, 1.0])), body)
    else:
        b.add(0, handle.moved(spin @ np.diag([-1.0, -1.0, 1.0])), grip)


def light_switch(b: ObjectBuilder) -> None:
    """Wall plate with one to three rockers or a lever."""
    rng = b.rng
    count = int(rng.integers(1, 4))
    width, height, t = 0.09 * count * rng.uniform(0.9, 1.3), rng.uniform(0.1, 0.18), rng.uniform(0.008, 0.05)
    body = b.slot(Role.BODY)
    b.add(0, slab((0, -width / 2, -height / 2), (t, width / 2, height / 2), "x", 0.01, 0.003), body)
    cell = width / count
    lever = rng.random() < 0.4
    for k in range(count):
        y, slot = -width / 2 + (k + 0.5) * cell, b.new_slot(Role.MOVING)
        w, h = cell * rng.uniform(0.25, 0.38), height * rng.uniform(0.28, 0.4)
        swing = np.deg2rad(rng.uniform(20, 50)) if lever else np.deg2rad(rng.uniform(10, 22))
        rest = swing * float(rng.choice([-1, 0, 1], p=[0.35, 0.3, 0.35]))
        part = b.part(f"switch_{k}", JointType.REVOLUTE, (0, 1, 0), (t, y, 0), swing - rest, lower=-swing - rest)
        pieces = []
        if lever:
            length, r = height * rng.uniform(0.25, 0.6), 0.12 * cell
            b.add(0, cylinder((t, y, 0), "x", 0.01, 2 * r, 12), b.slot(Role.DETAIL))
            profile = [r, r, 1.3 * r, 0.8 * r], [0.0, 0.75 * length, 0.9 * length, length]
            pieces.append(turned(*profile, "x", (0, y, 0), 10))
        else:
            b.add(0, frame((t, y - w, -h), (t + 0.004, y + w, h), "x", 0.12 * w), b.slot(Role.DETAIL))
            ridge = np.array([[0.0, -0.85 * h], [0.014, -0.85 * h], [0.005, 0.0], [0.014, 0.85 * h], [0.0, 0.85 * h]])
            outline = np.stack([ridge[:, 1], ridge[:, 0] - 0.002], -1)
            pieces.append(loft(stand([outline, outline], [y - 0.85 * w, y + 0.85 * w], "y")))
        for piece in pieces:
            b.add(part, piece.moved(_tilt(rest), np.array([t, 0.0, 0.0])), slot)


def faucet(b: ObjectBuilder) -> None:
    """Tap: column and spout with a lever or a cross handle that turns."""
    rng = b.rng
    r, height, reach = rng.uniform(0.018, 0.04), rng.uniform(0.12, 0.4), rng.uniform(0.1, 0.3)
    body, moving = b.slot(Role.BODY), b.new_slot(Role.MOVING)
    b.add(0, turned([1.8 * r, 1.8 * r, r, r], [0, 0.02, 0.04, height], "z", (0, 0, 0), 14), body)
    spout = rng.random() < 0.65
    angle = np.linspace(np.pi, 0.0, 9)
    arc = np.stack([reach / 2 + reach / 2 * np.cos(angle), np.zeros(9), 0.8 * height + rng.uniform(0.1, 0.5) * reach * np.sin(angle)], -1)
    arc = np.concatenate([arc, arc[-1:] - [0.0, 0.0, 0.2 * height]])
    if spout:
        b.add(0, sweep(arc, circle(10, 0.6 * r), [0.0, 1.0, 0.0]), body)
    swing = np.deg2rad(rng.uniform(45, 120))
    length = rng.uniform(0.08, 0.22)
    if not spout or rng.random() < 0.5:
        part = b.part("lever", JointType.REVOLUTE, (0, 0, 1), (0, 0, height), swing, lower=-swing)
        heading = rng.uniform(-2.2, 2.2)
        start = np.array([0, 0, height + 0.6 * r])
        tip = np.array([np.cos(heading), np.sin(heading), rng.choice([0.0, rng.uniform(0, 0.5)])])
        b.add(part, cylinder((0, 0, height + 0.001), "z", 1.2 * r, 1.1 * r, 14), moving)
    else:
        side = float(rng.choice([-1, 1]))
        part = b.part("lever", JointType.REVOLUTE, (0, side, 0), (0, 0, 0.6 * height), swing)
        start, tip = np.array([0, side * 1.8 * r, 0.6 * height]), np.array([0.0, 0.3 * side, 1.0])
        b.add(part, cylinder((0, side * r, 0.6 * height), "y", side * 1.2 * r, 0.9 * r, 14), moving)
    end = start + length * tip / np.linalg.norm(tip)
    thick = rng.uniform(0.6, 1.0)
    section = circle(10, thick * r) if rng.random() < 0.5 else rounded_rectangle(1.2 * r, 0.7 * r, 0.2 * r)
    b.add(part, sweep(np.stack([start, end]), section, [0.3, 0.2, 1.0] if abs(tip[2]) < 0.9 else [1.0, 0.1, 0.0]), moving)


def valve(b: ObjectBuilder) -> None:
    """Wheel or lever on a housing, facing the front."""
    rng = b.rng
    width, height, depth = rng.uniform(0.1, 0.4), rng.uniform(0.1, 0.5), rng.uniform(0.05, 0.3)
    body, moving = b.slot(Role.BODY), b.new_slot(Role.MOVING)
    b.add(0, slab((0, -width / 2, -height / 2), (depth, width / 2, height / 2), "x", 0.2 * width * rng.random(), 0.01), body)
    size = min(width, height) * rng.uniform(0.35, 0.7)
    shaft = rng.uniform(0.02, 0.15)
    b.add(0, cylinder((depth, 0, 0), "x", shaft, 0.15 * size, 12), b.slot(Role.DETAIL))
    x, swing = depth + shaft, np.deg2rad(rng.uniform(60, 180))
    part = b.part("wheel", JointType.REVOLUTE, (float(rng.choice([-1, 1])), 0, 0), (x, 0, 0), swing)
    kind = rng.choice(["wheel", "lever", "cross", "disc"])
    b.add(part, cylinder((x, 0, 0), "x", 0.2 * size, 0.25 * size, 14), moving)
    if kind == "disc":
        b.add(part, cylinder((x + 0.1 * size, 0, 0), "x", 0.12 * size, size, int(rng.choice([6, 8, 24]))), moving)
    if kind == "wheel":
        b.add(part, torus((x + 0.1 * size, 0, 0), "x", size, 0.1 * size), moving)
    arms = {"wheel": int(rng.integers(3, 6)), "lever": 1, "cross": 4, "disc": 1}[kind]
    offset = rng.uniform(0, 2 * np.pi)
    for k in range(arms):
        turn = offset + k * 2 * np.pi / arms
        tip = np.array([0.0, np.cos(turn), np.sin(turn)]) * size * (1.4 if kind == "lever" else 1.0)
        base = np.array([x + (0.22 if kind == "disc" else 0.1) * size, 0, 0])
        b.add(part, sweep(np.stack([base, base + tip]), circle(6, 0.1 * size), [1.0, 0.0, 0.0]), b.slot(Role.HANDLE) if kind == "disc" else moving)


def press(b: ObjectBuilder) -> None:
    """A big push button, or a handle that slides in a housing."""
    rng = b.rng
    width, height, depth = rng.uniform(0.15, 0.4), rng.uniform(0.15, 0.5), rng.uniform(0.1, 0.4)
    body, moving = b.slot(Role.BODY), b.new_slot(Role.MOVING)
    low, high = (0, -width / 2, 0), (depth, width / 2, height)
    if rng.random() < 0.3:
        top = depth * rng.uniform(0.3, 0.8)
        slope = np.array([[0, 0], [0, depth], [0.4 * height, depth], [height, top], [height, 0]])
        b.add(0, loft(stand([slope, slope], [-width / 2, width / 2], "y")), body)
    else:
        b.add(0, slab(low, high, "x", 0.1 * width, 0.01), body)
    if rng.random() < 0.4:
        cover = rng.uniform(0.03, 0.3) * depth
        b.add(0, slab((depth, -0.51 * width, -0.01), (depth + cover, 0.51 * width, 1.02 * height), "x", 0.08 * width, 0.01), b.slot(Role.DETAIL))
        depth += cover
    size = min(width, height) * rng.uniform(0.2, 0.42)
    if rng.random() < 0.5:
        b.add(0, annulus((depth, 0, height / 2), "x", 0.15 * size, 1.15 * size, size, 20), b.slot(Role.DETAIL))
        part = b.part("button", JointType.PRISMATIC, (-1, 0, 0), (depth, 0, height / 2), 0.6 * size)
        stem = rng.choice([0.97, rng.uniform(0.4, 0.8)]) * size
        reach = 0.7 * size * rng.uniform(1.0, 1.8)
        profile = [stem, stem, 0.97 * size, 0.97 * size, 0.85 * size], [-0.1 * size, 0.62 * reach, 0.65 * reach, reach, 1.1 * reach]
        b.add(part, turned(*profile, "x", (depth, 0, height / 2), 20), moving)
    else:
        travel = 0.35 * height
        b.add_box(0, (depth, -0.08 * width, 0.1 * height), (depth + 0.004, 0.08 * width, 0.9 * height), b.slot(Role.DETAIL))
        part = b.part("handle", JointType.PRISMATIC, (0, 0, float(rng.choice([-1, 1]))), (depth, 0, height / 2), travel, lower=-travel)
        b.add_box(part, (depth, -0.06 * width, height / 2 - 0.03), (depth + 0.12, 0.06 * width, height / 2 + 0.03), moving)
        bar = cylinder((depth + 0.12, -0.4 * width, height / 2), "y", 0.8 * width, 0.035, 12)
        b.add(part, bar, b.slot(Role.HANDLE) if rng.random() < 0.4 else moving)


def suitcase(b: ObjectBuilder) -> None:
    """Two hollow shells hinged along the back (also a book-like case), rest anywhere from closed to half open."""
    rng = b.rng
    width, depth, height = rng.uniform(0.3, 0.8), rng.uniform(0.2, 0.55), rng.uniform(0.05, 0.15)
    outline = rounded_rectangle(depth, width, rng.uniform(0, 0.2) * depth) + [depth / 2, 0.0]
    body, moving, wall = b.slot(Role.BODY), b.new_slot(Role.MOVING), 0.02 * depth
    centred = outline - [depth / 2, 0.0]
    shell = cup([centred, centred], [0.0, height], wall, wall)
    b.add(0, shell.moved(np.eye(3), np.array([depth / 2, 0, 0])), body)
    lid_height = height * rng.uniform(0.2, 1.0)
    lid_mesh = cup([centred, centred], [0.0, lid_height], wall, min(wall, 0.4 * lid_height)).moved(np.diag([1.0, 1.0, -1.0]))
    rest = np.deg2rad(rng.choice([0.0, rng.uniform(0, 80)]))
    opening = np.deg2rad(rng.uniform(90, 170))
    lid = b.part("lid", JointType.REVOLUTE, (0, -1, 0), (0, 0, height), opening - rest, lower=-rest)
    place = np.array([depth / 2, 0, lid_height + 0.002])
    closed = lid_mesh.moved(np.eye(3), place)
    b.add(lid, closed.moved(_tilt(-rest), np.array([0, 0, height])), moving)
    angle = np.linspace(np.pi, 0, 9)
    grip = np.stack([depth + 0.12 * width * np.sin(angle), 0.15 * width * np.cos(angle), np.full(9, 0.5 * height)], -1)
    b.add(0, sweep(grip, circle(6, 0.012 * width + 0.004), [0.0, 0.0, 1.0]), b.slot(Role.HANDLE))
    for y in (-0.3 * width, 0.3 * width):
        latch = box((depth, y - 0.02, -0.3 * lid_height), (depth + 0.01, y + 0.02, 0.3 * lid_height))
        b.add(lid, latch.moved(_tilt(-rest), np.array([0, 0, height])), b.slot(Role.HANDLE))


def lever(b: ObjectBuilder) -> None:
    """A long lever with a grip, on the side, the front or the top of a housing."""
    rng = b.rng
    width, depth, height = rng.uniform(0.08, 0.2), rng.uniform(0.1, 0.3), rng.uniform(0.2, 0.5)
    body, moving = b.slot(Role.BODY), b.new_slot(Role.MOVING)
    if rng.random() < 0.5:
        angle = np.linspace(0, np.pi, 9)
        arch = np.stack([height + depth / 2 * np.sin(angle), depth / 2 + depth / 2 * np.cos(angle)], -1)
        outline = np.concatenate([arch, [[0, 0], [0, depth]]])
        b.add(0, loft(stand([outline, outline], [-width / 2, width / 2], "y")), body)
    else:
        b.add(0, slab((0, -width / 2, 0), (depth, width / 2, height + depth / 2), "y", 0.1 * depth, 0.01), body)
    if rng.random() < 0.6:
        base = 0.25 * width
        b.add_box(0, (-base, -width / 2 - base, -0.05), (depth + base, width / 2 + base, 0), body)
    side = float(rng.choice([-1, 1]))
    at = np.array([depth / 2, side * width / 2, height])
    hub, length, r = 0.3 * depth, rng.uniform(0.15, 0.4), rng.uniform(0.01, 0.025)
    b.add(0, cylinder(at.tolist(), "y", side * 0.4 * hub, hub, 14), b.slot(Role.DETAIL))
    swing, rest = np.deg2rad(rng.uniform(50, 110)), np.deg2rad(rng.uniform(-60, 60))
    sense = float(rng.choice([-1, 1]))
    part = b.part("lever", JointType.REVOLUTE, (0, sense, 0), at, swing)
    b.add(part, cylinder((at + [0, side * 0.35 * hub, 0]).tolist(), "y", side * (0.05 + hub), 0.5 * hub, 12), moving)
    start = at + [0, side * (0.9 * hub + 0.03), 0]
    heading = np.array([np.cos(rest), 0.3 * side * rng.random(), np.sin(rest)])
    end = start + length * heading / np.linalg.norm(heading)
    b.add(part, sweep(np.stack([start, end]), circle(8, r), [0.0, 1.0, 0.0]), moving)
    grip = b.slot(Role.HANDLE) if rng.random() < 0.7 else moving
    if rng.random() < 0.6:
        ball = rng.uniform(1.5, 2.8) * r
        radii = [ball * np.sin(a) for a in np.linspace(0.15, np.pi - 0.15, 7)]
        heights = [-ball * np.cos(a) for a in np.linspace(0.15, np.pi - 0.15, 7)]
        b.add(part, turned(radii, heights, "z", end.tolist(), 12), grip)
    else:
        middle = start + 0.55 * (end - start)
        b.add(part, sweep(np.stack([middle, end + 0.02 * heading]), circle(10, 1.7 * r), [0.0, 1.0, 0.0]), grip)
