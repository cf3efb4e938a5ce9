"""An articulated object as a MuJoCo model in which one joint is to be opened: shells of convex pieces, in metres.

Everything stands in its source state, so that joint positions count from there. The dragged part, with all that it
carries, is one body; every other part that can move is a body on its own joint; the rest is fixed to the world.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import ConvexHull, QhullError

from partrm.assets.collision import greedy_boxes
from partrm.errors import PartRMError
from partrm.geometry.joints import JointType
from partrm.objects.articulated_object import ArticulatedObject, Joint
from partrm.objects.urdf import numbers

DRAGGED = "dragged"
"""Body and joint that are to be opened."""

SWEEP_STATES = 24
"""States of the true way in which pieces are looked at for overlaps."""

OVERLAP_M = 5e-4
"""Pieces that overlap by less only touch."""

SHEET_M = 1e-3
"""Flat pieces get this thickness to each side."""

CONVEX_AREA = 0.05
"""A piece is convex where its area differs from its hull's by less than this share."""


ROBOT_BIT = "4"
"""Robots meet objects by this bit of their geometries' ``contype``."""

HIDDEN = "3"
"""Group of geometries that meet but are not shown."""

SHOWN = {True: "0.85 0.45 0.2 1", False: "0.72 0.74 0.76 1"}
"""Colours of the dragged part and of the rest."""

ROBOT_CELL_M = 0.006
"""Pieces that do not fill their hulls meet a robot as boxes of such cells, along their surface."""


class SimulationError(PartRMError):
    """A motion that cannot be simulated; the message says why."""


@dataclass(frozen=True)
class JointResistance:
    """What a joint opposes to motion, and what parts weigh."""

    hinge_damping: float = 0.1
    """N m s / rad."""
    hinge_friction: float = 0.1
    """N m, dry."""
    slide_damping: float = 3.0
    """N s / m."""
    slide_friction: float = 1.0
    """N, dry."""
    surface_density: float = 5.0
    """kg / m2 of a part's surface; panels have two sides."""
    gravity: float = 9.81
    """m / s2, along -z."""

    def scaled(self, damping: float, friction: float, density: float) -> "JointResistance":
        """With each of the three times a factor."""
        return replace(
            self,
            hinge_damping=self.hinge_damping * damping,
            slide_damping=self.slide_damping * damping,
            hinge_friction=self.hinge_friction * friction,
            slide_friction=self.slide_friction * friction,
            surface_density=self.surface_density * density,
        )


@dataclass(frozen=True)
class Task:
    """A joint to open: from its source state to the limit that the motion goes towards."""

    object: ArticulatedObject
    """Metres, z up."""
    part: int
    """The dragged part."""
    q_source: Float[np.ndarray, " parts"]
    """Every joint's position, radians or metres."""
    span: float
    """Signed remaining range of the dragged joint, radians or metres, not zero."""
    locked: bool = False
    """Whether the joint is held where it is."""

    def __post_init__(self) -> None:
        joint = self.object.parts[self.part].joint
        if joint is None or joint.type == JointType.FIXED:
            raise SimulationError(f"{self.object.name}: part {self.part} has no joint that moves")
        if not (np.isfinite(self.span) and self.span != 0):
            raise SimulationError(f"{self.object.name}: part {self.part} has no range left to open ({self.span})")

    def joint_at_source(self, part: int) -> Joint:
        """A part's joint where the source state has it, object frame."""
        joint = self.object.parts[part].joint
        assert joint is not None
        T = self.object.T_object_part(self.q_source)[joint.parent]
        turned = joint.rotated(T[:3, :3])
        x, y, z = (np.array(turned.pivot) + T[:3, 3]).tolist()
        return replace(turned, pivot=(x, y, z))

    def body_of(self, part: int) -> int | None:
        """The part whose joint carries ``part`` here: the dragged one, another that can move; None for the world."""
        chain = list(self._upwards(part))
        if self.part in chain:
            return self.part
        free = [p for p in chain if p in self.object.movable and p not in set(self._upwards(self.part))]
        return free[-1] if free else None

    def body_name(self, part: int) -> str:
        """Name of that body in the model."""
        body = self.body_of(part)
        return "world" if body is None else DRAGGED if body == self.part else f"body_{body}"

    def _upwards(self, part: int) -> Iterator[int]:
        while True:
            yield part
            joint = self.object.parts[part].joint
            if joint is None:
                return
            part = joint.parent


@dataclass(frozen=True)
class Piece:
    """A connected piece of a part's surface, which collides as its convex hull."""

    vertices: Float[np.ndarray, "v 3"]
    """Of its hull; object frame, source state."""
    convex: bool
    """Whether it fills its hull."""
    surface: Float[np.ndarray, "f 3 3"]
    """Corners of its triangles."""


def pieces_of(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> list[Piece]:
    """The connected pieces of a surface, flat ones with a thickness.

    Closed pieces that only touch stay apart; of the others, which seams may have cut, vertices in one place are one.
    """
    if not len(faces):
        return []
    label, closed = connected_faces(faces)
    _, place = np.unique(np.round(vertices, 6), axis=0, return_inverse=True)
    mended, _ = connected_faces(place.reshape(-1)[faces[~closed]]) if not closed.all() else (label[:0], closed[:0])
    label[~closed] = label.max() + 1 + mended
    return [piece_of(vertices, faces[label == number]) for number in np.unique(label)]


def connected_faces(corners: Int[np.ndarray, "f 3"]) -> tuple[Int[np.ndarray, " f"], Bool[np.ndarray, " f"]]:
    """Which connected piece each face belongs to, and whether that piece is closed: each edge has two faces."""
    edges = np.sort(np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]]), axis=1)
    size = int(corners.max()) + 1
    _, label = connected_components(coo_array((np.ones(len(edges)), edges.T), shape=(size, size)), directed=False)
    ends, faces_at = np.unique(edges, axis=0, return_counts=True)
    open_labels = np.unique(label[ends[faces_at != 2, 0]])
    of_face = label[corners[:, 0]].astype(np.int64)
    return of_face, ~np.isin(of_face, open_labels)


def piece_of(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Piece:
    """One connected surface."""
    points = vertices[np.unique(faces)]
    _, _, directions = np.linalg.svd(points - points.mean(0), full_matrices=False)
    area, sides = float(triangle_areas(vertices, faces).sum()), 1
    if np.ptp(points @ directions[-1]) < SHEET_M:
        points = np.concatenate([points - SHEET_M * directions[-1], points + SHEET_M * directions[-1]])
        sides = 2
    try:
        hull = ConvexHull(points)
    except QhullError:  # no wider than a line: too small to meet anything
        return Piece(np.zeros((0, 3)), False, vertices[faces])
    # A sheet may be drawn from one side or from both.
    share = min(abs(area * n / hull.area - 1) for n in range(1, sides + 1))
    return Piece(points[hull.vertices], share < CONVEX_AREA, vertices[faces])


def surface_boxes(
    corners: Float[np.ndarray, "f 3 3"], cell: float
) -> Iterator[tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]]:
    """Lowest and highest corners of few boxes, along the axes, that together cover every cell that a surface goes
    through (all but slivers of some)."""
    points = np.concatenate([_spread(triangle, 0.5 * cell) for triangle in corners])
    low = points.min(0) - 0.5 * cell
    cells = np.unique(np.floor((points - low) / cell).astype(np.int64), axis=0)
    occupied = np.zeros(cells.max(0) + 1, dtype=bool)
    occupied[tuple(cells.T)] = True
    for first, last in greedy_boxes(occupied):
        yield low + cell * first, low + cell * last


def _spread(triangle: Float[np.ndarray, "3 3"], spacing: float) -> Float[np.ndarray, "n 3"]:
    """Points of a triangle, no farther apart than ``spacing`` along two of its sides."""
    sides = triangle[1:] - triangle[0]
    n, m = (np.ceil(np.linalg.norm(sides, axis=1) / spacing).astype(int) + 1).tolist()
    u, v = np.meshgrid(np.linspace(0, 1, n), np.linspace(0, 1, m), indexing="ij")
    inside = u + v <= 1 + 1e-9
    return triangle[0] + u[inside][:, None] * sides[0] + v[inside][:, None] * sides[1]


def triangle_areas(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Float[np.ndarray, " f"]:
    """Areas of triangles."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)


def shell_inertia(
    corners: Float[np.ndarray, "f 3 3"], density: float
) -> tuple[float, Float[np.ndarray, "3"], Float[np.ndarray, "3 3"]]:
    """Mass (kg), centre of mass and inertia about it (kg m2) of a surface of even thickness.

    Args:
        corners: of its triangles, metres.
        density: kg / m2.
    """
    a, b, c = corners.transpose(1, 0, 2)
    mass = density * 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    total, summed = float(mass.sum()), a + b + c
    if not total > 0:
        raise SimulationError("the dragged part has no surface, and so no mass")
    centre = mass @ summed / (3 * total)
    second = sum(np.einsum("f,fi,fj->ij", mass, x, x) for x in (a, b, c, summed)) / 12 - total * np.outer(
        centre, centre
    )
    return total, centre, np.trace(second) * np.eye(3) - second


@dataclass(frozen=True)
class SimulatedObject:
    """A compiled model and the state of its simulation."""

    model: Any
    """``mujoco.MjModel``."""
    data: Any
    """``mujoco.MjData``, at the source state."""
    body: int
    """Number of the dragged body."""

    @property
    def moved(self) -> float:
        """How far the dragged joint is from its source state, radians or metres."""
        return float(self.data.joint(DRAGGED).qpos[0])


def simulate(task: Task, resistance: JointResistance, timestep_s: float) -> SimulatedObject:
    """Build the model of a task.

    Raises:
        SimulationError: MuJoCo is not installed, or does not take the object.
    """
    mujoco = mujoco_package()
    model = mujoco.MjModel.from_xml_string(task_xml(task, resistance, timestep_s))
    return SimulatedObject(model, mujoco.MjData(model), int(model.body(DRAGGED).id))


def task_xml(task: Task, resistance: JointResistance, timestep_s: float, robot: bool = False) -> str:
    """The MJCF of a task; with ``robot``, its surfaces also meet geometries whose ``contype`` has :data:`ROBOT_BIT`.

    Raises:
        SimulationError: MuJoCo is not installed, or does not take the object.
    """
    mujoco = mujoco_package()
    posed = task.object.posed_vertices(task.q_source)
    pieces: dict[str, list[Piece]] = {name: [] for name in sorted(set(map(task.body_name, range(len(posed)))))}
    for number, part in enumerate(task.object.parts):
        pieces[task.body_name(number)] += [p for p in pieces_of(posed[number], part.faces) if len(p.vertices)]
    try:
        swept = mujoco.MjModel.from_xml_string(_xml(task, resistance, timestep_s, pieces, posed, None))
    except ValueError as error:
        raise SimulationError(f"{task.object.name}: MuJoCo does not take it ({error})") from error
    pairs = colliding_pairs(mujoco, swept, task, pieces)
    return _xml(task, resistance, timestep_s, pieces, posed, pairs, robot)


def mujoco_package() -> Any:
    """The package, imported when it is needed.

    Raises:
        SimulationError: it is not installed.
    """
    try:
        import mujoco
    except ImportError as error:
        raise SimulationError("simulation needs MuJoCo: pip install 'partrm[eval]'") from error
    return mujoco


def colliding_pairs(mujoco: Any, model: Any, task: Task, pieces: dict[str, list[Piece]]) -> list[tuple[str, str]]:
    """Which pieces of the dragged part meet which others.

    On its own joint a part can only meet what lies on its way. Left out are pairs that overlap in the source state
    already, and, where one of the two does not fill its hull, pairs whose hulls overlap on the way.
    """
    data, states = mujoco.MjData(model), []
    for share in np.linspace(0, 1, SWEEP_STATES):
        data.joint(DRAGGED).qpos[0] = share * task.span
        mujoco.mj_forward(model, data)
        deep = (data.contact.geom[i] for i in range(data.ncon) if data.contact.dist[i] < -OVERLAP_M)
        states.append({(model.geom(int(a)).name, model.geom(int(b)).name) for a, b in deep})
    convex = {f"{body}_{i}": piece.convex for body, some in pieces.items() for i, piece in enumerate(some)}
    met = set().union(*states)
    on_way = {pair for pair in met - states[0] if all(convex[name] for name in pair)}
    mine = [f"{DRAGGED}_{i}" for i in range(len(pieces[DRAGGED]))]
    free = {(a, b) for a in mine for b in convex if not b.startswith((DRAGGED, "world"))}
    known = {tuple(sorted(pair)) for pair in met}
    return sorted(on_way | {pair for pair in free if tuple(sorted(pair)) not in known})


def _xml(
    task: Task,
    resistance: JointResistance,
    timestep_s: float,
    pieces: dict[str, list[Piece]],
    posed: list[Float[np.ndarray, "_ 3"]],
    pairs: list[tuple[str, str]] | None,
    robot: bool = False,
) -> str:
    """MJCF of a task; without ``pairs`` the dragged part meets everything, with them only these pieces meet."""
    root = ET.Element("mujoco", model="task")
    ET.SubElement(root, "compiler", angle="radian", balanceinertia="true", boundmass="1e-4", boundinertia="1e-7")
    gravity = numbers((0.0, 0.0, -resistance.gravity))
    ET.SubElement(root, "option", timestep=repr(timestep_s), gravity=gravity, integrator="implicitfast")
    asset, world = ET.SubElement(root, "asset"), ET.SubElement(root, "worldbody")
    for body, some in pieces.items():
        element = world
        if body != "world":
            part = task.part if body == DRAGGED else int(body.removeprefix("body_"))
            element = ET.SubElement(world, "body", name=body, gravcomp="0" if body == DRAGGED else "1")
            parts = [p for p in range(len(posed)) if task.body_name(p) == body]
            corners = np.concatenate([posed[p][task.object.parts[p].faces] for p in parts])
            mass, centre, inertia = shell_inertia(corners, resistance.surface_density)
            full = (*inertia.diagonal(), inertia[0, 1], inertia[0, 2], inertia[1, 2])
            ET.SubElement(element, "inertial", pos=numbers(centre), mass=repr(mass), fullinertia=numbers(full))
            _add_joint(element, task, part, body, resistance)
        if robot:
            _add_pictures(asset, element, task, body, posed)
        sides = {"contype": "1", "conaffinity": "2"} if body == DRAGGED else {"contype": "2", "conaffinity": "1"}
        sides = sides if pairs is None else {"contype": "0", "conaffinity": "0"}
        for number, piece in enumerate(some):
            name = f"{body}_{number}"
            ET.SubElement(asset, "mesh", name=name, inertia="shell", vertex=numbers(piece.vertices.ravel()))
            hull = {"conaffinity": ROBOT_BIT} if robot and piece.convex else {}
            hull |= {"group": HIDDEN} if robot else {}
            ET.SubElement(element, "geom", {"name": name, "type": "mesh", "mesh": name} | sides | hull)
            for low, high in surface_boxes(piece.surface, ROBOT_CELL_M) if robot and not piece.convex else ():
                place = {"type": "box", "pos": numbers((low + high) / 2), "size": numbers((high - low) / 2)}
                ET.SubElement(element, "geom", place | {"contype": "0", "conaffinity": ROBOT_BIT, "group": HIDDEN})
    if pairs:
        contact = ET.SubElement(root, "contact")
        for one, other in pairs:
            ET.SubElement(contact, "pair", geom1=one, geom2=other)
    return ET.tostring(root, encoding="unicode")


def _add_pictures(
    asset: ET.Element, element: ET.Element, task: Task, body: str, posed: list[Float[np.ndarray, "_ 3"]]
) -> None:
    """The true surfaces of a body, to be looked at."""
    for number, part in enumerate(task.object.parts):
        if task.body_name(number) == body and len(part.faces):
            vertices, faces = numbers(posed[number].ravel()), " ".join(map(str, part.faces.ravel().tolist()))
            ET.SubElement(asset, "mesh", name=f"shown_{number}", inertia="shell", vertex=vertices, face=faces)
            ET.SubElement(
                element, "geom", type="mesh", mesh=f"shown_{number}", contype="0", conaffinity="0", group="2",
                rgba=SHOWN[body == DRAGGED],
            )  # fmt: skip


def _add_joint(element: ET.Element, task: Task, part: int, body: str, resistance: JointResistance) -> None:
    joint, q = task.joint_at_source(part), float(task.q_source[part])
    slides = joint.type == JointType.PRISMATIC
    axis, pivot = numbers(joint.axis), numbers(joint.pivot)
    made = ET.SubElement(element, "joint", name=body, type="slide" if slides else "hinge", axis=axis, pos=pivot)
    made.set("damping", repr(resistance.slide_damping if slides else resistance.hinge_damping))
    made.set("frictionloss", repr(resistance.slide_friction if slides else resistance.hinge_friction))
    low, high = joint.lower - q, joint.upper - q
    if body == DRAGGED:
        low, high = min(low, task.span, 0.0), max(high, task.span, 0.0)
        if task.locked:
            low, high = -1e-4, 1e-4
    limited = joint.type != JointType.CONTINUOUS and np.isfinite((low, high)).all()
    made.set("limited", "true" if limited else "false")
    if limited:
        made.set("range", numbers((low, max(high, low + 1e-6))))
