"""The files that a MuJoCo model names, looked at before MuJoCo opens them."""

import math
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from pathlib import Path

from partrm.objects.articulated_object import ObjectError
from partrm.objects.descriptions import MAX_DESCRIPTION_BYTES, parse_xml, read_description
from partrm.objects.named_files import MAX_MESH_BYTES, NamedFiles, read_named

MAX_INCLUDES = 256

GROWING = ("replicate", "composite", "flexcomp")
"""Elements that make ``count`` copies, or a grid of ``count`` by ``count`` by ``count`` points."""

MAX_ELEMENTS = 50_000
"""Of a model; MuJoCo compiles more for minutes."""

SIZES = {
    "hfield": (("nrow", "ncol"), 2**24), "texture": (("width", "height"), 2**26), "numeric": (("size",), 2**20),
    "user": (("dim",), 2**20),
}  # fmt: skip
"""Elements that claim memory by numbers, these attributes, and the greatest product that is taken."""

MAX_FINENESS = 512
"""Of a mesh that MuJoCo makes by itself."""

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
        for element in root.iter():
            _refuse_huge(element, path)
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


def _refuse_huge(element: ET.Element, path: Path) -> None:
    """Refuse an element that makes MuJoCo fill the memory."""
    names, most = SIZES.get(element.tag, ((), 0))
    claimed = {name: _whole(element.get(name, "")) for name in names}
    if names and math.prod(max(value, 1) for value in claimed.values()) > most:
        told = " ".join(f"{name}={value}" for name, value in claimed.items())
        raise ObjectError(f"{path}: a <{element.tag}> of {told}, more than {most} in all")
    fineness = element.get("params", "").split() if element.tag == "mesh" else []
    if any(_whole(word) > MAX_FINENESS for word in fineness):
        raise ObjectError(f"{path}: a <mesh> of params {' '.join(fineness)[:60]}, more than {MAX_FINENESS}")


def _whole(word: str) -> int:
    try:
        return int(float(word))
    except (ValueError, OverflowError):
        return 0  # MuJoCo says what is wrong with it


def _with_includes(path: Path, files: NamedFiles) -> dict[Path, ET.Element]:
    """The root elements of a model, of what it includes, and of the models that it takes bodies from."""
    roots = {path: read_description(path, "mujoco")}
    _refuse_other_letters(path)
    named: dict[Path, set[Path]] = {path: set()}
    taken: list[tuple[Path, Path]] = []
    waiting = [path]
    while waiting:
        here = waiting.pop()
        for element in (*roots[here].iter("include"), *roots[here].iterfind(".//asset/model")):
            name = element.get("file", "")
            for place in _places(name, {path.parent, here.parent}):
                if not _check(place, element.tag, name, files):
                    continue
                named[here].add(place)
                if element.tag == "model":
                    taken.append((here, place))
                if place in roots:
                    continue
                roots[place], named[place] = parse_xml(place), set()
                _refuse_other_letters(place)
                waiting.append(place)
                if len(roots) > MAX_INCLUDES:
                    raise ObjectError(f"{path}: more than {MAX_INCLUDES} included files")
    for here, place in taken:
        if here in _reached(place, named):
            raise ObjectError(f"{here}: takes bodies from {place.name!r}, which leads back to it")
    return roots


COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)


def _refuse_other_letters(path: Path) -> None:
    """Refuse XML that is not UTF-8 but for comments, whatever it says of itself: MuJoCo takes it for that."""
    try:
        COMMENT.sub(b"", read_named(path, MAX_DESCRIPTION_BYTES, "description")).decode()
    except UnicodeDecodeError as error:
        raise ObjectError(f"{path}: is not UTF-8, the only encoding that MuJoCo reads; save it as that") from error


def _reached(path: Path, named: Mapping[Path, set[Path]]) -> set[Path]:
    """A file, and all that it leads to."""
    found, waiting = {path}, [path]
    while waiting:
        fresh = named[waiting.pop()] - found
        found |= fresh
        waiting += fresh
    return found


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
