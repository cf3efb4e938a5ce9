"""Assets as MuJoCo models that simulate: visual meshes, collision, inertia, joints with what they resist."""

import xml.etree.ElementTree as ET
from itertools import combinations
from pathlib import Path

import numpy as np

from partrm.assets._surface_files import MESHES, TEXTURE, VISUAL, hull_file, hull_name, origins
from partrm.assets.asset import Asset, RigidBody
from partrm.assets.collision import Box
from partrm.assets.physics import JointDynamics
from partrm.geometry.joints import JointType
from partrm.objects.articulated_object import Joint
from partrm.objects.urdf import numbers, write_xml

VISUAL_GROUP, COLLISION_GROUP = "2", "3"
"""MuJoCo's viewer shows groups 0 to 2 and hides the others until asked."""


def save_mjcf_asset(asset: Asset, path: Path) -> None:
    """Write ``path`` (.xml); its meshes are those of :func:`save_surfaces` in the same folder."""
    root = ET.Element("mujoco", model=asset.object.name)
    ET.SubElement(root, "compiler", angle="radian", autolimits="true", meshdir=MESHES, texturedir=MESHES)
    ET.SubElement(root, "option", integrator="implicitfast")
    _add_defaults(root)
    _add_assets(root, asset)
    world = ET.SubElement(root, "worldbody")
    ET.SubElement(world, "light", pos="2 -1 3", dir="-2 1 -3", directional="true")
    elements: list[ET.Element] = []
    places = origins(asset)
    for number, (part, body) in enumerate(zip(asset.object.parts, asset.bodies, strict=True)):
        joint = part.joint
        above = world if joint is None else elements[joint.parent]
        offset = places[number] - (np.zeros(3) if joint is None else places[joint.parent])
        element = ET.SubElement(above, "body", name=part.name, pos=numbers(offset))
        elements.append(element)
        if joint is None and not asset.settings.fixed_base:
            ET.SubElement(element, "freejoint", name=f"{part.name}_free")
        if joint is not None and body.dynamics is not None:
            _add_joint(element, joint, body.dynamics)
        _add_body(element, body, number, places[number])
    contact = ET.SubElement(root, "contact")
    # Siblings too: two open doors may pass through each other in a prediction.
    for one, other in combinations(asset.object.parts, 2):
        ET.SubElement(contact, "exclude", body1=one.name, body2=other.name)
    write_xml(root, path)


def _add_defaults(root: ET.Element) -> None:
    default = ET.SubElement(root, "default")
    visual = ET.SubElement(default, "default", {"class": "visual"})
    ET.SubElement(visual, "geom", type="mesh", contype="0", conaffinity="0", group=VISUAL_GROUP, mass="0")
    collision = ET.SubElement(default, "default", {"class": "collision"})
    ET.SubElement(
        collision, "geom", group=COLLISION_GROUP, mass="0", friction="1 0.005 0.0001", condim="4",
        rgba="0.3 0.6 0.9 0.5",
    )  # fmt: skip


def _add_assets(root: ET.Element, asset: Asset) -> None:
    group = ET.SubElement(root, "asset")
    for number, body in enumerate(asset.bodies):
        ET.SubElement(group, "texture", name=f"texture_{number}", type="2d", file=TEXTURE.format(number))
        ET.SubElement(group, "material", name=f"material_{number}", texture=f"texture_{number}", specular="0.1")
        ET.SubElement(group, "mesh", name=f"part_{number:02d}", file=VISUAL.format(number))
        for index, shape in enumerate(body.collision):
            if not isinstance(shape, Box):
                ET.SubElement(group, "mesh", name=hull_name(number, index), file=hull_file(number, index))


def _add_joint(element: ET.Element, joint: Joint, dynamics: JointDynamics) -> None:
    kind = "slide" if joint.type == JointType.PRISMATIC else "hinge"
    ET.SubElement(
        element, "joint", name=joint.name, type=kind, axis=numbers(joint.axis),
        range=numbers((joint.lower, joint.upper)), damping=numbers([dynamics.damping]),
        frictionloss=numbers([dynamics.friction]), armature=numbers([dynamics.armature]),
    )  # fmt: skip


def _add_body(element: ET.Element, body: RigidBody, number: int, origin: np.ndarray) -> None:
    inertia = body.mass.inertia
    six = [inertia[i, j] for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))]
    ET.SubElement(
        element, "inertial", pos=numbers(body.mass.centre - origin), mass=numbers([body.mass.mass_kg]),
        fullinertia=numbers(six),
    )  # fmt: skip
    shift = numbers(-origin)
    ET.SubElement(
        element, "geom", {"class": "visual"}, name=f"part_{number:02d}", mesh=f"part_{number:02d}", pos=shift,
        material=f"material_{number}",
    )  # fmt: skip
    for index, shape in enumerate(body.collision):
        if isinstance(shape, Box):
            place = {"type": "box", "pos": numbers(shape.centre - origin), "size": numbers(shape.half)}
        else:
            place = {"type": "mesh", "pos": shift, "mesh": hull_name(number, index)}
        ET.SubElement(element, "geom", {"class": "collision"} | place)
