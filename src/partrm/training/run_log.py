"""What a training writes down: rows of numbers in ``log.jsonl`` and in TensorBoard, told to a listener."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from partrm.files import AppendedLines, OutputError, atomic_write, parse_json, read_text
from partrm.training.config import TrainingError


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
            TrainingError: the log of the earlier run is none.
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
                try:
                    self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=later)
                except OSError as error:
                    raise OutputError(f"{folder / 'tensorboard'}: cannot be written ({error.strerror})") from error

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
    """Remove the last rows of a log as far as they are of steps after ``step``, and a line that was cut short.

    Raises:
        TrainingError: what is no row of a log stands there.
    """
    if not path.exists():
        return
    try:
        *lines, rest = read_text(path, 2**30).split("\n")
        whole = len(lines)
        while lines and _step_of(lines[-1]) > step:
            lines.pop()
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read ({error.strerror}); move it away") from error
    except ValueError as error:
        raise TrainingError(f"{path}: its last lines are no rows of a log ({error}); move it away") from error
    if rest or len(lines) < whole:
        atomic_write(path, "".join(line + "\n" for line in lines))


def _step_of(line: str) -> int:
    row = parse_json(line)
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        raise ValueError(f"{line[:60]!r} tells no step")
    return row["step"]
