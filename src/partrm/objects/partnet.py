"""PartNet-Mobility folders, as downloaded from sapien.ucsd.edu or written by us.

``mobility.urdf`` holds links, joints and limits and alone says how things move; ``mobility_v2.json`` names the links
and is matched by link id (``link_3`` is the entry of id 3), never by order; ``meta.json`` or ``result.json`` names the
category; ``textured_objs/`` and ``images/`` hold the looks. ``point_sample/`` is not needed. A part whose mesh file has
no faces is left out without moving the number of any other (the reference's D4 and D5).

PartNet is y up and its front looks along +z; the root joint of ``mobility.urdf`` turns that to z up and front -x, which
we turn to +x: our (x, y, z) are PartNet's (z, x, y).
"""

import json
import math
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from partrm.files import read_json
from partrm.geometry.joints import JointType
from partrm.objects.articulated_object import ArticulatedObject, Joint, ObjectError, Part
from partrm.objects.urdf import add_joint, add_visual, load_urdf, numbers, save_part_meshes, write_xml

PARTNET_FILE = "mobility.urdf"
"""The file of an object's folder that says how it moves."""

SAPIEN_FRONT = (-1.0, 0.0)
"""Where the front looks in the root frame of ``mobility.urdf``."""

R_PARTNET_OURS = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
"""PartNet's y-up axes of our z-up ones."""

MOTION_NAMES = {
    JointType.FIXED: "heavy",
    JointType.REVOLUTE: "hinge",
    JointType.CONTINUOUS: "hinge",
    JointType.PRISMATIC: "slider",
}
"""Joint words of ``mobility_v2.json``."""


def is_partnet_folder(folder: Path | str) -> bool:
    """Whether a folder looks like one object of PartNet-Mobility."""
    return os.path.isfile(Path(folder) / PARTNET_FILE)


def load_partnet(folder: Path | str, *, allow_outside: Sequence[Path | str] = ()) -> ArticulatedObject:
    """Load one object, z up, front towards +x, normalised. Parts are named as in ``mobility_v2.json``.

    Real downloads name meshes that never existed: their visuals are left out and noted, but a part of which nothing is
    left refuses the object.

    Args:
        folder: the object's.
        allow_outside: folders whose files may be read beside those below it.

    Raises:
        ObjectError: as :func:`partrm.objects.urdf.load_urdf`, or broken JSON files.
    """
    folder = Path(folder)
    if not is_partnet_folder(folder):
        raise ObjectError(f"{folder}: not a PartNet-Mobility folder, it has no {PARTNET_FILE}")
    loaded = load_urdf(
        folder / PARTNET_FILE,
        name=folder.absolute().name,
        category=_category(folder),
        front=SAPIEN_FRONT,
        part_names=_part_names(folder),
        skip_dead_meshes=True,
        allow_outside=allow_outside,
    )
    return replace(loaded, source=f"partnet:{loaded.name}")


def _json(path: Path) -> Any:
    """A JSON file's content, None where there is no such file."""
    if not os.path.lexists(path):
        return None
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise ObjectError(f"{path}: not valid JSON ({error})") from error


def _part_names(folder: Path) -> dict[str, str]:
    path = folder / "mobility_v2.json"
    rows = _json(path)
    if rows is None:
        return {}
    try:
        names = {f"link_{row['id']}": str(row["name"]) for row in rows}
        if len(names) < len(rows):
            raise ObjectError(f"{path}: two entries have one id")
    except (KeyError, TypeError) as error:
        raise ObjectError(f"{path}: every entry needs id and name ({error})") from error
    # A part that slides and turns hangs on a helper link without surface of its own.
    return names | {f"{link}_helper": f"{name}_helper" for link, name in names.items()}


def _category(folder: Path) -> str:
    meta = _json(folder / "meta.json")
    if isinstance(meta, dict) and meta.get("model_cat"):
        return str(meta["model_cat"])
    tree = _json(folder / "result.json")
    if isinstance(tree, list) and tree and isinstance(tree[0], dict):
        return str(tree[0].get("text") or tree[0].get("name") or "object")
    return "object"


def save_partnet(obj: ArticulatedObject, folder: Path | str) -> None:
    """Write an object as a PartNet-Mobility folder; :func:`load_partnet` gives it back.

    Meshes, joints and limits keep the object's unit (diagonal 1). Part N becomes ``link_N`` of id N, its mesh
    ``textured_objs/original-N.obj``; textures go to ``images/``.

    Raises:
        OSError: the files cannot be written.
    """
    folder = Path(folder)
    in_partnet = replace(obj, parts=tuple(p.rotated(R_PARTNET_OURS) for p in obj.parts))
    files = save_part_meshes(in_partnet, folder / "textured_objs", pattern="original-{}.obj", images="../images")
    root = ET.Element("robot", name=f"partnet_{obj.name}")
    ET.SubElement(root, "link", name="base")
    for number, (part, file) in enumerate(zip(in_partnet.parts, files, strict=True)):
        link = ET.SubElement(root, "link", name=f"link_{number}")
        if file:
            pivot = np.zeros(3) if part.joint is None else np.array(part.joint.pivot)
            add_visual(link, f"textured_objs/{file}", -pivot, f"{part.name}-{number}")
    for number, part in enumerate(in_partnet.parts):
        if part.joint is None:
            _add_root_joint(root, number)
        else:
            above = in_partnet.parts[part.joint.parent].joint
            pivot = (0.0, 0.0, 0.0) if above is None else above.pivot
            add_joint(root, part.joint, f"link_{part.joint.parent}", f"link_{number}", pivot)
    rows = [_motion(part, number) for number, part in enumerate(in_partnet.parts)]
    points = np.concatenate([p.vertices for p in in_partnet.parts])
    leaves = [
        {"text": p.name, "id": n, "name": p.name, "objs": [f"original-{n}"]}
        for n, p in enumerate(obj.parts) if files[n]
    ]  # fmt: skip
    tree = [{"text": obj.category, "name": obj.category.lower(), "id": len(obj.parts), "children": leaves}]
    _write_json(folder / "mobility_v2.json", rows)
    _write_json(folder / "result.json", tree)
    _write_json(folder / "meta.json", {"anno_id": obj.name, "model_cat": obj.category, "source": obj.source})
    _write_json(folder / "bounding_box.json", {"min": points.min(0).tolist(), "max": points.max(0).tolist()})
    write_xml(root, folder / PARTNET_FILE)


def _add_root_joint(root: ET.Element, number: int) -> None:
    """PartNet's axes to z up with the front towards -x, as every mobility.urdf has it."""
    joint = ET.SubElement(root, "joint", name=f"root_{number}", type="fixed")
    ET.SubElement(joint, "origin", rpy=numbers((math.pi / 2, 0.0, -math.pi / 2)), xyz=numbers((0.0, 0.0, 0.0)))
    ET.SubElement(joint, "child", link=f"link_{number}")
    ET.SubElement(joint, "parent", link="base")


def _motion(part: Part, number: int) -> dict:
    """One entry of mobility_v2.json; angles in degrees there."""
    joint = part.joint
    entry = {"id": number, "parent": -1 if joint is None else joint.parent, "name": part.name}
    entry["parts"] = [{"id": number, "name": part.name, "children": []}]
    if joint is None:
        return entry | {"joint": "free", "jointData": {}}
    return entry | {"joint": MOTION_NAMES[joint.type], "jointData": _joint_data(joint)}


def _joint_data(joint: Joint) -> dict:
    unit = 1.0 if joint.type == JointType.PRISMATIC else 180.0 / math.pi
    limit = {"a": joint.lower * unit, "b": joint.upper * unit, "noLimit": joint.type == JointType.CONTINUOUS}
    return {"axis": {"origin": list(joint.pivot), "direction": list(joint.axis)}, "limit": limit}


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def partnet_folders(folder: Path | str) -> list[Path]:
    """The object's folder itself, or all object folders right below a folder, in the order of their numbers."""
    folder = Path(folder)
    if is_partnet_folder(folder):
        return [folder]
    found = [child for child in folder.iterdir() if child.is_dir() and is_partnet_folder(child)]
    return sorted(found, key=lambda p: [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", p.name)])
