"""Mechanisms on a flat piece of a body: flaps, drawers, sliders, plungers, knobs, levers, bails, wheels, arms, caps."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from partrm.articulation.kinematics import JointType
from partrm.articulation.materials import Role
from partrm.articulation.procedural.builder import ObjectBuilder, pick
from partrm.articulation.procedural.controls import knob_pieces
from partrm.articulation.procedural.shapes import (
    Mesh,
    Real,
    Vector,
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

    b: ObjectBuilder
    R: Float[np.ndarray, "3 3"]
    t: Float[np.ndarray, "3"]
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

    def part(
        self,
        name: str,
        kind: JointType,
        axis: Vector,
        pivot: Vector,
        limits: tuple[Real, Real],
        parent: int = 0,
    ) -> int:
        """A new movable part; axis and pivot in this frame, limits in either order."""
        lower, upper = sorted(limits)
        number = len(self.b.names)
        return self.b.part(
            f"{name}_{number}",
            kind,
            self.R @ np.asarray(axis),
            self.R @ np.asarray(pivot) + self.t,
            upper,
            lower,
            parent,
        )

    def add(self, part: int, mesh: Mesh, slot: int) -> None:
        """Gives the part a piece, which is in this frame."""
        self.b.add(part, mesh.moved(self.R, self.t), slot)

    def halves(self) -> "list[Face]":
        """Cut across the longer side."""
        wide = self.width > self.height
        width, height = (0.48 * self.width, self.height) if wide else (self.width, 0.48 * self.height)
        shift = np.array([0.0, 0.26 * self.width * wide, 0.26 * self.height * (not wide)])
        return [replace(self, t=self.t + self.R @ (sign * shift), width=width, height=height) for sign in (-1, 1)]


def _swing(rng: np.random.Generator, low_deg: Real, high_deg: Real, both: bool = True) -> tuple[float, float]:
    """Limits of a turn, to one side or to both."""
    angle = np.deg2rad(rng.uniform(low_deg, high_deg))
    return pick(rng, [(0.0, angle), (0.0, -angle), (-angle, angle)]) if both else (0.0, angle)


def _panel(f: Face, part: int, y: tuple[Real, Real], z: tuple[Real, Real], x: Real, t: Real, slot: int) -> None:
    """A flat, soft or framed board."""
    rng, low, high = f.b.rng, (x, y[0], z[0]), (x + t, y[1], z[1])
    size = min(y[1] - y[0], z[1] - z[0])
    kind = pick(rng, ["flat", "flat", "soft", "glass"])
    if kind == "glass":
        border = rng.uniform(0.08, 0.2) * size
        f.add(part, frame(low, high, "x", border), slot)
        inner = (x + 0.4 * t, y[0] + border, z[0] + border), (x + 0.6 * t, y[1] - border, z[1] - border)
        f.add(part, slab(*inner, "x", 0.0), f.b.slot(Role.GLASS))
    else:
        f.add(part, slab(low, high, "x", 0.3 * size * rng.random() if kind == "soft" else 0.0, 0.2 * t), slot)


def _grip(f: Face, part: int, at: tuple[Real, Real, Real], size: Real) -> None:
    """A knob, a bar or nothing."""
    rng, (x, y, z) = f.b.rng, at
    slot, kind = f.b.slot(Role.HANDLE), pick(rng, ["knob", "bar", "box", "none"])
    if kind == "knob":
        f.add(
            part, turned([0.5 * size, 0.5 * size, size, 0.8 * size], [0, size, 1.2 * size, 2 * size], "x", at, 12), slot
        )
    elif kind == "box":
        f.add(part, slab((x, y - size, z - size), (x + 1.5 * size, y + size, z + size), "x", 0.2 * size), slot)
    elif kind == "bar":
        along = np.linspace(np.pi, 0, 9)
        arch = np.stack([x + 2 * size * np.sin(along) ** 0.5, y + 3 * size * np.cos(along), np.full(9, z)], -1)
        f.add(part, sweep(arch, circle(8, 0.35 * size), [0.0, 0.0, 1.0]), slot)


def _flap(f: Face) -> None:
    """A board hinged along one of its edges, closed or partly open at rest."""
    rng, w, h = f.b.rng, f.width * f.b.rng.uniform(0.5, 1.0), f.height * f.b.rng.uniform(0.5, 1.0)
    if f.hollow:
        w, h = f.width * rng.uniform(0.97, 1.1), f.height * rng.uniform(0.97, 1.1)
    t, slot, up = f.size * rng.uniform(0.02, 0.12), f.b.new_slot(Role.MOVING), bool(rng.random() < 0.5)
    if up:
        f = replace(f, R=f.R @ spin("x", np.pi / 2), width=f.height, height=f.width)
        w, h = h, w
    depth = rng.choice([0.0, t, t])
    part = f.part("flap", JointType.REVOLUTE, (0, 0, -1), (depth, -w / 2, 0), _swing(rng, 40, 170, both=False))
    _panel(f, part, (-w / 2, w / 2), (-h / 2, h / 2), 0.002, t, slot)
    _grip(f, part, (t, w * rng.uniform(0.2, 0.42), h * rng.uniform(-0.3, 0.3)), f.size * rng.uniform(0.02, 0.06))


def _drawer(f: Face) -> None:
    """A tray that comes out of the face."""
    rng, w, h = f.b.rng, f.width * f.b.rng.uniform(0.5, 0.98), f.height * f.b.rng.uniform(0.3, 0.98)
    t, deep, slot = f.size * rng.uniform(0.03, 0.12), 0.9 * f.deep, f.b.new_slot(Role.MOVING)
    part = f.part("drawer", JointType.PRISMATIC, (1, 0, 0), (0, 0, 0), (0.0, deep * rng.uniform(0.5, 0.95)))
    _panel(f, part, (-w / 2, w / 2), (-h / 2, h / 2), 0.002, t, slot)
    inside, v, u = f.b.slot(Role.INTERIOR), 0.46 * h, 0.46 * w
    for low, high in (
        ((-deep, -u, -v), (0.0, u, -v + 0.02 * h)),
        ((-deep, -u, -v), (0.0, -u + 0.02 * w, 0.6 * v)),
        ((-deep, u - 0.02 * w, -v), (0.0, u, 0.6 * v)),
        ((-deep, -u, -v), (-deep + 0.02 * w, u, 0.6 * v)),
    ):
        f.add(part, slab(low, high, "x", 0.0), inside)
    _grip(f, part, (t, 0.0, h * rng.choice([0.0, rng.uniform(-0.3, 0.3)])), f.size * rng.uniform(0.02, 0.06))


def _slider(f: Face) -> None:
    """A board or block that slides over the face, along one of its sides."""
    rng = f.b.rng
    if f.height > f.width or rng.random() < 0.3:
        f = replace(f, R=f.R @ spin("x", np.pi / 2), width=f.height, height=f.width)
    w, h, t = f.width * rng.uniform(0.15, 0.6), f.height * rng.uniform(0.15, 1.0), f.size * rng.uniform(0.03, 0.3)
    free = f.width - w
    y = rng.choice([-free / 2, free / 2, rng.uniform(-free / 2, free / 2)])
    part = f.part("slider", JointType.PRISMATIC, (0, 1, 0), (0, y, 0), (-free / 2 - y, free / 2 - y))
    _panel(f, part, (y - w / 2, y + w / 2), (-h / 2, h / 2), 0.006, t, f.b.new_slot(Role.MOVING))
    _grip(f, part, (t + 0.006, y, 0.0), min(w, h) * rng.uniform(0.05, 0.15))
    if rng.random() < 0.6:
        rail = h * rng.uniform(0.03, 0.15)
        for z in (0.0,) if rng.random() < 0.5 else (-0.4 * h, 0.4 * h):
            f.add(
                0,
                slab((0, -f.width / 2, z - rail / 2), (0.005, f.width / 2, z + rail / 2), "x", 0.0),
                f.b.slot(Role.DETAIL),
            )


def _plunger(f: Face) -> None:
    """A button or a pin that goes in and out."""
    rng, size, slot = f.b.rng, f.size * f.b.rng.uniform(0.1, 0.4), f.b.new_slot(Role.MOVING)
    out = size * rng.uniform(0.3, 2.5)
    travel = pick(rng, [(-0.8 * out, 0.0), (0.0, min(2 * out, 0.9 * f.deep)), (-0.5 * out, 0.5 * out)])
    part = f.part("plunger", JointType.PRISMATIC, (1, 0, 0), (0, 0, 0), travel)
    reach = -0.9 * f.deep
    if rng.random() < 0.5:
        head = pick(rng, [(1.0, 1.0, 0.8), (0.6, 0.6, 1.0), (1.0, 0.9, 0.3)])
        f.add(
            part,
            turned([size * h for h in (0.95 * head[0], *head)], [reach, 0.0, 0.7 * out, out], "x", (0, 0, 0), 20),
            slot,
        )
    else:
        f.add(part, slab((reach, -size, -size), (out, size, size), "x", size * 0.5 * rng.random(), 0.1 * out), slot)
    if rng.random() < 0.5:
        f.add(
            0,
            frame((0, -1.4 * size, -1.4 * size), (0.15 * size, 1.4 * size, 1.4 * size), "x", 0.3 * size),
            f.b.slot(Role.DETAIL),
        )


def _knob(f: Face) -> None:
    """A knob that turns about the face's normal."""
    rng, radius = f.b.rng, f.size * f.b.rng.uniform(0.12, 0.42)
    part = f.part("knob", JointType.REVOLUTE, (1, 0, 0), (0, 0, 0), _swing(rng, 50, 250))
    rest = spin("x", rng.uniform(-np.pi, np.pi))
    for mesh, slot in knob_pieces(f.b, radius, f.b.new_slot(Role.MOVING), f.b.slot(Role.DETAIL)):
        f.add(part, mesh.moved(rest), slot)


def _lever(f: Face) -> None:
    """A bar that turns at one of its ends or its middle, in the plane of the face or out of it."""
    rng, length = f.b.rng, f.size * f.b.rng.uniform(0.35, 0.9)
    r, out, slot = length * rng.uniform(0.04, 0.12), length * rng.uniform(0.1, 0.5), f.b.new_slot(Role.MOVING)
    section = circle(10, r) if rng.random() < 0.5 else rounded_rectangle(2.4 * r, 1.6 * r, 0.0)
    if rng.random() < 0.6:
        part = f.part("lever", JointType.REVOLUTE, (1, 0, 0), (0, 0, 0), _swing(rng, 30, 120))
        f.add(part, cylinder((0, 0, 0), "x", out + r, 1.5 * r, 12), slot)
        start = np.array([out, 0.0, -rng.choice([0.0, 0.1, 0.5]) * length])
        path = np.stack([start, start + np.array([rng.choice([0.0, 0.3 * out]), 0.0, length])])
        bar = sweep(path, section, [1.0, 0.0, 0.0])
        f.add(part, bar.moved(spin("x", rng.uniform(-np.pi, np.pi))), slot)
    else:
        lean = rng.uniform(-1.0, 1.0)
        low, high = np.deg2rad(rng.uniform(-70, -30)) - lean, np.deg2rad(rng.uniform(30, 70)) - lean
        part = f.part("toggle", JointType.REVOLUTE, (0, 0, 1), (0.5 * r, 0, 0), (low, high))
        f.add(0, cylinder((0.5 * r, 0, -2 * r), "z", 4 * r, 1.5 * r, 12), f.b.slot(Role.DETAIL))
        bar = sweep(np.array([[0, 0, 0], [length, 0, 0]]), section, [0.0, 0.0, 1.0])
        f.add(part, bar.moved(spin("z", lean), np.array([0.5 * r, 0.0, 0.0])), slot)
        ball = 1.8 * r
        tip = spin("z", lean) @ np.array([length, 0.0, 0.0]) + [0.5 * r, 0.0, 0.0]
        if rng.random() < 0.5:
            profile = [ball * np.sin(a) for a in np.linspace(0.2, np.pi - 0.2, 7)], np.linspace(-ball, ball, 7).tolist()
            f.add(part, turned(*profile, "z", tip.tolist(), 12), f.b.slot(Role.HANDLE))


def _bail(f: Face) -> None:
    """A bow hinged at both ends, lying or standing."""
    rng, half = f.b.rng, 0.5 * f.width * f.b.rng.uniform(0.4, 0.95)
    tall, wire = min(0.9 * f.height, half * rng.uniform(0.4, 1.6)), half * rng.uniform(0.03, 0.1)
    lean = np.deg2rad(rng.choice([0.0, 85.0, -85.0, rng.uniform(-85, 85)]))
    limits = -np.deg2rad(87) - lean, np.deg2rad(87) - lean
    part = f.part("bail", JointType.REVOLUTE, (0, 1, 0), (1.5 * wire, 0, 0), limits)
    angle = np.linspace(0, np.pi, 13)
    bow = np.stack([tall * np.sin(angle) ** rng.uniform(0.4, 1.0), half * np.cos(angle), np.zeros(13)], -1)
    place = np.array([1.5 * wire, 0.0, 0.0])
    f.add(part, sweep(bow, circle(8, wire), [0.0, 0.0, 1.0]).moved(spin("y", lean), place), f.b.new_slot(Role.MOVING))
    for side in (-1, 1):
        f.add(0, cylinder((1.5 * wire, side * half, 0), "y", side * 2 * wire, 2 * wire, 10), f.b.slot(Role.DETAIL))


def _wheel(f: Face) -> None:
    """A wheel with spokes, flat before the face or standing on it."""
    rng, r, slot = f.b.rng, 0.5 * f.size * f.b.rng.uniform(0.4, 0.95), f.b.new_slot(Role.MOVING)
    spokes, offset, flat = int(rng.integers(2, 6)), rng.uniform(0, np.pi), bool(rng.random() < 0.6)
    turn, place = (
        (np.eye(3), np.array([0.35 * r, 0, 0])) if flat else (spin("z", np.pi / 2), np.array([1.15 * r, 0, 0]))
    )
    axis = turn @ np.array([1.0, 0.0, 0.0])
    part = f.part("wheel", JointType.REVOLUTE, axis, place, _swing(rng, 50, 170))
    pieces = [torus((0, 0, 0), "x", r, 0.08 * r), cylinder((-0.12 * r, 0, 0), "x", 0.24 * r, 0.2 * r, 12)]
    for k in range(spokes):
        tip = spin("x", offset + 2 * np.pi * k / spokes) @ np.array([0.0, 0.0, r])
        pieces.append(sweep(np.stack([0 * tip, tip]), circle(6, 0.06 * r), [1.0, 0.0, 0.0]))
    for piece in pieces:
        f.add(part, piece.moved(turn, place), slot)
    if rng.random() < 0.6:  # a crank's grip, or a mark
        knob = spin("x", offset) @ np.array([0.0, 0.0, r])
        f.add(part, cylinder(knob.tolist(), "x", 0.4 * r, 0.1 * r, 10).moved(turn, place), f.b.slot(Role.HANDLE))
    if flat:
        f.add(0, cylinder((0, 0, 0), "x", 0.3 * r, 0.1 * r, 10), f.b.slot(Role.DETAIL))
    else:
        for side in (-1, 1):
            low = (0.0, side * 0.25 * r - 0.05 * r, -0.12 * r)
            f.add(0, slab(low, (1.3 * r, low[1] + 0.1 * r, 0.12 * r), "x", 0.0), f.b.slot(Role.DETAIL))


def _arm(f: Face) -> None:
    """One to three links in a chain, each on a hinge of a random direction."""
    rng, parent, at = f.b.rng, 0, np.zeros(3)
    length, heading = f.size * rng.uniform(0.4, 0.9), np.array([1.0, *rng.uniform(-0.5, 0.5, 2)])
    thick = length * rng.uniform(0.05, 0.15)
    for _ in range(int(rng.integers(1, 4))):
        across = np.eye(3)[int(rng.integers(1, 3))]
        axis = np.cross(heading, across) if rng.random() < 0.8 else heading
        part = f.part("link", JointType.REVOLUTE, axis / np.linalg.norm(axis), at, _swing(rng, 25, 80), parent)
        tip = at + length * heading / np.linalg.norm(heading)
        slot = f.b.new_slot(Role.MOVING)
        f.add(part, sweep(np.stack([at, tip]), rounded_rectangle(2 * thick, thick, 0.2 * thick), across.tolist()), slot)
        joint = cylinder((0, 0, -0.8 * thick), "z", 1.6 * thick, thick, 12)
        f.add(part, joint.moved(np.eye(3), tip), f.b.slot(Role.DETAIL))
        at, parent, length = tip, part, length * rng.uniform(0.5, 1.0)
        heading = heading / np.linalg.norm(heading) + rng.uniform(-0.9, 0.9, 3)
    if rng.random() < 0.6:
        head = thick * rng.uniform(1.5, 4)
        f.add(
            parent,
            slab(-head * np.ones(3), head * np.ones(3), "x", 0.3 * head).moved(np.eye(3), at),
            f.b.new_slot(Role.MOVING),
        )


def _turntable(f: Face) -> None:
    """A disc with something on it that turns about the face's normal."""
    rng, r = f.b.rng, 0.5 * f.size * f.b.rng.uniform(0.5, 1.0)
    part, slot = (
        f.part("turntable", JointType.REVOLUTE, (1, 0, 0), (0, 0, 0), _swing(rng, 40, 170)),
        f.b.new_slot(Role.MOVING),
    )
    t = r * rng.uniform(0.05, 0.3)
    f.add(part, cylinder((0.003, 0, 0), "x", t, r, int(rng.choice([6, 24]))), slot)
    size = r * rng.uniform(0.2, 0.7, 3)
    aside = np.array([t, *(rng.uniform(-0.4, 0.4, 2) * r)])
    load = slab(aside - size * (0.0, 1.0, 1.0), aside + size * (2.0, 1.0, 1.0), "x", 0.4 * size.min() * rng.random())
    f.add(part, load, slot if rng.random() < 0.5 else f.b.new_slot(Role.MOVING))


def _cap(f: Face) -> None:
    """A sleeve or lid over a stub that is drawn off."""
    rng, r = f.b.rng, 0.5 * f.size * f.b.rng.uniform(0.3, 0.9)
    long, outline = r * rng.uniform(0.5, 2.5), circle(20) if rng.random() < 0.6 else rounded_rectangle(2, 2, 0.2)
    R = spin("y", np.pi / 2)  # cups stand on z: turn that to x
    f.add(0, cup([0.9 * r * outline] * 2, [0.0, 0.7 * long], 0.1 * r, 0.1 * r).moved(R), f.b.new_slot(Role.BODY))
    part = f.part("cap", JointType.PRISMATIC, (1, 0, 0), (0, 0, 0), (0.0, long * rng.uniform(0.6, 1.5)))
    hood = cup([r * outline, r * outline * rng.uniform(0.7, 1.0)], [0.0, 0.8 * long], 0.08 * r, 0.1 * r)
    flipped = hood.moved(np.diag([1.0, 1.0, -1.0]), np.array([0.0, 0.0, long]))
    f.add(part, flipped.moved(R), f.b.new_slot(Role.MOVING))


COVERS: tuple[Callable[[Face], None], ...] = (_flap, _flap, _flap, _drawer, _slider)
MECHANISMS: tuple[Callable[[Face], None], ...] = (
    _flap, _flap, _drawer, _slider, _slider, _plunger, _knob, _lever, _lever, _bail, _wheel, _arm, _turntable, _cap,
)  # fmt: skip
