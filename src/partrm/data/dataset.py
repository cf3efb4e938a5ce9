"""Streams of batches: made online from a pool of objects on the training device, or read from a folder of samples."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from partrm.articulation.kinematics import JointType
from partrm.articulation.materials import MaterialTable
from partrm.data.online import SampleConfig, make_samples
from partrm.data.pool import Pool
from partrm.data.samples import Samples, load_samples, to_device
from partrm.data.scenarios import JointTables
from partrm.rendering.meshes import MeshScene

MaterialSampler = Callable[[Int[Tensor, "b slots"], torch.Generator], MaterialTable]


@dataclass(frozen=True)
class ObjectPool:
    """Objects ready for ray casting on one device."""

    scene: MeshScene
    tables: JointTables
    roles: Int[Tensor, "objects slots"]
    """:class:`partrm.articulation.materials.Role` of every material slot."""

    @property
    def count(self) -> int:
        return len(self.roles)

    @staticmethod
    def from_pool(pool: Pool) -> "ObjectPool":
        """Build the ray-casting structure of a packed pool, on the pool's device."""
        scene = MeshScene.from_arrays(pool.vertices, pool.faces, pool.face_part, pool.face_material, pool.part_offset)
        # The square root evens out drawers and doors of very different size; small knobs stay rare.
        weight = pool.weights.sqrt() * (pool.joint_type != JointType.FIXED)
        tables = JointTables(
            pool.parent, pool.joint_type, pool.axis, pool.pivot, pool.lower, pool.upper, drag_weight=weight
        )
        return ObjectPool(scene, tables, pool.roles)


class OnlineSamples:
    """Draws batches of fresh samples from a pool: objects, materials, states, cameras, light and drags."""

    def __init__(self, pool: ObjectPool, sample_materials: MaterialSampler, seed: int, oversampling: float = 1.35):
        """``oversampling``: candidates per sample kept, since some views hide the moving part."""
        self.pool = pool
        self.sample_materials = sample_materials
        self.oversampling = oversampling
        self.generator = torch.Generator(pool.scene.device).manual_seed(seed)
        self.choices = random.Random(seed)

    def draw(self, config: SampleConfig, batch: int) -> Samples:
        """One batch, asynchronous on the current CUDA stream."""
        device = self.pool.scene.device
        candidates = int(batch * self.oversampling)
        objects = torch.randint(self.pool.count, (candidates,), generator=self.generator, device=device)
        materials = self.sample_materials(self.pool.roles[objects], self.generator)
        return make_samples(self.pool.scene, self.pool.tables, objects, materials, config, self.generator, batch)

    def state(self) -> dict:
        """What :meth:`restore` needs to go on with the very same draws."""
        version, numbers, gauss = self.choices.getstate()
        return {"generator": self.generator.get_state(), "choices": [version, list(numbers), gauss]}

    def restore(self, state: dict) -> None:
        """Continue where :meth:`state` was taken."""
        self.generator.set_state(state["generator"].cpu())
        version, numbers, gauss = state["choices"]
        self.choices.setstate((version, tuple(numbers), gauss))


class Prefetcher:
    """Makes the next step's batch on a CUDA stream of its own while the current one trains; plain calls on the CPU."""

    def __init__(self, data: OnlineSamples, plan: Callable[[int], tuple[SampleConfig, int] | None]) -> None:
        """``plan``: what step i needs, or None past the end; may draw from ``data.choices``."""
        self.data = data
        self.plan = plan
        device = data.pool.scene.device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._waiting: tuple[int, Samples, dict] | None = None

    def next(self, step: int) -> Samples:
        """The batch of a step, safe to use on the current stream; the following one is begun."""
        if self._waiting is None or self._waiting[0] != step:
            self._begin(step)
        assert self._waiting is not None, f"no batch is planned for step {step}"
        _, batch, _ = self._waiting
        if self.stream is not None:
            current = torch.cuda.current_stream()
            current.wait_stream(self.stream)
            _record(batch, current)
        self._begin(step + 1)
        return batch

    def state(self) -> dict:
        """State of the data from before the batch made ahead, so that a resumed run draws it again."""
        return self.data.state() if self._waiting is None else self._waiting[2]

    def _begin(self, step: int) -> None:
        before = self.data.state()
        wanted = self.plan(step)
        self._waiting = None
        if wanted is None:
            return
        if self.stream is None:
            self._waiting = (step, self.data.draw(*wanted), before)
            return
        with torch.cuda.stream(self.stream):
            self._waiting = (step, self.data.draw(*wanted), before)


def _record(value: object, stream: torch.cuda.Stream) -> None:
    """Tell the allocator that every tensor of a nested dataclass is used on ``stream``."""
    if isinstance(value, Tensor):
        value.record_stream(stream)
    for name in getattr(value, "__dataclass_fields__", {}):
        _record(getattr(value, name), stream)


def folder_batches(folder: Path, device: torch.device | str = "cpu") -> Iterator[Samples]:
    """The batches of a folder of sample files (``*.samples.safetensors``), in the order of their names.

    Raises:
        ValueError: no such files, or a broken one.
    """
    paths = sorted(folder.glob("*.samples.safetensors"))
    if not paths:
        raise ValueError(f"{folder}: holds no *.samples.safetensors files")
    for path in paths:
        yield to_device(load_samples(path), device)
