"""Time of a command with this checkout's code and with another revision's, in turn.

    python benchmarks/versions.py 134d865 predict src/partrm/example_images/cabinet_photo.jpg --drag 548,402,473,420
    python benchmarks/versions.py 134d865 export src/partrm/example_images/cabinet_photo.jpg --drag 548,402,473,420

Both run with this interpreter and its packages; a first pair, which compiles what is missing, does not count. The
command gets a folder --out that is removed after it.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what follows partrm")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "other"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", other, args.revision], cwd=ROOT, check=True)
        try:
            pairs = [[seconds(tree, args.command, folder) for tree in (other, ROOT)] for _ in range(args.rounds + 1)]
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", other], cwd=ROOT, check=True)
    for name, values in zip((args.revision, "this"), zip(*pairs[1:], strict=True), strict=True):
        print(f"{name:12s} median {statistics.median(values):.2f} s, {min(values):.2f} to {max(values):.2f}")
    print(f"ratio of each pair, median {statistics.median(this / before for before, this in pairs[1:]):.3f}")


def seconds(tree: Path, command: list[str], folder: str) -> float:
    """Of one run of the command with the code of a tree."""
    environment = os.environ | {"PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": ""}
    with tempfile.TemporaryDirectory(dir=folder) as out:
        words = [sys.executable, "-m", "partrm", *command, "--out", str(Path(out) / "out")]
        began = time.perf_counter()
        subprocess.run(words, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began


if __name__ == "__main__":
    main()
