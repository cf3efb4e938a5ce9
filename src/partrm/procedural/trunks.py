"""Generators of trunks and crates with hardware, and of post boxes with a door below the slot."""

from dataclasses import replace

import numpy as np

from partrm.geometry.joints import JointType
from partrm.objects.materials import Role
from partrm.procedural.builder import ObjectBuilder, pick
from partrm.procedural.carcass import Hinge, add_carcass, add_door, add_shelves, front_slots
from partrm.procedural.fittings import add_dial
from partrm.procedural.fronts import Rect, sample_style
from partrm.procedural.registry import category
from partrm.procedural.shapes import Real, circle, frame, slab, sweep


def _add_corners(b: ObjectBuilder, part: int, depth: Real, width: Real, span: tuple[Real, Real], arm: Real) -> None:
    """Plates about the four upright edges over the heights ``span``."""
    slot, out, (z0, z1) = b.slot(Role.HANDLE), 0.005, span
    for side in (-1, 1):
        y = side * width / 2
        inner, outer = sorted((y - side * arm, y + side * out))
        for x0, x1 in ((-out, 0.0), (depth, depth + out)):
            b.add_box(part, (x0, inner, z0), (x1, outer, z1), slot)
        inner, outer = sorted((y, y + side * out))
        for x0, x1 in ((0.0, arm), (depth - arm, depth)):
            b.add_box(part, (x0, inner, z0), (x1, outer, z1), slot)


def _add_battens(b: ObjectBuilder, part: int, depth: Real, width: Real, span: tuple[Real, Real], count: int) -> None:
    """Upright battens on the front and the ends."""
    slot, (z0, z1) = b.slot(Role.DETAIL), span
    half, out = 0.03 * width, 0.008
    for u in (np.arange(count) + 1) / (count + 1) - 0.5:
        b.add_box(part, (depth, u * width - half, z0), (depth + out, u * width + half, z1), slot)
    for side in (-1, 1):
        y0, y1 = sorted((side * width / 2, side * (width / 2 + out)))
        b.add_box(part, (0.5 * depth - half, y0, z0), (0.5 * depth + half, y1, z1), slot)


def _add_side_handle(b: ObjectBuilder, depth: Real, y: Real, z: Real) -> None:
    """An iron bow on an end, on a plate."""
    rng, slot, side = b.rng, b.slot(Role.HANDLE), np.sign(y)
    half, drop = rng.uniform(0.035, 0.08), rng.uniform(0.02, 0.05)
    y0, y1 = sorted((y, y + side * 0.004))
    b.add_box(0, (depth / 2 - 1.2 * half, y0, z - 0.02), (depth / 2 + 1.2 * half, y1, z + 0.02), slot)
    along = np.linspace(-1, 1, 9)
    path = np.stack([depth / 2 + half * along, np.full(9, y + side * 0.014), z - drop * (1 - along**4)], -1)
    b.add(0, sweep(path, circle(6, 0.006), [0.0, 1.0, 0.0]), slot)
    for end in (path[0], path[-1]):
        y0, y1 = sorted((y, y + side * 0.02))
        b.add_box(0, (end[0] - 0.008, y0, z - 0.008), (end[0] + 0.008, y1, z + 0.008), slot)


def _add_latch(b: ObjectBuilder, lid: int, depth: Real, y: Real, seam: Real, size: Real) -> None:
    """A plate and a catch on the body, a clasp on the lid above the seam."""
    slot, out = b.slot(Role.HANDLE), 0.012
    b.add_box(0, (depth, y - 0.5 * size, seam - 1.3 * size), (depth + out, y + 0.5 * size, seam - 0.003), slot)
    b.add_box(
        0, (depth + out, y - 0.2 * size, seam - size), (depth + 1.8 * out, y + 0.2 * size, seam - 0.3 * size), slot
    )
    b.add_box(lid, (depth, y - 0.4 * size, seam + 0.003), (depth + out, y + 0.4 * size, seam + 0.7 * size), slot)


@category()
def storage_trunk(b: ObjectBuilder) -> None:
    """Trunk, crate or blanket chest: hollow, a hollow or thick lid, with corners, battens, latches, moulded plinth."""
    rng = b.rng
    width, depth = rng.uniform(0.35, 1.15), rng.uniform(0.3, 0.55)
    height, wall = rng.uniform(0.22, 0.5), rng.uniform(0.012, 0.03)
    body, inside, slot = b.slot(Role.BODY), b.slot(Role.INTERIOR), b.new_slot(Role.MOVING)
    b.add(0, frame((0, -width / 2, 0), (depth, width / 2, height), "z", wall), body)
    b.add_box(0, (wall, -width / 2 + wall, 0), (depth - wall, width / 2 - wall, wall), inside)
    z, over = height + 0.003, float(rng.choice([0.0, 0.0, rng.uniform(0.004, 0.02)]))
    hinge = (-0.5 * over - 0.006, 0.0, z)
    lid = b.part("lid", JointType.REVOLUTE, (0, -1, 0), hinge, np.deg2rad(rng.uniform(65, 105)))
    hollow = rng.random() < 0.6
    rise = rng.uniform(0.06, 0.2) if hollow else rng.uniform(0.018, 0.045)
    if hollow:
        b.add(lid, frame((0, -width / 2, z), (depth, width / 2, z + rise - wall), "z", wall), slot)
        top = slab((0, -width / 2, z + rise - wall), (depth, width / 2, z + rise), "z", 0.0, rng.uniform(0.0, 0.01))
        b.add(lid, top, slot)
        over = 0.0
    else:
        low, high = (-0.5 * over, -width / 2 - over, z), (depth + over, width / 2 + over, z + rise)
        b.add(lid, slab(low, high, "z", 0.0, rng.uniform(0.0, 0.4) * rise), slot)
    kind = pick(rng, ["plain", "plain", "corners", "crate", "banded"])
    arm = rng.uniform(0.03, 0.09)
    if kind in ("corners", "crate"):
        tall = rng.uniform(0.04, 0.4 * height)
        for span in ((-0.004, tall), (height - 0.6 * tall, height - 0.001)):
            _add_corners(b, 0, depth, width, span, arm)
        if hollow:
            _add_corners(b, lid, depth, width, (z + 0.001, z + rise + 0.004), arm)
    if kind in ("crate", "banded"):
        count = int(rng.integers(1, 4))
        _add_battens(b, 0, depth, width, (0.001, height - 0.002), count)
        if hollow:
            _add_battens(b, lid, depth, width, (z + 0.001, z + rise), count)
    if hollow or over == 0:
        latches = pick(rng, [(), (0.0,), (-0.25, 0.25), (-0.3, 0.0, 0.3)])
        for u in latches:
            clear = depth + (0.008 if kind in ("crate", "banded") else 0.0)
            _add_latch(b, lid, clear, u * width, height + 0.0015, min(rng.uniform(0.03, 0.06), 1.2 * rise))
    if rng.random() < 0.5:
        for side in (-1, 1):
            y = side * (width / 2 + (0.008 if kind in ("crate", "banded") else 0.0))
            _add_side_handle(b, depth, y, rng.uniform(0.5, 0.75) * height)
    if kind in ("plain", "banded"):
        high, out = rng.uniform(0.03, 0.1), rng.uniform(0.006, 0.02)
        foot = rng.choice([0.0, 0.0, rng.uniform(0.02, 0.05)])
        low, top = (-0.001, -width / 2 - out, -foot - 0.004), (depth + out, width / 2 + out, high)
        b.add(0, frame(low, top, "z", [out, out + 0.001, out, out]), body)
    elif kind == "corners" and rng.random() < 0.5:
        for x in (0.03, depth - 0.08):
            for y in (-width / 2 + 0.03, width / 2 - 0.08):
                b.add_box(0, (x, y, -0.03), (x + 0.05, y + 0.05, 0.0), b.slot(Role.DETAIL))


@category()
def post_box(b: ObjectBuilder) -> None:
    """Post box on or in a wall, or on a post: a slot under a hood, a plate, a locked door below."""
    rng = b.rng
    width, height, depth = rng.uniform(0.2, 0.4), rng.uniform(0.4, 0.95), rng.uniform(0.08, 0.35)
    body, inside, wall = b.slot(Role.BODY), b.slot(Role.INTERIOR), rng.uniform(0.008, 0.02)
    split = height * rng.uniform(0.45, 0.72)
    lower, upper = Rect(-width / 2, width / 2, 0.0, split), Rect(-width / 2, width / 2, split, height)
    below = add_carcass(b, lower, 0.0, depth, wall, body, inside)
    b.add_box(0, (0.0, upper.y0, upper.z0), (wall, upper.y1, upper.z1), body, {"+x": inside})
    for y0, y1 in ((upper.y0, upper.y0 + wall), (upper.y1 - wall, upper.y1)):
        b.add_box(0, (wall, y0, upper.z0), (depth, y1, upper.z1), body)
    b.add_box(0, (wall, upper.y0 + wall, upper.z1 - wall), (depth, upper.y1 - wall, upper.z1), body)
    slit = Rect(-0.36 * width, 0.36 * width, *(upper.at(0, v)[1] for v in (0.66, rng.uniform(0.74, 0.82))))
    panel = (depth - wall, upper.y0 + wall, upper.z0), (depth, upper.y1 - wall, upper.z1 - wall)
    border = (slit.y0 - panel[0][1], panel[1][1] - slit.y1, slit.z0 - panel[0][2], panel[1][2] - slit.z1)
    b.add(0, frame(*panel, "x", border), body)
    if rng.random() < 0.45:
        flap = b.part("flap", JointType.REVOLUTE, (0, -1, 0), (depth + 0.006, 0, slit.z1 + 0.008),
                      np.deg2rad(rng.uniform(40, 90)))  # fmt: skip
        rect = slit.inset(-0.006)
        b.add_box(flap, (depth + 0.001, rect.y0, rect.z0), (depth + 0.006, rect.y1, rect.z1), b.new_slot(Role.MOVING))
        b.add_box(flap, (depth + 0.006, -0.1 * width, rect.z0), (depth + 0.012, 0.1 * width, rect.z0 + 0.008),
                  b.slot(Role.HANDLE))  # fmt: skip
    elif rng.random() < 0.7:
        out = rng.uniform(0.015, 0.05)
        b.add_box(0, (depth, slit.y0 - 0.02, slit.z1), (depth + out, slit.y1 + 0.02, slit.z1 + 0.012), body)
    plate = Rect(-0.32 * width, 0.32 * width, upper.at(0, 0.1)[1], upper.at(0, 0.5)[1])
    if rng.random() < 0.75:
        b.add_box(0, (depth, plate.y0, plate.z0), (depth + 0.003, plate.y1, plate.z1), b.slot(Role.DETAIL))
    style = sample_style(rng, ("flat", "flat", "framed", "raised", "soft"), ("none", "none", "knob", "lip"), 0.25)
    style = replace(style, thickness=rng.uniform(0.006, 0.014), border=rng.uniform(0.012, 0.03))
    inset = bool(rng.random() < 0.6)
    rect = below.inner.inset(0.002) if inset else lower.inset(0.004)
    hinge: Hinge = pick(rng, ["left", "right", "left", "right", "bottom"])
    x = depth - style.thickness if inset else depth + 0.001
    part = add_door(b, rect, x, hinge, style, front_slots(b, inside))
    add_shelves(b, below.inner, wall, depth - 0.03, int(rng.integers(0, 2)), inside)
    face, free = x + style.thickness * (1.3 if style.panel == "raised" else 1.0), 0.8 if hinge == "left" else 0.2
    y, z = rect.at(0.5 if hinge == "bottom" else free, 0.8 if hinge == "bottom" else 0.55)
    add_dial(b, part, face, y, z, 0.012, b.slot(Role.HANDLE))
    kind = pick(rng, ["crown", "roof", "flat", "frame"])
    if kind == "crown":
        b.add(0, slab((0.0, -0.54 * width, height), (depth + 0.02, 0.54 * width, height + 0.03), "z", 0.01, 0.01), body)
    elif kind == "roof":
        b.add(
            0, slab((-0.01, -0.53 * width, height), (depth + 0.03, 0.53 * width, height + 0.06), "z", 0.0, 0.05), body
        )
    elif kind == "frame":
        out = rng.uniform(0.05, 0.2) * width
        low, high = (depth - 0.03, -width / 2 - out, -out), (depth - 0.004, width / 2 + out, height + out)
        b.add(0, frame(low, high, "x", out), b.slot(Role.DETAIL))
    if kind in ("crown", "roof") and rng.random() < 0.3:
        half = 0.15 * width
        b.add_box(0, (0.1 * depth, -half, -0.7 * height), (0.1 * depth + 2 * half, half, -0.0005), b.slot(Role.DETAIL))
