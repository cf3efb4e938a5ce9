"""Wavefront OBJ files, read and written exactly: indices, UVs, material groups, colours of vertices.

Our own reader, since general mesh libraries merge, split or reorder vertices: load and save must be each other's
inverse here. Reused ``usemtl`` groups keep all their faces, faces may mix ``v``, ``v/vt`` and ``v/vt/vn``, polygons are
cut into fans, normals are left to the renderer. Colours behind vertices (``v x y z r g b``) are those of faces without
a material.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from partrm.objects.articulated_object import ObjectError
from partrm.objects.materials import Material
from partrm.objects.mtl_format import GREY, finite_numbers, load_mtl
from partrm.objects.named_files import MAX_MESH_BYTES, NamedFiles, read_named_text
from partrm.objects.surface import Surface

MAX_FACES = 1_000_000
"""Larger meshes are refused: a few million faces gain nothing at the image sizes made here and exhaust memory."""

POINTS_PER_FACE = 3
"""Vertices and texture coordinates are bounded by so many for each of ``MAX_FACES``."""

MAX_NOTES = 20
"""Of materials that a file lacks."""

Libraries = dict[Path, dict[str, Material]]
"""MTL files read so far."""


class _SurfaceBuilder:
    """The lists that grow while an OBJ file is read."""

    def __init__(self, path: Path, libraries: Libraries, files: NamedFiles) -> None:
        self.path, self.libraries, self.files = path, libraries, files
        self.points: list[list[str]] = []
        self.colors: dict[int, list[str]] = {}
        self.coordinates: list[list[str]] = []
        self.faces: list[tuple[int, int, int]] = []
        self.uv: list[tuple[int, int, int]] = []
        self.slots: list[int] = []
        self.names: dict[str, int] = {}
        self.library: dict[str, Material] = {}
        self.lacks_library = False
        self.slot = -1

    def line(self, words: list[str]) -> None:
        """Take one line of the file."""
        kind = words[0]
        if kind == "v":
            if len(words) < 4:
                raise ValueError("a vertex needs three numbers")
            if len(words) == 7:
                self.colors[len(self.points)] = words[4:]
            self.points.append(words[1:4])
        elif kind == "vt":
            self.coordinates.append([words[1], words[2] if len(words) > 2 else "0"])
        elif kind == "f":
            self._face(words[1:])
        elif kind == "usemtl":
            self.slot = self.names.setdefault(" ".join(words[1:]), len(self.names))
        elif kind == "mtllib":
            self._open_library(words[1:])
        if max(len(self.points), len(self.coordinates)) > POINTS_PER_FACE * MAX_FACES:
            raise ObjectError(f"{self.path}: more than {POINTS_PER_FACE * MAX_FACES} vertices; simplify the mesh first")

    def _open_library(self, words: list[str]) -> None:
        """Read the one library of a name with blanks, or several."""
        whole = " ".join(words)
        found = [self.files.find("material library", whole, self.path.parent)]
        if found == [None] and len(words) > 1:
            found = [self.files.find("material library", word, self.path.parent) for word in words]
        for where in found:
            if where is None:
                missing = self.files.missing("material library", whole, self.path.parent)
                self.files.note(f"{self.path.name}: {missing}; its materials are grey")
                self.lacks_library = True
                continue
            if where not in self.libraries:
                self.libraries[where] = load_mtl(where, self.files)
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
        slots = np.array(self.slots, dtype=np.int64)
        taken = set(self.slots)
        used = {name: slot for name, slot in self.names.items() if slot in taken}
        unknown = [] if self.lacks_library else [name for name in used if name not in self.library]
        for name in unknown[:MAX_NOTES]:
            self.files.note(f"{self.path.name}: the material {name!r} is in no material library of the file; grey")
        if len(unknown) > MAX_NOTES:
            self.files.note(f"{self.path.name}: nor are {len(unknown) - MAX_NOTES} other materials")
        surface = Surface(
            vertices,
            faces,
            slots,
            tuple(self.library.get(name, GREY) for name in self.names),
            table[corners] if with_uv else None,
        )
        lacking = [slot for name, slot in used.items() if name not in self.library]
        return self._painted(surface, np.isin(slots, [-1, *lacking]))

    def _painted(self, surface: Surface, rows: Bool[np.ndarray, " f"]) -> Surface:
        """The faces without a material in the mean colour of their vertices, where all three have one."""
        if not self.colors or not len(surface.faces):
            return surface
        colors = np.full((len(surface.vertices), 3), np.nan)
        colors[list(self.colors)] = np.array(list(self.colors.values()), dtype=np.float64)
        if np.nanmax(colors) > 1:
            colors /= 255.0
        means = colors[surface.faces].mean(1)
        return surface.with_colors(np.nan_to_num(means), rows & np.isfinite(means).all(-1))


def _index(text: str, count: int) -> int:
    """Zero-based index of an OBJ index; negative ones count back from the latest."""
    number = int(text)
    if number == 0 or number < -count:
        raise ValueError(f"the index {number} points to nothing")
    return number - 1 if number > 0 else count + number


def load_obj(path: Path, libraries: Libraries, files: NamedFiles | None = None) -> Surface:
    """Read an OBJ file and its material libraries, which are kept in ``libraries`` for the next file.

    Libraries, materials and textures that are missing are noted, and grey.

    Args:
        path: the file.
        libraries: grows.
        files: what the object's description may name; by default what lies below the file's folder.

    Raises:
        ObjectError: missing, malformed, more than ``MAX_FACES``, vertices that are not finite, a library or texture
            that cannot be read. A file without faces gives an empty surface.
    """
    builder = _SurfaceBuilder(path, libraries, NamedFiles(path) if files is None else files)
    text = read_named_text(path, MAX_MESH_BYTES, "mesh")
    for number, words in _lines(text):
        if words[0] in ("v", "vt", "f", "usemtl", "mtllib"):
            try:
                builder.line(words)
            except ObjectError:
                raise
            except (ValueError, IndexError) as error:
                raise ObjectError(f"{path}: line {number} is malformed ({str(error)[:200]})") from error
    try:
        surface = builder.build()
    except ObjectError:
        raise
    except (ValueError, OverflowError) as error:
        raise ObjectError(f"{path}: a vertex or texture coordinate is malformed ({str(error)[:200]})") from error
    if not np.isfinite(surface.vertices).all():
        raise ObjectError(f"{path}: the mesh has vertices that are not finite")
    return surface


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Numbers and words of the lines that have any; a backslash at the end goes on in the next line."""
    held: list[str] = []
    number = 0
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if words and words[-1].endswith("\\") and words[0] != "mtllib":
            held += [*words[:-1], words[-1][:-1]] if words[-1] != "\\" else words[:-1]
            continue
        if words := held + words:
            yield number, words
        held = []
    if held:
        yield number, held


def save_obj(path: Path, surface: Surface, library: str) -> None:
    """Write a mesh whose materials are ``slot_N`` of an MTL file ``library`` beside it; faces keep their order."""
    lines = [f"mtllib {library}", *("v " + finite_numbers(v) for v in surface.vertices.tolist())]
    uv = surface.corner_uv
    known: Bool[np.ndarray, " f"] = np.zeros(len(surface.faces), bool)
    if uv is not None:
        known = np.asarray(np.isfinite(uv).reshape(-1, 6).all(1))
        lines += ["vt " + finite_numbers(c) for c in uv[known].reshape(-1, 2).tolist()]
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
