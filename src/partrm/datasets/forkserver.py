"""Imported first by the process that forks workers: it removes the folder of its own socket when it ends.

A command that is killed cannot remove that folder, which multiprocessing makes among the temporary files. The process
that forks ends after the command and all workers, so that it can.
"""

import atexit
import os
import re
import shutil
import socket
import sys
import time

STARTED = re.compile(r"multiprocessing\.forkserver import main; main\((?:listener_fd=)?(\d+)")
"""In the command line of the process that forks: the number of its socket."""


def folder_of_socket(words: list[str]) -> str | None:
    """The folder that multiprocessing made for the socket of this process; None where this is no process that forks.

    Args:
        words: of its command line.
    """
    found = next((found for word in words if (found := STARTED.search(word))), None)
    if found is None:
        return None
    with socket.socket(socket.AF_UNIX, fileno=os.dup(int(found[1]))) as listener:
        folder = os.path.dirname(listener.getsockname())
    return folder if os.path.basename(folder).startswith("pymp-") else None


DYING_S = 0.5
"""How long a command whose files are closed may take until it is gone."""


def _remove(folder: str, process: int, parent: int) -> None:
    """At the end of the process that forks, not of a worker; a command that lives removes its folder itself."""
    if os.getpid() != process:
        return
    until = time.monotonic() + DYING_S
    while os.getppid() == parent and time.monotonic() < until:
        time.sleep(0.005)
    if os.getppid() != parent:
        shutil.rmtree(folder, ignore_errors=True)


if (FOLDER := folder_of_socket(sys.orig_argv)) is not None:
    atexit.register(_remove, FOLDER, os.getpid(), os.getppid())
    sys.excepthook = lambda *error: None  # where it cannot fork, the command says so in its own words
