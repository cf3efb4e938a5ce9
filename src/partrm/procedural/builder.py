"""Collects meshes into the parts of one articulated object."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Int

from partrm.geometry.joints import JointType
from partrm.objects.articulated_object import ArticulatedObject, Joint, Part, distinct_name
from partrm.objects.materials import Material, Role
from partrm.procedural.shapes import BOX_SIDES, Mesh, Real, Vector, box, concatenate

T = TypeVar("T")


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of the options, all as likely (repeat one to make it likelier)."""
    return options[int(rng.choice(len(options)))]


@dataclass
class ObjectBuilder:
    """Grows one object; part 0 is its root body. Sizes in metres, object frame (z up, front towards +x)."""

    category: str
    rng: np.random.Generator
    roles: list[Role] = field(default_factory=list)
    """Role of each material slot made so far."""
    names: list[str] = field(default_factory=lambda: ["body"])
    joints: list[Joint | None] = field(default_factory=lambda: [None])
    pieces: list[list[tuple[Mesh, Int[np.ndarray, " f"]]]] = field(default_factory=lambda: [[]])
    """Meshes of each part with the material slot of each face."""
    shared: dict[Role, int] = field(default_factory=dict)
    placement: tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]] | None = None
    """Rotation and shift of everything that is added; see :meth:`placed`."""

    def new_slot(self, role: Role) -> int:
        """A material slot of its own."""
        self.roles.append(role)
        return len(self.roles) - 1

    def slot(self, role: Role) -> int:
        """The object's common slot of that role."""
        if role not in self.shared:
            self.shared[role] = self.new_slot(role)
        return self.shared[role]

    def part(
        self,
        name: str,
        kind: JointType,
        axis: Vector,
        pivot: Vector,
        upper: Real,
        lower: Real = 0.0,
        parent: int = 0,
    ) -> int:
        """A new movable part; returns its index. The second of a name is called ``name_2``, and so on."""
        name = distinct_name(name, self.names)
        axis, pivot = (np.asarray(v, dtype=np.float64) for v in (axis, pivot))
        if self.placement is not None:
            R, t = self.placement
            axis, pivot = R @ axis, R @ pivot + t
        (ax, ay, az), (px, py, pz) = axis.tolist(), pivot.tolist()
        self.names.append(name)
        self.joints.append(Joint(f"{name}_joint", kind, parent, (ax, ay, az), (px, py, pz), float(lower), float(upper)))
        self.pieces.append([])
        return len(self.names) - 1

    def add(self, part: int, mesh: Mesh, slot: int) -> None:
        """Gives the part a piece of one material."""
        self._add(part, mesh, np.full(len(mesh.faces), slot))

    def add_box(self, part: int, low: Vector, high: Vector, slot: int, other: dict[str, int] | None = None) -> None:
        """Gives the part a box; ``other`` names sides ("-x" ... "+z") that have another slot."""
        sides = [(other or {}).get(side, slot) for side in BOX_SIDES]
        self._add(part, box(low, high), np.repeat(sides, 2))

    def _add(self, part: int, mesh: Mesh, slots: Int[np.ndarray, " f"]) -> None:
        self.pieces[part].append((mesh if self.placement is None else mesh.moved(*self.placement), slots))

    @contextmanager
    def placed(self, matrix: Float[np.ndarray, "3 3"], shift: Vector = (0.0, 0.0, 0.0)) -> Iterator[None]:
        """Within the block all that is added has coordinates of the frame ``p -> matrix @ p + shift``."""
        outer, t = self.placement, np.asarray(shift, dtype=np.float64)
        self.placement = (matrix, t) if outer is None else (outer[0] @ matrix, outer[0] @ t + outer[1])
        try:
            yield
        finally:
            self.placement = outer

    def turn(self, matrix: Float[np.ndarray, "3 3"]) -> None:
        """Rotates everything built so far about the origin."""
        self.pieces = [[(m.moved(matrix), s) for m, s in pieces] for pieces in self.pieces]
        self.joints = [j and j.rotated(matrix) for j in self.joints]

    def build(self, name: str, source: str = "") -> ArticulatedObject:
        """The object as built; materials are placeholders that carry the roles."""
        parts = []
        for part_name, joint, pieces in zip(self.names, self.joints, self.pieces, strict=True):
            mesh = concatenate([m for m, _ in pieces]) if pieces else Mesh(np.zeros((0, 3)), np.zeros((0, 3), int))
            slots = np.concatenate([s for _, s in pieces]) if pieces else np.zeros(0, int)
            parts.append(Part(part_name, mesh.vertices, mesh.faces, slots, joint))
        materials = tuple(Material(f"{r.name.lower()}_{i}", (0.5, 0.5, 0.5), r) for i, r in enumerate(self.roles))
        return ArticulatedObject(name, self.category, tuple(parts), materials, source)
