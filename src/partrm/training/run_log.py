"""What a training writes down: rows of numbers on the console, in ``log.jsonl`` and in TensorBoard."""

import json
import time
from pathlib import Path


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
    """Console, ``log.jsonl`` and TensorBoard of the main process."""

    def __init__(self, folder: Path, active: bool) -> None:
        self.file = (folder / "log.jsonl").open("a", encoding="utf-8") if active else None
        self.board = None
        if active:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ModuleNotFoundError:
                print("tensorboard is not installed: logging to log.jsonl only", flush=True)
            else:
                self.board = SummaryWriter(str(folder / "tensorboard"))

    def write(self, step: int, group: str, values: dict[str, float]) -> None:
        """One row of numbers."""
        if self.file is None:
            return
        rounded = {name: float(f"{value:.5g}") for name, value in values.items()}
        self.file.write(json.dumps({"step": step, "group": group, **rounded}) + "\n")
        self.file.flush()
        print(f"{step:6d} {group:10s} " + " ".join(f"{k} {v:.4g}" for k, v in rounded.items()), flush=True)
        for name, value in values.items():
            if self.board is not None:
                self.board.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        """Flush and close the files."""
        if self.file is not None:
            self.file.close()
        if self.board is not None:
            self.board.close()
