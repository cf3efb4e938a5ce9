"""Rate of many predictions against a loop over ``predict`` in the same run, prediction.json and PLY files written.

    python benchmarks/batch.py --jobs 64 --device cuda --batch 16
    python benchmarks/batch.py --jobs 16 --device cpu --batch 2 --workers 2

``batch`` is ``PartRM.each_of`` in this process, a first pass warms it and the loop up and does not count. ``workers``
is ``partrm predict --jobs --workers N``, on its rate between the first and the last pass that ended, and with the
start of the processes. All jobs drag the packaged microwave, each a little further.
"""

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from importlib import resources
from multiprocessing import active_children
from pathlib import Path

import torch

from partrm.api import PartRM
from partrm.datasets.executors import Workers
from partrm.inference.batch import Job
from partrm.inference.prediction import Prediction, save_prediction
from partrm.jobs.jobs_file import JobLine
from partrm.jobs.running import BatchSettings, run_jobs

PICTURE = Path(str(resources.files("partrm"))) / "example_images" / "microwave.png"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=16)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--workers", type=int, help="processes on the CPU, a third way")
    parser.add_argument("--no-ensemble", action="store_true")
    parser.add_argument("--detail", type=int)
    args = parser.parse_args()
    model = PartRM.from_pretrained("base", args.device)
    options = {"ensemble": not args.no_ensemble, "detail_px": args.detail}
    drags = [[(164, 170, 112 + 8 * n / args.jobs, 203)] for n in range(args.jobs)]
    jobs = [Job(PICTURE, drag, f"{n:05d}", **options) for n, drag in enumerate(drags)]
    with tempfile.TemporaryDirectory() as folder:

        def write(job: Job, prediction: Prediction) -> None:
            save_prediction(prediction, Path(folder) / job.name, outputs=("json", "ply"))

        def loop(some: list[Job]) -> None:
            for job in some:
                write(job, model.predict(job.image, job.drags, **options))

        def batched(some: list[Job]) -> None:
            for job, error in model.each_of(some, write, args.batch, args.threads):
                if error is not None:
                    raise SystemExit(f"{job.name}: {error}")

        seconds = {}
        for name, way in (("loop", loop), ("batch", batched)):
            way(jobs[: 1 if name == "loop" else args.batch])
            started = time.perf_counter()
            way(jobs)
            seconds[name] = time.perf_counter() - started
    cuda = model.device.type == "cuda"
    result = {
        "device": torch.cuda.get_device_name() if cuda else f"{platform.machine()}, {torch.get_num_threads()} threads",
        "load": os.getloadavg()[0],
        "settings": vars(args),
        "loop_per_s": args.jobs / seconds["loop"],
        "batch_per_s": args.jobs / seconds["batch"],
        "ratio": seconds["loop"] / seconds["batch"],
        "peak_host_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "peak_gpu_mib": torch.cuda.max_memory_allocated() / 2**20 if cuda else None,
    }
    if args.workers:
        rate, rate_with_start, peak = by_workers(jobs, args.batch, args.workers)
        result |= {
            "workers_per_s": rate,
            "workers_per_s_with_start": rate_with_start,
            "workers_ratio": rate / result["loop_per_s"],
            "peak_mib_of_a_worker": peak,
        }
    print(json.dumps(result, indent=1))


def peak_mib(process: int | None) -> float:
    """Most memory that a process has held, as Linux knows it."""
    (line,) = [row for row in Path(f"/proc/{process}/status").read_text().splitlines() if row.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def by_workers(jobs: list[Job], batch: int, workers: int) -> tuple[float, float, float]:
    """Jobs a second of processes, once all have ended a pass, and from the start; the most memory of one, MiB."""
    lines = [
        JobLine(n, job.name, str(job.image), tuple(job.drags), ensemble=job.ensemble, detail=job.detail_px)
        for n, job in enumerate(jobs, 1)
    ]
    ended: list[tuple[int, float]] = []
    peaks: list[float] = []

    def report(done: int) -> None:
        ended.append((done, time.perf_counter()))
        peaks.extend(peak_mib(child.pid) for child in active_children())

    with tempfile.TemporaryDirectory() as folder:
        failures = run_jobs(
            lines,
            Path(folder),
            BatchSettings(outputs=("json", "ply"), batch=batch),
            Workers(count=workers),
            report,
        )
    if failures:
        raise SystemExit(failures[0].error)
    (_, began), (last, finished) = ended[0], ended[-1]
    # So many passes have ended when all workers have started, or nearly.
    first, all_started = ended[workers]
    return (last - first) / (finished - all_started), last / (finished - began), max(peaks)


if __name__ == "__main__":
    main()
