"""The XML of robot description files: read whole, told apart by its root; and what is odd about the object."""

import math
import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import numpy as np

from partrm.geometry.joints import JointType
from partrm.objects.articulated_object import ArticulatedObject, ObjectError
from partrm.objects.named_files import read_named, refuse_entities

MAX_DESCRIPTION_BYTES = 2**26

MAX_TURN_RAD = 2 * math.pi + 0.1
"""Limits of larger angles look like degrees."""

MAX_SLIDE = 10.0
"""Slides over more diagonals of the object look like another unit of length."""

MAX_SIZE_RATIO = 50.0
"""Parts so many times as large as the next one look like another unit of length."""

PREFIX = re.compile(rb"</?([A-Za-z_][\w.-]*):|\s(?!xmlns:|xml:)([A-Za-z_][\w.-]*):[\w.-]+\s*=")
"""Of elements and of attributes."""

ROOT_TAG = re.compile(rb"\A(?:\xef\xbb\xbf|\s|<!--.*?-->|<\?.*?\?>|<![^>]*>)*<[A-Za-z_][\w.-]*", re.DOTALL)
"""All up to the name of the root element."""

OTHER_KINDS = {
    "sdf": "an SDF file of Gazebo; convert it to URDF first (gz sdf -p, or sdformat_urdf)",
    "gazebo": "an SDF file of Gazebo; convert it to URDF first (gz sdf -p, or sdformat_urdf)",
    "COLLADA": "a COLLADA mesh; a URDF names it, with the joints",
    "mujocoinclude": "a MuJoCo include; give the file that includes it",
    "mujoco": "a MuJoCo model; end its name in .xml",
    "robot": "a URDF; end its name in .urdf",
}
"""What files of another root are, by the name of the root element."""


def read_description(path: Path, root: str) -> ET.Element:
    """The root element of a description.

    Args:
        path: the file.
        root: name that the root element must have.

    Raises:
        ObjectError: it cannot be read, is not XML, declares entities, or has another root.
    """
    element = parse_xml(path)
    if element.tag != root:
        kind = OTHER_KINDS.get(element.tag, f"XML whose root is <{element.tag[:80]}>, not <{root}>")
        raise ObjectError(f"{path}: is {kind}")
    return element


def parse_xml(path: Path) -> ET.Element:
    """The root element of an XML file.

    Raises:
        ObjectError: it cannot be read, is not XML, or declares entities.
    """
    content = read_named(path, MAX_DESCRIPTION_BYTES, "description")
    refuse_entities(content, path)
    try:
        try:
            return ET.fromstring(content)
        except ET.ParseError as error:
            if "unbound prefix" not in str(error):
                raise
            return ET.fromstring(_with_prefixes(content))
    except (ET.ParseError, ValueError, LookupError, RecursionError) as error:
        raise ObjectError(f"{path}: not well-formed XML ({' '.join(str(error).split())[:200]})") from error


def _with_prefixes(content: bytes) -> bytes:
    """XML whose root declares the prefixes that xacro, Gazebo and Drake use without declaring them."""
    used = {first or second for first, second in PREFIX.findall(content)}
    missing = sorted(prefix for prefix in used if b"xmlns:%s=" % prefix not in content)
    spaces = b"".join(b' xmlns:%s="undeclared/%s"' % (prefix, prefix) for prefix in missing)
    return ROOT_TAG.sub(lambda found: found[0] + spaces, content, count=1)


def root_of(path: Path) -> str:
    """Name of a file's root element, "" where it is no XML."""
    try:
        return parse_xml(path).tag
    except ObjectError:
        return ""


def refuse_xacro(root: ET.Element, path: Path) -> None:
    """Refuse a file that xacro has still to fill in.

    Raises:
        ObjectError: it has xacro's elements or expressions.
    """
    for element in root.iter():
        if not isinstance(element.tag, str):
            continue
        space, _, name = element.tag.rpartition("}")
        left = f"<xacro:{name}>" if "xacro" in space else ""
        for value in (*element.attrib.values(), element.text or ""):
            left = left or next(iter(re.findall(r"\$\{[^}]*\}|\$\((?!find\b)[^)]*\)", value)), "")
        if left:
            raise ObjectError(f"{path}: has xacro's {left[:60]} in it; run xacro first: xacro {path.name} > whole.urdf")


def oddities(obj: ArticulatedObject) -> list[str]:
    """What looks like a wrong unit: limits in degrees, slides far beyond the object, parts of another scale or none."""
    found = [f"part {p.name!r} has no extent" for p in obj.parts if len(p.faces) and not np.ptp(p.vertices, 0).any()]
    for part in obj.parts:
        joint = part.joint
        if joint is None or joint.type == JointType.FIXED:
            continue
        largest = max(abs(joint.lower), abs(joint.upper))
        if joint.type == JointType.REVOLUTE and largest > MAX_TURN_RAD:
            found.append(
                f"joint {joint.name!r} turns from {joint.lower:g} to {joint.upper:g} radians; "
                "are these degrees, or no limits at all?"
            )
        if joint.type == JointType.PRISMATIC and largest > MAX_SLIDE:
            found.append(
                f"joint {joint.name!r} slides over {largest:.3g} times the object's size; is its unit another?"
            )
    return found + _other_scales(obj)


def _other_scales(obj: ArticulatedObject) -> list[str]:
    sizes = {p.name: float(np.linalg.norm(np.ptp(p.vertices, 0))) for p in obj.parts if len(p.faces)}
    ranked = sorted((name for name in sizes if sizes[name] > 0), key=lambda name: sizes[name])
    for smaller, larger in pairwise(ranked):
        ratio = sizes[larger] / sizes[smaller]
        if ratio >= MAX_SIZE_RATIO:
            return [f"part {larger!r} is {ratio:.0f} times as large as part {smaller!r}; are their units the same?"]
    return []
