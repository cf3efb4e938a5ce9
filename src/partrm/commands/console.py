"""Where commands print: paths and reasons as they are, whatever brackets and colons they have."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

    from partrm.evaluation.session import Listener


def plain_console(stderr: bool = False) -> Console:
    """A console that neither colours, wraps nor reads markup in what it is given.

    Args:
        stderr: print on standard error: standard output is a script's, for JSON alone.
    """
    return Console(stderr=stderr, highlight=False, soft_wrap=True, markup=False, emoji=False)


def quiet_progress(*columns: "ProgressColumn") -> "Progress":
    """Bars on standard error that draw nothing where it is no terminal: logs and pipes get the results alone."""
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(*columns, console=console, disable=not console.is_terminal)


@contextmanager
def progress_bar(what: str, total: int, completed: int = 0) -> Iterator[Callable[[], None]]:
    """A bar while the block runs; gives what advances it by one."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with quiet_progress(*columns) as progress:
        task = progress.add_task(what, total=total, completed=completed)
        yield lambda: progress.advance(task)


@contextmanager
def counting_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar while the block runs; gives what sets how many are done, and of how many."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with quiet_progress(*columns) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def evaluation_listener(json: bool = False) -> "Listener":
    """Shows an evaluation's progress on standard error and its results on standard output.

    Args:
        json: results go to standard error too.
    """
    from partrm.evaluation.session import Listener

    return Listener(plain_console(stderr=json).print, Console(stderr=True).print, progress_bar)
