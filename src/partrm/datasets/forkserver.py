"""Imported first by the process that forks workers: it removes the folder of its own socket when it ends.

A command that is killed cannot remove that folder, which multiprocessing makes among the temporary files. The process
that forks ends after the command and all workers, so that it can.
"""

import atexit
import os
import shutil
import sys

FOLDER = "PARTRM_FORKSERVER_FOLDER"
"""Variable of the environment that names the folder."""


def _remove(folder: str, process: int) -> None:
    if os.getpid() == process:  # no worker forked from it
        shutil.rmtree(folder, ignore_errors=True)


if FOLDER in os.environ and any("multiprocessing.forkserver" in word for word in sys.orig_argv):
    atexit.register(_remove, os.environ[FOLDER], os.getpid())
