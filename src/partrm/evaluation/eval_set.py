"""An evaluation set: objects, materials and planned samples as plain arrays, in one file, with a checksum."""

import hashlib
import json
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from partrm.errors import PartRMError
from partrm.files import staged_file
from partrm.objects.materials import MaterialTable
from partrm.rendering.meshes import MeshScene, Textures
from partrm.synthesis.scenarios import JointTables, Scenario

FORMAT = "partrm.eval_set/1"


class EvalSetError(PartRMError):
    """A set that cannot be read or made; the message says why."""


@dataclass(frozen=True)
class SceneArrays:
    """What a :class:`MeshScene` is built from."""

    vertices: Float[Tensor, "v 3"]
    """Object frames at rest."""
    faces: Int[Tensor, "f 3"]
    face_part: Int[Tensor, " f"]
    """Global part of each face."""
    face_material: Int[Tensor, " f"]
    part_offset: Int[Tensor, " offsets"]
    """First global part of each object, then the number of all parts."""
    texels: UInt8[Tensor, "texels 3"]
    texture_offset: Int[Tensor, " textures"]
    texture_height: Int[Tensor, " textures"]
    texture_width: Int[Tensor, " textures"]
    corner_uv: Float[Tensor, "f 3 2"] | None = None

    @staticmethod
    def of(scene: MeshScene) -> "SceneArrays":
        """The arrays of a built scene."""
        t = scene.textures
        return SceneArrays(
            scene.vertices, scene.faces, scene.face_part, scene.face_material, scene.part_offset,
            t.texels, t.offset, t.height, t.width, scene.corner_uv,
        )  # fmt: skip

    def scene(self, device: torch.device | str = "cpu") -> MeshScene:
        """Build the ray-casting scene on a device."""
        textures = Textures(self.texels, self.texture_offset, self.texture_height, self.texture_width)
        return MeshScene.from_arrays(
            self.vertices, self.faces, self.face_part, self.face_material, self.part_offset,
            self.corner_uv, textures, device,
        )  # fmt: skip


@dataclass(frozen=True)
class EvalSamples:
    """The samples of a set: states, first camera (canonical framing: scale 1, no offset) and drag points."""

    object: Int[Tensor, " n"]
    part: Int[Tensor, " n"]
    """Slot of the dragged part."""
    q_source: Float[Tensor, "n parts"]
    q_target: Float[Tensor, "n parts"]
    azimuth_rad: Float[Tensor, " n"]
    """Where the first camera stands, object frame: 0 before the front, positive towards +y."""
    elevation_rad: Float[Tensor, " n"]
    drag_point: Float[Tensor, "n drags 3"]
    """Points of the moving part that the first camera sees, object frame, source state; the first is the one used
    where a sample has one drag."""

    def __len__(self) -> int:
        return len(self.object)

    def __getitem__(self, index) -> "EvalSamples":
        return EvalSamples(*(getattr(self, f.name)[index] for f in fields(self)))

    @property
    def scenario(self) -> Scenario:
        return Scenario(self.object, self.part, self.q_source, self.q_target)

    def to(self, device: torch.device | str) -> "EvalSamples":
        return EvalSamples(*(getattr(self, f.name).to(device) for f in fields(self)))


@dataclass(frozen=True)
class EvalSet:
    """Everything that an evaluation needs but the model, on the CPU."""

    name: str
    """``procedural`` or ``real``."""
    seed: int
    object_names: tuple[str, ...]
    categories: tuple[str, ...]
    """One an object."""
    transitions: tuple[str, ...]
    """What each sample does, one a sample."""
    dropped: tuple[str, ...]
    """Candidate samples left out, with the reason; never silent."""
    scene: SceneArrays
    tables: JointTables
    materials: MaterialTable
    """[objects, slots]."""
    plan: EvalSamples

    def __post_init__(self) -> None:
        assert len(self.transitions) == len(self.plan)
        assert len(self.object_names) == len(self.categories) == len(self.scene.part_offset) - 1

    def __len__(self) -> int:
        return len(self.plan)

    @property
    def protocol(self) -> str:
        """How samples are posed and scored: everything is ray-cast here, nothing is read from pictures."""
        return "rendered"

    @property
    def checksum(self) -> str:
        """First 16 hex digits of the SHA-256 over all arrays and names."""
        tensors, record = _flat(self)
        digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
        for name in sorted(tensors):
            value = tensors[name]
            digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
            digest.update(value.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def save_eval_set(evalset: EvalSet, path: Path) -> None:
    """Write a set as one safetensors file, its names in the metadata; the file appears when it is complete."""
    from safetensors.torch import save_file

    tensors, record = _flat(evalset)
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"format": FORMAT, "record": json.dumps(record)}
    with staged_file(path) as part:
        save_file({name: value.contiguous().clone() for name, value in tensors.items()}, part, metadata)


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
    written: dict[str, Any] = json.loads(metadata["record"])
    record: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in written.items()}

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
    except TypeError as error:
        raise EvalSetError(f"{path}: an array is missing ({error}); pack the set again") from error


def _flat(evalset: EvalSet) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors under dotted names, and what remains as JSON values."""
    tensors, record = {}, {}
    for field in fields(evalset):
        value = getattr(evalset, field.name)
        if is_dataclass(value):
            columns = {f"{field.name}.{f.name}": getattr(value, f.name) for f in fields(value)}
            tensors |= {name: column for name, column in columns.items() if column is not None}
        else:
            record[field.name] = list(value) if isinstance(value, tuple) else value
    return tensors, record
