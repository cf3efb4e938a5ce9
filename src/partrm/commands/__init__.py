"""One module a subcommand of ``partrm``; its function's signature is the command line, its docstring the help."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from partrm.errors import PartRMError


class UsageError(PartRMError):
    """Arguments that are wrong whatever the files hold: exit code 2."""


class ExtraMissingError(PartRMError):
    """A command that needs packages which the bare install has not."""


def require_extra(extra: str, *packages: str) -> None:
    """Find out before the work that an extra's packages are there.

    Args:
        extra: its name in ``pip install 'partrm[EXTRA]'``.
        packages: what is imported of it.

    Raises:
        ExtraMissingError: one of them is not installed.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise ExtraMissingError(f"this needs {', '.join(missing)}: pip install 'partrm[{extra}]'")


@contextmanager
def without_collecting() -> Iterator[None]:
    """While a short job runs, look for no garbage in cycles.

    The modules of torch are half a million objects, and looking through them while they are made and again and again
    afterwards takes half a second.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            if gc.get_freeze_count() == 0:
                # Together these count all that there is as looked through; else it would be now.
                gc.freeze()
                gc.unfreeze()
            gc.enable()
