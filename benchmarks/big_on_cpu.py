"""Time and memory of the reference network ``big`` on the CPU, loaded as ``partrm predict`` loads it.

    python benchmarks/big_on_cpu.py --folder big          writes 1.8 GB of random weights there, if it is missing

Two processes: one writes the weights, the other loads them and runs, so that its peak memory is that of a prediction.
"""

import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro
from reference_inputs import random_batch, random_weights

from partrm.model.checkpoints import load_model, save_checkpoint
from partrm.model.reference import REFERENCE_PRESETS


@dataclass(frozen=True)
class Args:
    """Arguments."""

    folder: Path
    """Checkpoint folder."""
    preset: Literal["big", "small", "tiny"] = "big"
    repeats: int = 3
    """Timed runs after a first one."""
    prepare: bool = False
    """Write the weights and stop."""


def main(args: Args) -> None:
    config = REFERENCE_PRESETS[args.preset]
    if args.prepare:
        save_checkpoint(random_weights(config, "cpu"), config, args.folder, half=False, shard_bytes=2**29)
        return
    if not args.folder.is_dir():
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--prepare"], check=True)
    started = time.perf_counter()
    network = load_model(args.folder).network
    print(f"loaded in {time.perf_counter() - started:.1f} s, peak {peak_gib():.2f} GiB")
    inputs = random_batch(config, 1, 1, 10, "cpu").inputs
    times = []
    for _ in range(args.repeats + 1):
        started = time.perf_counter()
        with torch.inference_mode():
            network(inputs)
        times.append(time.perf_counter() - started)
    threads = torch.get_num_threads()
    print(f"forward {statistics.median(times[1:]):.1f} s (first {times[0]:.1f} s) with {threads} threads")
    print(f"peak {peak_gib():.2f} GiB")


def peak_gib() -> float:
    """Most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
