"""Output for people at a terminal, and for pipes and NO_COLOR."""

import os
import pty
import subprocess
import sys

import pytest

from partrm.commands.console import progress_bar

BAR = """
from partrm.commands.console import progress_bar
with progress_bar("samples", 3) as advance:
    advance(); advance(); advance()
"""


def at_a_terminal(command: list[str], **environment: str) -> bytes:
    """What a command writes to a terminal, both streams."""
    parent, child = pty.openpty()
    env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")} | {"TERM": "xterm-256color"}
    process = subprocess.Popen(command, stdout=child, stderr=child, stdin=child, env=env | environment)
    os.close(child)
    written = b""
    while True:
        try:
            chunk = os.read(parent, 65536)
        except OSError:  # Linux says so when the last writer has gone
            break
        if not chunk:
            break
        written += chunk
    process.wait(timeout=60)
    os.close(parent)
    return written


def test_bars_are_drawn_at_a_terminal_and_not_in_a_pipe():
    command = [sys.executable, "-c", BAR]
    assert b"3/3" in at_a_terminal(command)
    piped = subprocess.run(command, capture_output=True, check=True)
    assert (piped.stdout, piped.stderr) == (b"", b"")


def test_a_quiet_bar_still_counts():
    with progress_bar("samples", 2) as advance:
        advance()
        advance()


@pytest.mark.parametrize("arguments", [["verify", "--help"], ["predict", "--nonsense"]])
def test_no_color_is_kept(arguments):
    command = [sys.executable, "-m", "partrm", *arguments]
    assert b"\x1b[" not in at_a_terminal(command, NO_COLOR="1")


def test_colours_are_there_without_it():
    assert b"\x1b[" in at_a_terminal([sys.executable, "-m", "partrm", "verify", "--help"])
