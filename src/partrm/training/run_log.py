"""What a training writes down: rows of numbers in ``log.jsonl`` and in TensorBoard, told to a listener."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from partrm.files import AppendedLines


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

    def since(self, step: int) -> float:
        now = time.perf_counter()
        value = (step - self.step) / max(now - self.time, 1e-9)
        self.step, self.time = step, now
        return value


class RunLog:
    """``log.jsonl``, TensorBoard and listener of the main process."""

    def __init__(self, folder: Path, active: bool, listener: Listener = SILENT) -> None:
        self.listener = listener
        self.file = AppendedLines(folder / "log.jsonl") if active else None
        self.board = None
        if active:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ModuleNotFoundError:
                listener.note("tensorboard is not installed: logging to log.jsonl only")
            else:
                self.board = SummaryWriter(str(folder / "tensorboard"))

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
