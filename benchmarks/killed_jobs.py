"""Kill ``partrm predict --jobs`` 10 times at random, the command or a worker: every job once, with untouched bytes.

    python benchmarks/killed_jobs.py --kills 10

Weights are small and random: what is tried is the bookkeeping. All kills are SIGKILL, with one and two workers in turn.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from importlib import resources
from pathlib import Path

import torch
from killed_build import tree

from partrm.model.checkpoints import save_checkpoint
from partrm.model.network import TINY, PartRMNetwork

PICTURE = Path(str(resources.files("partrm"))) / "example_images" / "microwave.png"


def command(folder: Path, out: Path, workers: int) -> list[str]:
    words = ["--jobs", folder / "jobs.jsonl", "--out", out, "--model", folder / "tiny", "--save", "json", "ply"]
    return [sys.executable, "-m", "partrm", "predict", *map(str, words), "--batch", "2", "--workers", str(workers)]


def workers_of(process: int) -> list[int]:
    """The processes that a command has started for its work."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def done(out: Path) -> int:
    return len(list(out.glob("job*")))


def killed(run: subprocess.Popen[bytes], out: Path, chance: random.Random) -> str | None:
    """Kill the command or one of its workers soon after the next job is done; which, or None if it ended before."""
    before = done(out)
    while run.poll() is None and done(out) == before:
        time.sleep(0.005)
    time.sleep(chance.random() * 0.3)
    if run.poll() is not None:
        return None
    workers = workers_of(run.pid)
    if workers and chance.random() < 0.5:
        os.kill(chance.choice(workers), signal.SIGKILL)
        return "worker"
    run.send_signal(signal.SIGKILL)
    run.wait()
    return "command"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    chance = random.Random(args.seed)
    torch.manual_seed(args.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save_checkpoint(PartRMNetwork(TINY).state_dict(), TINY, folder / "tiny")
        job = {"image": str(PICTURE), "detail": 0}
        jobs = [job | {"name": f"job{n:04d}", "drags": [[164, 170, 112 + n % 40, 203]]} for n in range(args.jobs)]
        (folder / "jobs.jsonl").write_text("".join(json.dumps(one) + "\n" for one in jobs))
        whole, torn = folder / "whole", folder / "torn"
        subprocess.run(command(folder, whole, 1), check=True, stdout=subprocess.DEVNULL)
        kills, run = 0, None
        while kills < args.kills:
            if run is None or run.poll() is not None:
                run = subprocess.Popen(command(folder, torn, 1 + kills % 2), stdout=subprocess.DEVNULL)
            victim = killed(run, torn, chance)
            if victim is None:
                break
            kills += 1
            print(f"killed {kills}, the {victim}: {done(torn)} jobs stand", flush=True)
        if run is not None:
            run.wait()
        subprocess.run(command(folder, torn, 1), check=True, stdout=subprocess.DEVNULL)
        same = tree(whole) == tree(torn) and done(torn) == args.jobs
        print(f"{kills} kills, {done(torn)} jobs: {'each once, the same bytes' if same else 'OTHER BYTES'}")
        sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
