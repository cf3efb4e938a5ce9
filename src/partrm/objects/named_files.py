"""Files that the description of an object names: where they are looked for, and which ones may be read.

An archive from the internet may name any file of this machine. Only regular files of bounded size are read, below the
object's own folder or one that the user names; what is not there, or is there under another name, is noted. What
libraries would read as something else than it says is refused.
"""

import base64
import json
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from partrm.files import read_bytes, refuse_wide
from partrm.objects.articulated_object import ObjectError

MAX_MESH_BYTES = 2**29
MAX_LIBRARY_BYTES = 2**24
MAX_TEXTURE_BYTES = 2**28

DESCRIPTION_FOLDERS = ("urdf", "mjcf", "xml", "robots", "sdf")
"""Folders for descriptions alone: the object's folder is the one above."""

PACKAGE_FILES = ("package.xml", "model.config")
"""What the folder of a ROS package or a Gazebo model holds."""

PACKAGE = re.compile(r"(?:file://)?(?:(?:package|model)://|\$\(find\s+)([^/)]+)\)?/*(.*)", re.DOTALL)


class NamedFiles:
    """The files that one description may name, and the notes that were made while they were looked for."""

    def __init__(self, description: Path, allow_outside: Sequence[Path | str] = ()) -> None:
        """Prepare for a description.

        Args:
            description: the file; its folder, and that of the package around it, may be read.
            allow_outside: further folders that may be read.
        """
        self.description = description
        self.notes: list[str] = []
        lexical, real = Path(os.path.abspath(description)).parent, Path(os.path.realpath(description)).parent
        self.folders = tuple({object_folder(lexical): None, object_folder(real): None})
        self._roots = [Path(os.path.realpath(folder)) for folder in (*self.folders, *allow_outside)]

    def note(self, text: str) -> None:
        """Keep a remark for the user, once."""
        if text not in self.notes:
            self.notes.append(text)

    def find(self, what: str, name: str | None, beside: Path) -> Path | None:
        """The file that a name means, None where there is none.

        Tried in turn: the name beside the file that names it, below the package for ``package://``, ``model://`` and
        ``$(find ...)``, in another case, and the last part of an absolute path of another machine.

        Args:
            what: mesh, texture or material library, for messages.
            name: as the file has it.
            beside: folder of the file that names it.

        Raises:
            ObjectError: no name, or a file outside of the object's folder.
        """
        if not name or not name.strip():
            raise ObjectError(f"{self.description}: a {what} has no file name")
        for path in self._places(name, beside):
            if self.is_there(path):
                return self.require_inside(path, what, name)
        plain = _plain(name)
        for path in self._places(name, beside):
            found = self._other_case(path)
            if found is not None:
                self.note(f"the {what} {name!r} is called {found.name!r} there")
                return self.require_inside(found, what, name)
        last = Path(os.path.abspath(beside)) / plain.rpartition("/")[2]
        if plain.startswith("/") or re.match("[A-Za-z]:/", plain):
            found = last if self.is_there(last) else self._other_case(last)
            if found is not None:
                self.note(f"the {what} {name!r} is taken from beside the file that names it")
                return self.require_inside(found, what, name)
        return None

    def missing(self, what: str, name: str, beside: Path) -> str:
        """The words for a file that :meth:`find` does not find: which, and where it was looked for."""
        looked = dict.fromkeys(str(path.parent) for path in self._places(name, beside))
        return f"the {what} {name!r} is missing (looked in {', '.join(list(looked)[:4])})"

    def _places(self, name: str, beside: Path) -> Iterator[Path]:
        beside = Path(os.path.abspath(beside))
        package = PACKAGE.fullmatch(name.strip().replace("\\", "/"))
        if package is None:
            plain = _plain(name)
            yield from dict.fromkeys((beside / plain, beside / unquote(plain)))
            return
        title, inside = package[1].strip(), package[2]
        for folder in (beside, *beside.parents):
            if folder.name == title:
                yield folder / inside
            yield folder / title / inside
            if any(folder == top or top in folder.parents for top in self.folders):
                yield folder / inside

    @staticmethod
    def is_there(path: Path) -> bool:
        """Whether a path names something other than a folder."""
        try:
            return path.exists() and not path.is_dir()
        except (OSError, ValueError):  # a name that no file can have
            return False

    def require_inside(self, path: Path, what: str, name: str) -> Path:
        """The path, if it lies in a folder that may be read.

        Raises:
            ObjectError: it does not.
        """
        real = Path(os.path.realpath(path))
        allowed = [*self._roots, *self._package_of(name, real)]
        if not any(root == real or root in real.parents for root in allowed):
            raise ObjectError(
                f"{self.description}: the {what} {name!r} lies outside of the object's folder {self.folders[0]}; "
                f"if you trust it, allow its folder: --allow-outside {real.parent}"
            )
        return path

    def _package_of(self, name: str, real: Path) -> list[Path]:
        """The folder of a named package, if it is one: around the description, or marked as such."""
        package = PACKAGE.fullmatch(name.strip().replace("\\", "/"))
        if package is None:
            return []
        around = Path(os.path.realpath(self.description)).parents
        named = [folder for folder in real.parents if folder.name == package[1].strip()]
        return [f for f in named if f in around or any(os.path.isfile(f / marker) for marker in PACKAGE_FILES)]

    def _other_case(self, path: Path) -> Path | None:
        """The one entry that differs from a path below an object's folder only in case."""
        top = next((f for f in self.folders if f in path.parents), None)
        if top is None:
            return None
        found = top
        for word in path.relative_to(top).parts:
            try:
                names = os.listdir(found)
            except OSError:
                return None
            same = [n for n in names if n == word] or [n for n in names if n.casefold() == word.casefold()]
            if len(same) != 1:
                return None
            found = found / same[0]
        return found


def object_folder(folder: Path) -> Path:
    """The folder of the object whose description lies in ``folder``: the package around it, else ``folder`` itself."""
    above = [f for f in (folder, *folder.parents)[:4] if any(os.path.isfile(f / marker) for marker in PACKAGE_FILES)]
    if above:
        return above[0]
    return folder.parent if folder.name.lower() in DESCRIPTION_FOLDERS else folder


def read_named(path: Path, most: int, what: str) -> bytes:
    """Content of a named file.

    Raises:
        ObjectError: it cannot be read, is no regular file or too large.
    """
    try:
        return read_bytes(path, most)
    except OSError as error:
        raise ObjectError(f"{path}: the {what} cannot be read ({error.strerror})") from error


def read_named_text(path: Path, most: int, what: str) -> str:
    """Text of a named file, without byte order marks (joined files have some inside); not UTF-8 in it is replaced.

    Raises:
        ObjectError: it cannot be read, is no regular file or too large, or in UTF-16.
    """
    content = read_named(path, most, what)
    try:
        refuse_wide(content)
    except ValueError as error:
        raise ObjectError(f"{path}: the {what} cannot be read ({error})") from error
    return content.decode("utf-8", errors="replace").replace("\ufeff", "")


def _plain(name: str) -> str:
    return name.strip().removeprefix("file://").replace("\\", "/")


def refuse_entities(content: bytes, path: Path) -> None:
    """Refuse XML that declares entities: they can name files, or grow without bound.

    Raises:
        ObjectError: it does.
    """
    for encoding in ("ascii", "utf-16-le", "utf-16-be"):
        if "<!ENTITY".encode(encoding) in content:
            raise ObjectError(f"{path}: declares XML entities, which are not read; write them out")


HARMLESS = re.compile(r"(KHR|EXT)_(materials|texture|lights|xmp)_?|KHR_mesh_quantization|KHR_node_visibility")
"""Extensions of glTF, required by a file, without which its shape is still what it is."""

PACKED = ("KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_meshopt_compression")
"""Extensions of glTF without which trimesh reads a mesh's points as zeros."""

MAX_NESTING = 10**6
"""Of the nodes of a glTF file, in sum: trimesh goes from each one through all above it."""

GLB = b"glTF"
"""How a binary glTF file begins."""

NODE_BYTES = 2**14
"""What an instance in a COLLADA scene counts beside the text of its geometry."""


def refuse_misread_gltf(file: Path, content: bytes) -> None:
    """Refuse geometry that trimesh would take for another, packed, sparse, or of integers that mean fractions.

    So are pictures that it would leave out.

    Raises:
        ObjectError: it is.
    """
    try:
        # A glb file has 20 bytes before its JSON, which its second and third number bound.
        text = content[20 : 20 + int.from_bytes(content[12:16], "little")] if content[:4] == GLB else content
        document = json.loads(text)
        instanced = any("EXT_mesh_gpu_instancing" in node.get("extensions", {}) for node in document.get("nodes", []))
        required = document.get("extensionsRequired", [])
        primitives = [primitive for mesh in document.get("meshes", []) for primitive in mesh["primitives"]]
        points = [document["accessors"][p["attributes"]["POSITION"]] for p in primitives]
        faces = [document["accessors"][p["indices"]] for p in primitives if "indices" in p]
        lost = _lost_pictures(document)
        nesting = _nesting([node.get("children", []) for node in document.get("nodes", [])])
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        if isinstance(error, ValueError) and content[:4] != GLB:  # trimesh would look for another file
            raise ObjectError(f"{file}: not a glTF file ({error})") from error
        return  # trimesh says what is wrong with it
    if packed := next((name for name in PACKED if name in required), None):
        raise ObjectError(f"{file}: its meshes are packed by {packed}, which is not read; export it without")
    if other := next((name for name in required if not HARMLESS.match(name)), "its copies" if instanced else ""):
        raise ObjectError(f"{file}: it requires {other}, which is not read; export it without")
    if any("sparse" in accessor for accessor in (*points, *faces)):
        raise ObjectError(f"{file}: its meshes have sparse accessors, which are not read; export it without")
    if any(accessor.get("normalized") for accessor in points):
        raise ObjectError(f"{file}: its vertices are quantized, which is not read; export it without")
    if lost:
        raise ObjectError(f"{file}: a texture of it cannot be read ({lost[0]})")
    if nesting > MAX_NESTING:
        raise ObjectError(f"{file}: its nodes are nested too deeply; export it with its transforms applied")


def _lost_pictures(document: Mapping[str, Any]) -> list[str]:
    """Why pictures of the materials' colours are left out by trimesh, which says nothing of it."""
    found = []
    for material in document.get("materials", []):
        named = material.get("pbrMetallicRoughness", {}).get("baseColorTexture")
        if named is None:
            continue
        texture = _entry(document, "textures", named["index"])
        webp = texture.get("extensions", {}).get("EXT_texture_webp", {})
        source = webp.get("source", texture.get("source"))
        picture = _entry(document, "images", source)
        if "KHR_texture_basisu" in texture.get("extensions", {}) and source is None:
            found.append("KTX2 is not read; export it with PNG or JPEG")
        elif not picture:
            found.append("it names a picture that does not exist")
        elif picture.get("mimeType") == "image/ktx2":
            found.append("KTX2 is not read; export it with PNG or JPEG")
        elif "bufferView" not in picture and "uri" not in picture:
            found.append("its picture names no file")
        elif not _is_base64(picture.get("uri", "")):
            found.append("it is no base64")
    return found


def _entry(document: Mapping[str, Any], kind: str, index: Any) -> dict[str, Any]:
    """What an index names, empty where it names nothing."""
    known = document.get(kind, [])
    return known[index] if isinstance(index, int) and 0 <= index < len(known) else {}


def _is_base64(uri: str) -> bool:
    _, written_here, data = uri.partition("base64,")
    try:
        base64.b64decode(data if written_here else "")
    except ValueError:
        return False
    return True


def _nesting(children: Sequence[Sequence[int]]) -> int:
    """Sum over all nodes of how many stand above each."""
    inner = {child for below in children for child in below}
    level, seen, total = [node for node in range(len(children)) if node not in inner], set[int](), 0
    for depth in range(len(children)):
        total += depth * len(level)
        seen.update(level)
        level = list(dict.fromkeys(child for node in level for child in children[node] if child not in seen))
    return total


def refuse_misread_collada(file: Path, content: bytes) -> None:
    """Refuse what pycollada takes for zero or counts from the end, and scenes whose instances grow without bound.

    Raises:
        ObjectError: there is something of the kind.
    """
    try:
        root = ET.fromstring(content)
    except (ET.ParseError, ValueError, LookupError):
        return  # pycollada says what is wrong with it
    named: dict[str, list[ET.Element]] = {}
    for element in root.iter():
        named.setdefault(element.tag.rpartition("}")[2], []).append(element)
    if any("-" in (indices.text or "") for indices in named.get("p", [])):
        raise ObjectError(f"{file}: a face indexes a vertex that does not exist")
    inputs = [one for vertices in named.get("vertices", []) for one in vertices if one.get("semantic") == "POSITION"]
    positions = {one.get("source", "")[1:] for one in inputs}
    for source in named.get("source", []):
        if source.get("id") in positions and re.search("nan|#", "".join(source.itertext()), re.IGNORECASE):
            raise ObjectError(f"{file}: the mesh has vertices that are not finite")
    try:
        size = sum(_Instances(named).size(scene) for scene in named.get("visual_scene", []))
    except RecursionError as error:
        raise ObjectError(f"{file}: its nodes are nested too deeply, or within themselves") from error
    if size > MAX_MESH_BYTES:
        raise ObjectError(f"{file}: its instances, written out, are larger than {MAX_MESH_BYTES / 2**20:.0f} MiB")


class _Instances:
    """How large a COLLADA scene is once each node and geometry stands wherever it is named."""

    def __init__(self, named: Mapping[str, Sequence[ET.Element]]) -> None:
        self.nodes = {f"#{node.get('id')}": node for node in named.get("node", [])}
        self.geometries = {f"#{one.get('id')}": one for one in named.get("geometry", [])}
        self.known: dict[str, int] = {}

    def size(self, element: ET.Element) -> int:
        """Bytes of a node with all below it."""
        return NODE_BYTES + sum(self._below(child) for child in element)

    def _below(self, child: ET.Element) -> int:
        kind, url = child.tag.rpartition("}")[2], child.get("url", "")
        if kind == "node":
            return self.size(child)
        if kind not in ("instance_node", "instance_geometry"):
            return 0
        if url not in self.known:
            node, geometry = self.nodes.get(url), self.geometries.get(url)
            if kind == "instance_node" and node is not None:
                self.known[url] = self.size(node)
            else:
                text = "" if geometry is None else "".join(geometry.itertext())
                self.known[url] = NODE_BYTES + len(text)
        return self.known[url]
