"""Generators of things about the house: toilet, bottle, bucket, jaws, lamp, swivel, cart, folding chair, ladder."""

import numpy as np

from partrm.geometry.joints import JointType
from partrm.objects.materials import Role
from partrm.procedural.builder import ObjectBuilder, pick
from partrm.procedural.registry import category
from partrm.procedural.shapes import (
    annulus,
    ball,
    circle,
    cup,
    cylinder,
    loft,
    prism,
    rounded_rectangle,
    slab,
    spin,
    stand,
    sweep,
    torus,
    turned,
)


@category()
def toilet(b: ObjectBuilder) -> None:
    """Toilet: bowl, seat and lid hinged at the back, with a cistern or without."""
    rng = b.rng
    depth, width, height = rng.uniform(0.38, 0.5), rng.uniform(0.32, 0.42), rng.uniform(0.3, 0.45)
    body, egg = b.slot(Role.BODY), circle(24) * (depth / 2, width / 2)
    foot = rng.uniform(0.45, 0.8)
    back = np.array([-0.1 * depth, 0.0])
    rings = [egg * foot + back, egg * 0.9 * foot + back, egg * (foot + 1) / 2 + back / 2, egg]
    b.add(0, loft(stand(rings, [0.0, 0.3 * height, 0.6 * height, 0.97 * height], "z")), body)
    b.add(0, loft(stand([egg, egg, 0.72 * egg, 0.72 * egg], [0.94 * height, height, height, 0.94 * height], "z"),
                  closed=True), body)  # fmt: skip
    b.add(0, loft(stand([0.73 * egg, 0.73 * egg], [0.971 * height, 0.975 * height], "z")), b.slot(Role.INTERIOR))
    if rng.random() < 0.75:
        tank, top = rng.uniform(0.12, 0.2), height * rng.uniform(1.6, 2.2)
        x = -depth / 2 - 0.6 * tank
        b.add(0, slab((x - tank / 2, -0.55 * width, 0.8 * height), (x + tank / 2, 0.55 * width, top), "z", 0.03), body)
        b.add_box(0, (x - 0.6 * tank, -0.58 * width, top), (x + 0.6 * tank, 0.58 * width, top + 0.03), body)
    t, hinge = rng.uniform(0.012, 0.03), (-0.48 * depth, 0.0, height + 0.01)
    moving, opening = b.new_slot(Role.MOVING), np.deg2rad(rng.uniform(80, 105))
    seat = b.part("seat", JointType.REVOLUTE, (0, -1, 0), hinge, opening)
    z, hole = height + 0.002, egg * (0.68, 0.62)
    b.add(seat, loft(stand([egg, egg, hole, hole], [z, z + t, z + t, z], "z"), closed=True), moving)
    if rng.random() < 0.8:
        lid = b.part("lid", JointType.REVOLUTE, (0, -1, 0), hinge, opening, parent=seat)
        cover = [1.02 * egg, 1.02 * egg, rng.uniform(0.8, 0.98) * egg]
        slot = moving if rng.random() < 0.7 else b.new_slot(Role.MOVING)
        b.add(lid, loft(stand(cover, [z + t + 0.001, z + 1.5 * t, z + 2.2 * t], "z")), slot)


@category()
def bottle(b: ObjectBuilder) -> None:
    """Bottle or jar with a cap that lifts, or a dispenser whose head is pressed or turned."""
    rng = b.rng
    r, height = rng.uniform(0.03, 0.06), rng.uniform(0.1, 0.28)
    neck = r * rng.uniform(0.35, 0.9)
    shoulder, top = height * rng.uniform(0.55, 0.9), height
    body, moving = b.slot(Role.BODY), b.new_slot(Role.MOVING)
    b.add(
        0, turned([0.95 * r, r, r, neck, neck], [0, 0.02 * height, shoulder, 0.95 * top, top], "z", (0, 0, 0), 24), body
    )
    if rng.random() < 0.6:
        low, high = sorted(rng.uniform(0.1, 0.95, 2) * shoulder)
        label = [1.01 * r, 1.01 * r]
        b.add(0, turned(label, [low, high + 0.1 * shoulder * (high < 0.8 * shoulder)], "z", (0, 0, 0), 24),
              b.new_slot(Role.DETAIL))  # fmt: skip
    kind = pick(rng, ["cap", "cap", "press", "turn"])
    if kind == "cap":
        cap = neck * rng.uniform(1.1, 1.4)
        skirt, rise = rng.uniform(0.06, 0.25) * height, rng.uniform(0.02, 0.06) * height
        part = b.part("cap", JointType.PRISMATIC, (0, 0, 1), (0, 0, top), rng.uniform(0.15, 0.6) * height)
        sides = int(rng.choice([8, 24]))
        profile = [cap, cap, 0.9 * cap], [top - skirt, top + 0.6 * rise, top + rise]
        b.add(part, turned(*profile, "z", (0, 0, 0), sides), moving)
        return
    collar, rise = 1.15 * neck, rng.uniform(0.12, 0.3) * height
    b.add(
        0, turned([collar, collar], [top - 0.05 * height, top + 0.05 * height], "z", (0, 0, 0), 20), b.slot(Role.DETAIL)
    )
    pump = (0, 0, -1), (0, 0, top), 0.6 * rise
    swing = np.deg2rad(rng.uniform(40, 170))
    if kind == "press":
        part = b.part("pump", JointType.PRISMATIC, *pump)
    else:
        part = b.part("pump", JointType.REVOLUTE, (0, 0, 1), (0, 0, top), swing, lower=-swing)
    z = top + 0.05 * height + rise
    b.add(part, cylinder((0, 0, top), "z", z - top, 0.25 * neck, 10), moving)
    b.add(
        part,
        turned([0.8 * collar, 0.8 * collar, 0.6 * collar], [z, z + 0.3 * rise, z + 0.4 * rise], "z", (0, 0, 0), 16),
        moving,
    )
    heading, reach = spin("z", rng.uniform(-1.5, 1.5)), r * rng.uniform(1.0, 2.2)
    path = np.array([[0, 0, z + 0.2 * rise], [0.9 * reach, 0, z + 0.2 * rise], [reach, 0, z - 0.1 * rise]])
    b.add(part, sweep(path, circle(8, 0.25 * neck), [0.0, 1.0, 0.0]).moved(heading), moving)


@category()
def bucket(b: ObjectBuilder) -> None:
    """Bucket, basket or pan whose bail swings over it."""
    rng = b.rng
    r, height = rng.uniform(0.1, 0.2), rng.uniform(0.1, 0.35)
    outline = circle(24, r) if rng.random() < 0.6 else rounded_rectangle(2 * r, 2.6 * r, rng.uniform(0.05, 0.8) * r)
    body, moving = b.slot(Role.BODY), b.new_slot(Role.MOVING)
    b.add(0, cup([outline * rng.uniform(0.6, 1.0), outline], [0.0, height], 0.06 * r, 0.02), body)
    half = float(outline[:, 1].max())
    if rng.random() < 0.5:
        rim = [outline * 1.04, outline * 1.04, outline * 0.97, outline * 0.97]
        b.add(0, loft(stand(rim, [height - 0.1 * r, height, height, height - 0.1 * r], "z"), closed=True), body)
    for side in (-1, 1):
        b.add(0, cylinder((0, side * half, height - 0.06 * r), "y", side * 0.06 * r, 0.08 * r, 10), b.slot(Role.DETAIL))
    rest = np.deg2rad(rng.choice([0.0, 85.0, -85.0, rng.uniform(-85, 85)]))
    pivot = (0, 0, height - 0.06 * r)
    part = b.part("bail", JointType.REVOLUTE, (0, 1, 0), pivot, np.deg2rad(88) - rest, lower=-np.deg2rad(88) - rest)
    angle, wire = np.linspace(0, np.pi, 17), rng.uniform(0.02, 0.06) * r
    reach = (half + 0.05 * r), rng.uniform(0.7, 1.4) * half
    bow = np.stack([np.zeros(17), reach[0] * np.cos(angle), reach[1] * np.sin(angle)], -1)
    b.add(part, sweep(bow, circle(8, wire), [1.0, 0.0, 0.0]).moved(spin("y", rest), np.array(pivot)), moving)
    if rng.random() < 0.5:
        grip = cylinder((0, -0.25 * half, reach[1]), "y", 0.5 * half, 2.5 * wire, 10)
        b.add(part, grip.moved(spin("y", rest), np.array(pivot)), b.slot(Role.HANDLE))
    if rng.random() < 0.5:
        b.turn(spin("z", rng.uniform(-1.2, 1.2)))


@category()
def jaws(b: ObjectBuilder) -> None:
    """Stapler, waffle iron or pliers-like: two long halves hinged at one end, the upper one swings up."""
    rng = b.rng
    length, width, t = rng.uniform(0.12, 0.35), rng.uniform(0.03, 0.28), rng.uniform(0.01, 0.05)
    body, moving = b.slot(Role.BODY), b.new_slot(Role.MOVING)
    corner = rng.uniform(0, 0.5) * min(length, width)
    outline = rounded_rectangle(length, width, corner, 4) + np.array([length / 2, 0.0])
    b.add(0, prism(outline, [0.0, t], "z"), body)
    rest = np.deg2rad(rng.choice([0.0, rng.uniform(0, 30)]))
    pivot = np.array([0.0, 0.0, t + rng.uniform(0.0, 0.5) * t])
    part = b.part("upper", JointType.REVOLUTE, (0, -1, 0), pivot, np.deg2rad(rng.uniform(45, 120)) - rest, lower=-rest)
    high = t * rng.uniform(0.6, 2.0)
    shrink = (outline - outline.mean(0)) * rng.uniform(0.75, 1.0) + outline.mean(0)
    upper = [loft(stand([outline, outline, shrink], [0.02 * t, 0.7 * high, high], "z"))]
    if rng.random() < 0.5:
        grip = np.array([[0.9 * length, 0, 0.4 * high], [1.35 * length, 0, 0.4 * high]])
        upper.append(sweep(grip, circle(8, 0.12 * width + 0.003), [0.0, 1.0, 0.0]))
        b.add(0, sweep(grip * [1, 0, 0] + [0, 0, 0.5 * t], circle(8, 0.1 * width + 0.003), [0.0, 1.0, 0.0]), body)
    for mesh in upper:
        b.add(part, mesh.moved(spin("y", -rest), pivot), moving)
    b.add(0, cylinder((0, -0.4 * width, pivot[2]), "y", 0.8 * width, 0.5 * t, 12), b.slot(Role.DETAIL))
    b.turn(spin("z", rng.choice([0.0, rng.uniform(-1.5, 1.5)])))


@category()
def lamp(b: ObjectBuilder) -> None:
    """Desk lamp: foot, two arms and a shade on hinges."""
    rng = b.rng
    r, length = rng.uniform(0.06, 0.12), rng.uniform(0.15, 0.3)
    body, thick, parent = b.slot(Role.BODY), rng.uniform(0.008, 0.02), 0
    b.add(0, turned([r, r, 0.3 * r], [0.0, 0.02, 0.035], "z", (0, 0, 0), 24), body)
    at, lean = np.array([0.0, 0.0, 0.04]), np.deg2rad(rng.uniform(-40, 10))
    arm = b.new_slot(Role.MOVING)
    for k in range(int(rng.integers(1, 3))):
        part = b.part(f"arm_{k}", JointType.REVOLUTE, (0, 1, 0), at, np.deg2rad(rng.uniform(20, 60)),
                      lower=-np.deg2rad(rng.uniform(20, 60)), parent=parent)  # fmt: skip
        tip = at + length * np.array([np.sin(lean), 0.0, np.cos(lean)])
        b.add(part, sweep(np.stack([at, tip]), circle(8, thick), [0.0, 1.0, 0.0]), arm)
        b.add(part, cylinder(at - [0, 1.5 * thick, 0], "y", 3 * thick, 1.8 * thick, 12), b.slot(Role.DETAIL))
        at, lean, parent = tip, lean + np.deg2rad(rng.uniform(40, 100)), part
    shade = b.part("shade", JointType.REVOLUTE, (0, 1, 0), at, np.deg2rad(50), -np.deg2rad(50), parent)
    wide, deep = rng.uniform(0.05, 0.11), rng.uniform(0.06, 0.14)
    bell = cup([circle(20, 0.35 * wide), circle(20, wide)], [0.0, deep], 0.06 * wide, 0.01)
    aim = spin("y", np.pi - np.deg2rad(rng.uniform(-10, 60)))
    b.add(shade, bell.moved(aim, at), b.new_slot(Role.MOVING))
    b.turn(spin("z", rng.uniform(-1.8, 1.8)))


@category()
def swivel(b: ObjectBuilder) -> None:
    """A seat, a screen, a fan or a globe that turns on a pedestal; screens and fans also nod."""
    rng = b.rng
    kind = pick(rng, ["seat", "screen", "fan", "globe"])
    body, moving = b.slot(Role.BODY), b.new_slot(Role.MOVING)
    height, r = rng.uniform(0.1, 0.45), rng.uniform(0.1, 0.22)
    b.add(0, turned([r, r, 0.25 * r], [0.0, 0.02, 0.04], "z", (0, 0, 0), 20), body)
    b.add(0, cylinder((0, 0, 0.03), "z", height - 0.03, rng.uniform(0.1, 0.25) * r, 12), body)
    swing = np.deg2rad(rng.uniform(40, 150))
    part = b.part("top", JointType.REVOLUTE, (0, 0, 1), (0, 0, height), swing, lower=-swing)
    nod = np.deg2rad(rng.uniform(15, 50))
    if kind == "seat":
        w = r * rng.uniform(1.2, 1.8)
        b.add(part, slab((-w, -w, height), (w, w, height + 0.06), "z", 0.5 * w, 0.02), moving)
        tall = rng.uniform(0.2, 0.5)
        b.add(
            part, slab((-w, -0.8 * w, height + 0.06 + 0.3 * tall), (-0.8 * w, 0.8 * w, height + tall), "x", 0.1), moving
        )
        b.add_box(
            part, (-0.97 * w, -0.1 * w, height + 0.02), (-0.87 * w, 0.1 * w, height + 0.5 * tall), b.slot(Role.DETAIL)
        )
    elif kind == "screen":
        w, h, t = rng.uniform(0.2, 0.35), rng.uniform(0.15, 0.3), rng.uniform(0.015, 0.05)
        b.add(part, cylinder((0, 0, height), "z", 0.03, 0.3 * r, 12), b.slot(Role.DETAIL))
        panel = b.part("screen", JointType.REVOLUTE, (0, 1, 0), (0, 0, height + h), nod, -nod, part)
        b.add(panel, slab((0.0, -w, height + 0.04), (t, w, height + 0.04 + 2 * h), "x", 0.02), moving)
        b.add_box(
            panel,
            (t, -0.95 * w, height + 0.05 + 0.05 * h),
            (t + 0.002, 0.95 * w, height + 1.95 * h),
            b.slot(Role.GLASS),
        )
    elif kind == "fan":
        size, z = r * rng.uniform(1.0, 1.6), height
        z += 1.05 * size
        head = b.part("head", JointType.REVOLUTE, (0, 1, 0), (0, 0, z), nod, -nod, part)
        b.add(part, cylinder((0, 0, height), "z", 1.05 * size, 0.15 * r, 10), body)
        b.add(
            head,
            turned([0.3 * size, 0.35 * size, 0.2 * size], [-0.4 * size, 0.0, 0.2 * size], "x", (0, 0, z), 16),
            moving,
        )
        for k in range(int(rng.integers(2, 5))):
            b.add(head, torus((0.1 * size, 0, z), "x", size * (1 - 0.22 * k), 0.02 * size), b.slot(Role.HANDLE))
        for k in range(blades := int(rng.integers(3, 6))):
            blade = slab((0.0, -0.18 * size, 0.1 * size), (0.02 * size, 0.18 * size, 0.9 * size), "x", 0.1 * size)
            turn = spin("x", 2 * np.pi * k / blades) @ spin("z", 0.4)
            b.add(head, blade.moved(turn, np.array([0.05 * size, 0.0, z])), b.slot(Role.DETAIL))
    else:
        size = r * rng.uniform(0.8, 1.4)
        z, angle = height + 1.15 * size, np.linspace(-np.pi / 2, np.pi / 2, 13)
        bow = np.stack([np.zeros(13), 1.12 * size * np.cos(angle), z + 1.12 * size * np.sin(angle)], -1)
        b.add(part, sweep(bow, circle(6, 0.05 * size), [1.0, 0.0, 0.0]), moving)
        b.add(0, ball((0, 0, z), size, rings=12, segments=24, pole=0.05), b.new_slot(Role.DETAIL))


@category()
def cart(b: ObjectBuilder) -> None:
    """Cart, trolley or stroller: wheels that turn, a handle that folds, one or two decks."""
    rng = b.rng
    length, width, r = rng.uniform(0.4, 0.9), rng.uniform(0.3, 0.55), rng.uniform(0.07, 0.18)
    body, moving, t = b.slot(Role.BODY), b.new_slot(Role.MOVING), rng.uniform(0.02, 0.06)
    floor = r * rng.uniform(1.0, 1.6)
    if rng.random() < 0.5:
        b.add_box(0, (-length / 2, -width / 2, floor), (length / 2, width / 2, floor + t), body)
    else:
        deck = rounded_rectangle(length, width, 0.05)
        b.add(0, cup([deck, deck], [floor, floor + rng.uniform(0.1, 0.4)], t / 2, t), body)
    upper = rng.random() < 0.35
    high = floor + rng.uniform(0.3, 0.6)
    if upper:
        b.add_box(0, (-length / 2, -width / 2, high), (length / 2, width / 2, high + t), body)
        for sx in (-0.46, 0.46):
            for sy in (-0.46, 0.46):
                b.add(0, cylinder((sx * length, sy * width, floor), "z", high - floor, 0.3 * t, 8), body)
    thick, spokes = rng.uniform(0.25, 0.6) * r, int(rng.integers(3, 7))
    rubber, hub = b.slot(Role.HANDLE), moving
    for sx in pick(rng, [(-0.36, 0.36), (-0.3, 0.3), (0.25,)]):
        for side in (-1, 1):
            at = np.array([sx * length, side * (width / 2 + 0.1 * r), r])
            b.add(0, cylinder(at, "y", -side * 0.3 * r, 0.15 * r, 8), b.slot(Role.DETAIL))
            b.add(0, cylinder(at - [0, side * 0.2 * r, 0], "z", max(0.1 * r, floor - r), 0.12 * r, 8), body)
            part = b.part("wheel", JointType.REVOLUTE, (0, float(rng.choice([-1, 1])), 0), at, np.pi, lower=-np.pi)
            b.add(part, annulus(at, "y", side * thick, r, 0.72 * r, 24), rubber)
            b.add(part, cylinder(at, "y", side * thick, 0.2 * r, 12), hub)
            for k in range(spokes):
                arm = slab((-0.09 * r, 0.2 * thick, 0.1 * r), (0.09 * r, 0.8 * thick, 0.75 * r), "z", 0.0)
                arm = arm.moved(spin("y", 2 * np.pi * k / spokes + 0.3))
                b.add(part, arm.moved(np.diag([1.0, side, 1.0]), at), hub)
    if rng.random() < 0.75:
        base, tall = (high + t if upper else floor + t), rng.uniform(0.3, 0.6)
        back, tilt, half = -length / 2, np.deg2rad(rng.uniform(-25, 5)), 0.42 * width
        part = b.part("handle", JointType.REVOLUTE, (0, 1, 0), (back, 0, base), np.deg2rad(rng.uniform(60, 85)) - tilt)
        bow = np.array([[0, -half, 0], [0, -half, 0.97 * tall], [0, -0.9 * half, tall], [0, 0.9 * half, tall],
                        [0, half, 0.97 * tall], [0, half, 0]])  # fmt: skip
        bar = sweep(bow, circle(8, rng.uniform(0.01, 0.02)), [1.0, 0.0, 0.0])
        b.add(part, bar.moved(spin("y", tilt), np.array([back, 0.0, base])), b.new_slot(Role.MOVING))
    b.turn(spin("z", rng.uniform(-2.0, 2.0)))


@category()
def folding_chair(b: ObjectBuilder) -> None:
    """Chair whose seat folds up and whose legs fold together, or a bench or cinema seat with the seat alone."""
    rng = b.rng
    width, high, tall = rng.uniform(0.35, 0.55), rng.uniform(0.38, 0.5), rng.uniform(0.75, 1.0)
    r, body, moving = rng.uniform(0.01, 0.022), b.slot(Role.BODY), b.new_slot(Role.MOVING)
    half, t = width / 2, rng.uniform(0.015, 0.06)
    crossed = rng.random() < 0.65
    foot, back = (0.2, -rng.uniform(0.15, 0.3)) if crossed else (-0.2, -0.25)
    ahead = np.array([back - foot, tall])
    seat_at = np.array([foot + ahead[0] * high / tall, 0.0, high])
    for side in (-1, 1):
        post = np.array([[foot, side * half, 0], [back, side * half, tall]])
        b.add(0, sweep(post, circle(8, r), [1.0, 0.0, 0.0]), body)
        if not crossed:
            b.add_box(
                0, (seat_at[0] - 0.02, side * half - r, 0), (seat_at[0] + 0.35, side * half + r, 0.9 * high), body
            )
    rest = np.array([[foot + ahead[0] * s, 0, tall * s] for s in (rng.uniform(0.68, 0.8), 0.97)])
    board = sweep(rest, rounded_rectangle(width, 0.02, 0.008), [1.0, 0.0, 0.0])
    b.add(0, board, b.new_slot(Role.MOVING) if rng.random() < 0.3 else body)
    deep = rng.uniform(0.32, 0.42)
    part = b.part("seat", JointType.REVOLUTE, (0, -1, 0), seat_at, np.deg2rad(rng.uniform(55, 85)))
    plate = slab((-0.02, 0.03 - half, -t), (deep, half - 0.03, 0.0), "z", rng.uniform(0, 0.1), 0.3 * t)
    b.add(part, plate.moved(np.eye(3), seat_at), moving)
    if crossed:
        share = 0.6 * high / tall
        at = np.array([foot + ahead[0] * share, 0.0, tall * share])
        legs = b.part("legs", JointType.REVOLUTE, (0, -1, 0), at, np.deg2rad(rng.uniform(35, 55)))
        lower, upper = np.array([at[0] - rng.uniform(0.2, 0.3), 0.0, 0.0]), np.array([at[0] + 0.14, 0.0, high - t - r])
        for side in (-1, 1):
            y = side * (half - 2.2 * r)
            b.add(legs, sweep(np.stack([lower, upper]) + np.array([0, y, 0]), circle(8, r), [1.0, 0.0, 0.0]), moving)
        b.add(legs, cylinder(lower + np.array([0, -half, 0.05]), "y", width, r, 8), moving)
    b.turn(spin("z", rng.choice([rng.uniform(-1.2, 1.2), rng.uniform(-np.pi, np.pi)])))


@category()
def ladder(b: ObjectBuilder) -> None:
    """Step ladder, easel, trestle or sandwich board: two frames that spread about a hinge at the top."""
    rng = b.rng
    height, width, t = rng.uniform(0.4, 1.2), rng.uniform(0.25, 0.6), rng.uniform(0.01, 0.03)
    spread, body = np.deg2rad(rng.uniform(12, 28)), b.slot(Role.BODY)
    boards, steps = rng.random() < 0.35, int(rng.integers(1, 6))
    closing = np.deg2rad(rng.uniform(5, 12))
    part = b.part("frame", JointType.REVOLUTE, (0, -1, 0), (0, 0, height), 2 * spread - closing, lower=-closing)
    taper = rng.uniform(0.5, 1.0)
    for owner, side, slot in ((0, 1, body), (part, -1, b.new_slot(Role.MOVING))):
        # Built hanging from the hinge, then spread.
        turn, at = spin("y", -side * spread), np.array([0.0, 0.0, height])
        long = height / np.cos(spread)
        if boards:
            plate = slab((-t / 2 + side * t, -width / 2, -long), (t / 2 + side * t, width / 2, 0.0), "x", 0.02)
            b.add(owner, plate.moved(turn, at), slot)
            if side > 0:
                sheet = slab((1.5 * t, -0.4 * width, -0.8 * long), (1.6 * t, 0.4 * width, -0.15 * long), "x", 0.0)
                b.add(owner, sheet.moved(turn, at), b.slot(Role.DETAIL))
            continue
        for edge in (-1, 1):
            path = np.array([[side * t, edge * taper * width / 2, 0], [side * t, edge * width / 2, -long]])
            b.add(owner, sweep(path, rounded_rectangle(2 * t, 1.5 * t, 0.3 * t), [1.0, 0.0, 0.0]).moved(turn, at), slot)
        for k in range(steps if side > 0 else max(1, steps // 2)):
            z = -long * (k + 0.6) / (steps + 0.3)
            half = width / 2 * (taper + (1 - taper) * -z / long)
            deep = 0.06 if side > 0 else t
            rung = slab((side * t - deep / 2, -half, z - t / 2), (side * t + deep / 2, half, z + t / 2), "z", 0.0)
            b.add(owner, rung.moved(turn, at), slot)
    if rng.random() < 0.6:
        top = (-0.08, -taper * width / 2 - t, height), (0.08, taper * width / 2 + t, height + t)
        b.add_box(0, *top, b.slot(Role.DETAIL))
    b.turn(spin("z", rng.choice([rng.uniform(-1.2, 1.2), rng.uniform(-np.pi, np.pi)])))
