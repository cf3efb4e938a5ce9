"""Rate of many predictions against a loop over ``predict`` in the same run, prediction.json and PLY files written.

    python benchmarks/batch.py --jobs 256 --loop-jobs 16 --device cuda --batch 16 --workers 4
    python benchmarks/batch.py --jobs 16 --device cpu --batch 2 --workers 2
    python benchmarks/batch.py --only-workers --jobs 5000 --batch 16 --workers 12 --gpus 2 --outputs json

``batch`` is ``PartRM.each_of`` in this process, a first pass warms it and the loop up and does not count. ``workers``
is ``partrm predict --jobs`` with so many processes (on CUDA so many share each card), on its rate between the first and
the last passes that ended, and with the start of the processes; at each fifth of the jobs it says how much memory these
hold. All jobs drag the packaged microwave, each a little
further. Each figure is printed as soon as it is known, as a line of JSON; ``parts`` are seconds a job of one job after
the other (loop), and of each thread's own time (batch), which overlap.
"""

import argparse
import json
import os
import platform
import resource
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import torch

from partrm import api
from partrm.api import PartRM
from partrm.datasets.executors import Workers
from partrm.inference import batch as batching
from partrm.inference.batch import Answer, Job
from partrm.inference.prediction import OUTPUTS, Prediction, save_prediction
from partrm.jobs.jobs_file import JobLine
from partrm.jobs.running import BatchSettings, run_jobs

PICTURE = Path(str(resources.files("partrm"))) / "example_images" / "microwave.png"


def main() -> None:
    args = arguments()
    jobs = jobs_of(args)
    loop_rate = None if args.only_workers else in_this_process(jobs, args)
    if args.workers:
        cuda = torch.cuda.is_available() and args.device != "cpu"
        workers = Workers(gpus=args.gpus, per_gpu=args.workers) if cuda else Workers(count=args.workers)
        settings = BatchSettings(outputs=tuple(args.outputs), batch=args.batch, precision=args.precision)
        rate, rate_with_start, peak = by_workers(jobs, settings, workers, args.folder)
        ratio = None if rate is None or loop_rate is None else rate / loop_rate
        say(workers_per_s=rate, workers_per_s_with_start=rate_with_start, workers_ratio=ratio)
        say(peak_mib_of_a_worker=peak)


def jobs_of(args: argparse.Namespace) -> list[Job]:
    """The microwave, dragged a little further in each."""
    drags = [[(164, 170, 112 + 8 * n / args.jobs, 203)] for n in range(args.jobs)]
    options = {"ensemble": not args.no_ensemble, "detail_px": args.detail}
    return [Job(PICTURE, drag, f"{n:05d}", **options) for n, drag in enumerate(drags)]


def in_this_process(jobs: list[Job], args: argparse.Namespace) -> float:
    """Loop and batch, said; jobs a second of the loop."""
    began = time.perf_counter()
    model = PartRM.from_pretrained("base", args.device)
    quick = PartRM.from_pretrained("base", args.device, precision=args.precision)
    cuda = model.device.type == "cuda"
    device = torch.cuda.get_device_name() if cuda else f"{platform.machine()}, {torch.get_num_threads()} threads"
    say(device=device, load=os.getloadavg()[0], settings=vars(args), start_s=time.perf_counter() - began)
    parts = Parts()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:

        def write(job: Job, prediction: Answer) -> None:
            assert isinstance(prediction, Prediction)
            with parts.timed("write"):
                save_prediction(prediction, Path(folder) / job.name, outputs=("json", "ply"))

        def loop(some: list[Job]) -> None:
            for job in some:
                write(job, model.predict(job.image, job.drags, ensemble=job.ensemble, detail_px=job.detail_px))

        def batched(some: list[Job]) -> None:
            for job, error in quick.each_of(some, write, args.batch, args.threads):
                if error is not None:
                    raise SystemExit(f"{job.name}: {error}")

        with parts.watched():
            warm = time.perf_counter()
            loop(jobs[:1])
            say(first_predict_s=time.perf_counter() - warm)
            loop_rate = measured("loop", loop, jobs[: args.loop_jobs or args.jobs], parts)
            batched(jobs[: args.batch])
            batch_rate = measured("batch", batched, jobs, parts)
        size = sum(file.stat().st_size for file in (Path(folder) / jobs[0].name).iterdir())
    say(ratio=batch_rate / loop_rate, mib_a_job=size / 2**20)
    say(
        peak_host_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        peak_gpu_mib=torch.cuda.max_memory_allocated() / 2**20 if cuda else None,
    )
    return loop_rate


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=16)
    parser.add_argument("--loop-jobs", type=int, help="of them, that the loop is timed on (all)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--workers", type=int, help="processes, a third way; on CUDA of each card")
    parser.add_argument("--gpus", type=int, default=1, help="cards of these processes")
    parser.add_argument("--only-workers", action="store_true", help="no loop and no batch in this process")
    parser.add_argument("--outputs", nargs="+", choices=OUTPUTS, default=["json", "ply"], help="that processes write")
    parser.add_argument("--folder", help="where results are written for a while, by default the system's")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of batch and workers")
    parser.add_argument("--no-ensemble", action="store_true")
    parser.add_argument("--detail", type=int)
    return parser.parse_args()


def say(**values: Any) -> None:
    """A line of JSON, at once."""
    rounded = {name: round(value, 4) if isinstance(value, float) else value for name, value in values.items()}
    print(json.dumps(rounded), flush=True)


class Parts:
    """Seconds of the parts of predictions, added up over threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[name] += time.perf_counter() - started

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Times opening, asking the network, reading its answers and bringing them to the CPU, while this lasts."""
        places = [(PartRM, "_dragged", "open"), (Prediction, "on_cpu", "to_cpu")]
        for module in (api, batching):
            places += [(module, "ask_network", "network"), (module, "finish", "read")]
        places.append((batching, "finish_all", "read"))
        before = [(place, name, getattr(place, name)) for place, name, _ in places]
        try:
            for place, name, part in places:
                setattr(place, name, self._wrapped(getattr(place, name), part))
            yield
        finally:
            for place, name, function in before:
                setattr(place, name, function)

    def _wrapped(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def timed(*arguments: Any, **keywords: Any) -> Any:
            with self.timed(part):
                return function(*arguments, **keywords)

        return timed


def measured(name: str, way: Callable[[list[Job]], None], jobs: list[Job], parts: Parts) -> float:
    """Jobs a second of one way, said."""
    parts.seconds.clear()
    started, worked = time.perf_counter(), time.process_time()
    way(jobs)
    rate, cpu_s = len(jobs) / (time.perf_counter() - started), (time.process_time() - worked) / len(jobs)
    told = {part: round(seconds / len(jobs), 4) for part, seconds in parts.seconds.items()}
    say(**{f"{name}_per_s": rate, "jobs": len(jobs), "parts": told, "cpu_s_a_job": cpu_s, "load": os.getloadavg()[0]})
    return rate


def memory_mib(process: int | None, row: str) -> float:
    """Memory that a process holds (``VmRSS``) or has held at most (``VmHWM``), as Linux knows it."""
    (line,) = [text for text in Path(f"/proc/{process}/status").read_text().splitlines() if text.startswith(row)]
    return int(line.split()[1]) / 1024


def by_workers(
    jobs: Sequence[Job], settings: BatchSettings, workers: Workers, place: str | None
) -> tuple[float | None, float, float]:
    """Jobs a second of processes, once all have ended a task (None: too few tasks), and from the start; the most memory
    of one, MiB."""
    lines = [
        JobLine(n, job.name, str(job.image), tuple(job.drags), ensemble=job.ensemble, detail=job.detail_px)
        for n, job in enumerate(jobs, 1)
    ]
    ended: list[tuple[int, float]] = []
    peaks: list[float] = []

    def report(done: int) -> None:
        before = ended[-1][0] if ended else 0
        ended.append((done, time.perf_counter()))
        workers_now = [child.pid for child in active_children()]
        peaks.extend(memory_mib(pid, "VmHWM") for pid in workers_now)
        if 5 * done // len(jobs) > 5 * before // len(jobs) and workers_now:
            held = [memory_mib(pid, "VmRSS") for pid in workers_now]
            say(done=done, workers=len(held), held_mib=sum(held), largest_mib=max(held))

    with tempfile.TemporaryDirectory(dir=place) as folder:
        failures = run_jobs(lines, Path(folder), settings, workers, report)
    if failures:
        raise SystemExit(failures[0].error)
    (_, began), (last, finished) = ended[0], ended[-1]
    # So many tasks have ended when all workers have started, or nearly; few tasks more tell no rate.
    count = workers.count or workers.gpus * workers.per_gpu
    first, all_started = ended[min(count, len(ended) - 1)]
    rate = (last - first) / (finished - all_started) if len(ended) > 3 * count else None
    return rate, last / (finished - began), max(peaks)


if __name__ == "__main__":
    main()
