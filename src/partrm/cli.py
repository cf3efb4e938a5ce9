"""The command line: ``partrm COMMAND ...``. Exit codes: 0 done, 1 it failed, 2 the arguments are wrong."""

import atexit
import errno
import gc
import importlib
import itertools
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from partrm import __version__
from partrm.commands import UsageError
from partrm.errors import ConfigError, PartRMError, printable, show_our_warnings, told_shortage


@dataclass(frozen=True)
class Command:
    """A subcommand; its module is imported only when it runs."""

    summary: str
    module: str
    """Holds the function, and DESCRIPTION, the help above its arguments."""
    function: str
    by_arguments: bool = False
    """Whether the function, given the arguments, answers with the command: its defaults depend on them."""


COMMANDS = {
    "predict": Command(
        "image(s) and drags in, moved 3D Gaussians and the joint out", "partrm.commands.predict", "predict"
    ),
    "export": Command(
        "a prediction as URDF, MuJoCo model, GLB and USD, with collision and mass", "partrm.commands.export", "export"
    ),
    "parts": Command(
        "the movable parts of an object in an image, found without a drag", "partrm.commands.parts", "parts"
    ),
    "view": Command("drag parts by mouse and watch them move in 3D, in the browser", "partrm.commands.view", "view"),
    "eval": Command("a model's figures on fixed samples", "partrm.commands.eval", "evaluate"),
    "data": Command("pack objects to train on; build, check and look at datasets", "partrm.commands.data", "data"),
    "train": Command("train a network on a pool of objects", "partrm.commands.train", "train", by_arguments=True),
    "import": Command("public PartRM or LGM weights to a model", "partrm.commands.importing", "import_weights"),
    "doctor": Command("what is installed, what runs here, and a self-test", "partrm.commands.doctor", "doctor"),
    "verify": Command("check this installation against golden files", "partrm.commands.verify", "verify"),
}

COMPLETION = "--tyro-print-completion"
FILE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)
"""Of files that cannot be written, or not be reached."""

READER_GONE = 141
"""Exit code when what reads a pipe has ended: the one that shells give to SIGPIPE."""
MIN_COLUMNS = 40
SHELLS = ("bash", "zsh")
"""Shells whose completion scripts tyro writes without another package."""

HELP = """usage: partrm COMMAND ... [--debug]

Part-level dynamics of articulated objects: drag a part in an image, get 3D Gaussians of the object
after the part has moved.

commands:
{commands}

partrm COMMAND --help tells more, with examples. --debug shows the traceback of a failure.
partrm --tyro-print-completion bash (or zsh) prints a completion script for your shell.

example:
  partrm predict microwave.png --drag 150,130,90,140 --out result
"""


ENDS_AT_ONCE = "predict", "parts", "export"
"""Commands that nothing follows but the freeing of memory once they are done."""


def entry() -> NoReturn:
    """``partrm`` on the command line: :func:`main`, and the end of the process.

    Where all went well what is registered to be done at the end is done, and the process ends without taking apart the
    modules of PyTorch, which lasts a fifth of a second.
    """
    code = main()
    if code == 0 and sys.argv[1] in ENDS_AT_ONCE:
        atexit._run_exitfuncs()
        os._exit(code)
    sys.exit(code)


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code; the reason of a failure goes to stderr in one line."""
    _open_closed_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    name, rest = (arguments or ["--help"])[0], arguments[1:]
    atexit.register(gc.freeze)  # the end of the process frees all there is: no looking for cycles in it first
    show_our_warnings(f"partrm {name}")
    try:
        with stopped_by_signals():
            if name in ("-h", "--help", "--version"):
                print(f"partrm {__version__}" if name == "--version" else help_text())
                code = 0 if arguments else 2
            else:
                _require_current_folder()
                code = print_completion(rest) if name == COMPLETION else run(name, rest)
            sys.stdout.flush()
            return code
    except Stopped as stop:
        print(f"partrm {name}: stopped by {signal.Signals(stop.number).name}", file=sys.stderr)
        return 128 + stop.number
    except KeyboardInterrupt:
        print(f"partrm {name}: interrupted", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever reads (`head`) has enough
        return READER_GONE
    except Exception as error:
        if debug:
            raise
        print(f"partrm {name}: {one_line(error)}", file=sys.stderr)
        return 2 if isinstance(error, (UsageError, ConfigError)) else 1
    finally:
        _drop_unwritable_output()


def help_text() -> str:
    """What ``partrm --help`` prints."""
    return HELP.format(commands="\n".join(f"  {name:9} {c.summary}" for name, c in COMMANDS.items())).rstrip("\n")


def _open_closed_streams() -> None:
    """Put nothing in the place of standard streams that the caller has closed: else files take their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the least number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))


def _drop_unwritable_output() -> None:
    """Let Python not complain once more, at its exit, of output that nobody takes or that the disk has no room for."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _require_current_folder() -> None:
    try:
        os.getcwd()
    except OSError as error:
        raise UsageError(f"the current folder cannot be used ({error.strerror}): change into another") from error


class Stopped(KeyboardInterrupt):
    """A signal that ends the process, once everything is cleaned up as on Ctrl+C."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP clean up as SIGINT does, unless the caller of the process has them ignored.

    Raises:
        Stopped: one came.
    """

    def stop(number: int, _: FrameType | None) -> None:
        for other in ours:
            signal.signal(other, signal.SIG_IGN)  # a second one must not cut the cleaning short
        raise Stopped(number)

    here = threading.current_thread() is threading.main_thread()
    known = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    ours = [number for number in known if here and signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def run(name: str, arguments: list[str]) -> int:
    """Import the command's module, read its arguments and call it.

    Raises:
        UsageError: no such command, or arguments that it does not take.
    """
    if name not in COMMANDS:
        raise UsageError(f"no such command; there are {', '.join(COMMANDS)}")
    # Threads of torch that spin while they wait take the cores from ours, and from all who share the machine; a
    # moment of it (libgomp's) lets them be there for the next small piece of work.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    for before, word in itertools.pairwise(["", *arguments]):
        if word == "" or (word.startswith("--") and word.find("=") == len(word) - 1):
            # As a path it would be the current folder.
            what = next((option for option in (word, before) if option.startswith("--")), "an argument").rstrip("=")
            raise UsageError(f"{what} is empty: give a value (is a variable of your shell not set?)")
    import tyro
    from rich.console import Console

    if Console().no_color:
        tyro._experimental_options["ansi_codes"] = False
    command = COMMANDS[name]
    module = importlib.import_module(command.module)
    function = getattr(module, command.function)
    if command.by_arguments:
        function = function(arguments)
    try:
        with _no_narrow_terminal():
            code = tyro.cli(function, prog=f"partrm {name}", description=module.DESCRIPTION, args=arguments)
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # rich makes this of it
            return READER_GONE
        # tyro has printed the help (0) or what is wrong with the arguments (2).
        return int(stop.code or 0)
    return int(code or 0)


@contextmanager
def _no_narrow_terminal() -> Iterator[None]:
    """While it lasts a terminal counts as :data:`MIN_COLUMNS` wide at least: in fewer tyro never ends."""
    usual = shutil.get_terminal_size

    def size(*fallback: tuple[int, int]) -> os.terminal_size:
        columns, lines = usual(*fallback)
        return os.terminal_size((max(columns, MIN_COLUMNS), lines))

    shutil.get_terminal_size = size
    try:
        yield
    finally:
        shutil.get_terminal_size = usual


def print_completion(shells: list[str]) -> int:
    """Print a script that completes all commands and their options.

    Raises:
        UsageError: not one of :data:`SHELLS`.
    """
    if len(shells) != 1 or shells[0] not in SHELLS:
        raise UsageError(f"give one shell: {' or '.join(SHELLS)}")
    import tyro

    functions = {}
    for name, command in COMMANDS.items():
        function = getattr(importlib.import_module(command.module), command.function)
        functions[name] = function([]) if command.by_arguments else function
    try:
        tyro.extras.subcommand_cli_from_dict(functions, prog="partrm", args=[COMPLETION, *shells])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def one_line(error: BaseException) -> str:
    """The reason of a failure; our own errors speak for themselves, others are named by their type."""
    text = printable(" ".join(str(error).split()))
    if isinstance(error, PartRMError) and text:
        return text
    if (short := told_shortage(error)) is not None:
        return short
    if isinstance(error, OSError) and error.errno in FILE_ERRORS:
        done = "read or written" if error.errno == errno.EACCES and error.filename else "written"
        return printable(f"{error.filename or 'a result'}: cannot be {done} ({error.strerror})")
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"{printable(str(error.filename)[:60])}...: no file has such a name ({error.strerror})"
    return f"{type(error).__name__}: {text} (--debug shows where)"
