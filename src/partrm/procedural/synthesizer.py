"""Kitchen furniture and appliances from ``scene-synthesizer`` (the ``data`` extra), with widely sampled arguments."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from partrm.geometry.joints import JointType
from partrm.objects.articulated_object import ArticulatedObject, Joint, ObjectError, PackageMissingError, Part
from partrm.objects.materials import Material, Role
from partrm.procedural.builder import pick
from partrm.procedural.registry import Generator, register

Arguments = dict[str, Any]
Constructor = Callable[[np.random.Generator, str], tuple[str, Arguments]]
"""Draws the name and the arguments of one of the library's constructors; takes a folder for scratch meshes."""


def _kitchen(category: str, partdrag: str, turn: int = 0) -> Callable[[Constructor], Constructor]:
    """Register a function that draws the name and the arguments of one of scene-synthesizer's constructors."""

    def decorate(constructor: Constructor) -> Constructor:
        def draw(rng: np.random.Generator, name: str, source: str) -> ArticulatedObject:
            return replace(synthesize(category, constructor, rng, source), name=name)

        register(Generator(category, draw, partdrag, turn, needs_extra=True))
        return constructor

    return decorate


def synthesize(category: str, constructor: Constructor, rng: np.random.Generator, source: str) -> ArticulatedObject:
    """An object from scene-synthesizer, front towards +x; its scratch meshes live in a folder of their own.

    Raises:
        PackageMissingError: scene-synthesizer is not installed.
    """
    try:
        from scene_synthesizer import procedural_assets
    except ImportError as error:
        raise PackageMissingError(f"{category} needs scene-synthesizer: pip install 'partrm[data]'") from error
    with tempfile.TemporaryDirectory() as folder:
        name, arguments = constructor(rng, folder)
        scene = getattr(procedural_assets, name)(**arguments).scene("o")
    return _from_scene(category, scene, source)


def _handle_shape(rng: np.random.Generator) -> Arguments:
    return {
        "straight_ratio": rng.uniform(0.3, 1.5),
        "curvature_ratio": rng.uniform(0.1, 1.6),
        "num_segments_curvature": int(rng.integers(4, 7)),
        "num_segments_cross_section": int(rng.integers(5, 9)),
        "aspect_ratio_cross_section": rng.uniform(0.3, 1.3),
    }


def _door_shape(rng: np.random.Generator) -> Arguments | None:
    if rng.random() < 0.35:
        return None
    return {
        "inner_depth_ratio": rng.uniform(0.2, 1.0),
        "outer_depth_ratio": rng.uniform(0.5, 1.0),
        "trim_depth_ratio": rng.uniform(0.3, 1.0),
        "trim_width_ratio": rng.uniform(0.0, 0.8),
        "trim_outer_offset_ratio": rng.uniform(0.0, 1.0),
        "knot_0": rng.uniform(0.0, 0.4),
        "knot_1": rng.uniform(0.4, 0.6),
        "knot_2": rng.uniform(0.6, 0.8),
        "knot_3": rng.uniform(0.8, 1.0),
        "num_depth_sections": int(rng.integers(5, 9)),
    }


def _cabinet_fittings(rng: np.random.Generator, folder: str) -> Arguments:
    """Arguments that all cabinets share: handles and doors."""
    shape, door = _handle_shape(rng) if rng.random() < 0.6 else None, _door_shape(rng)
    return {
        "handle_width": rng.uniform(0.06, 0.3),
        "handle_height": rng.uniform(0.02, 0.06),
        "handle_depth": rng.uniform(0.02, 0.06),
        "handle_shape_args": None if shape is None else {**shape, "tmp_mesh_dir": folder},
        "door_shape_args": None if door is None else {**door, "tmp_mesh_dir": folder},
    }


@_kitchen("kitchen_refrigerator", "Refrigerator", turn=1)
def _refrigerator(rng: np.random.Generator, folder: str) -> tuple[str, Arguments]:
    height = rng.uniform(0.9, 1.95)
    depth = rng.uniform(0.55, 0.85)
    thickness = rng.uniform(0.03, 0.09)
    return "RefrigeratorAsset", {
        "width": rng.uniform(0.5, 0.95),
        "depth": depth,
        "height": height,
        "freezer_compartment_height": height * rng.uniform(0.2, 0.4),
        "thickness": thickness,
        "num_shelves": int(rng.integers(1, 6)),
        "num_door_shelves": int(rng.integers(1, 4)),
        "handle_left": bool(rng.random() < 0.5),
        "handle_vertical": bool(rng.random() < 0.8),
        "handle_length": rng.uniform(0.12, 0.2) if height < 1.2 else rng.uniform(0.15, 0.32),
        "handle_thickness": rng.uniform(0.02, 0.08),
        "handle_depth": rng.uniform(0.03, 0.08),
        "handle_shape_args": {**_handle_shape(rng), "tmp_mesh_dir": folder},
        "door_shape_args": {
            "straight_ratio": rng.uniform(0.6, 0.95),
            "curvature_ratio": rng.uniform(0.6, 0.95),
            "num_segments": int(rng.integers(4, 9)),
            "tmp_mesh_dir": folder,
        },
    }


def _long_handle(rng: np.random.Generator, folder: str, width: float) -> Arguments:
    return {
        "handle_length": width * rng.uniform(0.4, 0.95),
        "handle_thickness": rng.uniform(0.02, 0.06),
        "handle_depth": rng.uniform(0.03, 0.08),
        "handle_shape_args": {**_handle_shape(rng), "tmp_mesh_dir": folder},
    }


@_kitchen("kitchen_dishwasher", "Dishwasher", turn=1)
def _dishwasher(rng: np.random.Generator, folder: str) -> tuple[str, Arguments]:
    width, height = rng.uniform(0.45, 0.8), rng.uniform(0.65, 1.0)
    return "DishwasherAsset", {
        "width": width,
        "depth": rng.uniform(0.5, 0.8),
        "height": height,
        "control_panel_height": rng.uniform(0.06, 0.15),
        "foot_panel_height": rng.uniform(0.02, 0.12),
        "door_thickness": rng.uniform(0.03, 0.07),
        "basket_height": 0.16 * height,
        "basket_wire_mesh_gap": rng.uniform(0.06, 0.1),
        **_long_handle(rng, folder, width),
    }


@_kitchen("kitchen_range", "Oven", turn=1)
def _range(rng: np.random.Generator, folder: str) -> tuple[str, Arguments]:
    width, height = rng.uniform(0.5, 0.95), rng.uniform(0.75, 1.05)
    return "RangeAsset", {
        "width": width,
        "depth": rng.uniform(0.55, 0.8),
        "height": height,
        "control_panel_height": height * rng.uniform(0.08, 0.15),
        "oven_height": height * rng.uniform(0.55, 0.65),
        "storage_height": height * rng.uniform(0.15, 0.22),
        "stove_plate_radius": width * rng.uniform(0.1, 0.15),
        "door_shape_args": {
            "use_primitives": True,
            "trim_width_ratio": rng.uniform(0.15, 0.4),
            "inner_depth_ratio": rng.uniform(0.05, 0.3),
        },
        **_long_handle(rng, folder, width),
    }


@_kitchen("kitchen_microwave", "Microwave", turn=1)
def _microwave(rng: np.random.Generator, folder: str) -> tuple[str, Arguments]:
    width, height = rng.uniform(0.42, 0.7), rng.uniform(0.24, 0.42)
    return "MicrowaveAsset", {
        "width": width,
        "depth": rng.uniform(0.28, 0.5),
        "height": height,
        "thickness": rng.uniform(0.015, 0.05),
        "display_panel_width": width * rng.uniform(0.14, 0.3),
        "handle_left": bool(rng.random() < 0.3),
        "handle_depth": rng.uniform(0.025, 0.08),
        "handle_thickness": rng.uniform(0.015, 0.05),
        "handle_length": height * rng.uniform(0.4, 0.85),
        "handle_straight_ratio": rng.uniform(0.3, 1.0),
        "handle_curvature_ratio": rng.uniform(0.3, 1.3),
        "handle_num_segments_curvature": 6,
        "tmp_mesh_dir": folder,
    }


@_kitchen("kitchen_base_cabinet", "StorageFurniture", turn=2)
def _base_cabinet(rng: np.random.Generator, folder: str) -> tuple[str, Arguments]:
    doors = int(rng.integers(0, 4))
    rows = int(rng.integers(0, 3)) if doors else int(rng.integers(1, 4))
    height = rng.uniform(0.6, 1.1)
    return "BaseCabinetAsset", {
        "width": rng.uniform(0.4, 0.7) + 0.2 * doors,
        "depth": rng.uniform(0.4, 0.8),
        "height": height,
        "num_drawers_horizontal": None if doors and rng.random() < 0.5 else int(rng.integers(1, 3)),
        "num_drawers_vertical": rows,
        "lower_compartment_types": [str(k) for k in rng.choice(["door_right", "door_left"], doors)],
        "num_shelves": int(rng.integers(0, 3)),
        "drawer_height": rng.uniform(0.12, 0.24) * (height if rows < 3 else 0.9 * height),
        "foot_panel_height": rng.uniform(0.0, 0.12),
        "frontboard_thickness": rng.uniform(0.015, 0.03),
        "wall_thickness": rng.uniform(0.012, 0.035),
        **_cabinet_fittings(rng, folder),
    }


@_kitchen("kitchen_wall_cabinet", "StorageFurniture", turn=7)
def _wall_cabinet(rng: np.random.Generator, folder: str) -> tuple[str, Arguments]:
    kinds = [["door_right", "door_left"], ["door_left"], ["door_right"], ["door_top"], ["door_left", "door_right"]]
    types = kinds[rng.integers(len(kinds))]
    return "WallCabinetAsset", {
        "width": rng.uniform(0.3, 0.55) * (1 + 0.7 * (len(types) - 1)),
        "depth": rng.uniform(0.2, 0.5),
        "height": rng.uniform(0.4, 1.0),
        "compartment_types": types,
        "handle_offset": None,
        "num_shelves": int(rng.integers(0, 4)),
        "frontboard_thickness": rng.uniform(0.015, 0.03),
        "wall_thickness": rng.uniform(0.01, 0.03),
        **_cabinet_fittings(rng, folder),
    }


@_kitchen("kitchen_sink_cabinet", "StorageFurniture", turn=8)
def _sink_cabinet(rng: np.random.Generator, folder: str) -> tuple[str, Arguments]:
    width, depth, height = rng.uniform(0.6, 1.0), rng.uniform(0.5, 0.8), rng.uniform(0.7, 1.0)
    return "SinkCabinetAsset", {
        "width": width,
        "depth": depth,
        "height": height,
        "sink_width": width * rng.uniform(0.5, 0.75),
        "sink_depth": depth * rng.uniform(0.5, 0.65),
        "sink_height": height * rng.uniform(0.12, 0.25),
        "sink_offset": (0, 0),
        "sink_tmp_mesh_dir": folder,
        "wall_thickness": rng.uniform(0.012, 0.03),
        **_cabinet_fittings(rng, folder),
    }


@_kitchen("kitchen_recursive_cabinet", "StorageFurniture", turn=9)
def _recursive_cabinet(rng: np.random.Generator, folder: str) -> tuple[str, Arguments]:
    # Dyadic shares, since the library wants a sum of exactly one.
    drawer, none = int(rng.integers(12, 45)) / 64, int(rng.integers(2, 8)) / 64
    mix = [drawer, 1.0 - drawer - none, none]
    return "RecursivelyPartitionedCabinetAsset", {
        "width": rng.uniform(0.5, 1.4),
        "depth": rng.uniform(0.3, 0.6),
        "height": rng.uniform(0.5, 1.7),
        "thickness": rng.uniform(0.015, 0.04),
        "wall_thickness": rng.uniform(0.01, 0.02),
        "split_prob": rng.uniform(0.7, 1.0),
        "split_decay": rng.uniform(0.4, 0.7),
        "articulation_type_prob": mix,
        "door_left_prob": 0.5,
        "handle_types": [pick(rng, ["procedural", "box", "box"])],
        "handle_width": rng.uniform(0.06, 0.2),
        "handle_depth": rng.uniform(0.02, 0.05),
        "handle_height": rng.uniform(0.015, 0.04),
        "handle_shape_args": {**_handle_shape(rng), "tmp_mesh_dir": folder},
        "seed": int(rng.integers(2**31)),
    }


@_kitchen("kitchen_island", "StorageFurniture", turn=10)
def _kitchen_island(rng: np.random.Generator, folder: str) -> tuple[str, Arguments]:
    depth = rng.uniform(0.5, 0.8)
    return "KitchenIslandAsset", {
        "width": rng.uniform(0.9, 1.6),
        "depth": depth,
        "height": rng.uniform(0.7, 1.0),
        "depth_storage": depth * rng.uniform(0.45, 0.7),
        "depth_side_storage": rng.uniform(0.06, 0.15),
        **_cabinet_fittings(rng, folder),
    }


def _role(name: str, movable: bool, front: bool) -> Role:
    """Role of a geometry by its name in the library; ``front`` marks the face board of a drawer."""
    if "handle" in name or (movable and "_part_" in name):
        return Role.HANDLE
    if any(word in name for word in ("stove", "display", "button", "plate", "countertop", "sink", "closed")):
        return Role.DETAIL
    if movable:
        inner = any(word in name for word in ("board", "shelf", "holder", "basket", "wall", "bottom"))
        return Role.MOVING if front or not inner else Role.INTERIOR
    return Role.INTERIOR if "shelf" in name else Role.BODY


def _from_scene(category: str, scene: Any, source: str) -> ArticulatedObject:
    """Root and movable links with all that is rigidly attached; meshes and joints in the frame of the root."""
    graph = scene.scene.graph
    edges = {child: (parent, data) for parent, child, data in graph.to_edgelist()}

    def movable(node: str) -> bool:
        metadata = edges[node][1].get("metadata") or {} if node in edges else {}
        return metadata.get("joint", {}).get("type", "fixed") != "fixed"

    def carrier(node: str) -> str | None:
        """The movable link that carries a node (itself included), None for the root."""
        while node in edges:
            if movable(node):
                return node
            node = edges[node][0]
        return None

    links: list[str | None] = [None, *(n for n in graph.nodes if movable(n))]
    turn = _front_turn(category)
    pieces: dict[str | None, list[tuple[str, np.ndarray, np.ndarray]]] = {link: [] for link in links}
    for node in graph.nodes_geometry:
        T_world_node, geometry = graph.get(node)
        mesh = scene.scene.geometry[geometry]
        points = (np.asarray(mesh.vertices) @ T_world_node[:3, :3].T + T_world_node[:3, 3]) @ turn.T
        pieces[carrier(node)].append((node, points, np.asarray(mesh.faces)))
    roles: list[Role] = []
    parts = []
    for index, link in enumerate(links):
        if not pieces[link]:
            raise ObjectError(f"{category}: link {link} has no surface")
        joint = None
        if link is not None:
            data = edges[link][1]["metadata"]["joint"]
            T_world_link = graph.get(link)[0]
            kind = {"prismatic": JointType.PRISMATIC}.get(data["type"], JointType.REVOLUTE)
            above = links.index(carrier(edges[link][0]))
            (ax, ay, az), (px, py, pz) = (
                (turn @ v).tolist() for v in (T_world_link[:3, :3] @ data["axis"], T_world_link[:3, 3])
            )
            upper = min(float(data["limit_upper"]), 2.6 if kind == JointType.REVOLUTE else np.inf)
            joint = Joint(f"joint_{index}", kind, above, (ax, ay, az), (px, py, pz), float(data["limit_lower"]), upper)
        parts.append(_part_of(pieces[link], joint, index, roles))
    materials = tuple(Material(f"{r.name.lower()}_{k}", (0.5, 0.5, 0.5), r) for k, r in enumerate(roles))
    return ArticulatedObject(category, category, tuple(parts), materials, source)


def _front_turn(category: str) -> np.ndarray:
    """Rotation to front +x: the library's front is -y, but +y of recursive cabinets."""
    sign = 1.0 if category == "kitchen_recursive_cabinet" else -1.0
    return np.array([[0.0, sign, 0.0], [-sign, 0.0, 0.0], [0.0, 0.0, 1.0]])


def _part_of(
    pieces: list[tuple[str, np.ndarray, np.ndarray]], joint: Joint | None, index: int, roles: list[Role]
) -> Part:
    """One part of its pieces; fronts get slots of their own, other roles share one slot an object."""
    extents = [np.ptp(points, axis=0) for _, points, _ in pieces]
    boards = [e[1] * e[2] * (1 if e[0] <= 0.2 * max(e[1], e[2]) else 0.0) for e in extents]
    reach = [points[:, 0].max() for _, points, _ in pieces]
    front = max(range(len(pieces)), key=lambda k: (round(boards[k], 3), reach[k]))
    centre = (np.concatenate([p for _, p, _ in pieces]).min(0) + np.concatenate([p for _, p, _ in pieces]).max(0)) / 2
    own: int | None = None
    slots = []
    for k, (name, points, faces) in enumerate(pieces):
        role = _role(name.rsplit("/", 1)[-1], joint is not None, k == front)
        if role == Role.MOVING:
            if own is None:
                roles.append(role)
                own = len(roles) - 1
            slot = own
        else:
            if role not in roles:
                roles.append(role)
            slot = roles.index(role)
        face_slots = np.full(len(faces), slot)
        if joint is None and role == Role.BODY and len(faces) == 12:
            if Role.INTERIOR not in roles:
                roles.append(Role.INTERIOR)
            corners = points[faces]
            normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
            inward = np.einsum("fi,fi->f", normal, centre - corners.mean(1)) > 0
            face_slots[inward] = roles.index(Role.INTERIOR)
        slots.append(face_slots)
    starts = np.cumsum([0] + [len(p) for _, p, _ in pieces[:-1]])
    return Part(
        "body" if joint is None else f"part_{index}",
        np.concatenate([p for _, p, _ in pieces]),
        np.concatenate([f + s for (_, _, f), s in zip(pieces, starts, strict=True)]),
        np.concatenate(slots),
        joint,
    )
