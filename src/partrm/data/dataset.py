"""Streams of batches: made online from a pool of objects on the training device, or read from a folder of samples."""

import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
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

    def __init__(self, pool: ObjectPool, sample_materials: MaterialSampler, seed: int, oversampling: float = 1.8):
        """``oversampling``: candidates per sample kept, since 35 first views in a hundred hide the moving part."""
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
        roles = self.pool.roles[objects]
        materials = self.sample_materials(roles, self.generator)
        if config.augment:
            from partrm.articulation.procedural.home_materials import some_home_materials

            materials = some_home_materials(materials, roles, config.home_share, self.generator)
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


Plan = Callable[[int], tuple[SampleConfig, int, int] | None]
"""What step i needs, the samples of its batch, and how many steps from it on need the like; None past the end."""


class Prefetcher:
    """Makes the batches of coming steps on a CUDA stream of its own while others train; plain calls on the CPU.

    Several at once, because making samples is some thousand small kernels, however many samples they make.
    """

    def __init__(self, data: OnlineSamples, plan: Plan, skip: int = 0) -> None:
        """``plan`` may draw from ``data.choices``; ``skip``: see :meth:`state`, whose data have been restored."""
        self.data = data
        self.plan = plan
        device = data.pool.scene.device
        # Its small kernels go before the large ones of the step, which would hold each of them up.
        self.stream = torch.cuda.Stream(device, priority=-1) if device.type == "cuda" else None
        self._skip = skip
        self._made: deque[tuple[int, Samples, dict, int]] = deque()

    def next(self, step: int) -> Samples:
        """The batch of a step, safe to use on the current stream; those that follow are begun where none is left."""
        if not self._made or self._made[0][0] != step:
            self._made.clear()
            self._make(step)
        assert self._made, f"no batch is planned for step {step}"
        _, batch, _, _ = self._made.popleft()
        if self.stream is not None:
            current = torch.cuda.current_stream()
            current.wait_stream(self.stream)
            _record(batch, current)
        if not self._made:
            self._make(step + 1)
        return batch

    def state(self) -> dict:
        """The data's state before the next step's batch was made, with those made along with it, and how many of these
        are used up: ``skip``."""
        if not self._made:
            return self.data.state() | {"skip": self._skip}
        _, _, before, position = self._made[0]
        return before | {"skip": position}

    def _make(self, step: int) -> None:
        """The batch of a step and of those after it that need the like."""
        before = self.data.state()
        wanted = self.plan(step - self._skip)
        skip, self._skip = self._skip, 0
        if wanted is None:
            return
        config, batch, count = wanted
        with torch.cuda.stream(self.stream):  # does nothing where it is None
            samples = dealt(self.data.draw(config, batch * count), count)
        for position in range(skip, count):
            rows = slice(position * batch, (position + 1) * batch)
            self._made.append((step - skip + position, rows_of(samples, rows), before, position))


def dealt(samples: Samples, count: int) -> Samples:
    """The same samples in another order: in turn to each of ``count`` batches, which follow one another.

    Those that show no motion come last in what was drawn, and would all be the last batch's.
    """
    if count == 1:
        return samples
    order = torch.arange(len(samples.valid), device=samples.valid.device)
    return rows_of(samples, rearrange(order, "(batch count) -> (count batch)", count=count))


def rows_of(value: Any, rows: slice | Int[Tensor, " rows"]) -> Any:
    """Some rows of every tensor of a nested dataclass, as views where they are a slice; what is no tensor stays."""
    if isinstance(value, Tensor):
        return value[rows]
    if not is_dataclass(value) or isinstance(value, type):
        return value
    return replace(value, **{field.name: rows_of(getattr(value, field.name), rows) for field in fields(value)})


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
