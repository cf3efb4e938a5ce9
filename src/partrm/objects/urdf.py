"""URDF files as articulated objects, and back: visual meshes with UVs, colours and textures, exact transforms.

``yourdfpy`` reads the XML, :mod:`partrm.objects.obj_format` OBJ meshes exactly, ``trimesh`` the other formats.
Fixed joints and joints without a range are merged into the part that they hang on. A joint that mimics another one is
read as a joint of its own.
"""

import heapq
import importlib
import math
import os
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from partrm.files import staged_file
from partrm.geometry.joints import JointType
from partrm.geometry.transforms import screw_motion
from partrm.objects._description_meshes import CAPSULE, PartsBuilder, quiet_libraries, read_visual
from partrm.objects.articulated_object import ArticulatedObject, Joint, ObjectError, PackageMissingError
from partrm.objects.descriptions import oddities, read_description, refuse_xacro
from partrm.objects.mtl_format import save_mtl
from partrm.objects.named_files import NamedFiles
from partrm.objects.obj_format import MAX_NOTES, save_obj
from partrm.objects.surface import Surface

FREE = ("floating", "planar")
"""Joint types that only say where the object stands, if the root has no surface."""

KINDS = {"revolute": JointType.REVOLUTE, "continuous": JointType.CONTINUOUS, "prismatic": JointType.PRISMATIC}
"""Joint types that move."""


def load_urdf(
    path: Path | str,
    *,
    name: str | None = None,
    category: str = "object",
    front: tuple[float, float] = (1.0, 0.0),
    part_names: Mapping[str, str] | None = None,
    skip_dead_meshes: bool = False,
    allow_outside: Sequence[Path | str] = (),
) -> ArticulatedObject:
    """Load a URDF file, z up, normalised (closed bounding box: centred, diagonal 1).

    Args:
        path: the file; meshes and textures are looked for beside it (``package://`` and the like too).
        name: name of the object, by default the file's.
        category: category of the object.
        front: direction (x, y) of the file's root frame in which the object's front looks; it is turned to +x.
        part_names: names of parts by link, where they are not the link's own.
        skip_dead_meshes: leave out visuals whose mesh is missing or without faces instead of refusing the file.
        allow_outside: folders whose files may be read beside those below the object's own.

    A part is called after its first link that has surface; one without visuals shows its collision geometry.
    Continuous joints get one turn as their range. A floating or planar joint at a root without surface stands still.
    What was left out or looks odd is in the object's ``notes``.

    Raises:
        PackageMissingError: yourdfpy or, for meshes other than OBJ, trimesh is missing.
        ObjectError: the file or a mesh missing or malformed, or outside of the object's folder; links that are unknown,
            held by two joints, in a cycle or apart; nothing that moves; an axis of no length; limits that are absent,
            not finite or reversed; another floating or planar joint; a box, cylinder, capsule or sphere without
            extent; no visible surface.
    """
    path = Path(path)
    files = NamedFiles(path, allow_outside)
    robot = _parse(path, files)
    joints = _joints_by_child(robot, path)
    builder = PartsBuilder(files)
    links = _topological(robot, joints, path)
    T_world = _open_parts(links, joints, builder, path)
    for shown in ("visuals", "collisions"):
        bare = {n for n, part in enumerate(builder.parts) if not part.pieces.count}
        chosen = links if shown == "visuals" else [x for x in links if builder.part_of_link[x.name] in bare]
        for link in chosen:
            for visual in getattr(link, shown):
                _add_visual(visual, link.name, T_world[link.name], robot, builder, skip_dead_meshes)
            if shown == "collisions" and link.collisions:
                files.note(f"link {link.name!r} has no visible geometry; its collision geometry is shown")
    _refuse_dead_parts(builder)
    parts, materials = builder.build(part_names or {})
    if not any(part.joint is not None for part in parts):
        raise ObjectError(f"{path}: no joint moves a visible part")
    built = ArticulatedObject(
        name=path.stem if name is None else name,
        category=category,
        parts=parts,
        materials=materials,
        source=f"urdf:{path.name}",
    )
    built = built.turned_to_front(front).normalised()
    return replace(built, notes=(*files.notes, *oddities(built)))


def _open_parts(
    links: list[Any], joints: Mapping[str, Any], builder: PartsBuilder, path: Path
) -> dict[str, np.ndarray]:
    """Open a part for every link that moves, join the others to their parents'; poses of the links at rest."""
    bare = {link.name for link in links if not (link.visuals or link.collisions or link.name in joints)}
    T_world: dict[str, np.ndarray] = {}
    for link in links:
        joint = joints.get(link.name)
        above = np.eye(4) if joint is None else T_world[joint.parent] @ _matrix(joint.origin, joint.name, path)
        if joint is None:
            builder.open_part(link.name, None)
        elif joint.type in FREE and joint.parent in bare:
            builder.join(link.name, joint.parent)
        else:
            above = above @ _held_motion(joint, path)
            moving = _moving_joint(joint, above, builder.part_of_link[joint.parent], path)
            builder.join(link.name, joint.parent) if moving is None else builder.open_part(link.name, moving)
        T_world[link.name] = above
    return T_world


def _add_visual(
    visual: Any, link: str, T_world_link: np.ndarray, robot: Any, builder: PartsBuilder, skip_dead_meshes: bool
) -> None:
    path = builder.path
    T = T_world_link @ _matrix(visual.origin, link, path)
    surface = read_visual(visual, robot, builder.files, builder.libraries)
    if surface is not None and len(surface.faces):
        builder.add(link, surface, T)
    elif not skip_dead_meshes:
        raise ObjectError(
            f"{path}: {builder.files.notes[-1] if surface is None else f'a mesh of link {link!r} has no faces'}"
        )
    elif surface is None:
        builder.dead[builder.part_of_link[link]] = link


def _refuse_dead_parts(builder: PartsBuilder) -> None:
    for number, link in builder.dead.items():
        if not builder.parts[number].pieces.count:
            raise ObjectError(f"{builder.path}: nothing is left of link {link!r}: {builder.files.notes[0]}")


def _parse(path: Path, files: NamedFiles) -> Any:
    """yourdfpy's record of the file, without meshes."""
    try:
        yourdfpy = importlib.import_module("yourdfpy")
    except ImportError as error:
        message = f"{path}: URDF files need the package yourdfpy: pip install 'partrm[data]'"
        raise PackageMissingError(message) from error
    if not os.path.exists(path):
        raise ObjectError(f"{path}: no such URDF file")
    root = read_description(path, "robot")
    refuse_xacro(root, path)
    _refuse_incomplete(root, path)
    for note in _twice(root):
        files.note(note)
    _fill_in(root)
    try:
        with quiet_libraries():
            return yourdfpy.URDF.load(BytesIO(ET.tostring(root)), build_scene_graph=False, load_meshes=False).robot
    except KeyError as error:
        raise ObjectError(f"{path}: not a URDF that yourdfpy can read (an element has no attribute {error})") from error
    except Exception as error:
        raise ObjectError(f"{path}: not a URDF that yourdfpy can read ({' '.join(str(error).split())})") from error


def _refuse_incomplete(root: ET.Element, path: Path) -> None:
    """Refuse joints without their links, and visuals without a shape; yourdfpy says of them what Python says."""
    for joint in root.iterfind("joint"):
        for tag in ("parent", "child"):
            if joint.find(tag) is None:
                raise ObjectError(f"{path}: joint {joint.get('name')!r} has no <{tag}>")
    for link in root.iterfind("link"):
        for visual in (*link.iterfind("visual"), *link.iterfind("collision")):
            geometry = visual.find("geometry")
            if geometry is None or not len(geometry):
                raise ObjectError(f"{path}: a <{visual.tag}> of link {link.get('name')!r} has no shape")


def _twice(root: ET.Element) -> list[str]:
    """Notes of what may be there once and is there several times; simulators differ in which they take."""
    names = Counter(joint.get("name") for joint in root.iterfind("joint"))
    found = [f"{count} joints are called {name!r}" for name, count in names.items() if count > 1]
    for joint in root.iterfind("joint"):
        for tag in ("parent", "child", "origin", "axis", "limit"):
            if (count := len(joint.findall(tag))) > 1:
                found.append(f"joint {joint.get('name')!r} has {count} <{tag}>; the first counts")
    for link in root.iterfind("link"):
        for visual in link.iterfind("visual"):
            if (count := sum(len(geometry) for geometry in visual.iterfind("geometry"))) > 1:
                found.append(f"a <visual> of link {link.get('name')!r} has {count} shapes; one counts")
    return found[:MAX_NOTES]


def _fill_in(root: ET.Element) -> None:
    """Write out what yourdfpy does not know: a left out name of the robot, a left out zero of a limit, and capsules."""
    root.attrib.setdefault("name", "")
    for limit in root.iter("limit"):
        if "lower" in limit.attrib or "upper" in limit.attrib:
            limit.attrib.setdefault("lower", "0")
            limit.attrib.setdefault("upper", "0")
    for geometry in root.iter("geometry"):
        capsule = geometry.find("capsule")
        if capsule is not None:
            geometry.remove(capsule)
            size = f"{capsule.get('radius', '')} {capsule.get('length', '')}"
            geometry.insert(0, ET.Element("mesh", filename=f"{CAPSULE}{size}"))


def _joints_by_child(robot: Any, path: Path) -> dict[str, Any]:
    names = [link.name for link in robot.links]
    if len(set(names)) < len(names) or not names:
        raise ObjectError(f"{path}: {'two links have one name' if names else 'no link'}")
    joints: dict[str, Any] = {}
    for joint in robot.joints:
        for link in (joint.parent, joint.child):
            if link not in names:
                raise ObjectError(f"{path}: joint {joint.name!r} names the link {link!r}, which does not exist")
        if joint.child in joints:
            other = joints[joint.child].name
            raise ObjectError(f"{path}: link {joint.child!r} hangs on two joints, {other!r} and {joint.name!r}")
        joints[joint.child] = joint
    return joints


def _topological(robot: Any, joints: Mapping[str, Any], path: Path) -> list[Any]:
    """Links with parents before children, else in the order of the file."""
    roots = [link.name for link in robot.links if link.name not in joints]
    if not roots:
        raise ObjectError(f"{path}: the joints form a cycle")
    if len(roots) > 1:
        raise ObjectError(f"{path}: no joint connects the links {roots[0]!r} and {roots[1]!r}")
    number = {link.name: place for place, link in enumerate(robot.links)}
    below: dict[str, list[int]] = {}
    for child, joint in joints.items():
        below.setdefault(joint.parent, []).append(number[child])
    ready, placed = [number[roots[0]]], []
    while ready:
        placed.append(robot.links[heapq.heappop(ready)])
        for place in below.get(placed[-1].name, []):
            heapq.heappush(ready, place)
    if len(placed) < len(robot.links):
        done = {link.name for link in placed}
        left = next(link.name for link in robot.links if link.name not in done)
        raise ObjectError(f"{path}: the joints form a cycle (at link {left!r})")
    return placed


def _matrix(origin: np.ndarray | None, what: str, path: Path) -> Float[np.ndarray, "4 4"]:
    T = np.eye(4) if origin is None else np.asarray(origin, dtype=np.float64)
    if not np.isfinite(T).all():
        raise ObjectError(f"{path}: the origin at {what!r} is not finite")
    return T


def _limits(joint: Any, path: Path) -> tuple[float, float]:
    if joint.type == "continuous":
        return -math.pi, math.pi
    limit = joint.limit
    if limit is None or limit.lower is None or limit.upper is None:
        raise ObjectError(f"{path}: joint {joint.name!r} is {joint.type} but has no limits")
    if not (math.isfinite(limit.lower) and math.isfinite(limit.upper)):
        raise ObjectError(f"{path}: the limits of joint {joint.name!r} are not finite ({limit.lower}, {limit.upper})")
    if limit.lower > limit.upper:
        raise ObjectError(f"{path}: the limits of joint {joint.name!r} are reversed ({limit.lower}, {limit.upper})")
    return float(limit.lower), float(limit.upper)


def _axis(joint: Any, path: Path) -> Float[np.ndarray, "3"]:
    axis = np.asarray(joint.axis, dtype=np.float64)
    length = math.hypot(*axis.ravel())
    if axis.shape != (3,) or not 1e-9 < length < math.inf:
        raise ObjectError(f"{path}: the axis of joint {joint.name!r} has no length")
    return axis / length


def _held_motion(joint: Any, path: Path) -> Float[np.ndarray, "4 4"]:
    """Where a joint whose limits coincide holds its child, in the joint's frame; the identity for all others."""
    if joint.type not in (*KINDS, "fixed"):
        raise ObjectError(f"{path}: joint {joint.name!r} is {joint.type}; only fixed, revolute, continuous, prismatic")
    if joint.type in ("fixed", "continuous"):
        return np.eye(4)
    lower, upper = _limits(joint, path)
    if lower < upper:
        return np.eye(4)
    axis, zero = torch.from_numpy(_axis(joint, path)), torch.zeros(3, dtype=torch.float64)
    amount = torch.tensor(lower, dtype=torch.float64)
    return screw_motion(axis, zero, amount, torch.tensor(joint.type == "prismatic")).numpy()


def _moving_joint(joint: Any, T_world_joint: np.ndarray, parent: int, path: Path) -> Joint | None:
    """The joint at rest in the root frame; None for one that holds still."""
    if joint.type == "fixed":
        return None
    axis, (lower, upper) = _axis(joint, path), _limits(joint, path)
    if lower == upper:
        return None
    return Joint(
        name=joint.name,
        type=KINDS[joint.type],
        parent=parent,
        axis=tuple((T_world_joint[:3, :3] @ axis).tolist()),
        pivot=tuple(T_world_joint[:3, 3].tolist()),
        lower=lower,
        upper=upper,
    )


def save_urdf(obj: ArticulatedObject, path: Path | str) -> None:
    """Write ``path`` (.urdf) and, in ``NAME_meshes`` beside it, an OBJ mesh a part, materials and PNG textures.

    Lengths are object units (diagonal 1); every link's frame stands at its joint's pivot, turned as the object frame.
    :func:`load_urdf` gives the same object back (materials in the order of their use). 3D patterns are kept in comments
    that only we read; other programs see their mean colour.

    Raises:
        ObjectError: two parts of one name.
        OSError: the files cannot be written.
    """
    path = Path(path)
    names = [part.name for part in obj.parts]
    if len(set(names)) < len(names):
        raise ObjectError(f"{obj.name}: two parts have one name; a URDF needs them distinct")
    meshes = path.with_name(path.stem + "_meshes")
    files = save_part_meshes(obj, meshes)
    root = ET.Element("robot", name=obj.name)
    for part, file in zip(obj.parts, files, strict=True):
        link = ET.SubElement(root, "link", name=part.name)
        if file:
            pivot = np.zeros(3) if part.joint is None else np.array(part.joint.pivot)
            add_visual(link, f"{meshes.name}/{file}", -pivot)
    for index, part in enumerate(obj.parts):
        if index and part.joint is None:
            add_joint(root, Joint(f"{part.name}_fixed", JointType.FIXED, 0), names[0], part.name, (0.0, 0.0, 0.0))
        if part.joint is not None:
            above = obj.parts[part.joint.parent].joint
            add_joint(root, part.joint, names[part.joint.parent], part.name, above.pivot if above else (0.0, 0.0, 0.0))
    write_xml(root, path)


def add_visual(link: ET.Element, file: str, xyz: np.ndarray, name: str = "") -> None:
    """Append a mesh to a link, shifted by ``xyz``."""
    visual = ET.SubElement(link, "visual", {"name": name} if name else {})
    ET.SubElement(visual, "origin", xyz=numbers(xyz))
    ET.SubElement(ET.SubElement(visual, "geometry"), "mesh", filename=file)


def add_joint(
    root: ET.Element, joint: Joint, parent: str, child: str, parent_pivot: tuple[float, float, float], name: str = ""
) -> None:
    """Append a joint between two links whose frames stand at their pivots."""
    kind = joint.type.name.lower()
    element = ET.SubElement(root, "joint", name=name or joint.name, type=kind)
    ET.SubElement(element, "origin", xyz=numbers(np.array(joint.pivot) - np.array(parent_pivot)))
    ET.SubElement(element, "parent", link=parent)
    ET.SubElement(element, "child", link=child)
    if joint.type != JointType.FIXED:
        ET.SubElement(element, "axis", xyz=numbers(joint.axis))
        limits = {"lower": repr(float(joint.lower)), "upper": repr(float(joint.upper))}
        ET.SubElement(
            element, "limit", limits | {"effort": "100", "velocity": "1"} if joint.type != JointType.CONTINUOUS
            else {"effort": "100", "velocity": "1"},
        )  # fmt: skip


def save_part_meshes(
    obj: ArticulatedObject, folder: Path, *, pattern: str = "part_{:02d}.obj", images: str = ""
) -> list[str]:
    """Write the parts at rest as OBJ files with one common MTL; file names, "" for parts without faces.

    Args:
        obj: the object.
        folder: made if missing.
        pattern: name of part number N's file.
        images: folder of the textures relative to ``folder``, "" for the same.
    """
    save_part_materials(obj, folder, images)
    files = []
    for number, part in enumerate(obj.parts):
        files.append(pattern.format(number) if len(part.faces) else "")
        if files[-1]:
            surface = Surface(part.vertices, part.faces, part.face_material, obj.materials, part.corner_uv)
            save_obj(folder / files[-1], surface, "materials.mtl")
    return files


def save_part_materials(obj: ArticulatedObject, folder: Path, images: str = "") -> None:
    """Write ``materials.mtl`` and the textures of an object; ``images`` is their folder relative to ``folder``."""
    from PIL import Image

    (folder / images).mkdir(parents=True, exist_ok=True)
    textures = {slot: material.texture for slot, material in enumerate(obj.materials) if material.texture is not None}
    paths = [f"{images}/texture_{n}.png".lstrip("/") if n in textures else "" for n in range(len(obj.materials))]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda slot: Image.fromarray(textures[slot]).save(folder / paths[slot]), textures))
    save_mtl(folder / "materials.mtl", obj.materials, paths)


def numbers(values) -> str:
    """Numbers as URDF writes them, without loss."""
    return " ".join(repr(float(v)) for v in values)


def write_xml(root: ET.Element, path: Path) -> None:
    """Write under another name first, so that no half file keeps its final one."""
    ET.indent(root)
    with staged_file(path) as part:
        ET.ElementTree(root).write(part, encoding="utf-8", xml_declaration=True)
