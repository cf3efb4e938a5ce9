"""A pool of objects packed into flat arrays: what training draws from, kept in one compact file.

The file is an lzma-compressed ``.npz`` of quantised arrays: 16-bit vertices a whole object long, faces that count from
the first vertex of their part, counts per part. Loading needs numpy, torch and the standard library only; the arrays of
a :class:`Pool` go straight into ``MeshScene.from_arrays``.
"""

import io
import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partrm.errors import PartRMError
from partrm.files import atomic_write, read_bytes
from partrm.geometry.joints import JointType
from partrm.geometry.tensor_record import TensorRecord
from partrm.objects.articulated_object import ArticulatedObject
from partrm.objects.materials import Role
from partrm.procedural.simplify import visible_shares
from partrm.rendering.meshes import MeshScene
from partrm.synthesis.scenarios import JointTables

QUANTA = 32767
"""Steps of a 16-bit vertex coordinate from the object's centre to its farthest coordinate."""
FORMAT = "partrm-pool-1"
MAGIC = b"\xfd7zXZ\0"
"""What an lzma file, and so a pool, begins with."""


class PoolError(PartRMError):
    """A pool file that cannot be read, or objects that cannot be packed; the message says which and why."""


@dataclass(frozen=True)
class Pool(TensorRecord):
    """Many articulated objects; object i has the parts ``part_offset[i]`` to ``part_offset[i + 1]``, in its order."""

    vertices: Float[Tensor, "vertices 3"]
    """Object frames at rest."""
    faces: Int[Tensor, "faces 3"]
    """int32, indices into ``vertices``."""
    face_part: Int[Tensor, " faces"]
    """int32, global part index, ascending."""
    face_material: Int[Tensor, " faces"]
    """int32, material slot within the face's object."""
    part_offset: Int[Tensor, " offsets"]
    """First global part of each object, then the number of all parts."""
    parent: Int[Tensor, "objects parts"]
    """Slot of each part's parent within the object, -1 for roots and padding."""
    joint_type: Int[Tensor, "objects parts"]
    """:class:`partrm.geometry.joints.JointType`; fixed for roots and padding."""
    axis: Float[Tensor, "objects parts 3"]
    """Object frame at rest."""
    pivot: Float[Tensor, "objects parts 3"]
    lower: Float[Tensor, "objects parts"]
    """Limits, radians or object units; zero where nothing moves."""
    upper: Float[Tensor, "objects parts"]
    part_valid: Bool[Tensor, "objects parts"]
    weights: Float[Tensor, "objects parts"]
    """Share of the closed object's picture that each movable part fills (seen from the front half), else 0."""
    roles: Int[Tensor, "objects slots"]
    """:class:`partrm.objects.materials.Role` of each material slot, -1 for padding."""
    category: Int[Tensor, " objects"]
    """Index into ``category_names``."""
    seed: Int[Tensor, " objects"]
    """Seed of a procedural object, -1 for others."""
    category_names: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse arrays that do not belong together, by their shapes alone.

        Raises:
            PoolError: arrays of different numbers of objects, parts or faces.
        """
        tables = (*_PER_PART_TABLES[:-1], "part_valid")
        counts = {name: tuple(getattr(self, name).shape[:2]) for name in tables}
        objects = {name: (len(getattr(self, name)),) for name in ("roles", "category", "seed")}
        faces = {name: (len(getattr(self, name)),) for name in ("faces", "face_part", "face_material")}
        for group, first in ((counts, "parent"), (objects, "category"), (faces, "faces")):
            if odd := [name for name, shape in group.items() if shape != group[first]]:
                raise PoolError(f"{odd[0]} has the shape {group[odd[0]]}, {first} has {group[first]}")
        if len(self.part_offset) != self.category.shape[0] + 1 or counts["parent"][0] != len(self.category):
            raise PoolError(f"{len(self.category)} categories of {self.count} objects")

    @property
    def count(self) -> int:
        return len(self.part_offset) - 1

    @staticmethod
    def from_objects(objects: Sequence[ArticulatedObject], device: torch.device | str = "cpu") -> "Pool":
        """Packs objects exactly (float32); their colours and textures are not kept, only the roles of their slots.

        Raises:
            PoolError: no objects, or one in which nothing moves.
        """
        if not objects:
            raise PoolError("a pool needs at least one object")
        for obj in objects:
            if not obj.movable:
                raise PoolError(f"{obj.name}: no part of it moves")
        names = tuple(sorted({obj.category for obj in objects}))
        packed = [_packed(obj, names) for obj in objects]
        columns = {key: [record[key] for record in packed] for key in packed[0]}
        arrays = {key: _joined(key, rows) for key, rows in columns.items()}
        return _assembled(arrays, names).to(device)


_PADDING = {"parent": -1, "roles": -1}
_PER_PART_TABLES = ("parent", "joint_type", "axis", "pivot", "lower", "upper", "weights", "roles")


def _packed(obj: ArticulatedObject, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """One object's rows, face indices counting from the first vertex of each part."""
    joints = {key: value.numpy() for key, value in obj.joint_arrays().items()}
    movable = np.isin(np.arange(len(obj.parts)), obj.movable)
    seed = obj.source.rsplit(":", 1)[-1] if obj.source.startswith("procedural:") else "-1"
    return {
        "vertices": np.concatenate([p.vertices for p in obj.parts]).astype(np.float32),
        "faces": np.concatenate([p.faces for p in obj.parts]).astype(np.int32),
        "face_material": np.concatenate([p.face_material for p in obj.parts]).astype(np.int32),
        "part_vertices": np.array([len(p.vertices) for p in obj.parts]),
        "part_faces": np.array([len(p.faces) for p in obj.parts]),
        "object_parts": np.array([len(obj.parts)]),
        "parent": joints["parent"],
        "joint_type": joints["joint_type"],
        "axis": joints["axis"].astype(np.float32),
        "pivot": joints["pivot"].astype(np.float32),
        "lower": obj.joint_limits[:, 0].astype(np.float32),
        "upper": obj.joint_limits[:, 1].astype(np.float32),
        "weights": np.where(movable, visible_shares(obj), 0.0).astype(np.float32),
        "roles": np.array([int(m.role) for m in obj.materials]),
        "category": np.array([names.index(obj.category)]),
        "seed": np.array([int(seed)]),
    }


def _joined(key: str, rows: list[np.ndarray]) -> np.ndarray:
    """Rows of all objects one after the other, or stacked with padding."""
    if key not in _PER_PART_TABLES:
        return np.concatenate(rows)
    length = max(len(row) for row in rows)
    out = np.full((len(rows), length, *rows[0].shape[1:]), _PADDING.get(key, 0), dtype=rows[0].dtype)
    for place, row in zip(out, rows, strict=True):
        place[: len(row)] = row
    return out


def _assembled(arrays: dict[str, np.ndarray], names: tuple[str, ...]) -> Pool:
    """The pool of joined arrays (float vertices, faces that count from the first vertex of their part)."""
    first_vertex = np.concatenate([[0], np.cumsum(arrays["part_vertices"])])[:-1]
    face_part = np.repeat(np.arange(len(first_vertex)), arrays["part_faces"])
    faces = arrays["faces"] + first_vertex[face_part][:, None]
    slots = np.arange(arrays["parent"].shape[1])
    columns = {
        "vertices": arrays["vertices"].astype(np.float32),
        "faces": faces.astype(np.int32),
        "face_part": face_part.astype(np.int32),
        "face_material": arrays["face_material"].astype(np.int32),
        "part_offset": np.concatenate([[0], np.cumsum(arrays["object_parts"])]),
        "part_valid": slots < arrays["object_parts"][:, None],
        **{key: arrays[key].astype(np.int64) for key in ("parent", "joint_type", "roles", "category", "seed")},
        **{key: arrays[key].astype(np.float32) for key in ("axis", "pivot", "lower", "upper", "weights")},
    }
    tensors = {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in columns.items()}
    return Pool(**tensors, category_names=names)


def _narrowest(values: np.ndarray) -> np.ndarray:
    """The same integers in the narrowest unsigned type."""
    for dtype in (np.uint8, np.uint16, np.uint32):
        if values.size == 0 or (values.min() >= 0 and values.max() <= np.iinfo(dtype).max):
            return values.astype(dtype)
    raise PoolError(f"indices from {values.min()} to {values.max()} do not fit 32 bits")


def save_pool(pool: Pool, path: Path) -> None:
    """Writes the pool to one file, complete or not at all; vertices move by at most half a step of ``QUANTA``."""
    arrays = {name: column.cpu().numpy() for name, column in pool.leaves().items()}
    parts = int(arrays["part_offset"][-1])
    part_faces = np.bincount(arrays["face_part"], minlength=parts)
    if (np.diff(arrays["face_part"]) < 0).any():
        raise PoolError("faces must be in the order of their parts")
    part_vertices, object_vertices = _vertex_counts(arrays)
    first_vertex = np.concatenate([[0], np.cumsum(part_vertices)])[:-1]
    owner = np.repeat(np.arange(pool.count), object_vertices)
    reach = np.zeros(pool.count, dtype=np.float32)
    np.maximum.at(reach, owner, np.abs(arrays["vertices"]).max(-1))
    steps = np.round(arrays["vertices"] / np.maximum(reach, 1e-9)[owner][:, None] * QUANTA)
    stored = {
        "vertices": np.ascontiguousarray(steps.astype(np.int16).T),
        "reach": reach,
        "faces": _narrowest(arrays["faces"] - first_vertex[arrays["face_part"]][:, None]),
        "face_material": _narrowest(arrays["face_material"]),
        "part_vertices": _narrowest(part_vertices),
        "part_faces": _narrowest(part_faces),
        "object_parts": _narrowest(np.diff(arrays["part_offset"])),
        "object_vertices": _narrowest(object_vertices),
        "parent": arrays["parent"].astype(np.int16),
        "joint_type": arrays["joint_type"].astype(np.int8),
        "roles": arrays["roles"].astype(np.int8),
        **{key: arrays[key] for key in ("axis", "pivot", "lower", "upper", "weights", "category", "seed")},
        "category_names": np.array(pool.category_names),
        "format": np.array(FORMAT),
    }
    plain = io.BytesIO()
    np.savez(plain, **stored)
    atomic_write(path, lzma.compress(plain.getvalue(), preset=4))


def _vertex_counts(arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Vertices of every part and of every object, from the faces (parts are contiguous; unused vertices go before)."""
    parts = int(arrays["part_offset"][-1])
    ends = np.zeros(parts, dtype=np.int64)
    np.maximum.at(ends, arrays["face_part"], arrays["faces"].max(-1) + 1)
    ends = np.maximum.accumulate(ends)
    ends[-1] = len(arrays["vertices"])
    part_vertices = np.diff(ends, prepend=0)
    ends_of_objects = np.concatenate([[0], ends])[arrays["part_offset"]]
    return part_vertices, np.diff(ends_of_objects)


def load_pool(path: Path, device: torch.device | str = "cpu") -> Pool:
    """Reads what :func:`save_pool` wrote.

    Raises:
        PoolError: the file cannot be read, is not a pool, or damaged: arrays that are missing, of another shape or
            type, that do not fit each other, or not finite.
    """
    try:
        plain = _decompressed(read_bytes(path, MAX_POOL_BYTES))
        with np.load(io.BytesIO(plain), allow_pickle=False) as archive:
            stored = {key: np.asarray(archive[key]) for key in archive.files}  # bytes where it is no array
    except OSError as error:
        raise PoolError(f"{path}: cannot be read as a pool ({error.strerror or error})") from error
    except DAMAGED as error:
        raise PoolError(f"{path} is not a pool of objects: {str(error)[:200]}") from error
    if str(stored.get("format")) != FORMAT:
        raise PoolError(f"{path} is not a pool of the format {FORMAT}")
    try:
        _check_arrays(stored)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        missing = f"the array {error} is missing" if isinstance(error, KeyError) else str(error)
        raise PoolError(f"{path}: a damaged pool: {missing}; pack it again (partrm data pool)") from error
    owner = np.repeat(np.arange(len(stored["reach"])), stored["object_vertices"])
    scale = (stored["reach"] / QUANTA).astype(np.float32)
    arrays = {key: value.astype(np.int64) if value.dtype.kind == "u" else value for key, value in stored.items()}
    arrays["vertices"] = stored["vertices"].T.astype(np.float32) * scale[owner][:, None]
    return _assembled(arrays, tuple(stored["category_names"].tolist())).to(device)


MAX_POOL_BYTES = 2**34
MAX_EXPANSION = 400
"""A pool's bytes for each byte of its file, at most; more is no pool, but made to fill the memory."""

DAMAGED = (
    lzma.LZMAError, ValueError, EOFError, KeyError, TypeError, SyntaxError, MemoryError, OverflowError, RuntimeError,
    NotImplementedError, zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError,
)  # fmt: skip
"""What reading a damaged archive of arrays raises."""


def _decompressed(content: bytes) -> bytes:
    most = MAX_EXPANSION * len(content) + 2**20
    reader = lzma.LZMADecompressor()
    plain = reader.decompress(content, most)
    if len(plain) >= most or not reader.eof:
        raise ValueError("it is cut short, or would grow without bound")
    with zipfile.ZipFile(io.BytesIO(plain)) as archive:
        if sum(info.file_size for info in archive.infolist()) > 2 * len(plain):
            raise ValueError("its arrays would grow without bound")
    return plain


def _check_arrays(stored: dict[str, np.ndarray]) -> None:
    """Refuse arrays that are not those of a pool.

    Raises:
        ValueError: of another shape, type or range, or not finite.
        KeyError: one is missing.
    """
    count, (parts, slots) = len(stored["object_parts"]), (stored[key].shape[1] for key in ("parent", "roles"))
    corners, total = stored["vertices"].shape[1], len(stored["part_vertices"])
    shapes = {
        "vertices": ("i", (3, corners)), "faces": ("iu", (len(stored["faces"]), 3)),
        "face_material": ("iu", (len(stored["faces"]),)), "part_vertices": ("iu", (total,)),
        "part_faces": ("iu", (total,)), "object_parts": ("iu", (count,)), "object_vertices": ("iu", (count,)),
        "reach": ("f", (count,)), "parent": ("i", (count, parts)), "joint_type": ("i", (count, parts)),
        "roles": ("i", (count, slots)), "axis": ("f", (count, parts, 3)), "pivot": ("f", (count, parts, 3)),
        "lower": ("f", (count, parts)), "upper": ("f", (count, parts)), "weights": ("f", (count, parts)),
        "category": ("iu", (count,)), "seed": ("iu", (count,)), "category_names": ("U", stored["category_names"].shape),
    }  # fmt: skip
    for name, (kinds, shape) in shapes.items():
        array = stored[name]
        if array.dtype.kind not in kinds or array.shape != shape:
            raise ValueError(f"{name} has the shape {array.shape} and the type {array.dtype}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name} holds values that are not finite")
    _check_counts(stored, count, parts, slots)


def _check_counts(stored: dict[str, np.ndarray], count: int, parts: int, slots: int) -> None:
    plain = {name: array.astype(np.int64) for name, array in stored.items() if array.dtype.kind in "iu"}
    face_part = np.repeat(np.arange(len(plain["part_faces"])), plain["part_faces"])
    sums = (
        ("object_parts", len(plain["part_vertices"])), ("part_faces", len(plain["faces"])),
        ("part_vertices", plain["vertices"].shape[1]), ("object_vertices", plain["vertices"].shape[1]),
    )  # fmt: skip
    for name, whole in sums:
        if int(plain[name].sum()) != whole or plain[name].min(initial=0) < 0:
            raise ValueError(f"{name} does not add up to {whole}")
    if not (stored["reach"] > 0).all():
        raise ValueError("reach is the size of an object, above zero")
    if not count or plain["object_parts"].min() < 1 or plain["object_parts"].max() > parts:
        raise ValueError("object_parts does not fit the tables")
    if (plain["faces"] >= plain["part_vertices"][face_part][:, None]).any() or plain["faces"].min(initial=0) < 0:
        raise ValueError("faces index vertices that do not exist")
    ranges = (
        ("face_material", 0, slots - 1), ("category", 0, stored["category_names"].size - 1),
        ("joint_type", 0, max(JointType)), ("roles", -1, max(Role)),
    )  # fmt: skip
    for name, least, most in ranges:
        if plain[name].size and not least <= plain[name].min() <= plain[name].max() <= most:
            raise ValueError(f"{name} is out of its range")
    if (plain["parent"] < -1).any() or (plain["parent"] >= np.arange(parts)).any():
        raise ValueError("parent names a part that does not come before its child")
    moves = (stored["weights"] > 0) & (plain["joint_type"] != JointType.FIXED)
    length = np.linalg.norm(stored["axis"].astype(np.float64), axis=-1)
    if (np.abs(length - 1) > 0.01)[moves].any():
        raise ValueError("axis: a joint's has not the length 1")
    if (stored["weights"] < 0).any() or not moves.any(1).all() or (stored["lower"] > stored["upper"]).any():
        raise ValueError("weights, lower or upper: an object of which nothing moves, or reversed limits")


def concatenated(pools: Sequence[Pool]) -> Pool:
    """All objects of some pools of one device in one pool, in order; tables as wide as the widest needs.

    Raises:
        PoolError: no pools.
    """
    if not pools:
        raise PoolError("no pools to put together")
    names = tuple(sorted({name for pool in pools for name in pool.category_names}))
    parts, slots = (max(getattr(pool, key).shape[1] for pool in pools) for key in ("parent", "roles"))
    vertices = [0, *np.cumsum([len(pool.vertices) for pool in pools]).tolist()]
    owned = [0, *np.cumsum([int(pool.part_offset[-1]) for pool in pools]).tolist()]
    columns: dict[str, list[Tensor]] = {name: [] for name in pools[0].leaves()}
    for index, pool in enumerate(pools):
        first = pool.part_offset if index == 0 else pool.part_offset[1:]
        own = torch.tensor([names.index(name) for name in pool.category_names], device=pool.category.device)
        shifted = {
            "faces": pool.faces + vertices[index],
            "face_part": pool.face_part + owned[index],
            "part_offset": first + owned[index],
            "category": own[pool.category],
        }
        for key, column in columns.items():
            value = shifted.get(key, getattr(pool, key))
            if key in (*_PER_PART_TABLES, "part_valid"):
                missing = (slots if key == "roles" else parts) - value.shape[1]
                padding = value.new_full((len(value), missing, *value.shape[2:]), _PADDING.get(key, 0))
                value = torch.cat([value, padding], 1)
            column.append(value)
    return Pool(**{key: torch.cat(column) for key, column in columns.items()}, category_names=names)


def pool_odds(pools: Sequence[Pool], shares: Sequence[float]) -> Float[Tensor, " objects"]:
    """How often each object of the pools, :func:`concatenated`, is drawn, so that each pool has its share; sum 1.

    Raises:
        PoolError: not one positive share for each pool.
    """
    if len(shares) != len(pools) or not all(0 < share < math.inf for share in shares):
        raise PoolError(f"{len(pools)} pools need as many shares, all positive")
    whole, device = sum(shares), pools[0].category.device
    odds = [torch.full((pool.count,), share / whole / pool.count) for pool, share in zip(pools, shares, strict=True)]
    return torch.cat(odds).to(device)


@dataclass(frozen=True)
class ObjectPool:
    """Objects ready for ray casting on one device."""

    scene: MeshScene
    tables: JointTables
    roles: Int[Tensor, "objects slots"]
    """:class:`partrm.objects.materials.Role` of every material slot."""
    odds: Float[Tensor, " objects"] | None = None
    """How often each object is drawn, sum 1; None: all equally often."""

    @property
    def count(self) -> int:
        return len(self.roles)

    def sample(self, count: int, generator: torch.Generator) -> Int[Tensor, " count"]:
        """Indices of objects, drawn on the generator's device, which is the pool's."""
        if self.odds is None:
            return torch.randint(self.count, (count,), generator=generator, device=generator.device)
        draws = torch.rand(count, generator=generator, device=generator.device, dtype=torch.float64)
        return torch.searchsorted(self.odds.double().cumsum(0), draws, right=True).clamp(max=self.count - 1)

    @staticmethod
    def from_pool(pool: Pool, odds: Float[Tensor, " objects"] | None = None) -> "ObjectPool":
        """Build the ray-casting structure of a packed pool, on the pool's device."""
        scene = MeshScene.from_arrays(pool.vertices, pool.faces, pool.face_part, pool.face_material, pool.part_offset)
        # The square root evens out drawers and doors of very different size; small knobs stay rare.
        weight = pool.weights.sqrt() * (pool.joint_type != JointType.FIXED)
        tables = JointTables(
            pool.parent, pool.joint_type, pool.axis, pool.pivot, pool.lower, pool.upper, drag_weight=weight
        )
        return ObjectPool(scene, tables, pool.roles, odds)
