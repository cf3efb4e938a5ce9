"""Generators of things to operate: doors with large latches, knobs, sliders, a toaster."""

import numpy as np

from partrm.geometry.joints import JointType
from partrm.objects.materials import Role
from partrm.procedural.builder import ObjectBuilder, pick
from partrm.procedural.carcass import FrontSlots, Hinge, add_door, front_slots
from partrm.procedural.fronts import Rect, sample_style
from partrm.procedural.registry import category
from partrm.procedural.shapes import (
    Mesh,
    Real,
    circle,
    cylinder,
    frame,
    loft,
    rounded_rectangle,
    slab,
    spin,
    stand,
    sweep,
    turned,
)


@category()
def latch_door(b: ObjectBuilder) -> None:
    """Small door with a large handle that turns on it, between posts, in a frame or before a wall."""
    rng = b.rng
    width, height, depth = rng.uniform(0.3, 0.8), rng.uniform(0.4, 1.0), rng.uniform(0.03, 0.12)
    border, body = rng.uniform(0.03, 0.12), b.slot(Role.BODY)
    around = pick(rng, ["posts", "frame", "frame", "box"])
    if around == "posts":
        for side in (-1, 1):
            y, r = side * (width / 2 + border / 2), border / 2
            if rng.random() < 0.5:
                b.add(0, cylinder((depth / 2, y, 0), "z", height, r, 14), body)
            else:
                b.add_box(0, (0, y - r, 0), (depth, y + r, height), body)
    else:
        outer = Rect(-width / 2 - border, width / 2 + border, -border, height + border)
        back = -rng.uniform(0.2, 0.6) * width if around == "box" else 0.0
        b.add(0, frame((back, outer.y0, outer.z0), (depth, outer.y1, outer.z1), "x", border), body)
        if around == "box":
            b.add_box(0, (back, outer.y0, outer.z0), (back + 0.02, outer.y1, outer.z1), b.slot(Role.INTERIOR))
    style = sample_style(rng, ("flat", "flat", "flat", "framed", "raised", "planks"), ("none",), width)
    hinge: Hinge = pick(rng, ["left", "right"])
    rect, slots = Rect(-width / 2, width / 2, 0.0, height).inset(0.004), front_slots(b, body)
    door = add_door(b, rect, depth - style.thickness, hinge, style, slots)
    side = 1.0 if hinge == "left" else -1.0
    y, z = rect.at(0.5 + side * rng.uniform(0.25, 0.42), rng.uniform(0.3, 0.65))
    _add_latch(b, door, (depth, y, z), -side, width, slots)


def _add_latch(b: ObjectBuilder, door: int, at: tuple[Real, Real, Real], inward: float, size: Real, slots: FrontSlots):
    """A handle that turns about x on a door; ``inward``: the sign of y towards the hinge."""
    rng, (x, y, z) = b.rng, at
    r, out, length = size * rng.uniform(0.02, 0.05), size * rng.uniform(0.06, 0.22), size * rng.uniform(0.18, 0.5)
    kind = pick(rng, ["bar", "bar", "box", "box", "bent", "double", "crank"])
    turn = rng.choice([0.0, 0.0, rng.uniform(-0.3, 0.3), np.pi / 2])  # from level, as a rule
    swing = np.deg2rad(rng.uniform(30, 110))
    low, high = pick(rng, [(0.0, swing), (-swing, 0.0), (-swing, swing)])
    part = b.part("latch", JointType.REVOLUTE, (1, 0, 0), at, high, lower=low, parent=door)
    if rng.random() < 0.5:
        b.add(door, cylinder(at, "x", 0.3 * r, 2.2 * r, 14), slots.handle if rng.random() < 0.5 else slots.panel)
    slot = slots.handle
    b.add(part, cylinder((x - 0.02, y, z), "x", out + 0.02, r, 12), slot)
    reach = np.array([0.0, inward * length, 0.0])
    if kind == "double":
        bar = sweep(np.stack([-reach / 2, reach / 2]), circle(10, r), [1.0, 0.0, 0.0])
    elif kind == "box":
        bar = sweep(np.stack([-0.1 * reach, reach]), rounded_rectangle(2.6 * r, 1.6 * r, 0.0), [1.0, 0.0, 0.0])
    elif kind == "bent":
        share = np.linspace(0, 1, 9)[:, None]
        path = share * reach + (share**3) * np.array([-0.6 * out, 0.0, 0.0])
        bar = sweep(path, circle(10, 0.9 * r), [0.0, 0.0, 1.0])
    else:
        bar = sweep(np.stack([-0.05 * reach, reach]), circle(10, r), [1.0, 0.0, 0.0])
    place, matrix = np.array([x + out, y, z]), spin("x", turn)
    b.add(part, bar.moved(matrix, place), slot)
    if kind == "crank":
        grip = cylinder((0, 0, 0), "x", out, 1.3 * r, 10)
        b.add(part, grip.moved(np.eye(3), place + matrix @ reach), b.slot(Role.DETAIL))


def knob_pieces(b: ObjectBuilder, radius: Real, slot: int, mark: int) -> list[tuple[Mesh, int]]:
    """A knob on the plane x = 0 that looks different when it turns; meshes and their material slots."""
    rng, depth = b.rng, radius * b.rng.uniform(0.4, 1.2)
    kind = pick(rng, ["pointer", "ridge", "lobes", "bar"])
    pieces = []
    if kind != "lobes":
        disc = 0.25 * depth if kind in ("ridge", "bar") else depth
        pieces.append((turned([radius, radius, 0.9 * radius], [0, 0.8 * disc, disc], "x", (0, 0, 0), 20), slot))
    if kind == "pointer":
        pieces.append((_block((0.98 * depth, 1.04 * depth), 0.1 * radius, (0.2 * radius, 0.9 * radius)), mark))
    if kind == "ridge":
        pieces.append((_block((0.0, depth), 0.22 * radius, (-0.95 * radius, 0.95 * radius)), slot))
        pieces.append((_block((0.5 * depth, 1.04 * depth), 0.08 * radius, (0.5 * radius, 0.97 * radius)), mark))
    if kind == "bar":
        pieces.append((_block((0.0, depth), 0.25 * radius, (-0.3 * radius, 1.5 * radius)), slot))
    if kind == "lobes":
        angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        ripple = radius * (0.85 + 0.15 * np.cos(int(rng.integers(3, 7)) * angle))
        outline = np.stack([ripple * np.cos(angle), ripple * np.sin(angle)], -1)
        pieces.append((loft(stand([outline, outline, 0.9 * outline], [0.0, 0.9 * depth, depth], "x")), slot))
        pieces.append((_block((0.9 * depth, 1.04 * depth), 0.1 * radius, (0.1 * radius, 0.75 * radius)), mark))
    return pieces


def _block(x: tuple[Real, Real], half_y: Real, z: tuple[Real, Real]) -> Mesh:
    return slab((x[0], -half_y, z[0]), (x[1], half_y, z[1]), "x", 0.0)


def _panel(b: ObjectBuilder, width: Real, height: Real, depth: Real) -> float:
    """A housing whose front is at x = ``depth``, to be turned up afterwards by the angle that is returned."""
    rng, body = b.rng, b.slot(Role.BODY)
    corner = 0.3 * min(width, height) * rng.random()
    b.add(0, slab((0, -width / 2, 0), (depth, width / 2, height), "x", corner, 0.1 * depth), body)
    if rng.random() < 0.5:
        edge = 0.06 * min(width, height) + 0.3 * corner
        low, high = (depth, edge - width / 2, edge), (depth + 0.004, width / 2 - edge, height - edge)
        b.add(0, slab(low, high, "x", 0.5 * corner), b.new_slot(Role.DETAIL))
    return float(rng.choice([0.0, rng.uniform(0, 70), 90.0], p=[0.4, 0.3, 0.3]))


@category()
def knobs(b: ObjectBuilder) -> None:
    """Panel or cooker with one to four large knobs that turn, facing the front, slanted or the top."""
    rng = b.rng
    count = int(rng.choice([1, 1, 2, 3, 4]))
    width, height, depth = 0.1 * count * rng.uniform(1.0, 2.5), rng.uniform(0.1, 0.35), rng.uniform(0.03, 0.3)
    angle = _panel(b, width, height, depth)
    cell = width / count
    radius = min(cell, height) * rng.uniform(0.22, 0.46)
    z, alike = rng.uniform(0.45, 0.6) * height, b.rng.random() < 0.7
    shared, mark = b.new_slot(Role.HANDLE), b.new_slot(Role.DETAIL)
    for k in range(count):
        at = np.array([depth + 0.004, -width / 2 + (k + 0.5) * cell, z])
        swing, part_of = np.deg2rad(rng.uniform(60, 300)), rng.choice([0.0, 0.5, 1.0])
        part = b.part(f"knob_{k}", JointType.REVOLUTE, (1, 0, 0), at, (1 - part_of) * swing, lower=-part_of * swing)
        rest = spin("x", rng.choice([0.0, rng.uniform(-np.pi, np.pi)]))
        for mesh, slot in knob_pieces(b, radius, shared if alike else b.new_slot(Role.MOVING), mark):
            b.add(part, mesh.moved(rest, at), slot)
    b.turn(spin("y", -np.deg2rad(angle)))


@category()
def sliders(b: ObjectBuilder) -> None:
    """Panel with one to four knobs or bars that slide in slots, along or across."""
    rng = b.rng
    count, level = int(rng.choice([1, 1, 2, 3, 4])), bool(rng.random() < 0.5)
    width, height, depth = 0.08 * count * rng.uniform(1.0, 2.5), rng.uniform(0.2, 0.5), rng.uniform(0.02, 0.25)
    angle = _panel(b, width, height, depth)
    cell, moving = width / count, b.new_slot(Role.MOVING)
    x, groove = depth + 0.004, 0.05 * cell
    for k in range(count):
        y, z0, z1 = -width / 2 + (k + 0.5) * cell, rng.uniform(0.1, 0.2) * height, rng.uniform(0.8, 0.9) * height
        b.add_box(0, (x - 0.01, y - groove, z0), (x + 0.003, y + groove, z1), b.slot(Role.DETAIL))
        size, out = cell * rng.uniform(0.12, 0.4), cell * rng.uniform(0.15, 0.6)
        tall = min(size * rng.uniform(0.3, 1.2), 0.15 * height)
        rest = rng.choice([z0 + tall, z1 - tall, rng.uniform(z0 + tall, z1 - tall)])
        lower, upper = z0 + tall - rest, z1 - tall - rest
        part = b.part(f"slider_{k}", JointType.PRISMATIC, (0, 0, 1), (x, y, rest), upper, lower=lower)
        b.add_box(
            part, (x, y - 0.8 * groove, rest - 0.5 * tall), (x + out, y + 0.8 * groove, rest + 0.5 * tall), moving
        )
        grip = slab(
            (x + 0.5 * out, y - size, rest - tall), (x + 1.2 * out, y + size, rest + tall), "x", 0.3 * tall, 0.01
        )
        b.add(part, grip, moving if rng.random() < 0.6 else b.slot(Role.HANDLE))
    b.turn(spin("y", -np.deg2rad(angle)) @ (spin("x", np.pi / 2) if level else np.eye(3)))


@category()
def toaster(b: ObjectBuilder) -> None:
    """Toaster: rounded body with slots on top, a lever that is pushed down at one end, and a dial."""
    rng = b.rng
    length, width, height = rng.uniform(0.25, 0.42), rng.uniform(0.14, 0.28), rng.uniform(0.15, 0.24)
    body = b.slot(Role.BODY)
    shell = slab((-length, -width / 2, 0), (0, width / 2, height), "x", rng.uniform(0.05, 0.35) * height, 0.015)
    b.add(0, shell, body)
    for k in range(slots := int(rng.integers(1, 3))):
        y = (k - (slots - 1) / 2) * 0.38 * width
        b.add_box(0, (-0.85 * length, y - 0.07 * width, height), (-0.15 * length, y + 0.07 * width, height + 0.003),
                  b.slot(Role.INTERIOR))  # fmt: skip
    y = rng.choice([0.0, rng.uniform(-0.25, 0.25) * width])
    z0, z1 = rng.uniform(0.15, 0.3) * height, rng.uniform(0.7, 0.85) * height
    b.add_box(0, (-0.001, y - 0.006, z0), (0.003, y + 0.006, z1), b.slot(Role.DETAIL))
    size, out, tall = width * rng.uniform(0.12, 0.3), rng.uniform(0.02, 0.06), rng.uniform(0.008, 0.025)
    part = b.part("lever", JointType.PRISMATIC, (0, 0, -1), (0, y, z1), z1 - z0)
    b.add_box(part, (0.0, y - 0.005, z1 - 0.6 * tall), (out, y + 0.005, z1 + 0.6 * tall), b.slot(Role.HANDLE))
    grip = slab((0.4 * out, y - size, z1 - tall), (out, y + size, z1 + tall), "x", 0.5 * tall, 0.005)
    b.add(part, grip, b.new_slot(Role.MOVING) if rng.random() < 0.7 else b.slot(Role.HANDLE))
    radius, aside = 0.12 * width, -0.3 * width if y >= 0 else 0.3 * width
    at = np.array([0.0, aside, 0.3 * height])
    dial = b.part("dial", JointType.REVOLUTE, (1, 0, 0), at, np.deg2rad(rng.uniform(90, 270)))
    for mesh, slot in knob_pieces(b, radius, b.slot(Role.HANDLE), b.slot(Role.DETAIL)):
        b.add(dial, mesh.moved(np.eye(3), at), slot)
    if rng.random() < 0.5:
        b.turn(spin("z", rng.uniform(-0.9, 0.9)))
