"""Where a training step spends its time: samples, network, losses, optimizer.

    python benchmarks/train_step.py --pool pool.npz --batch 128 --size 128 --compile

Medians over ``--rounds`` synchronised repeats after a warm-up, on the fastest device there is.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from partrm.data.online import SampleConfig
from partrm.train import Phase, TrainConfig, Trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--fused-norms", action="store_true")
    parser.add_argument("--graphs", action="store_true")
    parser.add_argument("--appearance", action="store_true")
    parser.add_argument("--preset", default="base")
    parser.add_argument(
        "--profile", action="store_true", help="also the 25 operators that take most of the device's time"
    )
    args = parser.parse_args()
    phase = Phase("bench", 10**6, args.batch, args.size, 1e-4, 1e-4, appearance=args.appearance)
    config = TrainConfig(
        pool=(args.pool,),
        out=Path("runs/bench"),
        preset=args.preset,
        compile=args.compile,
        fused_norms=args.fused_norms,
        graphs=args.graphs,
        coarse=phase,
    )
    started = time.perf_counter()
    trainer = Trainer(config)
    print(f"start-up {time.perf_counter() - started:.1f} s, {trainer.data.pool.count} objects", flush=True)
    wanted = SampleConfig(image_size_px=args.size, views=args.views, novel_views=2 if args.appearance else 0)

    def sync() -> float:
        if trainer.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    times: dict[str, list[float]] = {"samples": [], "step": [], "pipelined": []}
    for index in range(args.rounds + 4):
        marks = [sync()]
        batch = trainer.data.draw(wanted, args.batch)
        marks.append(sync())
        terms = trainer.train_step(batch, phase, 1e-4)
        marks.append(sync())
        if index == 0:
            print(f"first step {marks[2] - marks[1]:.1f} s; valid {float(batch.valid.float().mean()):.2f}", flush=True)
        if index >= 4:
            times["samples"].append(marks[1] - marks[0])
            times["step"].append(marks[2] - marks[1])
    steps = config.batches_at_once * args.rounds
    began = sync()
    for index in range(steps):
        terms = trainer.train_step(trainer.batches.next(index), phase, 1e-4)
    times["pipelined"].append((sync() - began) / steps)
    for name, values in times.items():
        middle = statistics.median(values)
        print(f"{name:10s} {1e3 * middle:8.1f} ms  {args.batch / middle:8.1f} samples/s")
    if trainer.device.type == "cuda":
        print(f"peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB on {torch.cuda.get_device_name()}")
    print({name: round(float(value), 4) for name, value in terms.items()})
    if args.profile:
        profile(trainer, phase, steps)


def profile(trainer: Trainer, phase: Phase, first: int) -> None:
    """Operators by their time on the device, over eight pipelined steps from ``first`` on."""
    from torch.profiler import ProfilerActivity

    cuda = trainer.device.type == "cuda"
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if cuda else [])
    with torch.profiler.profile(activities=kinds) as recorded:
        for index in range(first, first + 8):
            trainer.train_step(trainer.batches.next(index), phase, 1e-4)
        if cuda:
            torch.cuda.synchronize()
    order = "self_device_time_total" if cuda else "self_cpu_time_total"
    print(recorded.key_averages().table(sort_by=order, row_limit=25, max_name_column_width=70))


if __name__ == "__main__":
    main()
