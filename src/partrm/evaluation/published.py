"""The procedural validation set as published: a digest of each sample, so that anyone can tell theirs is the same.

Digests are taken over rounded numbers, because other processors round the last digit of ray casting otherwise; the
``checksum`` of a whole set is exact.
"""

import hashlib
from collections.abc import Sequence
from importlib import resources

import torch
from torch import Tensor

from partrm.evaluation.eval_set import EvalSet

FILE = "procedural.sha256"
SEED = 0

STEP = 1e-4
"""Lengths, angles and colours are rounded to this."""

POINT_STEP = 1e-3
"""Drag points, which come from ray casting, are rounded to this."""


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
    text = (resources.files("partrm.evaluation") / FILE).read_text(encoding="utf-8")
    return [(digest, name) for digest, name in (line.split() for line in text.splitlines())]


def digest_lines(evalset: EvalSet) -> list[str]:
    """The published file's lines for a set."""
    names = [evalset.object_names[int(index)] for index in evalset.plan.object]
    return [f"{digest}  {name}" for digest, name in zip(sample_digests(evalset), names, strict=True)]


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
