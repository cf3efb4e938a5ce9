"""Batches of coming steps, made online from a pool of objects on the training device."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange

from partrm.synthesis.sampler import OnlineSamples, SampleConfig
from partrm.synthesis.samples import Samples


@dataclass(frozen=True)
class ChunkPlan:
    """Batches of successive steps that are made at once, because they need samples of one kind."""

    config: SampleConfig
    batch: int
    """Samples of each batch."""
    count: int
    """Number of batches."""


@dataclass(frozen=True)
class Chunk:
    """Batches that were made at once."""

    first_step: int
    batches: tuple[Samples, ...]
    """One a step, from ``first_step`` on."""
    data_before: dict[str, Any]
    """State of the data from which the same batches are made again."""

    @property
    def end(self) -> int:
        """The step after the last."""
        return self.first_step + len(self.batches)


class Waiting:
    """Seconds that training waits for its batches, by the clock of the device that trains."""

    def __init__(self, cuda: bool) -> None:
        self._cuda, self._seconds = cuda, 0.0
        self._spans: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def timed(self) -> Iterator[None]:
        """The block gets a batch. On CUDA what counts is that the current stream is idle, not that Python is busy."""
        if not self._cuda:
            began = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - began
            return
        before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        before.record()
        yield
        after.record()
        self._spans.append((before, after))

    def taken(self) -> float:
        """Seconds since it was last asked; waits for the device."""
        for before, after in self._spans:
            after.synchronize()
            self._seconds += before.elapsed_time(after) / 1000
        seconds, self._seconds, self._spans = self._seconds, 0.0, []
        return seconds


class Prefetcher:
    """Makes the batches of coming steps on a CUDA stream of its own while others train; plain calls on the CPU.

    Several at once, a chunk, because making samples is some thousand small kernels, however many samples they make.
    """

    def __init__(self, data: OnlineSamples, plan: Callable[[int], ChunkPlan | None], first_step: int = 0) -> None:
        """
        Args:
            data: draws the samples, in the state in which the chunk of ``first_step`` was made or is to be made.
            plan: what is made at once from a step on, None past the end; may draw from ``data.choices``.
            first_step: first step of that chunk.
        """
        self.data = data
        self.plan = plan
        device = data.pool.scene.device
        # Its small kernels go before the large ones of the step, which would hold each of them up.
        self.stream = torch.cuda.Stream(device, priority=-1) if device.type == "cuda" else None
        self._next_step = first_step
        self._chunk: Chunk | None = None
        self._waiting = Waiting(self.stream is not None)

    def next(self, step: int) -> Samples:
        """The batch of a step, safe to use on the current stream; after a chunk's last the next chunk is begun.

        Steps follow one another; the first may lie anywhere in the first chunk.
        """
        with self._waiting.timed():
            return self._taken(step)

    def waited_s(self) -> float:
        """Seconds that training has waited in :meth:`next` since this was last asked."""
        return self._waiting.taken()

    def _taken(self, step: int) -> Samples:
        if self._chunk is None:
            self._chunk = self._made()
        chunk = self._chunk
        if chunk is None or not chunk.first_step <= step < chunk.end:
            raise IndexError(f"no batch is planned for step {step}")
        batch = chunk.batches[step - chunk.first_step]
        if self.stream is not None:
            current = torch.cuda.current_stream()
            current.wait_stream(self.stream)
            for tensor in batch.leaves().values():
                tensor.record_stream(current)  # tells the allocator that they are used here too
        if step + 1 == chunk.end:
            self._chunk = self._made()
        return batch

    def state(self) -> dict[str, Any]:
        """What the data and ``first_step`` must be to go on: those before the chunk of the next step was made."""
        if self._chunk is None:
            return {"data": self.data.state(), "first_step": self._next_step}
        return {"data": self._chunk.data_before, "first_step": self._chunk.first_step}

    def _made(self) -> Chunk | None:
        """The chunk that follows; None past the end."""
        first, before = self._next_step, self.data.state()
        plan = self.plan(first)
        if plan is None:
            return None
        with torch.cuda.stream(self.stream):  # does nothing where it is None
            samples = interleave(self.data.draw(plan.config, plan.batch * plan.count), plan.count)
        batches = (samples[i * plan.batch : (i + 1) * plan.batch] for i in range(plan.count))
        self._next_step = first + plan.count
        return Chunk(first, tuple(batches), before)


def interleave(samples: Samples, count: int) -> Samples:
    """The same samples in another order: in turn to each of ``count`` batches, which follow one another.

    Those that show no motion come last in what was drawn, and would all be the last batch's.
    """
    if count == 1:
        return samples
    order = torch.arange(len(samples.valid), device=samples.valid.device)
    return samples[rearrange(order, "(batch count) -> (count batch)", count=count)]
