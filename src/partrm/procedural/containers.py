"""Generators of things that open at the top: laptop, lidded box, trash can, kettle, suitcase."""

import numpy as np

from partrm.geometry.joints import JointType
from partrm.objects.materials import Role
from partrm.procedural.builder import ObjectBuilder, pick
from partrm.procedural.fronts import Rect
from partrm.procedural.registry import category
from partrm.procedural.shapes import (
    Real,
    box,
    circle,
    cup,
    cylinder,
    frame,
    loft,
    prism,
    rounded_rectangle,
    slab,
    spin,
    stand,
    sweep,
    turned,
)


@category("Laptop")
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
    b.add_box(
        0, (0.66 * depth, -pad, base_t), (0.94 * depth, pad, base_t + 0.0008), detail if rng.random() < 0.5 else body
    )
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
        turned_lid = mesh.moved(spin("y", -rest), np.array([0.004, 0.0, hinge_z]))
        b.add(lid, turned_lid, slot)
    hinge = cylinder((0.002, -0.3 * width, hinge_z - 0.001), "y", 0.6 * width, 0.4 * base_t + 0.002, 8)
    b.add(0, hinge, b.slot(Role.DETAIL) if rng.random() < 0.5 else body)


def _outline(rng: np.random.Generator, width: Real, depth: Real) -> np.ndarray:
    """A rounded rectangle or an ellipse of about these sizes."""
    if rng.random() < 0.45:
        return circle(20) * (depth / 2, width / 2)
    return rounded_rectangle(depth, width, min(width, depth) * rng.choice([0.02, 0.1, rng.uniform(0, 0.4)]), 3)


@category()
def lidded_box(b: ObjectBuilder) -> None:
    """Box or tin with a lid hinged at the back, flat, capped or with a rim that hangs over."""
    rng = b.rng
    width, depth, height = rng.uniform(0.1, 0.5), rng.uniform(0.1, 0.4), rng.uniform(0.05, 0.4)
    wall = rng.uniform(0.02, 0.08) * min(width, depth)
    outline = _outline(rng, width, depth)
    body, moving = b.slot(Role.BODY), b.new_slot(Role.MOVING)
    taper = rng.choice([1.0, rng.uniform(0.75, 1.1)])
    b.add(0, cup([outline * taper, outline], [0.0, height], wall, wall), body)
    kind = pick(rng, ["flat", "cap", "dome", "loose"])
    reach = outline * (1 + 2 * wall / min(width, depth) * rng.choice([0.0, 1.0]))
    loose = kind == "loose"
    back = float(reach[:, 0].min())
    opening = np.deg2rad(rng.uniform(70, 160))
    if loose:
        lid = b.part(
            "lid", JointType.PRISMATIC, (0, 0, 1), (0, 0, height), rng.uniform(0.4, 1.2) * max(height, 0.5 * width)
        )
    else:
        lid = b.part("lid", JointType.REVOLUTE, (0, -1, 0), (back, 0, height), opening)
    t = rng.uniform(0.02, 0.2) * min(height + 0.1, width)
    gap = 0.01 * wall
    if kind == "dome":
        scale = [1.0, 0.97, 0.85, 0.6]
        b.add(
            lid,
            loft(stand([reach * s for s in scale], [height + gap + t * h for h in (0, 0.5, 1.0, 1.3)], "z")),
            moving,
        )
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
    handle = pick(rng, ["knob", "tab", "arch", "none"]) if not loose else pick(rng, ["knob", "arch"])
    if handle == "knob":
        b.add(lid, turned([0.6 * grip, grip, 0.8 * grip], [-0.02, grip, 1.5 * grip], "z", (0, 0, top), 12), slot)
    elif handle == "tab":
        x = float(reach[:, 0].max())
        b.add_box(lid, (x - 0.2 * grip, -grip, height + gap), (x + 0.6 * grip, grip, height + gap + 0.4 * t), slot)
    elif handle == "arch":
        angle = np.linspace(np.pi, 0, 11)
        path = np.stack([np.zeros(11), 3 * grip * np.cos(angle), top - 0.1 * grip + 2 * grip * np.sin(angle)], -1)
        b.add(lid, sweep(path, circle(6, 0.3 * grip), [1.0, 0.0, 0.0]), slot)


@category("TrashCan")
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
        b.add(
            0, loft(stand(rings, [height - 0.03, height, height, height - 0.03], "z"), closed=True), b.slot(Role.DETAIL)
        )
    lid_height = rng.uniform(0.02, 0.25) * width
    cover = outline * rng.uniform(1.0, 1.07)
    gap = 0.002
    if rng.random() < 0.25:
        collar = height + rng.uniform(0.3, 0.7) * width
        rings = [cover, cover * 0.72, cover * 0.66, cover * 0.94]
        b.add(0, loft(stand(rings, [height, collar, collar, height], "z"), closed=True), b.slot(Role.DETAIL))
        hole = cover * 0.65
        flap = b.part("flap", JointType.REVOLUTE, (0, 1, 0), (0, 0, collar), np.deg2rad(75), lower=-np.deg2rad(75))
        b.add(flap, prism(hole, [collar - 0.012, collar + 0.004], "z"), moving)
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
    kind = pick(rng, ["pedal", "wheels", "base", "none"])
    x, low = float(outline[:, 0].max()) * taper, b.slot(Role.DETAIL)
    if kind == "pedal":
        b.add_box(0, (x - 0.03, -0.06, 0.0), (x + 0.05, 0.06, 0.02), low)
    elif kind == "wheels":
        for y in (-0.5, 0.42):
            b.add(0, cylinder((-0.8 * x, y * width * taper, 0.02), "y", 0.08 * width, 0.07, 14), low)
    elif kind == "base":
        b.add(0, loft(stand([outline * taper * 1.03] * 2, [-0.02, 0.04], "z")), low)


@category()
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
    b.add(
        lid,
        turned(
            [cover, cover, 0.7 * cover, 0.2 * cover],
            [0.001, 0.15 * lid_height, 0.7 * lid_height, lid_height],
            "z",
            (0, 0, height),
            24,
        ),
        moving,
    )
    b.add(
        lid,
        turned([0.08, 0.16, 0.12], [0.0, 0.15, 0.25], "z", (0, 0, 0), 12).moved(
            np.eye(3) * radius, np.array([0, 0, height + 0.95 * lid_height])
        ),
        grip,
    )
    turn = rng.uniform(0, 2 * np.pi)
    around, across = spin("z", turn), spin("z", turn) @ np.diag([-1.0, -1.0, 1.0])
    kind = pick(rng, ["kettle", "pot"])
    angle = np.linspace(-0.4 * np.pi, 0.4 * np.pi, 9)
    side = np.stack(
        [
            0.75 * radius + 0.75 * radius * np.cos(angle),
            np.zeros(9),
            height * (0.5 + 0.42 * np.sin(angle) / np.sin(0.4 * np.pi)),
        ],
        -1,
    )
    handle = sweep(side, circle(8, 0.09 * radius), [0.0, 1.0, 0.0])
    b.add(0, handle.moved(around), grip)
    if kind == "kettle":
        path = np.array([[0.85, 0, 0.3], [1.2, 0, 0.45], [1.5, 0, 0.8], [1.75, 0, 0.95]]) * [radius, 1, height]
        b.add(0, sweep(path, circle(8, 0.16 * radius), [0.0, 1.0, 0.0]).moved(across), body)
    else:
        b.add(0, handle.moved(across), grip)


@category()
def suitcase(b: ObjectBuilder) -> None:
    """Two hollow shells hinged along the back (also a book-like case), rest anywhere from closed to half open."""
    rng = b.rng
    width, depth, height = rng.uniform(0.3, 0.8), rng.uniform(0.2, 0.55), rng.uniform(0.05, 0.15)
    outline = rounded_rectangle(depth, width, rng.uniform(0, 0.2) * depth) + np.array([depth / 2, 0.0])
    body, moving, wall = b.slot(Role.BODY), b.new_slot(Role.MOVING), 0.02 * depth
    centred = outline - np.array([depth / 2, 0.0])
    shell = cup([centred, centred], [0.0, height], wall, wall)
    b.add(0, shell.moved(np.eye(3), np.array([depth / 2, 0, 0])), body)
    lid_height = height * rng.uniform(0.2, 1.0)
    lid_mesh = cup([centred, centred], [0.0, lid_height], wall, min(wall, 0.4 * lid_height)).moved(
        np.diag([1.0, 1.0, -1.0])
    )
    rest = np.deg2rad(rng.choice([0.0, rng.uniform(0, 80)]))
    opening = np.deg2rad(rng.uniform(90, 170))
    lid = b.part("lid", JointType.REVOLUTE, (0, -1, 0), (0, 0, height), opening - rest, lower=-rest)
    place = np.array([depth / 2, 0, lid_height + 0.002])
    closed = lid_mesh.moved(np.eye(3), place)
    b.add(lid, closed.moved(spin("y", -rest), np.array([0, 0, height])), moving)
    angle = np.linspace(np.pi, 0, 9)
    grip = np.stack([depth + 0.12 * width * np.sin(angle), 0.15 * width * np.cos(angle), np.full(9, 0.5 * height)], -1)
    b.add(0, sweep(grip, circle(6, 0.012 * width + 0.004), [0.0, 0.0, 1.0]), b.slot(Role.HANDLE))
    for y in (-0.3 * width, 0.3 * width):
        latch = box((depth, y - 0.02, -0.3 * lid_height), (depth + 0.01, y + 0.02, 0.3 * lid_height))
        b.add(lid, latch.moved(spin("y", -rest), np.array([0, 0, height])), b.slot(Role.HANDLE))
