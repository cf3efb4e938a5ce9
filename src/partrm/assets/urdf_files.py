"""Assets as URDF: links with visual mesh, collision and inertia, joints with limits and what they resist."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np

from partrm.assets._surface_files import MESHES, VISUAL, hull_file, origins
from partrm.assets.asset import Asset, RigidBody
from partrm.assets.collision import Box
from partrm.geometry.joints import JointType
from partrm.objects.articulated_object import Joint
from partrm.objects.urdf import add_joint, add_visual, numbers, write_xml

WORLD = "world"
"""The link that a fixed body hangs on."""


def save_urdf_asset(asset: Asset, path: Path) -> None:
    """Write ``path`` (.urdf); its meshes are those of :func:`save_surfaces` in the same folder."""
    root = ET.Element("robot", name=asset.object.name)
    places, parts = origins(asset), asset.object.parts
    if asset.settings.fixed_base:
        ET.SubElement(root, "link", name=WORLD)
    for number, (part, body) in enumerate(zip(parts, asset.bodies, strict=True)):
        link = ET.SubElement(root, "link", name=part.name)
        _add_inertia(link, body, places[number])
        add_visual(link, f"{MESHES}/{VISUAL.format(number)}", -places[number])
        _add_collision(link, body, number, places[number])
    for part, body in zip(parts, asset.bodies, strict=True):
        joint = part.joint
        if joint is None:
            if asset.settings.fixed_base:
                add_joint(root, Joint(f"{part.name}_fixed", JointType.FIXED, 0), WORLD, part.name, (0.0, 0.0, 0.0))
            continue
        x, y, z = places[joint.parent].tolist()
        add_joint(root, joint, parts[joint.parent].name, part.name, (x, y, z))
        if body.dynamics is not None:
            limit = root[-1].find("limit")
            assert limit is not None
            limit.set("effort", numbers([body.dynamics.effort]))
            limit.set("velocity", numbers([body.dynamics.velocity]))
            drag = {"damping": numbers([body.dynamics.damping]), "friction": numbers([body.dynamics.friction])}
            ET.SubElement(root[-1], "dynamics", drag)
    write_xml(root, path)


def _add_inertia(link: ET.Element, body: RigidBody, origin: np.ndarray) -> None:
    element, inertia = ET.SubElement(link, "inertial"), body.mass.inertia
    ET.SubElement(element, "origin", xyz=numbers(body.mass.centre - origin))
    ET.SubElement(element, "mass", value=numbers([body.mass.mass_kg]))
    six = {"ixx": (0, 0), "iyy": (1, 1), "izz": (2, 2), "ixy": (0, 1), "ixz": (0, 2), "iyz": (1, 2)}
    ET.SubElement(element, "inertia", {name: numbers([inertia[place]]) for name, place in six.items()})


def _add_collision(link: ET.Element, body: RigidBody, number: int, origin: np.ndarray) -> None:
    for index, shape in enumerate(body.collision):
        element = ET.SubElement(link, "collision")
        centre = shape.centre - origin if isinstance(shape, Box) else -origin
        ET.SubElement(element, "origin", xyz=numbers(centre))
        geometry = ET.SubElement(element, "geometry")
        if isinstance(shape, Box):
            ET.SubElement(geometry, "box", size=numbers(2 * shape.half))
        else:
            ET.SubElement(geometry, "mesh", filename=f"{MESHES}/{hull_file(number, index)}")
