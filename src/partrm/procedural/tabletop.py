"""Generators of things on tables and walls: pots, cartons, keys, clocks, cameras, printers, mirrors, books."""

import numpy as np

from partrm.geometry.joints import JointType
from partrm.objects.materials import Role
from partrm.procedural.builder import ObjectBuilder, pick
from partrm.procedural.fittings import add_dial
from partrm.procedural.handheld import lay
from partrm.procedural.registry import category
from partrm.procedural.shapes import (
    annulus,
    ball,
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
)


@category()
def pot(b: ObjectBuilder) -> None:
    """Pot, pan, jar or bin with a flat or domed lid that is lifted, hinged at the rim or turned aside."""
    rng = b.rng
    r, height = rng.uniform(0.08, 0.16), rng.uniform(0.05, 0.3)
    body, moving = b.slot(Role.BODY), b.new_slot(Role.MOVING)
    square = rng.random() < 0.25
    outline = rounded_rectangle(2 * r, 2.4 * r, rng.uniform(0.1, 0.8) * r, 4) if square else circle(24, r)
    b.add(0, cup([outline * rng.uniform(0.7, 1.0), outline], [0.0, height], 0.05 * r, 0.02), body)
    half = outline.max(0)
    grips = pick(rng, ["two", "two", "long", "none"])
    handle = b.slot(Role.HANDLE) if rng.random() < 0.7 else body
    z = height * rng.uniform(0.6, 0.9)
    if grips == "long":
        end = half[1] + r * rng.uniform(0.8, 1.8)
        bar = np.array([[0, 0.95 * half[1], z], [0, end, z + 0.1 * r]])
        b.add(0, sweep(bar, rounded_rectangle(0.25 * r, 0.12 * r, 0.05 * r), [0.0, 0.0, 1.0]), handle)
    elif grips == "two":
        angle = np.linspace(0, np.pi, 7)
        for side in (-1, 1):
            bow = np.stack([0.4 * r * np.cos(angle), side * (0.95 * half[1] + 0.3 * r * np.sin(angle)), 0 * angle + z])
            b.add(0, sweep(bow.T, circle(6, 0.06 * r), [0.0, 0.0, 1.0]), handle)
    kind = pick(rng, ["lift", "lift", "lift", "hinge", "aside"])
    top, t = height + 0.004 * r, rng.uniform(0.04, 0.1) * r
    if kind == "lift":
        lid = b.part("lid", JointType.PRISMATIC, (0, 0, 1), (0, 0, top), rng.uniform(0.3, 1.2) * (r + height))
    elif kind == "hinge":
        at = (-half[0], 0.0, top)
        lid = b.part("lid", JointType.REVOLUTE, (0, -1, 0), at, np.deg2rad(rng.uniform(75, 130)))
        b.add(0, cylinder((-half[0], -0.2 * r, top), "y", 0.4 * r, 0.06 * r, 10), b.slot(Role.DETAIL))
    else:
        side = float(rng.choice([-1, 1]))
        at, swing = (0.0, side * half[1], top), np.deg2rad(rng.uniform(80, 150))
        lid = b.part("lid", JointType.REVOLUTE, (0, 0, float(rng.choice([-1, 1]))), at, swing)
        b.add(0, cylinder((0, side * half[1], 0.5 * height), "z", 0.5 * height + t, 0.07 * r, 10), b.slot(Role.DETAIL))
    dome, share = rng.choice([0.0, rng.uniform(0.1, 0.7)]) * r, np.linspace(0, 1, 5)
    sizes = [1.02, 1.02, *np.cos(share[1:] * np.pi / 2 * 0.95)]
    rises = [top, top + t, *(top + t + dome * np.sin(share[1:] * np.pi / 2 * 0.95))]
    if dome == 0:
        sizes, rises = [1.02, 1.02, 0.9], [top, top + 0.7 * t, top + t]
    clear = rng.random() < 0.25
    b.add(lid, loft(stand([outline * s for s in sizes], rises, "z")), b.slot(Role.GLASS) if clear else moving)
    z = rises[-1]
    knob = b.slot(Role.HANDLE) if rng.random() < 0.6 or clear else moving
    if rng.random() < 0.7:
        size = rng.uniform(0.12, 0.25) * r
        b.add(lid, cylinder((0, 0, z - t), "z", t + 0.6 * size, 0.5 * size, 10), knob)
        b.add(lid, ball((0, 0, z + size), size), knob)
    else:
        angle = np.linspace(0, np.pi, 9)
        bow = np.stack([0 * angle, 0.35 * r * np.cos(angle), z - 0.02 * r + 0.3 * r * np.sin(angle)], -1)
        b.add(lid, sweep(bow, circle(6, 0.05 * r), [1.0, 0.0, 0.0]), knob)
    b.turn(spin("z", rng.uniform(-np.pi, np.pi)))


@category()
def carton(b: ObjectBuilder) -> None:
    """Cardboard box or crate with one to four flaps about its top edges."""
    rng = b.rng
    size = rng.uniform(0.15, 0.5, 3)
    body, t = b.slot(Role.BODY), rng.uniform(0.004, 0.012)
    outline = rounded_rectangle(size[0], size[1], 0.0)
    b.add(0, cup([outline, outline], [0.0, size[2]], t, t), body)
    moving = b.new_slot(Role.MOVING) if rng.random() < 0.6 else body
    flaps = pick(rng, [(0, 1, 2, 3), (0, 1, 2, 3), (0, 2), (1, 3), (0, 1, 2)])
    lengths = size[0] * rng.uniform(0.3, 0.5), size[1] * rng.uniform(0.3, 0.5)
    for side in flaps:
        reach, along = size[side % 2] / 2, size[1 - side % 2]
        lift = t * (0.3 + 1.1 * (side % 2))
        with b.placed(spin("z", side * np.pi / 2), (0.0, 0.0, size[2] + lift)):
            widest = np.deg2rad(rng.uniform(110, 250))
            part = b.part(f"flap_{side}", JointType.REVOLUTE, (0, 1, 0), (reach, 0, 0), widest)
            length, taper = lengths[side % 2], rng.choice([1.0, rng.uniform(0.7, 1.0)])
            half = along / 2 - 0.002
            plate = np.array([[reach, -half], [reach, half], [reach - length, taper * half],
                              [reach - length, -taper * half]])  # fmt: skip
            b.add(part, prism(plate, [0.0, t], "z"), moving)
    if rng.random() < 0.5:
        low, high = sorted(rng.uniform(-0.4, 0.4, 2) * size[1])
        b.add_box(0, (size[0] / 2, low, 0.2 * size[2]), (size[0] / 2 + 0.001, high + 0.05, 0.6 * size[2]),
                  b.slot(Role.DETAIL))  # fmt: skip
    b.turn(spin("z", rng.uniform(-0.8, 0.8)))


@category()
def keys(b: ObjectBuilder) -> None:
    """Keypad, remote control or keyboard: rows of large keys that go in, or piano keys that nod."""
    rng = b.rng
    columns, rows = pick(rng, [(3, 3), (2, 4), (3, 4), (5, 2), (8, 1), (2, 2), (1, 3)])
    pitch, t = rng.uniform(0.015, 0.03, 2), rng.uniform(0.008, 0.03)
    width, height = columns * pitch[0], rows * pitch[1]
    edge, spare = rng.uniform(0.1, 0.5) * pitch.min(), rng.choice([0.0, rng.uniform(0.3, 1.5)]) * height
    body, moving = b.slot(Role.BODY), b.new_slot(Role.MOVING)
    low, high = (-t, -width / 2 - edge, -edge), (0.0, width / 2 + edge, height + edge + spare)
    b.add(0, slab(low, high, "x", rng.uniform(0, 1) * edge, 0.1 * t), body)
    if spare:
        b.add_box(0, (0, -0.45 * width, height + 0.2 * spare), (0.05 * t, 0.45 * width, height + 0.9 * spare),
                  b.slot(Role.GLASS))  # fmt: skip
    piano = rows == 1 and rng.random() < 0.6
    travel, own = rng.uniform(0.25, 0.9) * t, rng.random() < 0.3
    round_keys, share = rng.random() < 0.3, rng.uniform(0.35, 0.48)
    for row in range(rows):
        for column in range(columns):
            y, z = -width / 2 + (column + 0.5) * pitch[0], (row + 0.5) * pitch[1]
            out = travel + rng.uniform(0.05, 0.3) * t
            slot = b.new_slot(Role.MOVING) if own else moving
            if piano:
                long = pitch[1] * 3
                at = (0.0, y, z + long)
                part = b.part(f"key_{column}", JointType.REVOLUTE, (0, 1, 0), at, np.deg2rad(rng.uniform(5, 10)))
                b.add_box(part, (0.0, y - 0.46 * pitch[0], z - 0.5 * pitch[1]),
                          (out, y + 0.46 * pitch[0], z + long), slot)  # fmt: skip
                continue
            part = b.part(f"key_{row}_{column}", JointType.PRISMATIC, (-1, 0, 0), (0, y, z), travel)
            if round_keys:
                b.add(part, cylinder((0.0, y, z), "x", out, share * pitch.min(), 14), slot)
            else:
                half = share * pitch
                b.add(part, slab((0, y - half[0], z - half[1]), (out, y + half[0], z + half[1]), "x",
                                 0.15 * pitch.min(), 0.1 * out), slot)  # fmt: skip
    lay(b)


@category()
def clock(b: ObjectBuilder) -> None:
    """Clock, gauge or scale with hands that turn, on a wall, a foot or bells; sometimes a pendulum below."""
    rng = b.rng
    r, t = rng.uniform(0.08, 0.2), rng.uniform(0.02, 0.08)
    body, moving = b.slot(Role.BODY), b.new_slot(Role.MOVING)
    sides = int(rng.choice([4, 8, 32, 32, 32]))
    face = circle(sides, r * (1.3 if sides == 4 else 1.05))
    b.add(0, prism(face, [-t, 0.0], "x"), body)
    b.add(0, cylinder((0, 0, 0), "x", 0.03 * t, 0.85 * r, 32), b.new_slot(Role.DETAIL))
    if sides == 32 and rng.random() < 0.6:
        b.add(0, annulus((0, 0, 0), "x", 0.4 * t, 1.05 * r, 0.9 * r, 32), body)
    for k in range(count := int(rng.choice([4, 12]))):
        turn = spin("x", 2 * np.pi * k / count)
        mark = slab((0.0, -0.02 * r, 0.7 * r), (0.08 * t, 0.02 * r, 0.8 * r), "x", 0.0)
        b.add(0, mark.moved(turn), b.slot(Role.HANDLE))
    x = 0.08 * t
    for k in range(int(rng.integers(1, 3))):
        reach = r * (rng.uniform(0.62, 0.8) if k == 0 else rng.uniform(0.38, 0.55))
        wide, back = r * rng.uniform(0.05, 0.11), reach * rng.choice([0.1, 0.3])
        start = rng.uniform(-np.pi, np.pi)
        part = b.part(f"hand_{k}", JointType.REVOLUTE, (-1, 0, 0), (x, 0, 0), np.pi, lower=-np.pi)
        shape = np.array([[-wide, -back], [wide, -back], [0.4 * wide, reach], [-0.4 * wide, reach]])
        blade = prism(shape, [x, x + 0.05 * t], "x")
        b.add(part, blade.moved(spin("x", start)), moving)
        b.add(part, cylinder((x, 0, 0), "x", 0.08 * t, 0.09 * r, 12), moving)
        x += 0.1 * t
    below = pick(rng, ["none", "foot", "pendulum", "bells"])
    if below == "foot":
        b.add_box(0, (-1.5 * t, -0.7 * r, -1.25 * r), (0.5 * t, 0.7 * r, -0.95 * r), body)
    elif below == "pendulum":
        long, bob, swing = rng.uniform(1.2, 2.2) * r, rng.uniform(0.2, 0.4) * r, np.deg2rad(rng.uniform(15, 40))
        high = -0.9 * r
        part = b.part("pendulum", JointType.REVOLUTE, (1, 0, 0), (0.1 * t, 0, high), swing, lower=-swing)
        b.add(part, cylinder((0.2 * t, 0, high), "z", -long, 0.04 * r, 8), moving)
        b.add(part, cylinder((0.05 * t, 0, high - long), "x", 0.3 * t, bob, 20), moving)
        if rng.random() < 0.5:
            b.add_box(0, (-t, -1.1 * r, high - long - 1.3 * bob), (-0.5 * t, 1.1 * r, -0.5 * r), body)
    elif below == "bells":
        for side in (-1, 1):
            b.add(0, ball((-t / 2, side * 0.6 * r, 1.0 * r), 0.3 * r), b.slot(Role.DETAIL))
            b.add(0, cylinder((-t / 2, side * 0.5 * r, -0.7 * r), "z", -0.5 * r, 0.08 * r, 8), b.slot(Role.DETAIL))
    b.turn(spin("z", rng.uniform(-0.6, 0.6)) @ spin("y", -rng.choice([0.0, rng.uniform(0, 0.3)])))


@category()
def camera(b: ObjectBuilder) -> None:
    """Camera: a lens that comes out or turns, a shutter, a dial on top, a flash that pops up, a screen at the side."""
    rng = b.rng
    width, height, t = rng.uniform(0.09, 0.15), rng.uniform(0.06, 0.1), rng.uniform(0.025, 0.06)
    body, detail = b.slot(Role.BODY), b.slot(Role.DETAIL)
    b.add(0, slab((-t, -width / 2, 0), (0, width / 2, height), "x", 0.15 * height, 0.1 * t), body)
    r, y = rng.uniform(0.28, 0.46) * height, rng.uniform(-0.12, 0.12) * width
    z, moving, ring = 0.48 * height, b.new_slot(Role.MOVING), rng.uniform(0.1, 0.5) * t
    b.add(0, annulus((0, y, z), "x", ring, 1.1 * r, 0.98 * r, 24), detail)
    long = rng.uniform(0.3, 1.6) * t
    if rng.random() < 0.7:
        part = b.part("lens", JointType.PRISMATIC, (1, 0, 0), (0, y, z), rng.uniform(0.5, 1.5) * t)
    else:
        part = b.part("lens", JointType.REVOLUTE, (1, 0, 0), (0, y, z), np.pi / 2, lower=-np.pi / 2)
        for k in range(2):
            grip = slab((0.3 * long, -0.12 * r, 0.9 * r), (0.8 * long, 0.12 * r, 1.25 * r), "x", 0.0)
            b.add(part, grip.moved(spin("x", np.pi * k + 0.4), np.array([0.0, y, z])), b.slot(Role.HANDLE))
    b.add(part, annulus((0, y, z), "x", long, 0.96 * r, 0.7 * r, 24), moving)
    b.add(part, cylinder((0, y, z), "x", 0.85 * long, 0.72 * r, 20), b.slot(Role.GLASS))
    side = float(rng.choice([-1, 1]))
    if rng.random() < 0.6:
        size = rng.uniform(0.1, 0.16) * height
        button = b.part("shutter", JointType.PRISMATIC, (0, 0, -1), (-t / 2, side * 0.36 * width, height), 0.8 * size)
        b.add(
            button, cylinder((-t / 2, side * 0.36 * width, height), "z", size, 1.4 * size, 14), b.new_slot(Role.MOVING)
        )
    if rng.random() < 0.6:
        top = (-0.2 * t, -0.2 * width, height), (-0.8 * t, 0.2 * width, height + 0.2 * height)
        hinge = (-0.8 * t, 0.0, height)
        flash = b.part("flash", JointType.REVOLUTE, (0, -1, 0), hinge, np.deg2rad(rng.uniform(40, 85)))
        b.add_box(flash, *top, b.new_slot(Role.MOVING), {"+x": b.slot(Role.GLASS)})
    if rng.random() < 0.5:
        edge, thin = (-t, side * 0.51 * width, 0.0), 0.15 * t
        screen = b.part("screen", JointType.REVOLUTE, (0, 0, -side), edge, np.deg2rad(rng.uniform(90, 180)))
        slot = b.new_slot(Role.MOVING)
        low, high = (
            (-t - thin, -side * 0.2 * width, 0.15 * height),
            (-t - 0.1 * thin, side * 0.5 * width, 0.85 * height),
        )
        b.add_box(screen, low, high, slot, {"-x": b.slot(Role.GLASS)})
    b.turn(spin("z", rng.choice([rng.uniform(-0.9, 0.9), rng.uniform(-np.pi, np.pi)])))


@category()
def printer(b: ObjectBuilder) -> None:
    """Printer, scanner or record player: a lid on top, a tray that slides or folds, a paper rest at the back."""
    rng = b.rng
    width, depth, height = rng.uniform(0.3, 0.5), rng.uniform(0.25, 0.42), rng.uniform(0.08, 0.28)
    body, detail = b.slot(Role.BODY), b.slot(Role.DETAIL)
    b.add(0, slab((-depth / 2, -width / 2, 0), (depth / 2, width / 2, height), "z", 0.05 * width, 0.005), body)
    t, front = rng.uniform(0.015, 0.05), depth / 2
    if rng.random() < 0.75:
        hinge = (-0.46 * depth, 0.0, height + 0.002)
        lid = b.part("lid", JointType.REVOLUTE, (0, -1, 0), hinge, np.deg2rad(rng.uniform(50, 95)))
        plate = slab(
            (-0.46 * depth, -0.49 * width, height + 0.002), (0.48 * depth, 0.49 * width, height + t), "z", 0.02
        )
        see_through = rng.random() < 0.2
        b.add(lid, plate, b.slot(Role.GLASS) if see_through else b.new_slot(Role.MOVING))
        b.add_box(0, (-0.4 * depth, -0.42 * width, height), (0.4 * depth, 0.42 * width, height + 0.001),
                  b.slot(Role.INTERIOR))  # fmt: skip
    if rng.random() < 0.7:
        z, tall, half = rng.uniform(0.1, 0.3) * height, rng.uniform(0.2, 0.45) * height, rng.uniform(0.3, 0.46) * width
        if rng.random() < 0.5:
            tray = b.part("tray", JointType.PRISMATIC, (1, 0, 0), (front, 0, z), rng.uniform(0.3, 0.7) * depth)
            b.add_box(tray, (-0.4 * depth, -half, z), (front + 0.01, half, z + 0.25 * tall), b.slot(Role.INTERIOR))
            b.add_box(tray, (front, -half, z), (front + 0.012, half, z + tall), b.new_slot(Role.MOVING))
        else:
            tray = b.part("tray", JointType.REVOLUTE, (0, 1, 0), (front + 0.001, 0, z), np.deg2rad(rng.uniform(70, 95)))
            b.add_box(tray, (front + 0.001, -half, z), (front + 0.014, half, z + tall + 0.2 * height),
                      b.new_slot(Role.MOVING), {"-x": b.slot(Role.INTERIOR)})  # fmt: skip
    elif rng.random() < 0.6:
        b.add_box(0, (front, -0.35 * width, 0.3 * height), (front + 0.002, 0.35 * width, 0.6 * height), detail)
    if rng.random() < 0.5:
        back, rest = (-0.5 * depth, 0.0, 0.8 * height), np.deg2rad(rng.uniform(0, 30))
        rack = b.part("rest", JointType.REVOLUTE, (0, -1, 0), back, np.deg2rad(60) - rest, lower=-rest)
        plate = slab((0.0, -0.38 * width, 0.0), (0.008, 0.38 * width, rng.uniform(0.15, 0.3)), "x", 0.01)
        b.add(rack, plate.moved(spin("y", -rest), np.array(back) - [0.01, 0, 0]), b.new_slot(Role.MOVING))
    if rng.random() < 0.6:
        add_dial(b, 0, front, 0.4 * width, 0.8 * height, 0.08 * height, detail)
    b.turn(spin("z", rng.uniform(-0.6, 0.6)))


@category()
def mirror(b: ObjectBuilder) -> None:
    """A panel on two posts or in a yoke that tilts about its middle: mirror, sign, solar panel, photo frame, cradle."""
    rng = b.rng
    width, height = rng.uniform(0.15, 0.4), rng.uniform(0.15, 0.5)
    t, r, body = rng.uniform(0.01, 0.04), rng.uniform(0.006, 0.02), b.slot(Role.BODY)
    rise, tilt = rng.uniform(0.0, 0.5) * height, np.deg2rad(rng.uniform(-30, 30))
    swing, level = np.deg2rad(rng.uniform(30, 100)), rng.uniform(0.3, 0.7) * height
    moving, axle = b.new_slot(Role.MOVING), rise + level
    upright = rng.random() < 0.25  # turns about a vertical axis in a frame
    outline = rounded_rectangle(width, height, rng.choice([0.0, 0.15, 0.5]) * width, 6)
    if upright:
        part = b.part("panel", JointType.REVOLUTE, (0, 0, 1), (0, 0, 0), swing, lower=-swing)
        border = rng.uniform(0.02, 0.06)
        low, high = (-t, -width / 2 - border, rise - border), (t, width / 2 + border, rise + height + border)
        b.add(0, frame(low, high, "x", 0.8 * border), body)
        if rng.random() < 0.6:
            b.add_box(0, (-0.15, -0.3 * width, rise - 2 * border), (0.15, 0.3 * width, rise - border), body)
        turn, level = spin("z", tilt), height / 2
        at = np.array([0.0, 0.0, rise + level])
    else:
        part = b.part("panel", JointType.REVOLUTE, (0, 1, 0), (0, 0, axle), swing - tilt, lower=-swing - tilt)
        for side in (-1, 1):
            y = side * (width / 2 + 2 * r)
            b.add(0, cylinder((0, y, 0), "z", axle + 2 * r, r, 10), body)
            b.add(0, cylinder((0, y, axle), "y", -side * 2.5 * r, 1.3 * r, 10), b.slot(Role.DETAIL))
        if rng.random() < 0.5:
            b.add_box(0, (-0.1, -width / 2 - 3 * r, -0.02), (0.1, width / 2 + 3 * r, 0), body)
        else:
            for side in (-1, 1):
                b.add_box(0, (-0.12, side * (width / 2 + 2 * r) - r, -0.015),
                          (0.12, side * (width / 2 + 2 * r) + r, 0.005), body)  # fmt: skip
        turn, at = spin("y", tilt), np.array([0.0, 0.0, axle])
    shape = outline + np.array([0.0, height / 2 - level])
    b.add(part, prism(shape, [-t / 2, t / 2], "x").moved(turn, at), moving)
    inner = (shape - shape.mean(0)) * 0.88 + shape.mean(0)
    b.add(part, prism(inner, [t / 2, t / 2 + 0.002], "x").moved(turn, at),
          b.slot(Role.GLASS) if rng.random() < 0.6 else b.slot(Role.DETAIL))  # fmt: skip
    b.turn(spin("z", rng.uniform(-0.9, 0.9)))


@category()
def book(b: ObjectBuilder) -> None:
    """Book, binder, notebook, compact or menu: a cover that opens about its spine, lying or standing."""
    rng = b.rng
    width, height, t = rng.uniform(0.1, 0.25), rng.uniform(0.12, 0.35), rng.uniform(0.01, 0.08)
    body, moving, thin = b.slot(Role.BODY), b.new_slot(Role.MOVING), rng.uniform(0.002, 0.006)
    b.add_box(0, (-t - thin, 0, 0), (-t, width, height), body)
    b.add_box(0, (-t, 0.02 * width, 0.02 * height), (-0.2 * thin, 0.97 * width, 0.98 * height), b.slot(Role.INTERIOR))
    if rng.random() < 0.6:
        b.add_box(0, (-t - thin, -thin, 0), (thin, 0, height), body)
    widest, rest = np.deg2rad(rng.uniform(100, 180)), np.deg2rad(rng.choice([0.0, rng.uniform(0, 90)]))
    cover = b.part("cover", JointType.REVOLUTE, (0, 0, -1), (0, 0, 0), widest - rest, lower=-rest)
    plate = slab((0.0, 0.0, 0.0), (thin, width, height), "x", 0.0)
    b.add(cover, plate.moved(spin("z", -rest)), moving)
    if rng.random() < 0.5:
        low, high = (thin, 0.25 * width, 0.55 * height), (thin + 0.001, 0.75 * width, 0.8 * height)
        b.add(cover, slab(low, high, "x", 0.0).moved(spin("z", -rest)), b.slot(Role.DETAIL))
    b.turn(spin("x", rng.choice([0.0, np.pi, np.pi / 2, -np.pi / 2])))
    lay(b)
