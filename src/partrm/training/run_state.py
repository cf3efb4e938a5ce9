"""The state of a run on disk: a file of each process, and the newest step that all of them have.

A process may be killed while others write. So where there are several, each keeps the state before its last one too.
"""

import pickle
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from partrm.errors import BROKEN_PICKLE
from partrm.files import staged_file
from partrm.training.config import TrainingError
from partrm.training.torchrun import restarts


class RunState:
    """This process's file of a run folder, and the main process's."""

    def __init__(self, folder: Path, accelerator: Accelerator) -> None:
        self.folder, self.accelerator = folder, accelerator
        self.path, self.before = self._paths(accelerator.process_index)
        self.main, _ = self._paths(0)
        self._ours = False  # whether what stands there is of this run, not of another one before it

    def _paths(self, process: int) -> tuple[Path, Path]:
        return self.folder / f"checkpoint-{process}.pt", self.folder / f"checkpoint-{process}-before.pt"

    def write(self, state: dict[str, Any]) -> None:
        """Let a state, with its ``step``, take the last one's place, complete or not at all.

        Raises:
            TrainingError: it cannot be written.
        """
        state["processes"] = self.accelerator.num_processes
        try:
            with staged_file(self.path) as part:
                torch.save(state, part)
                if self._ours and self.accelerator.num_processes > 1:
                    self.path.replace(self.before)
                else:
                    self.before.unlink(missing_ok=True)
        except OSError as error:
            raise TrainingError(f"{self.path}: cannot be written ({error.strerror})") from error
        self._ours = True

    def restarted(self) -> bool:
        """Whether ``torchrun`` has started the processes again after one of them died: all, or those of any machine."""
        return any(gather_object([restarts()]))

    def newest(self, settings: str | None = None) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """This process's state of the newest step that all have, and the main process's; None where there is none.

        Asked by all processes together.

        Args:
            settings: states of other ones do not count.

        Raises:
            TrainingError: a damaged file, or one of a run of another number of processes.
        """
        own: dict[int, Path] = {}
        for path in (self.before, self.path):
            state = load_state(path) if path.exists() else {}
            if isinstance(state.get("step"), int) and settings in (None, state.get("settings")):
                own[state["step"]] = path
            del state
        shared = set.intersection(*map(set, gather_object([tuple(own)])))
        if not shared:
            return None
        step = max(shared)
        if own[step] == self.before:
            self.before.replace(self.path)
        self.accelerator.wait_for_everyone()  # until the main process's file stands under its name
        state = load_state(self.path)
        there, now = state.get("processes", self.accelerator.num_processes), self.accelerator.num_processes
        if there != now:
            raise TrainingError(f"{self.path}: of a run of {there} processes, these are {now}; start as many")
        self._ours = True
        return state, state if self.path == self.main else load_state(self.main)


def load_state(path: Path) -> dict[str, Any]:
    """The state that :meth:`RunState.write` wrote, tensors and plain values alone.

    Raises:
        TrainingError: missing, damaged, or something else.
    """
    if not path.is_file():  # a pipe would be waited for
        raise TrainingError(f"{path}: missing, or no regular file; start without --resume")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except BROKEN_PICKLE as error:
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(f"{path}: damaged ({reason}); start without --resume") from error
    except pickle.UnpicklingError as error:
        raise TrainingError(f"{path}: damaged, or no checkpoint of a training; start without --resume") from error
    if not isinstance(state, dict):
        raise TrainingError(f"{path}: holds no training's state; start without --resume")
    return state
