"""Kill a build 10 times at random and let it go on: the bytes must be those of a build that nobody touched.

    python benchmarks/killed_build.py --kills 10

Only the build's own process is killed (SIGKILL), now with one worker and now with two: the workers have to notice.
"""

import argparse
import hashlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SMALL = ("--size-px", "192", "--states", "4", "--distractors", "1", "--points", "2000")


def command(out: Path, objects: int, workers: int) -> list[str]:
    start = [sys.executable, "-m", "partrm", "data", "build", "procedural", "--limit", str(objects), "--out", str(out)]
    return [*start, *SMALL, "--workers", str(workers)]


def tree(root: Path) -> dict[str, str]:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def entries(out: Path) -> int:
    return len(list(out.glob("render_PartDrag4D/[!.]*")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--objects", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    chance = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, torn = Path(folder) / "whole", Path(folder) / "torn"
        began = time.perf_counter()
        subprocess.run(command(whole, args.objects, 1), check=True, capture_output=True)
        span = time.perf_counter() - began
        kills = 0
        while kills < args.kills:
            before = entries(torn)
            run = subprocess.Popen(
                command(torn, args.objects, 1 + kills % 2), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            # From the first entry made now, so that the kills fall into the work and not into the start-up.
            while run.poll() is None and entries(torn) == before:
                time.sleep(0.01)
            time.sleep(chance.random() * span / args.kills / 2)
            if run.poll() is not None:
                break
            run.send_signal(signal.SIGKILL)
            run.wait()
            kills += 1
            print(f"killed {kills}: {entries(torn)} entries stand", flush=True)
        subprocess.run(command(torn, args.objects, 1), check=True, stdout=subprocess.DEVNULL)
        same = tree(whole) == tree(torn)
        print(f"{kills} kills, {len(tree(whole))} files: {'the same bytes' if same else 'OTHER BYTES'}")
        sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
