"""Commands on a disk that is too small: one line that says which file and how much is missing, nothing half-written.

    python benchmarks/full_disk.py [--only predict jobs build eval train export] [--shares 0.05 0.2 0.4 0.6 0.8 0.95]

Each command of killed_commands.py writes on a tmpfs (which needs root) with room for a share of its results. It must
end with exit code 1 and one line, and leave no temporary file; `predict` and `export` leave nothing, the others only
files that are whole. Then the disk grows, and the same command must come to the bytes of a run with room.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from killed_commands import Case, cases, content


def mount(folder: Path, size: int, *, again: bool = False) -> None:
    """Lay a tmpfs of so many bytes over a folder, or give the one that lies there another size."""
    options = f"size={size}" + (",remount" if again else "")
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)


def run(words: Sequence[str | Path]) -> tuple[int, list[str]]:
    """Exit code of a command, and what it says on standard error."""
    line = [sys.executable, "-m", "partrm", *map(str, words)]
    done = subprocess.run(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    return done.returncode, done.stderr.strip().splitlines()


def faults_of(case: Case, disk: Path, size: int, whole: dict[str, bytes]) -> tuple[list[str], str]:
    """What a command does wrong on a disk of so many bytes, and what it says."""
    found = []
    mount(disk, size)
    try:
        out = disk / "out"
        code, said = run(case.words(out))
        if code != 1 or len(said) != 1:
            found.append(f"exit code {code}, {len(said)} lines")
        line = said[-1] if said else ""
        if str(disk) not in line or "No space left on device" not in line or "MiB free" not in line:
            found.append("the line does not say it")
        names = [str(path.relative_to(disk)) for path in disk.rglob("*")]
        if left := [name for name in names if ".part" in name]:
            found.append(f"temporary files: {left}")
        parts = content(out, case.varying)
        if case.before is not None and names not in ([], ["out"]):
            found.append(f"left: {names}")
        if broken := [name for name in parts if name in whole and parts[name] != whole[name]]:
            found.append(f"half-written: {broken}")
        mount(disk, 2**30, again=True)
        code, more = run(case.words(out))
        if code or content(out, case.varying) != whole:
            found.append(f"with room: exit code {code}, {more[-1:]}")
        return found, line
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=("predict", "jobs", "build", "eval", "train", "export"))
    parser.add_argument("--shares", nargs="+", type=float, default=(0.05, 0.2, 0.4, 0.6, 0.8, 0.95))
    args = parser.parse_args()
    faults = 0
    print("| command | room, MiB | of | it says | faults |\n|---|---:|---:|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        (Path(temporary) / "shared").mkdir()
        disk = Path(temporary) / "disk"
        disk.mkdir()
        known = cases(Path(temporary) / "shared")
        for name in args.only:
            case, plenty = known[name], Path(temporary) / name
            case.prepare()
            code, said = run(case.words(plenty))
            assert code == 0, said
            whole = content(plenty, case.varying)
            size = sum(path.stat().st_size for path in plenty.rglob("*") if path.is_file())
            for share in args.shares:
                found, line = faults_of(case, disk, int(share * size), whole)
                faults += len(found)
                line = line.replace(str(disk), "…")
                words = "; ".join(found) or "none"
                print(f"| {name} | {share * size / 2**20:.2f} | {size / 2**20:.2f} | {line} | {words} |", flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
