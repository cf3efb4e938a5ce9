"""What workers are given to do: in a module of its own, so that theirs is no more to import than they need."""

import os
import time
from pathlib import Path


def process_of(folder: str, device: str) -> int:
    """A task that notes its process and device, long enough for the others to start."""
    time.sleep(0.2)
    (Path(folder) / f"{os.getpid()}-{time.time_ns()}").write_text(device)
    return 1


def failing(task: str, device: str) -> int:
    raise OSError(28, "No space left on device")


def dying(task: str, device: str) -> int:
    os._exit(9)
