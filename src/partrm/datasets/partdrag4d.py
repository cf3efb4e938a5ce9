"""PartDrag-4D on disk: names, cameras, point clouds, file lists; what we write and what the official downloads hold.

    render_PartDrag4D/<mesh>_<part>_<state>[_<distractors>]/NNN.png, NNN_camera.json
    processed_data_partdrag4d/<Category>/<mesh>/motion/<part>_<state>[_<distractors>].{obj,ply}, ..._visible.npy
    processed_data_partdrag4d/<Category>/<mesh>/motion.json

World: z up, front towards +x. ``<distractors>`` is part and state digits run together: ``7120_0_3_2010`` is mesh 7120,
part 0 in state 3, part 2 in state 0, part 1 in state 0. Points are in correspondence over the states of a mesh.
"""

import os
import re
import tokenize
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import UnidentifiedImageError
from torch import Tensor

from partrm.errors import PartRMError
from partrm.files import read_bytes, read_json, read_text
from partrm.geometry.cameras import CANONICAL_FOVY_RAD, Cameras
from partrm.geometry.ply import PlyError, ply_content, read_vertices
from partrm.imaging.formats import IMAGE_ERRORS, in_8_bits, open_image

RENDERS = "render_PartDrag4D"
PROCESSED = "processed_data_partdrag4d"
FOVY_RAD = CANONICAL_FOVY_RAD
"""Field of view that the renders really have (50 mm lens, 36 mm sensor)."""

REFERENCE_SCALE = 0.42995866893870127
"""The one scale of the reference's renders, of PartNet's unit (bounding-box diagonal of about 2)."""

REFERENCE_OFFSET = (-0.0121, -0.0070, 0.0120)

MAX_IMAGE_PIXELS, MAX_IMAGE_BYTES = 2**26, 2**28
"""Of a view, and of its file."""

CATEGORIES = (
    "Dishwasher", "Laptop", "Microwave", "Oven", "Refrigerator", "StorageFurniture", "TrashCan", "WashingMachine",
)  # fmt: skip
"""The dataset's eight categories."""


class DatasetError(PartRMError):
    """A dataset folder that cannot be used; the message says which file and why."""


@dataclass(frozen=True)
class EntryName:
    """The name of one state of one object."""

    mesh: str
    part: int
    """Number of the moving part among the object's moving parts."""
    state: int
    distractors: tuple[tuple[int, int], ...] = ()
    """(part, state) of the distractors that stand open or closed, one digit each."""

    def __post_init__(self) -> None:
        named = self.mesh and "_" not in self.mesh and is_plain_name(self.mesh)
        if not named or any(not 0 <= d <= 9 for pair in self.distractors for d in pair):
            raise DatasetError(f"{self.mesh[:80]!r} with distractors {self.distractors} has no PartDrag-4D name")

    @property
    def motion(self) -> str:
        """Name without the mesh."""
        digits = "".join(f"{part}{state}" for part, state in self.distractors)
        return f"{self.part}_{self.state}" + (f"_{digits}" if digits else "")

    def __str__(self) -> str:
        return f"{self.mesh}_{self.motion}"

    @staticmethod
    def parse(text: str) -> "EntryName":
        """Inverse of ``str``.

        Raises:
            DatasetError: not such a name.
        """
        found = re.fullmatch(r"([^_]+)_(\d{1,6})_(\d{1,6})(?:_((?:[0-9][0-9])+))?", text)
        if found is None:
            raise DatasetError(f"{text[:80]!r} is not <mesh>_<part>_<state>[_<distractors>]")
        digits = found[4] or ""
        pairs = tuple((int(digits[i]), int(digits[i + 1])) for i in range(0, len(digits), 2))
        name = EntryName(found[1], int(found[2]), int(found[3]), pairs)
        if str(name) != text:
            raise DatasetError(f"{text!r} is called {str(name)!r} in PartDrag-4D")
        return name


MAX_NAME = 200
"""Characters of a name in reports."""


def is_plain_name(text: str) -> bool:
    """Whether a text can stand in a line of a report: not too long, UTF-8, no control characters."""
    return len(text) <= MAX_NAME and not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text)


def render_folders(root: Path) -> list[str]:
    """Names of the folders of renders, sorted.

    Raises:
        DatasetError: they cannot be listed.
    """
    return [p.name for p in files_below(root / RENDERS) if p.is_dir() and not p.name.startswith(".")]


def entries_of(root: Path) -> list[EntryName]:
    """All entries that have a folder of renders, by name.

    Raises:
        DatasetError: the folders cannot be listed, or one has a name that no entry has.
    """
    names = render_folders(root)
    try:
        return [EntryName.parse(name) for name in names]
    except DatasetError as error:
        raise DatasetError(f"{root / RENDERS}: {error}") from error


def files_below(folder: Path) -> list[Path]:
    """What lies in a folder, sorted.

    Raises:
        DatasetError: it cannot be listed.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read ({error.strerror})") from error


FARTHEST = 1e4
"""Most that a camera may be away from the origin, in sizes of the object; what is farther is no view of it."""


def check_inputs(where: Path, images: Float[Tensor, "views 4 h w"], inputs: Sequence[int], cameras: Cameras) -> None:
    """Refuse views that a network cannot be shown.

    Args:
        where: what errors name.
        images: of all views.
        inputs: which of them the network may see.
        cameras: [views] of the images.

    Raises:
        DatasetError: images that are not square, an input view without an object, a first camera in the object.
    """
    height, width = images.shape[-2:]
    if height != width:
        raise DatasetError(f"{where}: images must be square, not {width}x{height}")
    for view in inputs:
        if not bool((images[view, 3] > 0.5).any()):
            raise DatasetError(f"{where}: view {view} shows no object: no pixel of its alpha is opaque")
    if not float(cameras.positions[0].norm()) > 1e-6:
        raise DatasetError(f"{where}: the first camera stands at the origin, in the object")


def camera_record(T_world_camera: Float[Tensor, "4 4"]) -> dict[str, list[float]]:
    """Content of ``NNN_camera.json``: the columns of Blender's camera matrix (x right, y up, z backward)."""
    x, down, forward, origin = T_world_camera[:3].T
    return {"origin": origin.tolist(), "x": x.tolist(), "y": (-down).tolist(), "z": (-forward).tolist()}


def load_cameras_of(folder: Path, count: int, size_px: int) -> Cameras:
    """OpenCV cameras [count] of the files ``NNN_camera.json`` of a render folder.

    Raises:
        DatasetError: missing or malformed.
    """
    poses = []
    for view in range(count):
        path = folder / f"{view:03d}_camera.json"
        try:
            record = read_json(path)
            x, y, z, origin = (torch.tensor(record[k], dtype=torch.float32) for k in ("x", "y", "z", "origin"))
            T = torch.eye(4)
            T[:3] = torch.stack([x, -y, -z, origin], -1)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
            raise DatasetError(f"{path}: not a camera ({' '.join(str(error).split())})") from error
        R = T[:3, :3]
        rigid = torch.allclose(R @ R.T, torch.eye(3), atol=1e-3) and float(torch.linalg.det(R)) > 0
        if not (torch.isfinite(T).all() and rigid):
            raise DatasetError(f"{path}: the camera's axes are not orthonormal")
        poses.append(T)
    return Cameras(torch.stack(poses), torch.full((count,), FOVY_RAD), size_px, size_px)


def load_rgba(path: Path) -> Float[Tensor, "4 h w"]:
    """An RGBA image, straight alpha, [0, 1].

    Raises:
        DatasetError: missing or broken.
    """
    try:
        with open_image(BytesIO(read_bytes(path, MAX_IMAGE_BYTES))) as image:
            if image.width * image.height > MAX_IMAGE_PIXELS:
                raise DatasetError(f"{path}: {image.width}x{image.height} pixels are too many")
            pixels = np.asarray(in_8_bits(image).convert("RGBA"))
    except DatasetError:
        raise
    except UnidentifiedImageError as error:
        raise DatasetError(f"{path}: not an image") from error
    except IMAGE_ERRORS as error:
        raise DatasetError(f"{path}: not an image ({' '.join(str(error).split())})") from error
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255


def save_points(path: Path, points: Float[np.ndarray, "n 3"], normals: Float[np.ndarray, "n 3"]) -> None:
    """Binary PLY with positions and normals."""
    names = ("x", "y", "z", "nx", "ny", "nz")
    path.write_bytes(b"".join(ply_content(names, np.concatenate([points, normals], 1, dtype=np.float32))))


def load_points(path: Path) -> Float[np.ndarray, "n 3"]:
    """Positions of a PLY point cloud, binary or ASCII, whatever else its vertices hold.

    Raises:
        DatasetError: missing, malformed or cut short.
    """
    try:
        vertices = read_vertices(path)
        points = np.stack([vertices[name] for name in ("x", "y", "z")], -1).astype(np.float64)
    except PlyError as error:
        raise DatasetError(str(error)) from error
    except ValueError as error:
        raise DatasetError(f"{path}: not a point cloud ({error})") from error
    if len(points) == 0 or not np.isfinite(points).all():
        raise DatasetError(f"{path}: holds no points, or points that are not finite")
    return points


def read_file_list(path: Path) -> dict[int, EntryName]:
    """Entries of a file list by line number (from 0): one render folder a line under any prefix.

    Blank lines and ``#`` lines are comments, but count.

    Raises:
        DatasetError: missing, or a line that names no entry.
    """
    try:
        lines = read_text(path).splitlines()
    except OSError as error:
        raise DatasetError(f"{path}: the file list cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DatasetError(f"{path}: the file list is not UTF-8 text ({error})") from error
    kept = {number: line.strip() for number, line in enumerate(lines)}
    kept = {number: line for number, line in kept.items() if line and not line.startswith("#")}
    try:
        return {number: EntryName.parse(re.split(r"[/\\]", line.rstrip("/\\"))[-1]) for number, line in kept.items()}
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from error


def view_files(folder: Path) -> list[Path]:
    """The images ``NNN.png`` of a render folder, whose numbers run from 000 without a gap.

    Raises:
        DatasetError: none, or one is missing.
    """
    files = [path for path in files_below(folder) if re.fullmatch(r"[0-9]{3}\.png", path.name)]
    if not files:
        raise DatasetError(f"{folder}: holds no images")
    lacking = next((n for n, file in enumerate(files) if int(file.stem) != n), len(files))
    if lacking < len(files) or (folder / f"{lacking:03d}_camera.json").exists():
        raise DatasetError(f"{folder}: the image {lacking:03d}.png is missing: numbers run from 000 without a gap")
    return files


def read_array(path: str | Path, most: int = 2**30) -> np.ndarray:
    """The array of a ``.npy`` file of plain numbers.

    Raises:
        OSError: as :func:`read_bytes`.
        ValueError: not such a file, or damaged.
    """
    content = read_bytes(path, most)
    try:
        array = np.load(BytesIO(content), allow_pickle=False)
    except (EOFError, TypeError, SyntaxError, MemoryError, OverflowError, RecursionError, tokenize.TokenError) as error:
        raise ValueError(f"its header is damaged ({str(error)[:100]})") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise ValueError("not an array of numbers")
    return array


def load_visible(path: Path, count: int) -> Int[Tensor, " k"]:
    """Indices of points, below ``count``.

    Raises:
        DatasetError: missing, damaged, or indices of points that do not exist.
    """
    try:
        visible = read_array(path)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: not an array of indices ({error})") from error
    if visible.ndim != 1 or visible.dtype.kind not in "iu":
        raise DatasetError(f"{path}: not an array of indices ({visible.dtype}, {visible.ndim} dimensions)")
    if len(visible) and not 0 <= int(visible.min()) <= int(visible.max()) < count:
        raise DatasetError(f"{path}: indexes points that do not exist")
    return torch.from_numpy(visible.astype(np.int64))


@dataclass(frozen=True)
class State:
    """One entry read from disk."""

    name: EntryName
    images: Float[Tensor, "views 4 h w"]
    """RGBA, straight alpha."""
    cameras: Cameras
    """[views], world frame."""
    points: Float[Tensor, "n 3"]
    """Surface points, world frame, in correspondence over the mesh's states."""
    visible: Int[Tensor, " k"]
    """Indices of the points that view 0 sees."""


def point_unit(root: Path) -> tuple[float, tuple[float, ...]]:
    """Scale and offset of stored points: the manifest's, or the reference's where there is none (a download).

    Raises:
        DatasetError: a manifest without them.
    """
    path = root / "manifest.json"
    if not os.path.lexists(path):
        return REFERENCE_SCALE, REFERENCE_OFFSET
    try:
        points = read_json(path)["points"]
        given = [points["scale"], *points["offset"]]
        if len(given) != 4 or any(isinstance(v, bool) or not isinstance(v, int | float) for v in given):
            raise ValueError("points: scale and offset are not four numbers")
        scale, *offset = (float(value) for value in given)
        if not np.isfinite([scale, *offset]).all() or not scale > 0:
            raise ValueError("points: scale and offset must be finite, the scale above 0")
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise DatasetError(f"{path}: not a manifest ({str(error)[:200]})") from error
    return scale, tuple(offset)


class PartDrag4D:
    """A PartDrag-4D folder, ours or an official download with any split of its file lists."""

    def __init__(self, root: Path | str, entries: list[EntryName]) -> None:
        """Some entries; world points are ``scale * stored + offset`` (:func:`point_unit`).

        Raises:
            DatasetError: no render or processed folder, or a broken manifest.
        """
        self.root, self.entries = Path(root), entries
        for folder in (RENDERS, PROCESSED):
            if not (self.root / folder).is_dir():
                raise DatasetError(f"{self.root}: has no folder {folder}")
        self.scale, offset = point_unit(self.root)
        self.offset = torch.tensor(offset, dtype=torch.float32)
        found = sorted(p for p in (self.root / PROCESSED).glob("*/*") if p.is_dir())
        self.mesh_folder = {p.name: p for p in found}

    @staticmethod
    def from_file_list(root: Path | str, file_list: Path | str) -> "PartDrag4D":
        """The entries of a file list (of a split, of a download), whatever prefixes its lines have."""
        return PartDrag4D(root, list(read_file_list(Path(file_list)).values()))

    def __len__(self) -> int:
        return len(self.entries)

    def motion_file(self, name: EntryName, ending: str) -> Path:
        """Path of a file of an entry below ``motion/``.

        Raises:
            DatasetError: the mesh has no processed data.
        """
        if name.mesh not in self.mesh_folder:
            raise DatasetError(f"{self.root / PROCESSED}: has no mesh {name.mesh}")
        return self.mesh_folder[name.mesh] / "motion" / f"{name.motion}{ending}"

    def points_of(self, name: EntryName) -> Float[Tensor, "n 3"]:
        """World points of an entry."""
        stored = load_points(self.motion_file(name, ".ply"))
        return self.scale * torch.from_numpy(stored).float() + self.offset

    def visible_of(self, name: EntryName, count: int) -> Int[Tensor, " k"]:
        """Indices of the points of an entry, ``count`` in all, that its first view sees.

        Raises:
            DatasetError: the file is missing or broken.
        """
        return load_visible(self.motion_file(name, "_visible.npy"), count)

    def __getitem__(self, index: int) -> State:
        return self.load(self.entries[index])

    def load(self, name: EntryName) -> State:
        """Everything of one entry.

        Raises:
            DatasetError: a file of it is missing or broken.
        """
        folder = self.root / RENDERS / str(name)
        images = [load_rgba(path) for path in view_files(folder)]
        if len({x.shape for x in images}) > 1:
            raise DatasetError(f"{folder}: its images differ in size")
        points = self.points_of(name)
        visible = self.visible_of(name, len(points))
        cameras = load_cameras_of(folder, len(images), images[0].shape[-1])
        return State(name, torch.stack(images), cameras, points, visible)
