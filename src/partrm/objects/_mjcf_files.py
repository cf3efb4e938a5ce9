"""The files that a MuJoCo model names, looked at before MuJoCo opens them."""

import math
import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from partrm.objects.articulated_object import ObjectError
from partrm.objects.descriptions import parse_xml, read_description
from partrm.objects.named_files import MAX_MESH_BYTES, NamedFiles

MAX_INCLUDES = 256

GROWING = ("replicate", "composite", "flexcomp")
"""Elements that make ``count`` copies, or a grid of ``count`` by ``count`` by ``count`` points."""

MAX_ELEMENTS = 50_000
"""Of a model; MuJoCo compiles more for minutes."""

FOLDERS = ("meshdir", "texturedir", "assetdir")
"""Attributes of <compiler> that say where files lie."""


def checked_roots(path: Path, files: NamedFiles) -> list[ET.Element]:
    """The root elements of a model and its includes, none of which names a file that may not be read.

    Files that are missing are left to MuJoCo.

    Raises:
        ObjectError: the model or an include is not well-formed XML or no MuJoCo model, or grows without bound; a file
            that is there lies outside of the object's folder, is no regular file or too large.
    """
    roots = _with_includes(path, files)
    for root in roots.values():
        if _written_out(root) > MAX_ELEMENTS:
            raise ObjectError(f"{path}: more than {MAX_ELEMENTS} elements once copies and grids are written out")
    folders = {path.parent} | {root_path.parent for root_path in roots}
    for root in list(roots.values()):
        for compiler in root.iter("compiler"):
            folders |= {path.parent / compiler.attrib[key] for key in FOLDERS if key in compiler.attrib}
    for root in roots.values():
        for element in root.iter():
            if element.tag == "include":
                continue
            for key, name in element.attrib.items():
                if key.startswith("file") and name:
                    for folder in sorted(folders):
                        _check(folder / name.replace("\\", "/"), element.tag, name, files)
    return list(roots.values())


def _written_out(root: ET.Element) -> int:
    """How many elements there are once MuJoCo has copied what is to be copied, and filled grids."""
    found, waiting = 0, [(root, 1)]
    while waiting:
        element, copies = waiting.pop()
        if element.tag in GROWING:
            copies *= _count(element)
        found += copies
        waiting += [(child, copies) for child in element]
    return found


def _count(element: ET.Element) -> int:
    try:
        counts = [int(word) for word in element.get("count", "").split()]
    except ValueError:
        return 1  # MuJoCo says what is wrong with it
    return math.prod(max(count, 1) for count in counts)


def _with_includes(path: Path, files: NamedFiles) -> dict[Path, ET.Element]:
    roots = {path: read_description(path, "mujoco")}
    waiting = [path]
    while waiting:
        here = waiting.pop()
        for include in roots[here].iter("include"):
            name = include.get("file", "")
            for place in _places(name, {path.parent, here.parent}):
                if place in roots or not _check(place, "include", name, files):
                    continue
                roots[place] = parse_xml(place)
                waiting.append(place)
                if len(roots) > MAX_INCLUDES:
                    raise ObjectError(f"{path}: more than {MAX_INCLUDES} included files")
    return roots


def _places(name: str, folders: set[Path]) -> Iterator[Path]:
    if name:
        yield from (Path(os.path.normpath(folder / name)) for folder in sorted(folders))


def _check(place: Path, what: str, name: str, files: NamedFiles) -> bool:
    """Whether a file is there.

    Raises:
        ObjectError: it is, and may not be read.
    """
    if not files.is_there(place):
        return False
    files.require_inside(place, what, name)
    if not place.is_file():
        raise ObjectError(f"{files.description}: the {what} {name!r} is not a regular file")
    if place.stat().st_size > MAX_MESH_BYTES:
        raise ObjectError(f"{files.description}: the {what} {name!r} is larger than {MAX_MESH_BYTES / 2**20:.0f} MiB")
    return True
