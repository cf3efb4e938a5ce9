"""What a training writes down: rows of numbers in ``log.jsonl`` and in TensorBoard, told to a listener."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from partrm.files import AppendedLines, atomic_write, read_text


@dataclass(frozen=True)
class Listener:
    """Who is told what a training writes down: nobody, unless a command listens."""

    row: Callable[[int, str, dict[str, float]], None] = lambda step, group, values: None
    """Step, phase (or ``validation``) and numbers of a row."""
    note: Callable[[str], None] = lambda text: None
    """One line beside them."""


SILENT = Listener()


class Rate:
    """Steps a second between two calls."""

    def __init__(self, step: int) -> None:
        self.step, self.time = step, time.perf_counter()
        self.seconds = 0.0
        """Between the last two calls."""

    def since(self, step: int) -> float:
        now = time.perf_counter()
        self.seconds = max(now - self.time, 1e-9)
        value = (step - self.step) / self.seconds
        self.step, self.time = step, now
        return value


class RunLog:
    """``log.jsonl``, TensorBoard and listener of the main process."""

    def __init__(self, folder: Path, active: bool, listener: Listener = SILENT, taken_up: int | None = None) -> None:
        """Open the files, or make them.

        Args:
            folder: of the run.
            active: whether this is the main process.
            listener: is told each row.
            taken_up: step at which an earlier run goes on; rows that it wrote of later ones are cut off.

        Raises:
            OutputError: they cannot be opened.
        """
        self.listener = listener
        if active and taken_up is not None:
            cut_log(folder / "log.jsonl", taken_up)
        self.file = AppendedLines(folder / "log.jsonl") if active else None
        self.board = None
        if active:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ModuleNotFoundError:
                listener.note("tensorboard is not installed: logging to log.jsonl only")
            else:
                later = None if taken_up is None else taken_up + 1
                self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=later)

    def write(self, step: int, group: str, values: dict[str, float]) -> None:
        """One row of numbers."""
        if self.file is None:
            return
        rounded = {name: float(f"{value:.5g}") for name, value in values.items()}
        self.file.add(json.dumps({"step": step, "group": group, **rounded}))
        self.listener.row(step, group, rounded)
        for name, value in values.items():
            if self.board is not None:
                self.board.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        """Flush and close the files."""
        if self.file is not None:
            self.file.close()
        if self.board is not None:
            self.board.close()


def cut_log(path: Path, step: int) -> None:
    """Remove the last rows of a log as far as they are of steps after ``step``, and a line that was cut short."""
    lines = read_text(path, 2**30).splitlines(keepends=True) if path.exists() else []
    whole = len(lines)
    while lines and (not lines[-1].endswith("\n") or json.loads(lines[-1])["step"] > step):
        lines.pop()
    if len(lines) < whole:
        atomic_write(path, "".join(lines))
