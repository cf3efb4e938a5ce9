"""Ranks as the agent of ``torchrun`` starts them, and single processes, forked from one that has imported PyTorch.

Nobody imports PyTorch anew, as ``torchrun`` and each of its processes do; what the ranks see is the same.
"""

import signal
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess, current_process
from pathlib import Path

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from partrm.datasets.executors import worker_context

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""The agent takes them for itself, for good."""


def run_ranks(count: int, logs: Path, work: Callable[..., None], *arguments: str, restarts: int = 0) -> str:
    """Let each rank do ``work(*arguments)``, all again so often if one dies; what all of them printed.

    Raises:
        ChildFailedError: a rank failed.
    """
    assert worker_context("partrm.evaluation.parallel").get_start_method() == "forkserver"
    config = LaunchConfig(
        1, 1, count, DefaultLogsSpecs(str(logs), Std.ALL), rdzv_backend="c10d", rdzv_endpoint="localhost:0",
        run_id="ranks", max_restarts=restarts, monitor_interval=0.05, start_method="forkserver",
    )  # fmt: skip
    handlers = [signal.getsignal(number) for number in SIGNALS]
    try:
        elastic_launch(config, work)(*arguments)
    finally:
        for number, handler in zip(SIGNALS, handlers, strict=True):
            signal.signal(number, handler)
    return "".join(path.read_text() for path in sorted(logs.rglob("stdout.log")))


def begun(work: Callable[..., object], *arguments: object) -> BaseProcess:
    """A process of its own that does ``work(*arguments)``, already started."""
    process = worker_context("partrm.evaluation.parallel").Process(target=_as_a_command, args=(work, *arguments))
    process.start()
    return process


def _as_a_command(work: Callable[..., object], *arguments: object) -> None:
    # The folder of sockets that it inherits is of the process of the tests, which needs it longer.
    current_process()._config.pop("tempdir", None)  # pyright: ignore[reportAttributeAccessIssue]
    work(*arguments)


def command(*words: str) -> None:
    """``partrm WORDS`` by one rank, or a process of its own."""
    import torch

    from partrm.cli import main

    torch.set_num_threads(1)
    if code := main(list(words)):
        sys.exit(f"partrm {' '.join(words)}: exit {code}")
