"""Wavefront OBJ and MTL files, read and written exactly: indices, UVs, material groups, textures.

Our own reader, since general mesh libraries merge, split or reorder vertices: load and save must be each other's
inverse here. Reused ``usemtl`` groups keep all their faces, faces may mix ``v``, ``v/vt`` and ``v/vt/vn``, polygons are
cut into fans, normals are left to the renderer. What MTL has no word for (role, 3D pattern) is written as a comment.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from partrm.objects.articulated_object import ObjectError
from partrm.objects.materials import Material, Pattern, Role

MAX_FACES = 1_000_000
"""Larger meshes are refused: a few million faces gain nothing at the image sizes made here and exhaust memory."""

OPAQUE = 0.9
"""Materials of lower opacity count as glass panes."""

COMMENT = "# partrm "
"""Marks the line of an MTL file that holds what MTL cannot say."""

GREY = Material("grey", (0.7, 0.7, 0.7))
"""The look of surfaces whose file says nothing."""


@dataclass(frozen=True)
class Surface:
    """One triangle mesh with the materials of its faces."""

    vertices: Float[np.ndarray, "v 3"]
    """File's frame and unit."""
    faces: Int[np.ndarray, "f 3"]
    face_material: Int[np.ndarray, " f"]
    """Index into ``materials``, -1 where the file names none."""
    materials: tuple[Material, ...]
    corner_uv: Float[np.ndarray, "f 3 2"] | None = None
    """v = 0 at the bottom of the image; NaN at corners without coordinates."""


def read_image(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """An sRGB texture, alpha dropped.

    Raises:
        ObjectError: missing or not an image.
    """
    from PIL import Image, UnidentifiedImageError

    from partrm.imaging.formats import open_image

    try:
        with open_image(path) as image:
            return np.asarray(image.convert("RGB")).copy()
    except FileNotFoundError as error:
        raise ObjectError(f"{path}: the texture is missing") from error
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ObjectError(f"{path}: the texture cannot be read ({' '.join(str(error).split())})") from error


class _SurfaceBuilder:
    """The lists that grow while an OBJ file is read."""

    def __init__(self, path: Path, libraries: dict[Path, dict[str, Material]]) -> None:
        self.path, self.libraries = path, libraries
        self.points: list[list[str]] = []
        self.coordinates: list[list[str]] = []
        self.faces: list[tuple[int, int, int]] = []
        self.uv: list[tuple[int, int, int]] = []
        self.slots: list[int] = []
        self.names: dict[str, int] = {}
        self.library: dict[str, Material] = {}
        self.slot = -1

    def line(self, words: list[str]) -> None:
        """Take one line of the file."""
        kind = words[0]
        if kind == "v":
            self.points.append(words[1:4])
        elif kind == "vt":
            self.coordinates.append([words[1], words[2] if len(words) > 2 else "0"])
        elif kind == "f":
            self._face(words[1:])
        elif kind == "usemtl":
            self.slot = self.names.setdefault(" ".join(words[1:]), len(self.names))
        elif kind == "mtllib":
            where = self.path.parent / " ".join(words[1:])
            if where not in self.libraries:
                self.libraries[where] = load_mtl(where)
            self.library |= self.libraries[where]

    def _face(self, corners: list[str]) -> None:
        points, uv = [], []
        for corner in corners:
            index, _, rest = corner.partition("/")
            texture = rest.partition("/")[0]
            points.append(_index(index, len(self.points)))
            uv.append(_index(texture, len(self.coordinates)) if texture else -1)
        for i in range(1, len(points) - 1):
            self.faces.append((points[0], points[i], points[i + 1]))
            self.uv.append((uv[0], uv[i], uv[i + 1]))
            self.slots.append(self.slot)
        if len(self.faces) > MAX_FACES:
            raise ObjectError(f"{self.path}: more than {MAX_FACES} faces; simplify the mesh first")

    def build(self) -> Surface:
        unknown = [name for name in self.names if name not in self.library]
        if unknown and any(s == self.names[unknown[0]] for s in self.slots):
            raise ObjectError(f"{self.path}: the material {unknown[0]!r} is in no material library of the file")
        vertices = np.array(self.points, dtype=np.float64).reshape(-1, 3)
        faces = np.array(self.faces, dtype=np.int64).reshape(-1, 3)
        corners = np.array(self.uv, dtype=np.int64).reshape(-1, 3)
        if len(faces) and (faces.min() < 0 or faces.max() >= len(vertices)):
            raise ObjectError(f"{self.path}: a face indexes a vertex that does not exist")
        if len(corners) and corners.max() >= len(self.coordinates):
            raise ObjectError(f"{self.path}: a face indexes a texture coordinate that does not exist")
        # One row more: index -1, a corner without coordinates, reads NaN.
        table = np.array([*self.coordinates, ["nan", "nan"]], dtype=np.float64)
        with_uv = len(corners) and (corners >= 0).any()
        return Surface(
            vertices,
            faces,
            np.array(self.slots, dtype=np.int64),
            tuple(self.library.get(name, GREY) for name in self.names),
            table[corners] if with_uv else None,
        )


def _index(text: str, count: int) -> int:
    """Zero-based index of an OBJ index; negative ones count back from the latest."""
    number = int(text)
    if number == 0 or number < -count:
        raise ObjectError(f"the index {number} points to nothing")
    return number - 1 if number > 0 else count + number


def load_obj(path: Path, libraries: dict[Path, dict[str, Material]]) -> Surface:
    """Read an OBJ file and its material libraries, which are kept in ``libraries`` for the next file.

    Raises:
        ObjectError: missing, malformed, more than ``MAX_FACES``, vertices that are not finite, a missing library,
            material or texture. A file without faces gives an empty surface.
    """
    builder = _SurfaceBuilder(path, libraries)
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                words = line.split()
                if words and words[0] in ("v", "vt", "f", "usemtl", "mtllib"):
                    try:
                        builder.line(words)
                    except (ValueError, IndexError) as error:
                        if isinstance(error, ObjectError) and str(path.parent) in str(error):
                            raise
                        raise ObjectError(f"{path}: line {number} is malformed ({error})") from error
    except OSError as error:
        raise ObjectError(f"{path}: the mesh cannot be read ({error.strerror})") from error
    try:
        surface = builder.build()
    except ValueError as error:
        if isinstance(error, ObjectError):
            raise
        raise ObjectError(f"{path}: a vertex or texture coordinate is malformed ({error})") from error
    if not np.isfinite(surface.vertices).all():
        raise ObjectError(f"{path}: the mesh has vertices that are not finite")
    return surface


def load_mtl(path: Path) -> dict[str, Material]:
    """Materials of an MTL file by name; Kd, Ks, d/Tr and map_Kd count.

    Raises:
        ObjectError: missing or malformed, or a texture is.
    """
    found: dict[str, Material] = {}
    name = ""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise ObjectError(f"{path}: the material library cannot be read ({error.strerror})") from error
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        try:
            if words[0] == "newmtl":
                name = " ".join(words[1:])
                found[name] = Material(name, GREY.color)
            elif name:
                found[name] = _with_line(found[name], path.parent, line.strip(), words)
        except (ValueError, IndexError, KeyError) as error:
            if isinstance(error, ObjectError):
                raise
            raise ObjectError(f"{path}: line {number} is malformed ({error})") from error
    return found


def _with_line(material: Material, folder: Path, line: str, words: list[str]) -> Material:
    kind = words[0]
    if kind == "Kd":
        r, g, b = np.clip([float(w) for w in words[1:4]], 0.0, 1.0).tolist()
        return replace(material, color=(r, g, b))
    if kind == "Ks":
        return replace(material, gloss=float(np.clip(np.mean([float(w) for w in words[1:4]]), 0.0, 1.0)))
    if kind in ("d", "Tr"):
        opacity = float(words[-1]) if kind == "d" else 1.0 - float(words[-1])
        return replace(material, role=Role.GLASS) if opacity < OPAQUE else material
    if kind == "map_Kd":
        whole = folder / line.split(maxsplit=1)[1]
        texture = read_image(whole if whole.is_file() else folder / words[-1].replace("\\", "/"))
        # Exporters often leave Kd black beside a texture and mean the texture alone.
        return replace(material, texture=texture, color=material.color if any(material.color) else (1.0, 1.0, 1.0))
    if line.startswith(COMMENT):
        extra = json.loads(line.removeprefix(COMMENT))
        return replace(
            material,
            name=extra["name"],
            color=tuple(extra["color"]),
            role=Role[extra["role"]],
            color2=tuple(extra["color2"]),
            pattern=Pattern[extra["pattern"]],
            frequency=extra["frequency"],
            direction=tuple(extra["direction"]),
            gloss=extra["gloss"],
        )
    return material


def save_mtl(path: Path, materials: Sequence[Material], images: Sequence[str]) -> None:
    """Write materials as ``slot_N``; ``images`` are their textures' paths relative to the file, "" for none."""
    lines = []
    for slot, (material, image) in enumerate(zip(materials, images, strict=True)):
        extra = {
            "name": material.name,
            "color": material.color,
            "role": material.role.name,
            "color2": material.color2,
            "pattern": material.pattern.name,
            "frequency": material.frequency,
            "direction": material.direction,
            "gloss": material.gloss,
        }
        lines += [
            f"newmtl slot_{slot}",
            "Kd " + _numbers(plain_color(material)),
            "Ks " + _numbers([material.gloss] * 3),
        ]
        lines += ["d 1.0"]  # our panes are opaque
        lines += [f"map_Kd {image}"] if image else []
        lines += [COMMENT + json.dumps(extra), ""]
    path.write_text("\n".join(lines), encoding="utf-8")


def plain_color(material: Material) -> tuple[float, float, float]:
    """The colour that stands for a material where its 3D pattern cannot be written: the mean of the two."""
    if material.pattern == Pattern.PLAIN:
        return material.color
    r, g, b = ((np.array(material.color) + np.array(material.color2)) / 2).tolist()
    return r, g, b


def save_obj(path: Path, surface: Surface, library: str) -> None:
    """Write a mesh whose materials are ``slot_N`` of an MTL file ``library`` beside it; faces keep their order."""
    lines = [f"mtllib {library}", *("v " + _numbers(v) for v in surface.vertices.tolist())]
    uv = surface.corner_uv
    known: Bool[np.ndarray, " f"] = np.zeros(len(surface.faces), bool)
    if uv is not None:
        known = np.asarray(np.isfinite(uv).reshape(-1, 6).all(1))
        lines += ["vt " + _numbers(c) for c in uv[known].reshape(-1, 2).tolist()]
    slot, corner = None, 0
    for face, here, textured in zip(
        surface.faces.tolist(), surface.face_material.tolist(), known.tolist(), strict=True
    ):
        if here != slot:
            lines.append(f"usemtl slot_{here}")
            slot = here
        ids = [str(v + 1) for v in face]
        if textured:
            ids = [f"{v}/{corner + i + 1}" for i, v in enumerate(ids)]
            corner += 3
        lines.append("f " + " ".join(ids))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _numbers(values: Sequence[float]) -> str:
    if not all(math.isfinite(v) for v in values):
        raise ObjectError("a number that is not finite cannot be written")
    return " ".join(repr(float(v)) for v in values)
