"""Visuals of robot description files: one surface a visual, and the parts that they are gathered into."""

import codecs
import importlib
import logging
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from partrm.imaging.formats import UNREADABLE, in_8_bits, marked_images
from partrm.objects.articulated_object import (
    MAX_EXTENT,
    Joint,
    ObjectError,
    PackageMissingError,
    Part,
    distinct_name,
)
from partrm.objects.materials import Material, Role
from partrm.objects.mtl_format import GREY, OPAQUE, read_image
from partrm.objects.named_files import (
    GLB,
    MAX_MESH_BYTES,
    NamedFiles,
    read_named,
    refuse_entities,
    refuse_misread_collada,
    refuse_misread_gltf,
)
from partrm.objects.obj_format import MAX_FACES, Libraries, load_obj
from partrm.objects.primitives import box_uv, solid_box, solid_capsule, solid_cylinder, solid_ellipsoid
from partrm.objects.surface import Surface

# Where no program has set logging up, their remarks on damaged files would be printed beside our one line.
for _name in ("trimesh", "yourdfpy", "collada"):
    logging.getLogger(_name).addHandler(logging.NullHandler())

MESH_FORMATS = ("obj", "stl", "ply", "dae", "glb", "gltf", "off")

CAPSULE = "capsule:"
"""Begins the file name that stands for a capsule, a shape that URDF lacks and simulators read."""

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)


def read_visual(visual: Any, robot: Any, files: NamedFiles, libraries: Libraries) -> Surface | None:
    """Surface of one visual of yourdfpy's record in the visual's frame, scaled, every face with a material.

    A mesh's own materials count; the file's colour or texture stands in where it has none. None for a mesh that is
    missing, which is noted.
    """
    geometry, path = visual.geometry, files.description
    if geometry is None:
        raise ObjectError(f"{path}: a visual has no geometry")
    if geometry.mesh is not None and not (geometry.mesh.filename or "").startswith(CAPSULE):
        file = files.find("mesh", geometry.mesh.filename, path.parent)
        if file is None:
            files.note(files.missing("mesh", geometry.mesh.filename, path.parent))
            return None
        surface = _read_mesh(file, libraries, files)
        scale = np.ones(1) if geometry.mesh.scale is None else np.asarray(geometry.mesh.scale, np.float64).reshape(-1)
        if len(scale) not in (1, 3) or not (np.isfinite(scale).all() and scale.all()):
            listed = " ".join(f"{factor:g}" for factor in scale[:9])
            name = geometry.mesh.filename
            raise ObjectError(f"{path}: the mesh scale {listed} of {name!r}: give 1 or 3 finite numbers, none 0")
        surface = _scale(surface, np.ones(3) * scale)
    else:
        surface = _solid(geometry, path)
    if (surface.face_material >= 0).all():
        return surface
    own = _urdf_material(getattr(visual, "material", None), robot, files)  # collisions have none
    slots = np.where(surface.face_material < 0, len(surface.materials), surface.face_material)
    return replace(surface, face_material=slots, materials=(*surface.materials, own))


def _scale(surface: Surface, scale: Float[np.ndarray, "3"]) -> Surface:
    """A mirroring scale turns the faces round, so that they still look outwards."""
    faces, uv = surface.faces, surface.corner_uv
    if scale.prod() < 0:
        faces, uv = faces[:, ::-1].copy(), None if uv is None else uv[:, ::-1].copy()
    return replace(surface, vertices=surface.vertices * scale, faces=faces, corner_uv=uv)


def _solid(geometry: Any, path: Path) -> Surface:
    box, cylinder, sphere = geometry.box, geometry.cylinder, geometry.sphere
    if box is not None:
        x, y, z = _require_sizes("box", box.size.tolist(), 3, path)
        vertices, faces = solid_box(x / 2, y / 2, z / 2)
    elif cylinder is not None:
        radius, length = _require_sizes("cylinder", [cylinder.radius, cylinder.length], 2, path)
        vertices, faces = solid_cylinder(radius, length / 2)
    elif sphere is not None:
        (radius,) = _require_sizes("sphere", [sphere.radius], 1, path)
        vertices, faces = solid_ellipsoid(radius, radius, radius)
    elif geometry.mesh is not None:
        words = geometry.mesh.filename.removeprefix(CAPSULE).split()
        sizes = [float(word) if NUMBER.fullmatch(word) else math.nan for word in words]
        radius, length = _require_sizes("capsule", sizes, 2, path)
        vertices, faces = solid_capsule(radius, length / 2)
    else:
        raise ObjectError(f"{path}: a visual is neither mesh, box, cylinder, sphere nor capsule")
    return Surface(vertices, faces, np.full(len(faces), -1), (), box_uv(vertices, faces))


def _require_sizes(what: str, sizes: list[float], count: int, path: Path) -> list[float]:
    if len(sizes) != count or not all(0 < size < math.inf for size in sizes):
        listed = " ".join(f"{size:g}" for size in sizes)
        raise ObjectError(f"{path}: a {what} of size {listed}; it needs {count} finite, above zero")
    if max(sizes) >= MAX_EXTENT:
        raise ObjectError(f"{path}: a {what} is larger than {MAX_EXTENT:g}")
    return sizes


def _urdf_material(material: Any, robot: Any, files: NamedFiles) -> Material:
    if material is None:
        return GREY
    path = files.description
    if material.color is None and material.texture is None:
        named = [m for m in robot.materials if m.name == material.name]
        material = named[0] if named else material
    color, role, texture = GREY.color, Role.BODY, None
    if material.color is not None:
        rgba = np.asarray(material.color.rgba, np.float64).reshape(-1)
        if rgba.shape not in ((3,), (4,)) or not np.isfinite(rgba).all():
            raise ObjectError(f"{path}: the colour of material {material.name!r} is not four finite numbers")
        r, g, b, a = np.clip([*rgba, 1.0][:4], 0, 1).tolist()
        color, role = (r, g, b), Role.GLASS if a < OPAQUE else Role.BODY
    if material.texture is not None:
        file = files.find("texture", material.texture.filename, path.parent)
        if file is None:
            files.note(f"{files.missing('texture', material.texture.filename, path.parent)}; left plain")
        else:
            color, texture = (color if material.color is not None else (1.0, 1.0, 1.0)), read_image(file)
    return Material(material.name or "material", color, role, texture=texture)


def _refuse_huge(file: Path, content: bytes) -> None:
    """Refuse an STL or PLY file by the number of faces that its first lines tell, before it fills the memory.

    A binary STL file of another length is cut short; trimesh would take it for one of text, without faces. It would
    read other columns where a PLY file names two alike.
    """
    faces, kind, head = 0, file.suffix.lower(), content[:4096]
    if kind == ".stl" and b"facet" in head.lower() and len(content) != 84 + 50 * int.from_bytes(head[80:84], "little"):
        if b"endsolid" not in content[-4096:].lower():
            raise ObjectError(f"{file}: damaged, it is cut short (there is no endsolid)")
    elif kind == ".stl":
        faces = int.from_bytes(head[80:84], "little")
        if len(content) != 84 + 50 * faces:
            raise ObjectError(f"{file}: damaged, it tells of {faces} faces in {len(content)} bytes")
    elif kind == ".ply" and (found := re.search(rb"^element face (\d+)", head, re.MULTILINE)):
        faces = int(found[1])
        names = [line.split()[-1] for line in head.partition(b"element face")[0].splitlines() if b"property" in line]
        if twice := next((name for name in names if names.count(name) > 1), b""):
            raise ObjectError(f"{file}: its vertices have two properties {twice.decode(errors='replace')!r}")
    if faces > MAX_FACES:
        raise ObjectError(f"{file}: {faces} faces, more than {MAX_FACES}; simplify the mesh first")


class _Resolver(Mapping[str, bytes]):
    """Gives trimesh the files that a mesh names, if they may be read; remembers those that are missing."""

    def __init__(self, mesh: Path, files: NamedFiles) -> None:
        self.mesh, self.files = mesh, files
        self.missing: list[str] = []
        self.refused: list[ObjectError] = []

    def get(self, key: str, default: Any = None) -> bytes:
        """Content of the file named ``key``.

        Raises:
            ObjectError: it is missing, or may not be read.
        """
        try:
            file = self.files.find("file", key, self.mesh.parent)
            if file is not None:
                return read_named(file, MAX_MESH_BYTES, "file")
        except ObjectError as error:
            self.refused.append(error)
            raise
        self.missing.append(key)
        raise ObjectError(f"{self.mesh}: {self.files.missing('file', key, self.mesh.parent)}")

    __getitem__ = get

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _read_mesh(file: Path, libraries: Libraries, files: NamedFiles) -> Surface:
    kind = file.suffix.lower().removeprefix(".")
    if kind not in MESH_FORMATS:
        raise ObjectError(f"{file}: meshes of the kind {kind!r} are not read; give one of {', '.join(MESH_FORMATS)}")
    if kind == "obj":
        return load_obj(file, libraries, files)
    content = read_named(file, MAX_MESH_BYTES, "mesh")
    _refuse_huge(file, content)
    if kind == "dae":
        refuse_entities(content, file)
        refuse_misread_collada(file, content)
    elif kind in ("gltf", "glb"):
        kind = "glb" if content[: len(GLB)] == GLB else kind
        content = content.removeprefix(codecs.BOM_UTF8)
        refuse_misread_gltf(file, content)
    try:
        trimesh = importlib.import_module("trimesh")
    except ImportError as error:
        message = f"{file}: this mesh format needs the package trimesh: pip install 'partrm[data]'"
        raise PackageMissingError(message) from error
    resolver = _Resolver(file, files)
    try:
        with marked_images(), quiet_libraries():
            scene = trimesh.load_scene(BytesIO(content), file_type=kind, resolver=resolver, process=False)
            _refuse_many_copies(file, scene)
            found = [g for g in scene.dump() if isinstance(g, trimesh.Trimesh) and len(g.faces)]
    except ImportError as error:
        raise PackageMissingError(f"{file}: trimesh lacks a package for such meshes ({error}); install it") from error
    except (MemoryError, ObjectError):
        raise
    except Exception as error:
        if resolver.refused:
            raise resolver.refused[0] from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ObjectError(f"{file}: trimesh cannot read the mesh ({reason[:300]})") from error
    if resolver.refused:
        raise resolver.refused[0]
    if resolver.missing and kind == "gltf":
        raise ObjectError(f"{file}: {files.missing('file', resolver.missing[0], file.parent)}")
    for name in resolver.missing:
        files.note(f"{file.name}: {files.missing('texture', name, file.parent)}; left plain")
    _refuse_cut_ply(file, content, sum(len(geometry.faces) for geometry in found))
    return _joined(found, file)


def _refuse_cut_ply(file: Path, content: bytes, faces: int) -> None:
    """Refuse a PLY file of text that holds fewer faces than its first lines tell: trimesh takes what is there."""
    told = re.search(rb"^element face (\d+)", content[:4096], re.MULTILINE)
    if file.suffix.lower() == ".ply" and told and faces < int(told[1]):
        raise ObjectError(f"{file}: damaged, it tells of {int(told[1])} faces and holds {faces}")


def _refuse_many_copies(file: Path, scene: Any) -> None:
    """Refuse a scene whose meshes would fill the memory once they stand wherever a node names them."""
    copies = {name: len(nodes) for name, nodes in scene.graph.geometry_nodes.items()}
    if sum(len(getattr(scene.geometry[name], "faces", ())) * count for name, count in copies.items()) > MAX_FACES:
        raise ObjectError(f"{file}: more than {MAX_FACES} faces; simplify the mesh first")


def _joined(found: list[Any], file: Path) -> Surface:
    """The pieces of a scene as one surface, in metres."""
    with quiet_libraries():
        pieces = [_piece(geometry, file) for geometry in found]
    if sum(len(p.faces) for p in pieces) > MAX_FACES:
        raise ObjectError(f"{file}: more than {MAX_FACES} faces; simplify the mesh first")
    if not all(np.isfinite(p.vertices).all() for p in pieces):
        raise ObjectError(f"{file}: the mesh has vertices that are not finite")
    units = str(found[0].metadata.get("units", "")) if found and file.suffix.lower() == ".dae" else ""
    unit = float(units.partition(" ")[0]) if units.endswith("* meters") else 1.0
    if not 0 < unit < math.inf:
        raise ObjectError(f"{file}: its unit of length is {unit} metres")
    joined = _join(pieces)
    return joined if unit == 1.0 else _scale(joined, np.full(3, unit))


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """While it lasts the libraries that read meshes and descriptions print no warnings: what matters is raised."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def _piece(mesh: Any, file: Path) -> Surface:
    """A trimesh with at most one material."""
    vertices, faces = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)
    uv = getattr(mesh.visual, "uv", None)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or (uv is not None and (uv.ndim != 2 or uv.shape[1] < 2)):
        raise ObjectError(f"{file}: damaged, its vertices or texture coordinates have too few numbers each")
    corner_uv = None if uv is None or len(uv) != len(vertices) else np.asarray(uv[:, :2], np.float64)[faces]
    if getattr(mesh.visual, "kind", None) in ("vertex", "face"):
        surface = Surface(vertices, faces, np.full(len(faces), -1), ())
        return surface.with_colors(np.asarray(mesh.visual.face_colors)[:, :3] / 255.0, np.ones(len(faces), bool))
    material = _trimesh_material(mesh.visual, file)
    slots = np.full(len(faces), -1 if material is None else 0)
    return Surface(vertices, faces, slots, () if material is None else (material,), corner_uv)


def _trimesh_material(visual: Any, file: Path) -> Material | None:
    material = getattr(visual, "material", None)
    if material is None:
        return None
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    if image is not None and UNREADABLE in image.info:
        raise ObjectError(f"{file}: a texture of it cannot be read ({image.info[UNREADABLE]})")
    factor = getattr(material, "baseColorFactor", None)
    if factor is None:
        factor = getattr(material, "diffuse", None)
    if factor is None:
        factor = [255, 255, 255, 255] if image is not None else [int(255 * c) for c in GREY.color] + [255]
    scale = 255.0 if np.asarray(factor).dtype.kind in "iu" else 1.0
    rgba = np.clip(np.asarray(factor, np.float64) / scale, 0, 1).tolist()
    texture = None if image is None else np.asarray(in_8_bits(image).convert("RGB")).copy()
    role = Role.GLASS if len(rgba) > 3 and rgba[3] < OPAQUE else Role.BODY
    return Material(getattr(material, "name", None) or "material", (rgba[0], rgba[1], rgba[2]), role, texture=texture)


def _join(pieces: list[Surface]) -> Surface:
    builder = _Pieces()
    materials: list[Material] = []
    for piece in pieces:
        shifted = np.where(piece.face_material >= 0, piece.face_material + len(materials), -1)
        materials += piece.materials
        builder.add(piece.vertices, piece.faces, shifted, piece.corner_uv)
    vertices, faces, slots, uv = builder.arrays()
    return Surface(vertices, faces, slots, tuple(materials), uv)


class _Pieces:
    """Meshes appended to one another."""

    def __init__(self) -> None:
        self.vertices: list[np.ndarray] = [np.zeros((0, 3))]
        self.faces: list[np.ndarray] = [np.zeros((0, 3), np.int64)]
        self.slots: list[np.ndarray] = [np.zeros(0, np.int64)]
        self.uv: list[np.ndarray] = [np.zeros((0, 3, 2))]
        self.count = 0

    def add(self, vertices: np.ndarray, faces: np.ndarray, slots: np.ndarray, uv: np.ndarray | None) -> None:
        self.vertices.append(vertices)
        self.faces.append(faces + self.count)
        self.slots.append(slots)
        self.uv.append(np.full((len(faces), 3, 2), np.nan) if uv is None else uv)
        self.count += len(vertices)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
        uv = np.concatenate(self.uv)
        return (
            np.concatenate(self.vertices),
            np.concatenate(self.faces),
            np.concatenate(self.slots),
            uv if np.isfinite(uv).any() else None,
        )


@dataclass
class PartBuilder:
    """The part being assembled: its surfaces are appended to one another."""

    name: str
    joint: Joint | None
    links: list[str] = field(default_factory=list)
    """Links of the file that gave it surface; the first names the part."""
    pieces: _Pieces = field(default_factory=_Pieces)


def assemble_parts(
    where: Path | str, built: Sequence[PartBuilder], materials: Sequence[Material], names: Mapping[str, str]
) -> tuple[Part, ...]:
    """The parts, without those that have no surface and carry none; names are made distinct.

    Args:
        where: the file, for errors.
        built: a parent before its children.
        materials: what the parts' slots index.
        names: other names for links.

    Raises:
        ObjectError: no part has surface.
    """
    keep = [bool(part.pieces.count) for part in built]
    for index in reversed(range(len(built))):
        joint = built[index].joint
        if keep[index] and joint is not None:
            keep[joint.parent] = True
    if not any(keep):
        raise ObjectError(f"{where}: no visible surface")
    number = np.cumsum(keep) - 1
    parts: list[Part] = []
    used: set[str] = set()
    for part in (p for p, k in zip(built, keep, strict=True) if k):
        link = part.links[0] if part.links else part.name
        name = distinct_name(names.get(link, link), used)
        used.add(name)
        vertices, faces, slots, uv = part.pieces.arrays()
        textured = any(materials[s].texture is not None for s in np.unique(slots))
        joint = None if part.joint is None else replace(part.joint, parent=int(number[part.joint.parent]))
        parts.append(
            Part(name, vertices, faces, slots, joint, np.nan_to_num(uv) if textured and uv is not None else None)
        )
    return tuple(parts)


class PartsBuilder:
    """Gathers the visuals of links into parts, and their looks into the object's material slots."""

    def __init__(self, files: NamedFiles) -> None:
        self.path, self.files = files.description, files
        self.parts: list[PartBuilder] = []
        self.part_of_link: dict[str, int] = {}
        self.libraries: Libraries = {}
        self.dead: dict[int, str] = {}
        """By part, a link with a visual whose mesh is missing."""
        self.materials: list[Material] = []
        self._slots: dict[tuple, int] = {}

    def open_part(self, link: str, joint: Joint | None) -> None:
        self.parts.append(PartBuilder(link, joint))
        self.part_of_link[link] = len(self.parts) - 1

    def join(self, link: str, parent: str) -> None:
        """Let a link be of its parent's part."""
        self.part_of_link[link] = self.part_of_link[parent]

    def add(self, link: str, surface: Surface, T_world_visual: Float[np.ndarray, "4 4"]) -> None:
        """Append a surface in the root frame at rest."""
        part = self.parts[self.part_of_link[link]]
        part.links.append(link)
        uv = surface.corner_uv
        known = np.zeros(len(surface.faces), bool) if uv is None else np.isfinite(uv).all((1, 2))
        slots = np.zeros(len(surface.faces), np.int64)
        looks, look_of_face = np.unique(2 * surface.face_material + ~known, return_inverse=True)
        if len(looks):
            found = [self._slot(surface.materials[look // 2], look % 2 == 0) for look in looks.tolist()]
            slots = np.array(found)[look_of_face.reshape(-1)]
        vertices = surface.vertices @ T_world_visual[:3, :3].T + T_world_visual[:3, 3]
        part.pieces.add(vertices, surface.faces, slots, uv)

    def _slot(self, material: Material, mapped: bool) -> int:
        """The object's slot of a look; a texture without coordinates becomes its mean colour."""
        if material.texture is not None and not mapped:
            mean = material.texture.reshape(-1, 3).mean(0) / 255.0
            r, g, b = (np.array(material.color) * mean).tolist()
            material = replace(material, texture=None, color=(r, g, b))
        m = material
        texture = None if m.texture is None else (m.texture.shape, m.texture.tobytes())
        key = (m.name, m.color, m.role, m.color2, m.pattern, m.frequency, m.direction, m.gloss, texture)
        if key not in self._slots:
            self._slots[key] = len(self.materials)
            self.materials.append(material)
        return self._slots[key]

    def build(self, names: Mapping[str, str]) -> tuple[tuple[Part, ...], tuple[Material, ...]]:
        """The parts, those without surface left out, and their materials."""
        return assemble_parts(self.path, self.parts, self.materials, names), tuple(self.materials)
