"""Articulated objects as MuJoCo models (MJCF): one body a part, one mesh geom a part and material.

Masses are nominal, geoms do not collide: the model shows and moves, it is no simulation asset.
"""

import math
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np

from partrm.geometry.joints import JointType
from partrm.objects.articulated_object import ArticulatedObject, Joint, ObjectError, Part
from partrm.objects.mtl_format import plain_color, save_mtl
from partrm.objects.obj_format import save_obj
from partrm.objects.surface import Surface
from partrm.objects.urdf import numbers, write_xml

INERTIA = {"pos": "0 0 0", "mass": "1", "diaginertia": "0.01 0.01 0.01"}
"""Nominal inertia of every body, which also lets flat panels through MuJoCo's checks."""


def save_mjcf(obj: ArticulatedObject, path: Path | str) -> None:
    """Write ``path`` (.xml) and, in ``NAME_meshes`` beside it, OBJ meshes and PNG textures.

    Lengths are object units; :func:`partrm.objects.mjcf.load_mjcf` gives parts, joints and surfaces back (single
    precision, as MuJoCo keeps meshes; vertices may be ordered anew). 3D patterns become their mean colour.

    Raises:
        ObjectError: two parts or joints of one name, a part that is named "world".
        OSError: the files cannot be written.
    """
    path = Path(path)
    for what, names in (
        ("parts", [p.name for p in obj.parts]),
        ("joints", [p.joint.name for p in obj.parts if p.joint is not None]),
    ):
        if len(set(names)) < len(names) or "world" in names:
            raise ObjectError(f"{obj.name}: two {what} have one name (or 'world'); MuJoCo needs them distinct")
    folder = path.with_name(path.stem + "_meshes")
    folder.mkdir(parents=True, exist_ok=True)
    root = ET.Element("mujoco", model=obj.name)
    ET.SubElement(root, "compiler", angle="radian", meshdir=folder.name, texturedir=folder.name)
    asset = ET.SubElement(root, "asset")
    _add_materials(asset, obj, folder)
    world = ET.SubElement(root, "worldbody")
    ET.SubElement(world, "light", pos="3 -1 4", dir="-3 1 -4", directional="true")
    bodies: list[ET.Element] = []
    for number, part in enumerate(obj.parts):
        joint = part.joint
        above = None if joint is None else obj.parts[joint.parent].joint
        pivot = np.zeros(3) if joint is None else np.array(joint.pivot)
        origin = np.zeros(3) if above is None else np.array(above.pivot)
        body = ET.SubElement(world if joint is None else bodies[joint.parent], "body", name=part.name)
        body.set("pos", numbers(pivot - origin if joint is not None else pivot))
        bodies.append(body)
        ET.SubElement(body, "inertial", INERTIA)
        if joint is not None and joint.type != JointType.FIXED:
            _add_joint(body, joint)
        _add_geoms(body, asset, folder, part, number, -pivot, obj)
    write_xml(root, path)


def _add_materials(asset: ET.Element, obj: ArticulatedObject, folder: Path) -> None:
    from PIL import Image

    for slot, material in enumerate(obj.materials):
        look = {"name": f"slot_{slot}", "rgba": numbers((*plain_color(material), 1.0))}
        look |= {"specular": "1", "shininess": repr(float(material.gloss))}
        if material.texture is not None:
            Image.fromarray(material.texture).save(folder / f"texture_{slot}.png")
            ET.SubElement(asset, "texture", name=f"texture_{slot}", type="2d", file=f"texture_{slot}.png")
            look["texture"] = f"texture_{slot}"
        ET.SubElement(asset, "material", look)
    save_mtl(folder / "materials.mtl", obj.materials, ["" for _ in obj.materials])


def _add_joint(body: ET.Element, joint: Joint) -> None:
    kind = "slide" if joint.type == JointType.PRISMATIC else "hinge"
    limited = joint.type != JointType.CONTINUOUS and math.isfinite(joint.lower) and math.isfinite(joint.upper)
    element = ET.SubElement(body, "joint", name=joint.name, type=kind, axis=numbers(joint.axis))
    element.set("limited", "true" if limited else "false")
    if limited:
        element.set("range", numbers((joint.lower, joint.upper)))


def _add_geoms(
    body: ET.Element,
    asset: ET.Element,
    folder: Path,
    part: Part,
    number: int,
    shift: np.ndarray,
    obj: ArticulatedObject,
) -> None:
    """One mesh geom for each material of the part; MuJoCo geoms have a single one."""
    for slot in np.unique(part.face_material).tolist() if len(part.faces) else []:
        rows = part.face_material == slot
        used, faces = np.unique(part.faces[rows], return_inverse=True)
        uv = None if part.corner_uv is None or obj.materials[slot].texture is None else part.corner_uv[rows]
        surface = Surface(part.vertices[used], faces.reshape(-1, 3), part.face_material[rows], obj.materials, uv)
        name = f"part_{number:02d}_{slot}"
        save_obj(folder / f"{name}.obj", surface, "materials.mtl")
        # Shell inertia: panels and other open surfaces have no volume.
        ET.SubElement(asset, "mesh", name=name, file=f"{name}.obj", inertia="shell")
        ET.SubElement(
            body, "geom", name=name, type="mesh", mesh=name, material=f"slot_{slot}", pos=numbers(shift),
            contype="0", conaffinity="0", group="1",
        )  # fmt: skip
