"""A pool of objects packed into flat arrays: what training draws from, kept in one compact file.

The file is an lzma-compressed ``.npz`` of quantised arrays: 16-bit vertices a whole object long, faces that count from
the first vertex of their part, counts per part. Loading needs numpy, torch and the standard library only; the arrays of
a :class:`Pool` go straight into ``MeshScene.from_arrays``.
"""

import io
import lzma
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partrm.articulation.objects import ArticulatedObject
from partrm.articulation.procedural.simplify import visible_shares

QUANTA = 32767
"""Steps of a 16-bit vertex coordinate from the object's centre to its farthest coordinate."""
FORMAT = "partrm-pool-1"


class PoolError(ValueError):
    """A pool file that cannot be read, or objects that cannot be packed; the message says which and why."""


@dataclass(frozen=True)
class Pool:
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
    """:class:`partrm.articulation.kinematics.JointType`; fixed for roots and padding."""
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
    """:class:`partrm.articulation.materials.Role` of each material slot, -1 for padding."""
    category: Int[Tensor, " objects"]
    """Index into ``category_names``."""
    seed: Int[Tensor, " objects"]
    """Seed of a procedural object, -1 for others."""
    category_names: tuple[str, ...]

    @property
    def count(self) -> int:
        return len(self.part_offset) - 1

    def to(self, device: torch.device | str) -> "Pool":
        moved = {f.name: getattr(self, f.name).to(device) for f in fields(self) if f.name != "category_names"}
        return Pool(**moved, category_names=self.category_names)

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
    arrays = {f.name: getattr(pool, f.name).cpu().numpy() for f in fields(pool) if f.name != "category_names"}
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
    scratch = path.with_name(path.name + ".part")
    scratch.write_bytes(lzma.compress(plain.getvalue(), preset=4))
    os.replace(scratch, path)


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
        PoolError: the file is not a pool.
        OSError: it cannot be read.
    """
    try:
        with np.load(io.BytesIO(lzma.decompress(Path(path).read_bytes())), allow_pickle=False) as archive:
            stored = {key: archive[key] for key in archive.files}
    except (lzma.LZMAError, ValueError, EOFError) as error:
        raise PoolError(f"{path} is not a pool of objects: {error}") from error
    if str(stored.get("format")) != FORMAT:
        raise PoolError(f"{path} is not a pool of the format {FORMAT}")
    owner = np.repeat(np.arange(len(stored["reach"])), stored["object_vertices"])
    scale = (stored["reach"] / QUANTA).astype(np.float32)
    arrays = {key: value.astype(np.int64) if value.dtype.kind == "u" else value for key, value in stored.items()}
    arrays["vertices"] = stored["vertices"].T.astype(np.float32) * scale[owner][:, None]
    return _assembled(arrays, tuple(stored["category_names"].tolist())).to(device)


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
    columns: dict[str, list[Tensor]] = {f.name: [] for f in fields(Pool) if f.name != "category_names"}
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


def _generated(job: tuple[str, int]) -> ArticulatedObject:
    from partrm.articulation.procedural import generate

    return generate(*job)


def generate_objects(jobs: Sequence[tuple[str, int]], workers: int) -> Iterator[ArticulatedObject]:
    """The objects of (category, seed) pairs, in order, made by ``workers`` processes (1: in this one)."""
    if workers <= 1:
        yield from map(_generated, jobs)
        return
    with ProcessPoolExecutor(workers) as executor:
        yield from executor.map(_generated, jobs, chunksize=8)


def build_pool(categories_and_seeds: Iterable[tuple[str, int]], workers: int = 1) -> Pool:
    """Generates and packs procedural objects, with a progress bar; the order of the pairs is kept."""
    from rich.progress import track

    jobs = list(categories_and_seeds)
    objects = list(track(generate_objects(jobs, workers), description="objects", total=len(jobs)))
    return Pool.from_objects(objects)


@dataclass(frozen=True)
class BuildCommand:
    """Generate procedural objects and pack them into a pool file."""

    out: Path
    """File to write."""
    per_category: int = 100
    """Objects of each category that needs nothing but numpy."""
    per_kitchen_category: int | None = None
    """Objects of each scene-synthesizer category (default: as many as of the others)."""
    per_assembly: int | None = None
    """Objects of the category ``assembly``, each with mechanisms of its own (default: as many as of the others)."""
    seed: int = 0
    """First seed; validation uses seeds from 1 000 000, which training never does."""
    workers: int = 2
    """Processes."""
    categories: tuple[str, ...] = ()
    """Only these (default: all)."""


def build(command: BuildCommand) -> None:
    """Runs the command."""
    from partrm.articulation.procedural import CATEGORIES, OWN_CATEGORIES

    def count(category: str) -> int:
        others = None if category in OWN_CATEGORIES else command.per_kitchen_category
        asked = command.per_assembly if category == "assembly" else others
        return command.per_category if asked is None else asked

    wanted = command.categories or CATEGORIES
    jobs = [(category, command.seed + k) for category in wanted for k in range(count(category))]
    save_pool(build_pool(jobs, command.workers), command.out)


def main() -> None:
    """``python -m partrm.data.pool build --out FILE``."""
    import tyro

    prefixes = (tyro.conf.OmitArgPrefixes,)
    tyro.extras.subcommand_cli_from_dict({"build": build}, prog="python -m partrm.data.pool", config=prefixes)


if __name__ == "__main__":
    main()
