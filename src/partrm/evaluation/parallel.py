"""An evaluation spread over processes: workers of this machine's CPU, or the ranks of ``torchrun`` with a GPU each.

Either way every process opens the set and the model for itself and scores whole batches, those that one process alone
would score, so that the metrics are the same; rows arrive in the set's order.
"""

import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from multiprocessing import active_children
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import torch

from partrm.datasets.executors import (
    ONE_DIED,
    end_new_children,
    end_with_parent,
    given_out,
    require_room,
    told_by_threads,
    worker_context,
)
from partrm.errors import PartRMError, told_shortage
from partrm.evaluation.results import Row
from partrm.evaluation.runner import AnyRow, Scorer, add_rows, batches, check_complete, sample_count
from partrm.evaluation.samples import EvaluationSet, RunSettings
from partrm.metrics.lpips import Lpips
from partrm.model.checkpoints import LoadedModel, load_model


class WorkerError(PartRMError):
    """A process of the evaluation failed; the message says why."""


MadeRow = TypeVar("MadeRow", bound=Row, covariant=True)


@runtime_checkable
class RowMaker(Protocol[MadeRow]):
    """A model and a set, opened on one device."""

    def rows(self, numbers: Sequence[int]) -> Sequence[MadeRow]:
        """The rows of some samples."""
        ...


@runtime_checkable
class AnyJob(Protocol[MadeRow]):
    """What every process of an evaluation needs to know, whatever it measures."""

    @property
    def evalset(self) -> EvaluationSet: ...
    @property
    def model(self) -> str: ...
    @property
    def settings(self) -> RunSettings: ...
    def scorer(self, model: LoadedModel) -> RowMaker[MadeRow]: ...


@dataclass(frozen=True)
class Job:
    """The images, parts and joints of a set, scored."""

    evalset: EvaluationSet
    model: str
    settings: RunSettings
    lpips: Lpips | None

    def scorer(self, model: LoadedModel) -> Scorer:
        """Open everything on the device of the model's weights."""
        return Scorer.of(self.evalset, model, self.settings, self.lpips)


def evaluate_on_workers(
    job: AnyJob[AnyRow], workers: int, keep: Callable[[AnyRow], None], earlier: Sequence[AnyRow] = (), threads: int = 1
) -> list[AnyRow]:
    """All rows, made by processes on the CPU; a batch is handed out when a worker is free.

    Args:
        keep: called with each row, in order, as soon as it and all before it are known.
        earlier: the first rows, known from a run that was cut off.
        threads: of each worker.

    Raises:
        WorkerError: a worker failed, or died (out of memory?).
        ExecutorError: there is no room for so many processes.
    """
    count, rows, before = sample_count(job.evalset, job.settings), list(earlier), set(active_children())
    todo = batches(count, len(rows), torch.device("cpu"))
    require_room(min(workers, len(todo)))
    pool = ProcessPoolExecutor(workers, worker_context(__name__), initializer=_start_worker, initargs=(job, threads))
    try:
        with told_by_threads():
            for more in given_out(pool, _score, todo):
                add_rows(rows, more, keep)
    except BrokenProcessPool as error:
        end_new_children(before)
        raise WorkerError(told_shortage(error) or ONE_DIED) from error
    finally:
        pool.shutdown(cancel_futures=True)
    check_complete(rows, count)
    return rows


_JOBS: list[AnyJob] = []
"""The one job of a worker process."""


def _start_worker(job: AnyJob, threads: int) -> None:
    end_with_parent()
    torch.set_num_threads(threads)
    _JOBS.append(job)


@cache
def _scorer() -> RowMaker:
    (job,) = _JOBS
    return job.scorer(load_model(job.model, "cpu", job.settings.precision))


def _score(numbers: Sequence[int]) -> Sequence[Any]:
    """Rows of a batch, scored in a worker."""
    try:
        return _scorer().rows(numbers)
    except Exception as error:
        message = told_shortage(error) or "".join(traceback.format_exception_only(error)).strip()
        raise WorkerError(f"a worker failed: {message}") from error


@dataclass(frozen=True)
class Ranks:
    """This process among those that ``torchrun`` or ``accelerate launch`` started."""

    index: int
    count: int
    device: torch.device
    """This rank's own."""

    @property
    def main(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.index == 0

    @staticmethod
    def of(device: Literal["auto", "cpu", "cuda"]) -> "Ranks":
        """The group that this process belongs to; a group of one for a plain start.

        Raises:
            PartRMError: started as one of several without accelerate.
        """
        if not torch.distributed.is_torchelastic_launched():
            kind = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
            return Ranks(0, 1, torch.device(kind))
        try:
            from accelerate import PartialState
        except ImportError as error:
            raise PartRMError("an evaluation by several ranks needs accelerate: pip install 'partrm[train]'") from error
        state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available())
        return Ranks(state.process_index, state.num_processes, torch.device(state.device or "cpu"))

    def first(self, value: Any) -> Any:
        """The value that the main process has."""
        if self.count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def gathered(self, value: list) -> list:
        """The items of every rank's list, rank by rank."""
        if self.count == 1:
            return value
        from accelerate.utils import gather_object

        return gather_object(value)


def evaluate_on_ranks(
    job: AnyJob[AnyRow],
    model: LoadedModel,
    ranks: Ranks,
    keep: Callable[[AnyRow], None],
    earlier: Sequence[AnyRow] = (),
) -> list[AnyRow]:
    """All rows on every rank; in each round every rank scores one batch, then all rows are gathered.

    Args:
        model: the job's, on this rank's device.
        keep: called with each row, in order.
        earlier: the first rows, the same on all ranks.
    """
    scorer = job.scorer(model)
    count, rows = sample_count(job.evalset, job.settings), list(earlier)
    todo = batches(count, len(rows), ranks.device)
    for first in range(0, len(todo), ranks.count):
        mine = todo[first + ranks.index : first + ranks.index + 1]
        more = [row for numbers in mine for row in scorer.rows(numbers)]
        add_rows(rows, ranks.gathered(more), keep)
    check_complete(rows, count)
    return rows
