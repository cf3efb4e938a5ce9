"""Generators of things to operate: light switch, faucet, valve, push button or handle, lever."""

import numpy as np

from partrm.geometry.joints import JointType
from partrm.objects.materials import Role
from partrm.procedural.builder import ObjectBuilder, pick
from partrm.procedural.registry import category
from partrm.procedural.shapes import (
    annulus,
    ball,
    circle,
    cylinder,
    frame,
    prism,
    rounded_rectangle,
    slab,
    spin,
    sweep,
    torus,
    turned,
)


@category()
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
            pieces.append(prism(outline, [y - 0.85 * w, y + 0.85 * w], "y"))
        for piece in pieces:
            b.add(part, piece.moved(spin("y", rest), np.array([t, 0.0, 0.0])), slot)


@category()
def faucet(b: ObjectBuilder) -> None:
    """Tap: column and spout with a lever or a cross handle that turns."""
    rng = b.rng
    r, height, reach = rng.uniform(0.018, 0.04), rng.uniform(0.12, 0.4), rng.uniform(0.1, 0.3)
    body, moving = b.slot(Role.BODY), b.new_slot(Role.MOVING)
    b.add(0, turned([1.8 * r, 1.8 * r, r, r], [0, 0.02, 0.04, height], "z", (0, 0, 0), 14), body)
    spout = rng.random() < 0.65
    angle = np.linspace(np.pi, 0.0, 9)
    arc = np.stack(
        [
            reach / 2 + reach / 2 * np.cos(angle),
            np.zeros(9),
            0.8 * height + rng.uniform(0.1, 0.5) * reach * np.sin(angle),
        ],
        -1,
    )
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
    b.add(
        part, sweep(np.stack([start, end]), section, [0.3, 0.2, 1.0] if abs(tip[2]) < 0.9 else [1.0, 0.1, 0.0]), moving
    )


@category()
def valve(b: ObjectBuilder) -> None:
    """Wheel or lever on a housing, facing the front."""
    rng = b.rng
    width, height, depth = rng.uniform(0.1, 0.4), rng.uniform(0.1, 0.5), rng.uniform(0.05, 0.3)
    body, moving = b.slot(Role.BODY), b.new_slot(Role.MOVING)
    b.add(
        0,
        slab((0, -width / 2, -height / 2), (depth, width / 2, height / 2), "x", 0.2 * width * rng.random(), 0.01),
        body,
    )
    size = min(width, height) * rng.uniform(0.35, 0.7)
    shaft = rng.uniform(0.02, 0.15)
    b.add(0, cylinder((depth, 0, 0), "x", shaft, 0.15 * size, 12), b.slot(Role.DETAIL))
    x, swing = depth + shaft, np.deg2rad(rng.uniform(60, 180))
    part = b.part("wheel", JointType.REVOLUTE, (float(rng.choice([-1, 1])), 0, 0), (x, 0, 0), swing)
    kind = pick(rng, ["wheel", "lever", "cross", "disc"])
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
        b.add(
            part,
            sweep(np.stack([base, base + tip]), circle(6, 0.1 * size), [1.0, 0.0, 0.0]),
            b.slot(Role.HANDLE) if kind == "disc" else moving,
        )


@category()
def press(b: ObjectBuilder) -> None:
    """A big push button, or a handle that slides in a housing."""
    rng = b.rng
    width, height, depth = rng.uniform(0.15, 0.4), rng.uniform(0.15, 0.5), rng.uniform(0.1, 0.4)
    body, moving = b.slot(Role.BODY), b.new_slot(Role.MOVING)
    low, high = (0, -width / 2, 0), (depth, width / 2, height)
    if rng.random() < 0.3:
        top = depth * rng.uniform(0.3, 0.8)
        slope = np.array([[0, 0], [0, depth], [0.4 * height, depth], [height, top], [height, 0]])
        b.add(0, prism(slope, [-width / 2, width / 2], "y"), body)
    else:
        b.add(0, slab(low, high, "x", 0.1 * width, 0.01), body)
    if rng.random() < 0.4:
        cover = rng.uniform(0.03, 0.3) * depth
        b.add(
            0,
            slab((depth, -0.51 * width, -0.01), (depth + cover, 0.51 * width, 1.02 * height), "x", 0.08 * width, 0.01),
            b.slot(Role.DETAIL),
        )
        depth += cover
    size = min(width, height) * rng.uniform(0.2, 0.42)
    if rng.random() < 0.5:
        b.add(0, annulus((depth, 0, height / 2), "x", 0.15 * size, 1.15 * size, size, 20), b.slot(Role.DETAIL))
        part = b.part("button", JointType.PRISMATIC, (-1, 0, 0), (depth, 0, height / 2), 0.6 * size)
        stem = rng.choice([0.97, rng.uniform(0.4, 0.8)]) * size
        reach = 0.7 * size * rng.uniform(1.0, 1.8)
        profile = (
            [stem, stem, 0.97 * size, 0.97 * size, 0.85 * size],
            [-0.1 * size, 0.62 * reach, 0.65 * reach, reach, 1.1 * reach],
        )
        b.add(part, turned(*profile, "x", (depth, 0, height / 2), 20), moving)
    else:
        travel = 0.35 * height
        b.add_box(
            0, (depth, -0.08 * width, 0.1 * height), (depth + 0.004, 0.08 * width, 0.9 * height), b.slot(Role.DETAIL)
        )
        part = b.part(
            "handle",
            JointType.PRISMATIC,
            (0, 0, float(rng.choice([-1, 1]))),
            (depth, 0, height / 2),
            travel,
            lower=-travel,
        )
        b.add_box(
            part, (depth, -0.06 * width, height / 2 - 0.03), (depth + 0.12, 0.06 * width, height / 2 + 0.03), moving
        )
        bar = cylinder((depth + 0.12, -0.4 * width, height / 2), "y", 0.8 * width, 0.035, 12)
        b.add(part, bar, b.slot(Role.HANDLE) if rng.random() < 0.4 else moving)


@category()
def lever(b: ObjectBuilder) -> None:
    """A long lever with a grip, on the side, the front or the top of a housing."""
    rng = b.rng
    width, depth, height = rng.uniform(0.08, 0.2), rng.uniform(0.1, 0.3), rng.uniform(0.2, 0.5)
    body, moving = b.slot(Role.BODY), b.new_slot(Role.MOVING)
    if rng.random() < 0.5:
        angle = np.linspace(0, np.pi, 9)
        arch = np.stack([height + depth / 2 * np.sin(angle), depth / 2 + depth / 2 * np.cos(angle)], -1)
        outline = np.concatenate([arch, [[0, 0], [0, depth]]])
        b.add(0, prism(outline, [-width / 2, width / 2], "y"), body)
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
    part = b.part("lever", JointType.REVOLUTE, (0, sense, 0), at.tolist(), swing)
    b.add(
        part,
        cylinder((at + np.array([0, side * 0.35 * hub, 0])).tolist(), "y", side * (0.05 + hub), 0.5 * hub, 12),
        moving,
    )
    start = at + np.array([0, side * (0.9 * hub + 0.03), 0])
    heading = np.array([np.cos(rest), 0.3 * side * rng.random(), np.sin(rest)])
    end = start + length * heading / np.linalg.norm(heading)
    b.add(part, sweep(np.stack([start, end]), circle(8, r), [0.0, 1.0, 0.0]), moving)
    grip = b.slot(Role.HANDLE) if rng.random() < 0.7 else moving
    if rng.random() < 0.6:
        b.add(part, ball(end, rng.uniform(1.5, 2.8) * r), grip)
    else:
        middle = start + 0.55 * (end - start)
        b.add(part, sweep(np.stack([middle, end + 0.02 * heading]), circle(10, 1.7 * r), [0.0, 1.0, 0.0]), grip)
