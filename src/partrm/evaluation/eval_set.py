"""An evaluation set of meshes in one file, and digests of the published samples.

Anyone can tell by them that their samples are the published ones. Digests are taken over rounded numbers, because other
processors round the last digit of ray casting otherwise; the ``checksum`` of a whole set is exact.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from partrm.evaluation.mesh_samples import EvalSamples, EvalSet, EvalSetError, SceneArrays
from partrm.files import check_file, staged_file
from partrm.geometry.joints import JointType
from partrm.model.checkpoints import save_tensors
from partrm.objects.materials import MaterialTable, Pattern
from partrm.synthesis.scenarios import JointTables

FORMAT = "partrm.eval_set/1"

DIGESTS = "procedural.sha256"
STEP = 1e-4
"""Lengths, angles and colours are rounded to this."""

POINT_STEP = 1e-3
"""Drag points, which come from ray casting, are rounded to this."""


def save_eval_set(evalset: EvalSet, path: Path) -> None:
    """Write a set as one safetensors file, its names in the metadata; the file appears when it is complete.

    Raises:
        OutputError: it cannot be written there.
    """
    check_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"format": FORMAT, "record": json.dumps(evalset.record())}
    with staged_file(path) as part:
        save_tensors({name: value.contiguous().clone() for name, value in evalset.tensors().items()}, part, metadata)


def load_eval_set(path: Path) -> EvalSet:
    """Read a set that :func:`save_eval_set` wrote.

    Raises:
        EvalSetError: not such a file, or one of another version.
    """
    from safetensors import SafetensorError, safe_open

    if not os.path.isfile(path):  # a pipe would be waited for
        raise EvalSetError(f"{path}: not an evaluation set (no such file)")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise EvalSetError(f"{path}: not an evaluation set ({error})") from error
    if metadata.get("format") != FORMAT:
        raise EvalSetError(f"{path}: not an evaluation set of the format {FORMAT}; pack it again")
    try:
        written: dict[str, Any] = json.loads(metadata["record"])
        record: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in written.items()}
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        raise EvalSetError(f"{path}: its record is damaged ({str(error)[:100]}); pack the set again") from error

    def read(kind: type, prefix: str) -> Any:
        return kind(**{f.name: flat[prefix + f.name] for f in fields(kind) if prefix + f.name in flat})

    try:
        evalset = EvalSet(
            **record,
            scene=read(SceneArrays, "scene."),
            tables=read(JointTables, "tables."),
            materials=read(MaterialTable, "materials."),
            plan=read(EvalSamples, "plan."),
        )
    except (TypeError, ValueError, IndexError, RuntimeError, AttributeError) as error:
        raise EvalSetError(
            f"{path}: its arrays and names are no set ({str(error)[:200]}); pack the set again"
        ) from error
    try:
        _check_names(evalset)
        _check_arrays(evalset)
    except ValueError as error:
        raise EvalSetError(f"{path}: a damaged evaluation set: {str(error)[:200]}; pack it again") from error
    return evalset


def _check_names(evalset: EvalSet) -> None:
    """Refuse what no set is called.

    Raises:
        ValueError: values of other types.
    """
    lists = (evalset.object_names, evalset.categories, evalset.transitions, evalset.dropped)
    if not all(isinstance(names, tuple) and all(isinstance(name, str) for name in names) for names in lists):
        raise ValueError("its names are no lists of words")
    if not isinstance(evalset.name, str) or type(evalset.seed) is not int:
        raise ValueError("its name or seed is none")


def _check_arrays(evalset: EvalSet) -> None:
    """Refuse arrays that are not those of a set.

    Raises:
        ValueError: of another shape, type or range, or not finite.
    """
    scene, tables, materials, plan = evalset.scene, evalset.tables, evalset.materials, evalset.plan
    o, n, f = len(evalset.object_names), len(plan), len(scene.faces)
    widths = tables.parent.shape[-1:], materials.pattern.shape[-1:], plan.drag_point.shape[-2:-1]
    (p,), (s,), (d,) = (tuple(width) or (0,) for width in widths)
    t, i32, i64 = len(scene.texture_offset), torch.int32, torch.int64
    shapes = {
        "scene.vertices": (torch.float32, (len(scene.vertices), 3)), "scene.faces": (i32, (f, 3)),
        "scene.face_part": (i32, (f,)), "scene.face_material": (i32, (f,)), "scene.part_offset": (i64, (o + 1,)),
        "scene.texels": (torch.uint8, (len(scene.texels), 3)), "scene.texture_offset": (i32, (t,)),
        "scene.texture_height": (i32, (t,)), "scene.texture_width": (i32, (t,)),
        "scene.corner_uv": (torch.float32, (f, 3, 2)), "tables.parent": (i64, (o, p)),
        "tables.joint_type": (i64, (o, p)), "tables.axis": (torch.float32, (o, p, 3)),
        "tables.pivot": (torch.float32, (o, p, 3)), "tables.lower": (torch.float32, (o, p)),
        "tables.upper": (torch.float32, (o, p)), "tables.drag_weight": (torch.float32, (o, p)),
        "materials.color": (torch.float32, (o, s, 3)), "materials.color2": (torch.float32, (o, s, 3)),
        "materials.pattern": (i64, (o, s)), "materials.frequency": (torch.float32, (o, s)),
        "materials.direction": (torch.float32, (o, s, 3)), "materials.gloss": (torch.float32, (o, s)),
        "materials.texture": (i64, (o, s)), "plan.object": (i64, (n,)), "plan.part": (i64, (n,)),
        "plan.q_source": (torch.float32, (n, p)), "plan.q_target": (torch.float32, (n, p)),
        "plan.azimuth_rad": (torch.float32, (n,)), "plan.elevation_rad": (torch.float32, (n,)),
        "plan.drag_point": (torch.float32, (n, d, 3)),
    }  # fmt: skip
    for name, array in evalset.tensors().items():
        if (array.dtype, tuple(array.shape)) != shapes[name]:
            raise ValueError(f"{name} has the shape {tuple(array.shape)} and the type {array.dtype}")
        if array.is_floating_point() and not bool(torch.isfinite(array).all()):
            raise ValueError(f"{name} holds values that are not finite")
    _check_ranges(evalset)


def _check_ranges(evalset: EvalSet) -> None:
    scene, tables, materials, plan = evalset.scene, evalset.tables, evalset.materials, evalset.plan
    counts = scene.part_offset.diff()
    if not len(plan) or not plan.drag_point.shape[1] or not len(scene.faces):
        raise ValueError("it holds no sample, no drag or no face")
    slots = tables.parent.shape[1]
    if int(scene.part_offset[0]) or int(counts.min()) < 1 or int(counts.max()) > slots:
        raise ValueError("scene.part_offset does not fit the tables")
    ranges = (
        ("scene.faces", scene.faces, 0, len(scene.vertices)),
        ("scene.face_part", scene.face_part, 0, int(scene.part_offset[-1])),
        ("scene.face_material", scene.face_material, 0, materials.pattern.shape[1]),
        ("materials.pattern", materials.pattern, 0, len(Pattern)),
        ("materials.texture", materials.texture, -1, len(scene.texture_offset)),
        ("tables.joint_type", tables.joint_type, 0, len(JointType)),
        ("tables.parent", tables.parent - torch.arange(slots), -slots, 0),
        ("tables.parent", tables.parent, -1, slots),
        ("plan.object", plan.object, 0, len(counts)),
        ("scene.texture_height", scene.texture_height, 1, 2**15),
        ("scene.texture_width", scene.texture_width, 1, 2**15),
        ("scene.texture_offset", scene.texture_offset, 0, len(scene.texels)),
    )
    for name, values, least, end in ranges:
        if values.numel() and not least <= int(values.min()) <= int(values.max()) < end:
            raise ValueError(f"{name} is out of its range")
    ends = scene.texture_offset.long() + scene.texture_height.long() * scene.texture_width.long()
    if bool((ends > len(scene.texels)).any()):
        raise ValueError("a texture has more pixels than there are")
    if int(plan.part.min()) < 0 or bool((plan.part >= counts[plan.object]).any()):
        raise ValueError("plan.part is out of its range")


def sample_digests(evalset: EvalSet) -> list[str]:
    """First 16 hex digits of the SHA-256 of each sample.

    Over the object's name, category, mesh, joints and plain materials (textures only by being there), the states, the
    first camera and the drag points; independent of the other samples of the set.
    """
    objects = [_object_bytes(evalset, index) for index in range(len(evalset.object_names))]
    plan, found = evalset.plan, []
    for number in range(len(evalset)):
        index = int(plan.object[number])
        parts = _part_count(evalset, index)
        states = torch.cat([plan.q_source[number, :parts], plan.q_target[number, :parts]])
        camera = torch.stack([plan.azimuth_rad[number], plan.elevation_rad[number]])
        digest = hashlib.sha256(objects[index])
        digest.update(f"{int(plan.part[number])} {evalset.transitions[number]}".encode())
        digest.update(_rounded(states, STEP) + _rounded(camera, STEP))
        digest.update(_rounded(plan.drag_point[number], POINT_STEP))
        found.append(digest.hexdigest()[:16])
    return found


def published_digests() -> list[tuple[str, str]]:
    """Digest and object of every sample of the published set (seed 0), in order."""
    text = (resources.files("partrm.evaluation") / DIGESTS).read_text(encoding="utf-8")
    return [(digest, name) for digest, name in (line.split() for line in text.splitlines())]


def differing_samples(evalset: EvalSet, published: Sequence[tuple[str, str]]) -> list[int]:
    """Numbers of the samples that are not the published ones; those beyond the published set count too."""
    mine = sample_digests(evalset)
    return [number for number, digest in enumerate(mine) if [digest] != [d for d, _ in published[number : number + 1]]]


def _part_count(evalset: EvalSet, index: int) -> int:
    offset = evalset.scene.part_offset
    return int(offset[index + 1] - offset[index])


def _object_bytes(evalset: EvalSet, index: int) -> bytes:
    scene, tables, parts = evalset.scene, evalset.tables[[index]], _part_count(evalset, index)
    first = int(scene.part_offset[index])
    mine = (scene.face_part >= first) & (scene.face_part < first + parts)
    corners = scene.vertices[scene.faces[mine].long()]
    slots = scene.face_material[mine].long()
    materials = evalset.materials[index][slots.unique()]
    digest = hashlib.sha256(f"{evalset.object_names[index]} {evalset.categories[index]} {parts}".encode())
    for whole in (scene.face_part[mine] - first, slots, tables.parent[0, :parts], tables.joint_type[0, :parts]):
        digest.update(whole.long().numpy().tobytes())
    digest.update(materials.pattern.long().numpy().tobytes() + (materials.texture >= 0).numpy().tobytes())
    digest.update(_rounded(corners, STEP))
    for value in (tables.axis, tables.pivot, tables.lower, tables.upper):
        digest.update(_rounded(value[0, :parts], STEP))
    for value in (materials.color, materials.color2, materials.frequency, materials.direction, materials.gloss):
        digest.update(_rounded(value, STEP))
    return digest.digest()


def _rounded(values: Tensor, step: float) -> bytes:
    return torch.round(values.double() / step).long().contiguous().numpy().tobytes()
