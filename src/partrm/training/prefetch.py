"""Streams of batches: made online from a pool of objects on the training device, or read from a folder of samples."""

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from partrm.errors import PartRMError
from partrm.synthesis.sampler import OnlineSamples, SampleConfig
from partrm.synthesis.samples import Samples, load_samples

BatchPlan = Callable[[int], tuple[SampleConfig, int, int] | None]
"""What step i needs, the samples of its batch, and how many steps from it on need the like; None past the end."""


class Prefetcher:
    """Makes the batches of coming steps on a CUDA stream of its own while others train; plain calls on the CPU.

    Several at once, because making samples is some thousand small kernels, however many samples they make.
    """

    def __init__(self, data: OnlineSamples, plan: BatchPlan, skip: int = 0) -> None:
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
            samples = interleave(self.data.draw(config, batch * count), count)
        for position in range(skip, count):
            rows = slice(position * batch, (position + 1) * batch)
            self._made.append((step - skip + position, samples[rows], before, position))


def interleave(samples: Samples, count: int) -> Samples:
    """The same samples in another order: in turn to each of ``count`` batches, which follow one another.

    Those that show no motion come last in what was drawn, and would all be the last batch's.
    """
    if count == 1:
        return samples
    order = torch.arange(len(samples.valid), device=samples.valid.device)
    return samples[rearrange(order, "(batch count) -> (count batch)", count=count)]


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
        raise PartRMError(f"{folder}: holds no *.samples.safetensors files")
    for path in paths:
        yield load_samples(path).to(device)
