"""Kill commands at random moments: whole results, no process or temporary file left, the right bytes at last.

    python benchmarks/killed_commands.py [--only predict jobs build ray eval train export] [--kills 20]

Half of the kills are SIGKILL, half SIGTERM. Half fall at any moment of the command, half after it has begun to write;
where a command has worker processes, every third kill hits one of those instead (on Ray all do), and the command goes
on. After each kill no process may be left, after SIGTERM no temporary file either. `predict` and `export` leave the
results of before or the new ones; the others go on from where they were killed. What ends by itself must have the bytes
of a run that nobody touched, and leave no temporary file, not even one of an earlier SIGKILL. Weights are small and
random but for `export`, whose prediction is the bundled model's.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from itertools import chain
from pathlib import Path
from uuid import uuid4

MARK = "PARTRM_KILLED_COMMANDS"
"""Variable in the environment of a command and of all processes below it."""
WORKERS = (b"spawn_main", b"multiprocessing.forkserver", b"ray::_", b"ray::IDLE")
"""In the command lines of worker processes; Ray's own services, named `ray::…Agent`, take the whole node with them."""
PICTURE = Path(str(resources.files("partrm"))) / "example_images" / "microwave.png"
END_S = 60.0
"""Longest time from a kill until no process is left."""
VARYING = ("log.jsonl", "tensorboard", "config.json", "checkpoint-0.pt")
"""Of a training: what tells of time and of resuming."""


@dataclass(frozen=True)
class Case:
    """A command that is killed."""

    words: Callable[[Path], Sequence[str | Path]]
    """Its arguments, given the folder of results."""
    before: Callable[[Path], Sequence[str | Path]] | None = None
    """Arguments that make the results of before, where a kill must leave those or the new ones."""
    varying: tuple[str, ...] = ()
    """Names of files and folders that no two runs have alike."""
    workers_only: bool = False
    """Whether only worker processes are killed."""
    needs: Sequence[str | Path] = ()
    """Arguments of a command that makes what this one reads."""

    def prepare(self) -> None:
        """Make what the command reads."""
        if self.needs:
            line = [sys.executable, "-m", "partrm", *map(str, self.needs)]
            subprocess.run(line, check=True, stdout=subprocess.DEVNULL)


@dataclass
class Tally:
    """What has happened."""

    kills: Counter[str] = field(default_factory=Counter)
    """By signal and victim."""
    whole: int = 0
    """Runs that ended by themselves, with the right bytes."""
    faults: list[str] = field(default_factory=list)


def processes(mark: str) -> dict[int, bytes]:
    """Command lines of the living processes that have a mark, by their ids."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found[int(entry.name)] = (entry / "cmdline").read_bytes()
        except OSError:  # it has ended, or is not ours
            continue
    return {process: line for process, line in found.items() if line}


def content(root: Path, varying: Sequence[str] = ()) -> dict[str, bytes]:
    """Bytes of all files below a folder, without seconds and what varies."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if path.is_file() and not set(name.parts) & set(varying):
            found[str(name)] = _timeless(path)
    return found


def _timeless(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".json":
        record = json.loads(data)
        card = record.get("card", record) if isinstance(record, dict) else {}
        for key in ("timings_s", "seconds"):
            card.pop(key, None)
        card.get("config", {}).pop("resume", None)
        return json.dumps(record).encode()
    return re.sub(rb"\b\d+ s\b", b"", data) if path.suffix in (".md", ".html") else data


def temporaries(work: Path) -> set[str]:
    """Temporary files and folders of a command below its folders of results and of temporary files."""
    names = {str(path) for path in work.rglob("*") if path.name.startswith(".partrm.") or path.suffix == ".part"}
    return names | {str(path) for path in (work / "tmp").iterdir()}


class Killing:
    """One case, killed again and again in a folder of its own."""

    def __init__(self, case: Case, work: Path, chance: random.Random) -> None:
        self.case, self.work, self.chance = case, work, chance
        self.out, self.mark, self.tally = work / "out", uuid4().hex, Tally()
        (work / "tmp").mkdir(parents=True)
        case.prepare()
        self.old: dict[str, bytes] = {}
        if case.before is not None:
            self.finish(self.start(case.before))
            self.old = content(self.out, case.varying)
        began = time.perf_counter()
        run = self.start(case.words)
        self.begun_s = self.wait_for_writing(run) - began
        self.finish(run)
        self.span_s = time.perf_counter() - began
        self.new = content(self.out, case.varying)
        assert self.new != self.old
        self.reset()

    def start(self, words: Callable[[Path], Sequence[str | Path]]) -> subprocess.Popen[bytes]:
        line = [sys.executable, "-m", "partrm", *map(str, words(self.out))]
        # The order of an export's triangles hangs on Python's seed of hashes; what torch and Ray keep (kernels, logs of
        # sessions) is no temporary file of ours.
        kept = {"TORCHINDUCTOR_CACHE_DIR": str(self.work / "torch"), "RAY_TMPDIR": str(self.work.parent)}
        own = {"TMPDIR": str(self.work / "tmp"), **kept, MARK: self.mark}
        environment = {**os.environ, "PYTHONHASHSEED": "0", **own}
        with (self.work / "said.txt").open("wb") as said:
            return subprocess.Popen(line, stdout=said, stderr=said, env=environment, start_new_session=True)

    def finish(self, run: subprocess.Popen[bytes]) -> None:
        if run.wait():
            raise SystemExit(f"{self.case.words(self.out)}: {(self.work / 'said.txt').read_text()}")

    def reset(self) -> None:
        """Begin again from the results of before."""
        subprocess.run(["rm", "-rf", self.out], check=True)
        if self.case.before is not None:
            self.finish(self.start(self.case.before))

    def names(self) -> set[str]:
        return {os.path.join(place, name) for place, *inside in os.walk(self.work) for name in chain(*inside)}

    def wait_for_writing(self, run: subprocess.Popen[bytes]) -> float:
        """Wait until a command makes a file or folder, or ends; when that was."""
        before = self.names()
        while run.poll() is None and not self.names() - before:
            time.sleep(0.005)
        return time.perf_counter()

    def kill(self, number: int) -> None:
        """Start the command, kill it or a worker of it, and look at what is left."""
        left_before = temporaries(self.work)
        whole_run = self.case.before is not None or not self.out.exists()
        began = time.perf_counter()
        run = self.start(self.case.words)
        if number % 2 or self.case.workers_only:
            self.wait_for_writing(run)
            delay = self.chance.random() * (self.span_s - self.begun_s)
        else:
            delay = self.chance.random() * self.span_s
        try:
            run.wait(delay)
        except subprocess.TimeoutExpired:
            how = (signal.SIGKILL, signal.SIGTERM)[number // 2 % 2]
            workers = [pid for pid, line in processes(self.mark).items() if any(word in line for word in WORKERS)]
            if workers and (self.case.workers_only or number % 3 == 2):
                os.kill(self.chance.choice(workers), signal.SIGKILL)
                self.tally.kills["worker"] += 1
            elif not self.case.workers_only:
                run.send_signal(how)
                self.tally.kills[how.name] += 1
                self.check_killed(run, how, left_before)
                return
        else:
            if whole_run:  # faster than the first, which compiled kernels: later kills shall not come too late
                self.span_s = min(self.span_s, time.perf_counter() - began)
                self.begun_s = min(self.begun_s, self.span_s)
        self.check_ended(run)

    def wait_for_processes(self, run: subprocess.Popen[bytes] | None = None) -> dict[int, bytes]:
        """Wait until no process is left; those that are all the same."""
        began = time.perf_counter()
        while (left := processes(self.mark)) and time.perf_counter() - began < END_S:
            if run is not None:
                run.poll()
            time.sleep(0.02)
        return left

    def check_killed(self, run: subprocess.Popen[bytes], how: signal.Signals, left_before: set[str]) -> None:
        if left := self.wait_for_processes(run):
            self.fault(f"{how.name}: processes are left: {left}")
            run.kill()
        code = run.wait()
        if code not in (-how, 128 + how, 0):  # it was about to end, well
            self.fault(f"{how.name}: exit code {code}")
        if how == signal.SIGTERM and (more := temporaries(self.work) - left_before):
            self.fault(f"SIGTERM: temporary files are left: {sorted(more)}")
        if self.case.before is not None:
            now = {name: data for name, data in content(self.out, self.case.varying).items() if ".partrm." not in name}
            if now == self.new:
                self.reset()
            elif now != self.old:
                differing = {name for name in {*now, *self.old} if now.get(name) != self.old.get(name)}
                self.fault(f"{how.name}: neither the old nor the new results: {sorted(differing)}")
                self.reset()

    def check_ended(self, run: subprocess.Popen[bytes]) -> None:
        """Whether a command that came to its end has made what it should; a failed one says why, and goes on next."""
        code = run.wait()
        said = (self.work / "said.txt").read_text().strip().splitlines()
        if code:
            if "run again" not in said[-1] or len(said) > 3:
                self.fault(f"a worker was killed: {said[-3:]}")
            return
        now = content(self.out, self.case.varying)
        if now != self.new:
            differing = {name for name in {*now, *self.new} if now.get(name) != self.new.get(name)}
            self.fault(f"other bytes: {sorted(differing)[:9]} of {len(self.new)}")
        elif left := temporaries(self.work):
            self.fault(f"temporary files are left at the end: {sorted(left)}")
        elif left := self.wait_for_processes():
            self.fault(f"processes are left at the end: {left}")
        else:
            self.tally.whole += 1
        self.reset()

    def fault(self, words: str) -> None:
        print(f"FAULT {words}", flush=True)
        self.tally.faults.append(words)

    def run(self, kills: int) -> Tally:
        """Kill so often, then let it come to its end."""
        number = 0
        while self.tally.kills.total() < kills:
            self.kill(number)
            number += 1
            print(f"{number} runs: {dict(self.tally.kills)}, {self.tally.whole} whole", flush=True)
        while self.tally.whole == 0 and not self.tally.faults:
            self.check_ended(self.start(self.case.words))
        return self.tally


def cases(shared: Path) -> dict[str, Case]:
    """All cases; their inputs are made in a folder."""
    import torch

    from partrm.geometry.cameras import canonical_orbit, save_cameras
    from partrm.model.checkpoints import save_checkpoint
    from partrm.model.network import TINY, PartRMNetwork
    from partrm.procedural import generate
    from partrm.synthesis.mesh_pool import Pool, save_pool

    torch.manual_seed(0)
    save_checkpoint(PartRMNetwork(TINY).state_dict(), TINY, shared / "tiny")
    save_pool(Pool.from_objects([generate("laptop", 0), generate("oven", 0)]), shared / "pool.npz")
    save_cameras(canonical_orbit(2, 96), shared / "cameras.json")
    drag = ("--drag", "164,170,112,203", "--framing", "canonical")
    job = {"image": str(PICTURE), "detail": 0}
    lines = [job | {"name": f"job{n:04d}", "drags": [[164, 170, 112 + n % 40, 203]]} for n in range(40)]
    (shared / "jobs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    small = ("--size-px", "128", "--states", "3", "--distractors", "1", "--points", "2000", "--views", "6")
    build = ("data", "build", "procedural", "--limit", "6", *small)
    phases = [f"--{phase}.steps 0" for phase in ("fine", "appearance")]
    steps = "--coarse.steps 100 --coarse.batch 2 --coarse.image-size-px 32 --checkpoint-minutes 0.01 --preset tiny"
    training = [*" ".join([steps, *phases]).split(), "--device", "cpu"]

    def train(out: Path) -> Sequence[str | Path]:
        resume = ["--resume"] if (out / "checkpoint-0.pt").exists() else []
        return ["train", "--pool", shared / "pool.npz", "--out", out, *training, *resume]

    def evaluate(out: Path) -> Sequence[str | Path]:
        data = ["--data", shared / "set.safetensors", "--novel-size-px", "64", "--lpips", "none"]
        return ["eval", *data, "--out", out, "--model", shared / "tiny", "--device", "cpu", "--workers", "2"]

    def predict(out: Path, *more: str) -> Sequence[str | Path]:
        small = ("--model", shared / "tiny", "--detail", "0", "--cameras", shared / "cameras.json")
        return ["predict", PICTURE, *drag, *small, "--out", out, *more]

    def export(out: Path, size_m: str) -> Sequence[str | Path]:
        formats = ("urdf", "mjcf", "glb", "html")
        return ["export", shared / "result", "--force", "--formats", *formats, "--size-m", size_m, "--out", out]

    def jobs(out: Path) -> Sequence[str | Path]:
        how = ("--batch", "2", "--workers", "2", "--save", "json", "ply")
        return ["predict", "--jobs", shared / "jobs.jsonl", "--model", shared / "tiny", *how, "--out", out]

    predicted = ["predict", PICTURE, *drag, "--out", shared / "result"]
    packed = ["eval", "--data", "procedural", "--limit", "8", "--categories", "laptop", "oven"]
    packed += ["--pack", str(shared / "set.safetensors")]
    return {
        "predict": Case(predict, lambda out: predict(out, "--no-ensemble")),
        "jobs": Case(jobs),
        "build": Case(lambda out: [*build, "--workers", "2", "--out", out]),
        "ray": Case(lambda out: [*build, "--executor", "ray", "--workers", "2", "--out", out], workers_only=True),
        "eval": Case(evaluate, needs=packed),
        "train": Case(train, varying=VARYING),
        "export": Case(lambda out: export(out, "0.9"), lambda out: export(out, "0.6"), needs=predicted),
    }


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=())
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rows, faults = [], 0
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "shared").mkdir()
        for name, case in cases(Path(folder) / "shared").items():
            if args.only and name not in args.only:
                continue
            killing = Killing(case, Path(folder) / name, random.Random(args.seed))
            tally = killing.run(args.kills)
            kills = [tally.kills[how] for how in ("SIGKILL", "SIGTERM", "worker")]
            seconds = f"{killing.span_s:.1f}"
            rows.append((name, *kills, seconds, tally.whole, len(killing.new), len(tally.faults)))
            faults += len(tally.faults)
            print(*rows[-1], flush=True)
    print("| command | SIGKILL | SIGTERM | a worker killed | seconds of a whole run | whole runs | files | faults |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
