"""An evaluation set of meshes in one file, and digests of the published samples.

Anyone can tell by them that their samples are the published ones. Digests are taken over rounded numbers, because other
processors round the last digit of ray casting otherwise; the ``checksum`` of a whole set is exact.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from partrm.evaluation.mesh_samples import EvalSamples, EvalSet, EvalSetError, SceneArrays
from partrm.files import staged_file
from partrm.objects.materials import MaterialTable
from partrm.synthesis.scenarios import JointTables

FORMAT = "partrm.eval_set/1"

DIGESTS = "procedural.sha256"
STEP = 1e-4
"""Lengths, angles and colours are rounded to this."""

POINT_STEP = 1e-3
"""Drag points, which come from ray casting, are rounded to this."""


def save_eval_set(evalset: EvalSet, path: Path) -> None:
    """Write a set as one safetensors file, its names in the metadata; the file appears when it is complete."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"format": FORMAT, "record": json.dumps(evalset.record())}
    with staged_file(path) as part:
        save_file({name: value.contiguous().clone() for name, value in evalset.tensors().items()}, part, metadata)


def load_eval_set(path: Path) -> EvalSet:
    """Read a set that :func:`save_eval_set` wrote.

    Raises:
        EvalSetError: not such a file, or one of another version.
    """
    from safetensors import SafetensorError, safe_open

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
        return EvalSet(
            **record,
            scene=read(SceneArrays, "scene."),
            tables=read(JointTables, "tables."),
            materials=read(MaterialTable, "materials."),
            plan=read(EvalSamples, "plan."),
        )
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        raise EvalSetError(f"{path}: an array is missing ({error}); pack the set again") from error


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
