"""Generators of things that are held in the hand: glasses, knives, scissors, phones, caps."""

import numpy as np

from partrm.geometry.joints import JointType
from partrm.objects.materials import Role
from partrm.procedural.builder import ObjectBuilder, pick
from partrm.procedural.fittings import add_buttons
from partrm.procedural.fronts import Rect
from partrm.procedural.registry import category
from partrm.procedural.shapes import (
    Real,
    annulus,
    circle,
    cylinder,
    loft,
    prism,
    rounded_rectangle,
    slab,
    spin,
    stand,
    sweep,
)


def lay(b: ObjectBuilder) -> None:
    """Turns a thing built upright, facing +x: it stands, leans back, or lies on its back, in any heading."""
    rng = b.rng
    lean = rng.choice([0.0, 90.0, 90.0, rng.uniform(0, 90)], p=[0.25, 0.25, 0.2, 0.3])
    heading = rng.uniform(-1.2, 1.2) if lean < 60 else rng.uniform(-np.pi, np.pi)
    b.turn(spin("z", heading) @ spin("y", -np.deg2rad(lean)))


@category()
def eyeglasses(b: ObjectBuilder) -> None:
    """Two lenses in rims or a bar, and two temples that fold in behind them."""
    rng = b.rng
    width, height = rng.uniform(0.05, 0.07), rng.uniform(0.03, 0.055)
    bridge, wire, length = rng.uniform(0.012, 0.025), rng.uniform(0.0015, 0.004), rng.uniform(0.1, 0.15)
    body, moving = b.slot(Role.BODY), b.new_slot(Role.MOVING)
    lens = rounded_rectangle(width, height, rng.uniform(0.2, 0.5) * height, 5)
    rims, glass, half = rng.random() < 0.75, b.slot(Role.GLASS), bridge / 2 + width
    for side in (-1, 1):
        outline = lens + np.array([side * (bridge + width) / 2, 0.0])
        path = np.concatenate([np.zeros((len(outline), 1)), outline], -1)
        if rims:
            b.add(0, sweep(path, circle(6, wire), [1.0, 0.0, 0.0], closed=True), body)
        b.add(0, prism(outline, (-0.4 * wire, 0.4 * wire), "x"), glass)
    bar = half if not rims else 0.7 * bridge
    z = 0.45 * height if not rims else rng.uniform(0.0, 0.3) * height
    b.add(0, sweep(np.array([[0, -bar, z], [0, bar, z]]), circle(6, 1.2 * wire), [1.0, 0.0, 0.0]), body)
    top, tall = 0.4 * height, rng.uniform(1.0, 4.0) * wire
    for side in (-1, 1):
        at = (-wire, side * (half + wire), top)
        part = b.part("temple", JointType.REVOLUTE, (0, 0, side), at, np.deg2rad(rng.uniform(82, 92)))
        ear = length * rng.uniform(0.6, 0.8)
        path = np.array([[0, 0, 0], [-ear, 0, 0], [-length, 0, -rng.uniform(0.1, 0.4) * length]]) + np.array(at)
        b.add(part, sweep(path, rounded_rectangle(1.6 * wire, 2 * tall, 0.5 * wire), [0.0, 0.0, 1.0]), moving)
        b.add(0, cylinder((0.5 * wire, at[1] - 0.5 * side * wire, top), "x", -2.5 * wire, tall, 8), body)
    b.turn(spin("z", rng.uniform(-np.pi, np.pi)) @ spin("y", rng.choice([0.0, np.deg2rad(rng.uniform(-10, 15))])))


def _blade(length: Real, width: Real, rng: np.random.Generator) -> np.ndarray:
    """Outline in (y, z) of a blade that points to -y from the origin, its back up."""
    tip = rng.uniform(-0.5, 0.5) * width
    shoulder = rng.uniform(0.6, 0.9) * length
    back, edge = width / 2, -width / 2
    return np.array([[0, edge], [0, back], [-shoulder, back], [-length, tip], [-shoulder * 0.9, edge]], dtype=float)


@category()
def knife(b: ObjectBuilder) -> None:
    """Pocket knife of one to three blades, or a cutter whose blade slides."""
    rng = b.rng
    length, width = rng.uniform(0.08, 0.13), rng.uniform(0.012, 0.03)
    t = width * rng.uniform(0.4, 1.0)
    scale = b.slot(Role.BODY)
    outline = rounded_rectangle(length, width, rng.uniform(0.1, 0.5) * width, 4)
    if rng.random() < 0.4:
        outline = outline * (1 + 0.15 * outline[:, :1] / length)  # wider at one end
    moving = b.new_slot(Role.MOVING)
    for x in (-t / 2, 0.2 * t):
        b.add(0, prism(outline, (x, x + 0.3 * t), "x"), scale)
    if rng.random() < 0.3:
        b.add(0, prism(0.7 * outline, (-0.2 * t, 0.2 * t), "x"), scale)
        wide, reach = 0.6 * width, 0.8 * length
        part = b.part("blade", JointType.PRISMATIC, (0, 1, 0), (0, length / 2, 0), rng.uniform(0.3, 0.7) * length)
        shape = _blade(reach, wide, rng) * [-1, 1] + [length / 2 + 0.15 * length - reach, 0.0]
        b.add(part, prism(shape, (-0.06 * t, 0.06 * t), "x"), moving)
        y = rng.uniform(-0.4, 0.1) * length
        b.add(part, slab((0.4 * t, y, -0.25 * width), (0.8 * t, y + 0.15 * length, 0.25 * width), "x", 0.1 * width),
              b.slot(Role.HANDLE))  # fmt: skip
    else:
        b.add(0, prism(outline * [1.0, 0.3] - [0, 0.3 * width], (-0.2 * t, 0.2 * t), "x"), scale)
        ends = [1, -1, 1][: int(rng.choice([1, 1, 2, 3]))]
        for k, end in enumerate(ends):
            x = (k - (len(ends) - 1) / 2) * 0.12 * t
            at = np.array([x, end * 0.44 * length, 0.1 * width])
            swing = np.deg2rad(rng.uniform(140, 180))
            part = b.part(f"blade_{k}", JointType.REVOLUTE, (-end, 0, 0), at, swing)
            shape = _blade(rng.uniform(0.7, 0.9) * length, rng.uniform(0.6, 0.9) * width, rng)
            shape = shape * [end, 1] + [0.0, 0.3 * width]
            b.add(part, prism(shape, (-0.05 * t, 0.05 * t), "x").moved(np.eye(3), at), moving)
        for end in (-1, 1):
            b.add(0, cylinder((-0.55 * t, end * 0.44 * length, 0.1 * width), "x", 1.1 * t, 0.15 * width, 10),
                  b.slot(Role.DETAIL))  # fmt: skip
    lay(b)


@category()
def scissors(b: ObjectBuilder) -> None:
    """Scissors, pliers, tongs or shears: two halves that cross at a pin."""
    rng = b.rng
    blade, grip = rng.uniform(0.05, 0.12), rng.uniform(0.05, 0.12)
    width, t = rng.uniform(0.012, 0.025), rng.uniform(0.003, 0.008)
    kind = pick(rng, ["rings", "rings", "bows", "bars"])
    if kind != "rings":
        blade, t = blade * rng.uniform(0.3, 0.9), 1.6 * t
    body, moving = b.slot(Role.BODY), b.new_slot(Role.MOVING)
    widest = np.deg2rad(rng.uniform(35, 70))
    rest = widest * rng.choice([0.0, rng.uniform(0, 1)])
    part = b.part("half", JointType.REVOLUTE, (1, 0, 0), (0, 0, 0), widest - rest, lower=-rest)
    handle = b.slot(Role.HANDLE) if rng.random() < 0.7 else None
    ring, drop = rng.uniform(0.35, 0.6) * width + 0.006, rng.uniform(0.1, 0.35) * grip
    oval = [rng.uniform(0.9, 1.8), 1.0]
    for side, owner, metal in ((-1, 0, body), (1, part, moving)):
        # Built closed: the blade points to +y, the grip to -y and to the half's side.
        near, far = (0.0, t) if side > 0 else (-t, 0.0)
        shape = np.array([[0, -side * 0.3 * width], [blade, 0.0], [0.8 * blade, side * 0.25 * width],
                          [0, side * 0.5 * width]])  # fmt: skip
        pieces = [(prism(shape, (near, far), "x"), metal), (prism(circle(12, 0.55 * width), (near, far), "x"), metal)]
        x, own = (near + far) / 2, metal if handle is None else handle
        away = -side
        path = np.array([[x, 0, 0], [x, -0.4 * grip, away * drop], [x, -grip, away * (drop + 0.1 * grip)]])
        pieces.append((sweep(path, rounded_rectangle(0.5 * width, t, 0.2 * t), [1.0, 0.0, 0.0]), own))
        if kind == "rings":
            centre = np.array([x, -grip - 0.6 * ring, away * (drop + 0.6 * ring)])
            loop = circle(16, ring) * oval
            rim = np.concatenate([np.full((16, 1), 0.0), loop], -1) + centre
            pieces.append((sweep(rim, circle(6, 0.25 * ring), [1.0, 0.0, 0.0], closed=True), own))
        elif kind == "bows":
            bend = np.linspace(0, 1, 7)[:, None]
            bow = np.array([x, -0.3 * grip, away * drop]) + bend * [0, -grip, 0]
            bow[:, 2] += away * 0.6 * drop * np.sin(np.pi * bend[:, 0])
            pieces.append((sweep(bow, circle(8, 0.9 * t), [1.0, 0.0, 0.0]), own))
        else:
            end = [x, -1.3 * grip, away * (drop + 0.2 * grip)]
            pieces.append((sweep(np.array([path[1], end]), circle(8, 0.8 * t), [1.0, 0.0, 0.0]), own))
        turn = spin("x", rest) if side > 0 else np.eye(3)
        for mesh, slot in pieces:
            b.add(owner, mesh.moved(turn), slot)
    b.add(0, cylinder((-1.3 * t, 0, 0), "x", 2.6 * t, 0.2 * width, 10), b.slot(Role.DETAIL))
    b.turn(spin("x", rng.uniform(-np.pi, np.pi)))
    lay(b)


@category()
def flip_phone(b: ObjectBuilder) -> None:
    """Phone, game console or calculator of two halves: the one folds, slides or turns on the other."""
    rng = b.rng
    width, height, t = rng.uniform(0.04, 0.1), rng.uniform(0.07, 0.12), rng.uniform(0.006, 0.016)
    body, moving, corner = b.slot(Role.BODY), b.new_slot(Role.MOVING), rng.uniform(0.02, 0.3) * width
    low = Rect(-width / 2, width / 2, -height, 0.0)
    b.add(0, slab((-t, low.y0, low.z0), (0, low.y1, low.z1), "x", corner, 0.15 * t), body)
    keys = low.inset(0.12 * width)
    add_buttons(b, 0, keys, 0.0, *pick(rng, [(4, 3), (5, 3), (3, 3), (2, 4)]), b.slot(Role.DETAIL))
    kind = pick(rng, ["fold", "fold", "slide", "turn"])
    gap = 0.3 * t
    if kind == "fold":
        widest, rest = np.deg2rad(rng.uniform(130, 175)), np.deg2rad(rng.uniform(0, 130))
        part = b.part("flap", JointType.REVOLUTE, (0, -1, 0), (gap, 0, 0), widest - rest, lower=-rest)
        b.add(0, cylinder((0, -0.3 * width, 0), "y", 0.6 * width, 0.6 * t, 12), body)
        turn, at = spin("y", -rest), np.array([gap, 0.0, 0.0])
        # Closed over the keys, hanging from the hinge; its inner side faces -x.
        faces = (0.0, 0.9 * t), (0.1 * width, height - 0.02 * width)
        screen = (-0.05 * t, 0.0)
    elif kind == "slide":
        part = b.part("slide", JointType.PRISMATIC, (0, 0, 1), (gap, 0, 0), rng.uniform(0.35, 0.65) * height)
        turn, at, faces, screen = np.eye(3), np.array([gap, 0.0, 0.0]), ((0.0, 0.8 * t), (0.0, height)), None
    else:
        swing = np.deg2rad(rng.uniform(90, 180))
        at = np.array([gap, 0.0, -0.15 * height])
        part = b.part("swivel", JointType.REVOLUTE, (float(rng.choice([-1, 1])), 0, 0), at, swing)
        turn, faces, screen = np.eye(3), ((0.0, 0.8 * t), (-0.15 * height, 0.85 * height)), None
    (x0, x1), (up, down) = faces
    half = 0.5 * width * rng.uniform(0.92, 1.0)
    plate = slab((x0, -half, -down), (x1, half, -up), "x", corner, 0.15 * t)
    b.add(part, plate.moved(turn, at), moving)
    inset, glass = 0.1 * width, b.slot(Role.GLASS)
    x = screen if screen is not None else (x1, x1 + 0.05 * t)
    pane = slab((x[0], -half + inset, -down + 1.5 * inset), (x[1], half - inset, -up - inset), "x", 0.3 * corner)
    b.add(part, pane.moved(turn, at), glass)
    if screen is not None and rng.random() < 0.6:
        small = slab((x1, -0.5 * half, -0.8 * down), (x1 + 0.05 * t, 0.5 * half, -0.5 * down), "x", 0.0)
        b.add(part, small.moved(turn, at), glass)
    lay(b)


@category()
def cap(b: ObjectBuilder) -> None:
    """Pen, lipstick, stick or lighter whose cap comes off along it, flips over or swivels."""
    rng = b.rng
    length, r = rng.uniform(0.05, 0.14), rng.uniform(0.005, 0.012)
    flat = rng.uniform(1.5, 3.0) if rng.random() < 0.4 else 1.0
    section = circle(16, r) if flat == 1.0 else rounded_rectangle(2 * r, 2 * r * flat, rng.uniform(0.0, 0.9) * r)
    body, moving, reach = b.slot(Role.BODY), b.new_slot(Role.MOVING), rng.uniform(0.2, 0.5) * length
    kind = pick(rng, ["pull", "pull", "flip", "swivel"])
    b.add(0, prism(section, [-length / 2, length / 2 - reach], "z"), body)
    tip = [0.75 * section, 0.75 * section, rng.uniform(0.2, 0.75) * section]
    b.add(0, loft(stand(tip, [length / 2 - reach, length / 2 - 0.4 * reach, length / 2 - 0.1 * reach], "z")),
          b.slot(Role.DETAIL))  # fmt: skip
    low, high, half = length / 2 - reach + 0.001, length / 2, float(section[:, 1].max())
    if kind == "pull":
        part = b.part("cap", JointType.PRISMATIC, (0, 0, 1), (0, 0, high), rng.uniform(0.8, 1.6) * reach)
        rings = [section, section, rng.uniform(0.7, 1.0) * section]
        b.add(part, loft(stand(rings, [low, high - 0.05 * reach, high], "z")), moving)
    elif kind == "flip":
        side = float(rng.choice([-1, 1]))
        part = b.part("cap", JointType.REVOLUTE, (-side, 0, 0), (0, side * half, low), np.deg2rad(rng.uniform(90, 170)))
        b.add(part, prism(section, [low, high], "z"), moving)
        b.add(0, cylinder((-0.5 * r, side * half, low), "x", r, 0.2 * r, 8), b.slot(Role.DETAIL))
    else:
        at, t = np.array([0.0, 0.0, low - 0.3 * reach]), 0.12 * r
        swing = np.deg2rad(rng.uniform(120, 180))
        part = b.part("cover", JointType.REVOLUTE, (float(rng.choice([-1, 1])), 0, 0), at, swing)
        strip = rounded_rectangle(2 * half, high - low + 0.6 * reach, half, 5) + np.array([0.0, (high + low) / 2])
        for side in (-1, 1):
            x = side * (r + t)
            b.add(part, prism(strip, (x - t, x + t), "x"), moving)
        b.add(part, slab((-r, -half, high), (r, half, high + 0.12 * reach), "z", 0.0), moving)
        b.add(part, annulus((-1.5 * r, 0, at[2]), "x", 3 * r, 0.4 * half, 0.2 * half, 12), b.slot(Role.DETAIL))
    if kind != "swivel" and rng.random() < 0.5:
        z = (low + 0.2 * reach, high - 0.1 * reach)
        clip = slab((r, -0.25 * r, z[0]), (1.5 * r, 0.25 * r, z[1]), "x", 0.1 * r)
        b.add(part, clip, b.slot(Role.HANDLE))
    if rng.random() < 0.4:
        b.add(0, loft(stand([1.04 * section] * 2, [-0.4 * length, -0.3 * length], "z")), b.slot(Role.DETAIL))
    b.turn(spin("x", rng.choice([0.0, rng.uniform(-np.pi, np.pi)])) @ spin("z", rng.uniform(-np.pi, np.pi)))
    lay(b)
