"""Mechanisms on a flat piece of a body: flaps, drawers, sliders, plungers, knobs, levers, bails, wheels, arms, caps.

Each is built in the frame of its face (:class:`Face`), in which the builder has been placed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from partrm.geometry.joints import JointType
from partrm.objects.materials import Role
from partrm.procedural.builder import ObjectBuilder, pick
from partrm.procedural.carcass import add_door, add_drawer, add_slider, front_slots
from partrm.procedural.controls import knob_pieces
from partrm.procedural.fronts import FrontStyle, Rect, sample_style
from partrm.procedural.shapes import (
    Real,
    Vector,
    ball,
    circle,
    cup,
    cylinder,
    frame,
    rounded_rectangle,
    slab,
    spin,
    sweep,
    torus,
    turned,
)


@dataclass(frozen=True)
class Face:
    """A rectangle of a body's surface; its own frame has the outward normal as +x and its centre as origin."""

    R: Float[np.ndarray, "3 3"]
    """Turns the face's frame into the object's."""
    t: Float[np.ndarray, "3"]
    """The face's centre in the object's frame, metres."""
    width: Real
    """Along its y, metres."""
    height: Real
    """Along its z, metres."""
    deep: Real
    """How far things may reach into the body, metres."""
    hollow: bool = False
    """Whether there is an opening behind it."""

    @property
    def size(self) -> float:
        return min(self.width, self.height)

    def halves(self) -> "list[Face]":
        """Cut across the longer side."""
        wide = self.width > self.height
        width, height = (0.48 * self.width, self.height) if wide else (self.width, 0.48 * self.height)
        shift = np.array([0.0, 0.26 * self.width * wide, 0.26 * self.height * (not wide)])
        return [replace(self, t=self.t + self.R @ (sign * shift), width=width, height=height) for sign in (-1, 1)]

    def turned(self, quarters: int) -> "Face":
        """The same face, its frame turned about the normal."""
        width, height = (self.height, self.width) if quarters % 2 else (self.width, self.height)
        return replace(self, R=self.R @ spin("x", quarters * np.pi / 2), width=width, height=height)


def _part(
    b: ObjectBuilder,
    name: str,
    kind: JointType,
    axis: Vector,
    pivot: Vector,
    limits: tuple[Real, Real],
    parent: int = 0,
) -> int:
    """A new movable part with a name of its own; limits in either order."""
    lower, upper = sorted(limits)
    return b.part(f"{name}_{len(b.names)}", kind, axis, pivot, upper, lower, parent)


def _swing(rng: np.random.Generator, low_deg: Real, high_deg: Real) -> tuple[float, float]:
    """Limits of a turn, to one side or to both."""
    angle = np.deg2rad(rng.uniform(low_deg, high_deg))
    return pick(rng, [(0.0, angle), (0.0, -angle), (-angle, angle)])


def _style(b: ObjectBuilder, size: Real) -> FrontStyle:
    panels = ("flat", "flat", "soft", "framed", "raised", "glass", "window", "planks", "slats")
    return sample_style(b.rng, panels, ("bar", "arch", "knob", "lip", "recess", "ring", "none", "none"), size)


def _rect(f: Face, width: Real, height: Real) -> Rect:
    return Rect(-width * f.width / 2, width * f.width / 2, -height * f.height / 2, height * f.height / 2)


def _flap(b: ObjectBuilder, f: Face) -> None:
    """A board hinged along one of its edges."""
    rng = b.rng
    rect = _rect(f, *(rng.uniform(0.97, 1.1, 2) if f.hollow else rng.uniform(0.5, 1.0, 2)))
    style, slots = _style(b, f.size), front_slots(b, b.slot(Role.INTERIOR))
    add_door(b, rect, 0.002, "left", style, slots, pivot_depth=rng.choice([0.0, 1.0, 1.0]))


def _drawer(b: ObjectBuilder, f: Face) -> None:
    """A tray that comes out of the face."""
    rect = _rect(f, b.rng.uniform(0.5, 0.98), b.rng.uniform(0.3, 0.98))
    cavity = rect.inset(0.04 * rect.width, 0.04 * rect.height)
    add_drawer(b, rect, cavity, 0.002, 0.9 * f.deep, _style(b, f.size), front_slots(b, b.slot(Role.INTERIOR)))


def _slider(b: ObjectBuilder, f: Face) -> None:
    """A board or block that slides over the face, along its y."""
    rng, share = b.rng, b.rng.uniform(0.15, 0.6)
    rect, free = _rect(f, share, rng.uniform(0.15, 1.0)), (1 - share) * f.width
    rect = replace(rect, y0=rect.y0 - free / 2, y1=rect.y1 - free / 2)
    style = replace(_style(b, f.size), thickness=f.size * rng.uniform(0.03, 0.3))
    add_slider(b, rect, 0.006, free, style, front_slots(b, b.slot(Role.INTERIOR)))
    if rng.random() < 0.6:
        rail = rect.height * rng.uniform(0.03, 0.15)
        for z in (0.0,) if rng.random() < 0.5 else (-0.4 * rect.height, 0.4 * rect.height):
            b.add_box(0, (0, -f.width / 2, z - rail / 2), (0.005, f.width / 2, z + rail / 2), b.slot(Role.DETAIL))


def _plunger(b: ObjectBuilder, f: Face) -> None:
    """A button or a pin that goes in and out."""
    rng, size, slot = b.rng, f.size * b.rng.uniform(0.1, 0.4), b.new_slot(Role.MOVING)
    out = size * rng.uniform(0.3, 2.5)
    travel = pick(rng, [(-0.8 * out, 0.0), (0.0, min(2 * out, 0.9 * f.deep)), (-0.5 * out, 0.5 * out)])
    part = _part(b, "plunger", JointType.PRISMATIC, (1, 0, 0), (0, 0, 0), travel)
    reach = -0.9 * f.deep
    if rng.random() < 0.5:
        head = pick(rng, [(1.0, 1.0, 0.8), (0.6, 0.6, 1.0), (1.0, 0.9, 0.3)])
        b.add(
            part,
            turned([size * h for h in (0.95 * head[0], *head)], [reach, 0.0, 0.7 * out, out], "x", (0, 0, 0), 20),
            slot,
        )
    else:
        b.add(part, slab((reach, -size, -size), (out, size, size), "x", size * 0.5 * rng.random(), 0.1 * out), slot)
    if rng.random() < 0.5:
        b.add(
            0,
            frame((0, -1.4 * size, -1.4 * size), (0.15 * size, 1.4 * size, 1.4 * size), "x", 0.3 * size),
            b.slot(Role.DETAIL),
        )


def _knob(b: ObjectBuilder, f: Face) -> None:
    """A knob that turns about the face's normal."""
    rng, radius = b.rng, f.size * b.rng.uniform(0.12, 0.42)
    part = _part(b, "knob", JointType.REVOLUTE, (1, 0, 0), (0, 0, 0), _swing(rng, 50, 250))
    rest = spin("x", rng.uniform(-np.pi, np.pi))
    for mesh, slot in knob_pieces(b, radius, b.new_slot(Role.MOVING), b.slot(Role.DETAIL)):
        b.add(part, mesh.moved(rest), slot)


def _lever(b: ObjectBuilder, f: Face) -> None:
    """A bar that turns at one of its ends or its middle, in the plane of the face or out of it."""
    rng, length = b.rng, f.size * b.rng.uniform(0.35, 0.9)
    r, out, slot = length * rng.uniform(0.04, 0.12), length * rng.uniform(0.1, 0.5), b.new_slot(Role.MOVING)
    section = circle(10, r) if rng.random() < 0.5 else rounded_rectangle(2.4 * r, 1.6 * r, 0.0)
    if rng.random() < 0.6:
        part = _part(b, "lever", JointType.REVOLUTE, (1, 0, 0), (0, 0, 0), _swing(rng, 30, 120))
        b.add(part, cylinder((0, 0, 0), "x", out + r, 1.5 * r, 12), slot)
        start = np.array([out, 0.0, -rng.choice([0.0, 0.1, 0.5]) * length])
        path = np.stack([start, start + np.array([rng.choice([0.0, 0.3 * out]), 0.0, length])])
        bar = sweep(path, section, [1.0, 0.0, 0.0])
        b.add(part, bar.moved(spin("x", rng.uniform(-np.pi, np.pi))), slot)
    else:
        lean = rng.uniform(-1.0, 1.0)
        low, high = np.deg2rad(rng.uniform(-70, -30)) - lean, np.deg2rad(rng.uniform(30, 70)) - lean
        part = _part(b, "toggle", JointType.REVOLUTE, (0, 0, 1), (0.5 * r, 0, 0), (low, high))
        b.add(0, cylinder((0.5 * r, 0, -2 * r), "z", 4 * r, 1.5 * r, 12), b.slot(Role.DETAIL))
        bar = sweep(np.array([[0, 0, 0], [length, 0, 0]]), section, [0.0, 0.0, 1.0])
        b.add(part, bar.moved(spin("z", lean), np.array([0.5 * r, 0.0, 0.0])), slot)
        if rng.random() < 0.5:
            tip = spin("z", lean) @ np.array([length, 0.0, 0.0]) + [0.5 * r, 0.0, 0.0]
            b.add(part, ball(tip, 1.8 * r), b.slot(Role.HANDLE))


def _bail(b: ObjectBuilder, f: Face) -> None:
    """A bow hinged at both ends, lying or standing."""
    rng, half = b.rng, 0.5 * f.width * b.rng.uniform(0.4, 0.95)
    tall, wire = min(0.9 * f.height, half * rng.uniform(0.4, 1.6)), half * rng.uniform(0.03, 0.1)
    lean = np.deg2rad(rng.choice([0.0, 85.0, -85.0, rng.uniform(-85, 85)]))
    limits = -np.deg2rad(87) - lean, np.deg2rad(87) - lean
    part = _part(b, "bail", JointType.REVOLUTE, (0, 1, 0), (1.5 * wire, 0, 0), limits)
    angle = np.linspace(0, np.pi, 13)
    bow = np.stack([tall * np.sin(angle) ** rng.uniform(0.4, 1.0), half * np.cos(angle), np.zeros(13)], -1)
    place = np.array([1.5 * wire, 0.0, 0.0])
    b.add(part, sweep(bow, circle(8, wire), [0.0, 0.0, 1.0]).moved(spin("y", lean), place), b.new_slot(Role.MOVING))
    for side in (-1, 1):
        b.add(0, cylinder((1.5 * wire, side * half, 0), "y", side * 2 * wire, 2 * wire, 10), b.slot(Role.DETAIL))


def _wheel(b: ObjectBuilder, f: Face) -> None:
    """A wheel with spokes, flat before the face or standing on it."""
    rng, r, slot = b.rng, 0.5 * f.size * b.rng.uniform(0.4, 0.95), b.new_slot(Role.MOVING)
    spokes, offset, flat = int(rng.integers(2, 6)), rng.uniform(0, np.pi), bool(rng.random() < 0.6)
    turn, place = (
        (np.eye(3), np.array([0.35 * r, 0, 0])) if flat else (spin("z", np.pi / 2), np.array([1.15 * r, 0, 0]))
    )
    axis = turn @ np.array([1.0, 0.0, 0.0])
    part = _part(b, "wheel", JointType.REVOLUTE, axis, place, _swing(rng, 50, 170))
    pieces = [torus((0, 0, 0), "x", r, 0.08 * r), cylinder((-0.12 * r, 0, 0), "x", 0.24 * r, 0.2 * r, 12)]
    for k in range(spokes):
        tip = spin("x", offset + 2 * np.pi * k / spokes) @ np.array([0.0, 0.0, r])
        pieces.append(sweep(np.stack([0 * tip, tip]), circle(6, 0.06 * r), [1.0, 0.0, 0.0]))
    for piece in pieces:
        b.add(part, piece.moved(turn, place), slot)
    if rng.random() < 0.6:  # a crank's grip, or a mark
        knob = spin("x", offset) @ np.array([0.0, 0.0, r])
        b.add(part, cylinder(knob, "x", 0.4 * r, 0.1 * r, 10).moved(turn, place), b.slot(Role.HANDLE))
    if flat:
        b.add(0, cylinder((0, 0, 0), "x", 0.3 * r, 0.1 * r, 10), b.slot(Role.DETAIL))
    else:
        for side in (-1, 1):
            low = (0.0, side * 0.25 * r - 0.05 * r, -0.12 * r)
            b.add(0, slab(low, (1.3 * r, low[1] + 0.1 * r, 0.12 * r), "x", 0.0), b.slot(Role.DETAIL))


def _arm(b: ObjectBuilder, f: Face) -> None:
    """One to three links in a chain, each on a hinge of a random direction."""
    rng, parent, at = b.rng, 0, np.zeros(3)
    length, heading = f.size * rng.uniform(0.4, 0.9), np.array([1.0, *rng.uniform(-0.5, 0.5, 2)])
    thick = length * rng.uniform(0.05, 0.15)
    for _ in range(int(rng.integers(1, 4))):
        across = np.eye(3)[int(rng.integers(1, 3))]
        axis = np.cross(heading, across) if rng.random() < 0.8 else heading
        part = _part(b, "link", JointType.REVOLUTE, axis / np.linalg.norm(axis), at, _swing(rng, 25, 80), parent)
        tip = at + length * heading / np.linalg.norm(heading)
        slot = b.new_slot(Role.MOVING)
        b.add(part, sweep(np.stack([at, tip]), rounded_rectangle(2 * thick, thick, 0.2 * thick), across.tolist()), slot)
        joint = cylinder((0, 0, -0.8 * thick), "z", 1.6 * thick, thick, 12)
        b.add(part, joint.moved(np.eye(3), tip), b.slot(Role.DETAIL))
        at, parent, length = tip, part, length * rng.uniform(0.5, 1.0)
        heading = heading / np.linalg.norm(heading) + rng.uniform(-0.9, 0.9, 3)
    if rng.random() < 0.6:
        head = thick * rng.uniform(1.5, 4)
        b.add(
            parent,
            slab(-head * np.ones(3), head * np.ones(3), "x", 0.3 * head).moved(np.eye(3), at),
            b.new_slot(Role.MOVING),
        )


def _turntable(b: ObjectBuilder, f: Face) -> None:
    """A disc with something on it that turns about the face's normal."""
    rng, r = b.rng, 0.5 * f.size * b.rng.uniform(0.5, 1.0)
    part, slot = (
        _part(b, "turntable", JointType.REVOLUTE, (1, 0, 0), (0, 0, 0), _swing(rng, 40, 170)),
        b.new_slot(Role.MOVING),
    )
    t = r * rng.uniform(0.05, 0.3)
    b.add(part, cylinder((0.003, 0, 0), "x", t, r, int(rng.choice([6, 24]))), slot)
    size = r * rng.uniform(0.2, 0.7, 3)
    aside = np.array([t, *(rng.uniform(-0.4, 0.4, 2) * r)])
    load = slab(aside - size * (0.0, 1.0, 1.0), aside + size * (2.0, 1.0, 1.0), "x", 0.4 * size.min() * rng.random())
    b.add(part, load, slot if rng.random() < 0.5 else b.new_slot(Role.MOVING))


def _cap(b: ObjectBuilder, f: Face) -> None:
    """A sleeve or lid over a stub that is drawn off."""
    rng, r = b.rng, 0.5 * f.size * b.rng.uniform(0.3, 0.9)
    long, outline = r * rng.uniform(0.5, 2.5), circle(20) if rng.random() < 0.6 else rounded_rectangle(2, 2, 0.2)
    R = spin("y", np.pi / 2)  # cups stand on z: turn that to x
    b.add(0, cup([0.9 * r * outline] * 2, [0.0, 0.7 * long], 0.1 * r, 0.1 * r).moved(R), b.new_slot(Role.BODY))
    part = _part(b, "cap", JointType.PRISMATIC, (1, 0, 0), (0, 0, 0), (0.0, long * rng.uniform(0.6, 1.5)))
    hood = cup([r * outline, r * outline * rng.uniform(0.7, 1.0)], [0.0, 0.8 * long], 0.08 * r, 0.1 * r)
    flipped = hood.moved(np.diag([1.0, 1.0, -1.0]), np.array([0.0, 0.0, long]))
    b.add(part, flipped.moved(R), b.new_slot(Role.MOVING))


COVERS: tuple[Callable[[ObjectBuilder, Face], None], ...] = (_flap, _flap, _flap, _drawer, _slider)
MECHANISMS: tuple[Callable[[ObjectBuilder, Face], None], ...] = (
    _flap, _flap, _drawer, _slider, _slider, _plunger, _knob, _lever, _lever, _bail, _wheel, _arm, _turntable, _cap,
)  # fmt: skip
