"""Damaged files by the ten thousand: every loader reads them, or refuses them by an error of ours.

    make fuzz                                         (half an hour)
    python tests/fuzz/run.py --seconds 60 --seed 1    (from the repository's root, with tests/ on PYTHONPATH)

Prints executions and foreign exceptions of each loader; a file that caused one is kept in --keep. Exit code 1 if any.
"""

import argparse
import hashlib
import multiprocessing
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fuzz.loaders import Quiet, Target, targets
from fuzz.mutations import mutated, mutated_json
from partrm.errors import PartRMError

SLOW_S = 20.0
"""A file whose reading takes longer counts as a fault. Seconds are those of the processor, here and below."""

TELL_S = 100.0
"""How often a process says how far it is."""


@dataclass(frozen=True)
class Fault:
    """What a loader did with a damaged file that it must not do."""

    loader: str
    words: str
    """Type and place of the exception."""
    name: str
    content: bytes


def attack(name: str, target: Target, folder: Path, rng: random.Random) -> Fault | None:
    """Let a loader read one damaged file."""
    damaged = rng.choice(target.damaged)
    original = target.unwrap(target.files[damaged])
    content = (mutated_json if target.json else mutated)(original, rng)
    content = content if target.wrap is None else target.wrap(content)
    path = folder / damaged
    path.write_bytes(content)
    began = time.process_time()
    try:
        with Quiet():
            target.read(folder)
    except PartRMError:
        pass
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in at if "partrm" in frame.filename] or list(at)
        place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
        return Fault(name, f"{type(error).__name__} at {place}: {str(error)[:100]}", damaged, content)
    finally:
        path.write_bytes(target.files[damaged])
    took = time.process_time() - began
    return Fault(name, f"took {took:.0f} s", damaged, content) if took > SLOW_S else None


def prepared(found: dict[str, Target], work: Path) -> dict[str, Path]:
    """A folder with the sound files of each loader."""
    folders = {name: work / f"files {number}" for number, name in enumerate(found)}
    for name, target in found.items():
        for file, content in target.files.items():
            (folders[name] / file).parent.mkdir(parents=True, exist_ok=True)
            (folders[name] / file).write_bytes(content)
    return folders


def fuzz(seconds: float, seed: int, work: Path, least: int = 1) -> Iterator[tuple[str, Fault | None]]:
    """Attack the loaders, each for the same time, and each at least ``least`` times."""
    found = targets(work)
    folders = prepared(found, work)
    rng = random.Random(seed)
    spent: Counter[str] = Counter()
    done: Counter[str] = Counter()
    began = time.process_time()
    while time.process_time() - began < seconds or min(done[name] for name in found) < least:
        name = min(found, key=lambda one: (done[one] >= least, spent[one]))
        for _ in range(20 if done[name] else 1):
            started = time.process_time()
            fault = attack(name, found[name], folders[name], rng)
            spent[name] += time.process_time() - started  # pyright: ignore[reportArgumentType]
            done[name] += 1
            yield name, fault


def _keep(fault: Fault, folder: Path | None) -> None:
    """Write the file that caused a fault, named after its loader."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(fault.content).hexdigest()[:8]
        (folder / f"{fault.loader.replace(' ', '_')}-{digest}-{Path(fault.name).name}").write_bytes(fault.content)


def one_run(seconds: float, seed: int, keep: Path | None) -> tuple[Counter[str], dict[tuple[str, str], Fault], int]:
    """Executions of each loader, one fault of each kind, and how many there were; faults are told at once."""
    done: Counter[str] = Counter()
    faults: dict[tuple[str, str], Fault] = {}
    count, told_s = 0, time.process_time()
    with tempfile.TemporaryDirectory() as work:
        for name, fault in fuzz(seconds, seed, Path(work)):
            done[name] += 1
            if fault is not None:
                count += 1
                key = fault.loader, fault.words.partition(": ")[0]
                if key not in faults:
                    faults[key] = fault
                    print(f"FAULT {fault.loader}: {fault.words}", flush=True)
                    _keep(fault, keep)
            if time.process_time() - told_s > TELL_S:
                told_s = time.process_time()
                print(f"seed {seed}: {told_s:.0f} s, {done.total()} executions, {count} foreign exceptions", flush=True)
    return done, faults, count


def main() -> int:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1700.0, help="processor time of each process")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder for the files that cause faults")
    arguments = parser.parse_args()
    began = time.perf_counter()
    seeds = [arguments.seed + number for number in range(arguments.processes)]
    context = multiprocessing.get_context("spawn")
    with context.Pool(arguments.processes) as pool:
        parts = pool.starmap(one_run, [(arguments.seconds, seed, arguments.keep) for seed in seeds])
    done = sum((part[0] for part in parts), Counter())
    faults = {key: fault for part in parts for key, fault in part[1].items()}
    count = sum(part[2] for part in parts)
    for fault in faults.values():
        print(f"FAULT {fault.loader}: {fault.words}")
    print("\n".join(f"{name:20} {number:8}" for name, number in sorted(done.items())))
    took = f"{time.perf_counter() - began:.0f} s, at most {arguments.seconds:.0f} s of processor time a process"
    print(f"{sum(done.values())} executions, {count} foreign exceptions of {len(faults)} kinds, {took}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
