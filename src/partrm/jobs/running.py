"""Jobs done by workers, each into a folder of its own; what is done stays done, whatever is killed."""

import hashlib
import json
import logging
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

from partrm import __version__
from partrm.api import PartRM
from partrm.assets.export import DEFAULT_FORMATS, require_packages
from partrm.datasets.executors import (
    ExecutorError,
    GiveUp,
    Work,
    Workers,
    on_ray,
    ray_tasks_at_once,
    require_workers,
    run_tasks,
)
from partrm.files import OutputError, atomic_write, read_json, staged_folder
from partrm.inference.batch import Answer, Job
from partrm.inference.part_search import RECORD as PARTS
from partrm.inference.prediction import OUTPUTS, Output, Prediction, save_prediction
from partrm.jobs.found_parts import ASSET_SETTINGS, save_found
from partrm.jobs.jobs_file import JobLine, JobsError
from partrm.model.devices import Precision

RECORD, FAILURES = "batch.json", "failures.jsonl"

PASSES_A_TASK = 16
"""Passes of the network that a worker with a GPU is given together, at most: opening and writing go on beside them."""

TASKS_A_WORKER = 4
"""Where there are passes enough, so that all workers end at about the same time."""

RAY_RETRIES = 3
"""Times that Ray begins a task anew whose actor or node died."""

RAY_PATIENCE = "RAY_DATA_AUTOSCALING_COORDINATOR_MAX_CONSECUTIVE_FAILURES", "120"
"""How often Ray Data asks, 5 s each, for the process that it shares out cores by, before it ends a batch: its own 10
are less than that process needs to start on a busy machine."""


@dataclass(frozen=True)
class BatchSettings:
    """What the files of a batch depend on."""

    model: str = "base"
    outputs: tuple[Output, ...] = OUTPUTS
    batch: int = 8
    """Jobs that share a pass of the network."""
    asset: bool = True
    """Of jobs that find parts: one asset of them all."""
    precision: Precision = "float32"
    """Of the network's numbers."""


@dataclass(frozen=True)
class Failure:
    """A job without a result."""

    name: str
    line: int
    error: str


Ended = tuple[int, list[Failure]]
"""How many jobs of a task have ended, and which failed."""


def run_jobs(
    jobs: Sequence[JobLine],
    out: Path,
    settings: BatchSettings,
    workers: Workers,
    report: Callable[[int], None] = lambda done: None,
) -> list[Failure]:
    """Do all jobs that have no folder in ``out`` yet, and write ``failures.jsonl`` there.

    The same jobs share a pass of the network however often the work was cut off, so the bytes are the same. Jobs that
    failed are tried again.

    Args:
        jobs: of one file.
        out: a folder a job, named as the job; appears once it is whole.
        settings: the same each time.
        workers: who works.
        report: called with the number of jobs that have ended, failed ones too.

    Returns:
        the failures, in the order of the jobs.

    Raises:
        JobsError: ``out`` holds another batch.
        PackageMissingError: assets are asked for, and a package of the extra ``export`` is missing.
        OutputError: ``out`` cannot be written.
        ExecutorError: workers that cannot be had.
    """
    require_workers(workers)
    if settings.asset and any(job.parts for job in jobs):
        require_packages(ASSET_SETTINGS, DEFAULT_FORMATS)
    if workers.executor == "ray":
        _require_ray_data()
    _claim(out, jobs, settings, workers)
    passes = [list(jobs[first : first + settings.batch]) for first in range(0, len(jobs), settings.batch)]
    waiting = [own for own in passes if not all(is_done(out, job) for job in own)]
    ended = len(jobs) - sum(len(own) for own in waiting)
    report(ended)
    wanted = TASKS_A_WORKER * max(1, workers.gpus * workers.per_gpu)
    size = max(1, min(PASSES_A_TASK, len(waiting) // wanted)) if workers.gpus else 1
    tasks = [list(chain(*waiting[first : first + size])) for first in range(0, len(waiting), size)]
    work, failures = partial(do_jobs, out.absolute(), settings), list[Failure]()

    def give_up(task: Sequence[JobLine], reason: str) -> Ended:
        return len(task), [Failure(job.name, job.line, reason) for job in task if not is_done(out, job)]

    run = _by_ray_data if workers.executor == "ray" else run_tasks
    for count, failed in run(work, tasks, workers, give_up):
        ended += count
        failures += failed
        report(ended)
    failures.sort(key=lambda failure: failure.line)
    atomic_write(out / FAILURES, "".join(json.dumps(asdict(failure)) + "\n" for failure in failures))
    return failures


def is_done(out: Path, job: JobLine) -> bool:
    """Whether a job's folder stands under its final name."""
    return (out / job.name / (PARTS if job.parts else "prediction.json")).exists()


def do_jobs(out: Path, settings: BatchSettings, task: Sequence[JobLine], device: str) -> Ended:
    """Predict whole passes and write what is missing of them: how many jobs, and which failed."""

    def write(job: Job, answer: Answer) -> None:
        if is_done(out, lines[job.name]):
            return
        with staged_folder(out) as staging:
            if isinstance(answer, Prediction):
                save_prediction(answer, staging / job.name, outputs=settings.outputs, timings=False)
            else:
                save_found(answer, staging / job.name, settings.outputs, settings.asset)

    lines = {line.name: line for line in task}
    threads = 1 if device == "cpu" else None
    model, failures = _loaded(settings.model, device, settings.precision), list[Failure]()
    with closing(model.each_of((line.job() for line in task), write, settings.batch, threads)) as results:
        for job, error in results:
            if isinstance(error, OutputError):
                raise error
            if error is not None:
                failures.append(Failure(job.name, lines[job.name].line, str(error)))
    return len(task), failures


@lru_cache(1)
def _loaded(model: str, device: str, precision: Precision) -> PartRM:
    return PartRM.from_pretrained(model, device, precision=precision)


class RayWorker:
    """What each actor of Ray Data does with the tasks that it is given."""

    def __init__(self, work: Work[Ended], device: str) -> None:
        import torch

        torch.set_num_threads(1)
        self.work, self.device = work, device

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        """Numbered tasks in, what they came to out, pickled both; an error too, which Ray Data would wrap."""
        (number,), (task,) = rows["number"], rows["task"]
        try:
            done = pickle.dumps(self.work(pickle.loads(task), self.device))
        except Exception as error:
            return {"number": [number], "done": [pickle.dumps(error)]}
        return {"number": [number], "done": [done]}


def _require_ray_data() -> None:
    """Ray alone does without what Ray Data needs.

    Raises:
        ExecutorError: one of its packages is missing.
    """
    try:
        import pandas  # noqa: F401
        import pyarrow  # noqa: F401
    except ModuleNotFoundError as error:
        raise ExecutorError(f"--executor ray needs the package {error.name}: pip install 'partrm[ray]'") from error


def _by_ray_data(work: Work[Ended], tasks: Sequence[Any], workers: Workers, give_up: GiveUp[Ended]) -> Iterator[Ended]:
    """Ray Data hands the tasks to actors and starts those anew that die; after so many deaths a task is given up."""
    if not tasks:
        return
    lost = dict(enumerate(tasks))
    with on_ray(workers) as ray:
        os.environ.setdefault(*RAY_PATIENCE)  # it is read at the import
        from ray import data

        at_once = ray_tasks_at_once(workers, ray.cluster_resources())
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = data.DataContext.get_current()
        context.enable_progress_bars, context.max_errored_blocks = False, -1
        rows = data.from_items(
            [{"number": number, "task": pickle.dumps(task)} for number, task in lost.items()],
            override_num_blocks=len(tasks),
        )
        done = rows.map_batches(
            RayWorker,
            fn_constructor_args=(work, "cuda:0" if workers.gpus else "cpu"),
            batch_size=1,
            compute=data.ActorPoolStrategy(size=min(at_once, len(tasks)), max_tasks_in_flight_per_actor=1),
            num_cpus=None if workers.gpus else 1,
            num_gpus=1 / workers.per_gpu if workers.gpus else None,
            max_task_retries=RAY_RETRIES,
        )
        for row in done.iter_rows():
            del lost[row["number"]]
            result = pickle.loads(row["done"])
            if isinstance(result, Exception):
                raise result
            yield result
    for task in lost.values():
        yield give_up(task, f"{RAY_RETRIES + 1} workers died of it (out of memory, or a crash in a library)")


def _claim(out: Path, jobs: Sequence[JobLine], settings: BatchSettings, workers: Workers) -> None:
    """Let ``out`` be this batch's alone, and remove what killed processes left.

    Raises:
        JobsError: it is another's.
    """
    text = json.dumps([asdict(job) for job in jobs])
    told = asdict(replace(settings, outputs=tuple(sorted(settings.outputs)))) | {"device": workers.device}
    told |= {"partrm_version": __version__, "jobs": hashlib.sha256(text.encode()).hexdigest()}
    told = json.loads(json.dumps(told))
    try:
        there = read_json(out / RECORD) if (out / RECORD).exists() else None
    except (OSError, ValueError) as error:
        raise JobsError(f"{out / RECORD}: cannot be read; give another folder") from error
    if there is not None and there != told:
        other = next((key for key in told if not isinstance(there, dict) or there.get(key) != told[key]), RECORD)
        raise JobsError(f"{out}: holds another batch ({other} differs); give another folder")
    if there is None and out.is_dir() and any(not entry.name.startswith(".partrm.") for entry in out.iterdir()):
        raise JobsError(f"{out}: is not empty and holds no batch; give another folder")
    with staged_folder(out, record=RECORD) as staging:
        atomic_write(staging / RECORD, json.dumps(told, indent=1) + "\n")
