"""The one error type: what goes wrong for a reason that a user can mend."""

import re
import struct
import sys
import warnings
from typing import Any


class PartRMError(ValueError):
    """The base of every error that this package raises on purpose.

    The message is one line: where, what is wrong, and how to mend it. Each module defines its own children of it.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


def printable(text: str) -> str:
    """A text in one line: what no terminal should be sent (ends of lines, escapes, surrogates) as Python writes it."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class PartRMWarning(UserWarning):
    """What went on in another way than asked for, or looks odd; one line, for the user."""


def show_our_warnings(speaker: str) -> None:
    """From now on warnings of ours are one line on standard error, those of others as they are.

    Args:
        speaker: begins the line.
    """
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *rest: Any) -> None:
        if issubclass(category, PartRMWarning):
            print(f"{speaker}: {printable(str(message))}", file=sys.stderr)
        else:
            usual(message, category, *rest)

    warnings.showwarning = show


class ConfigError(PartRMError):
    """A setting that has no meaning, or that another one excludes; raised where the settings are put together."""


BROKEN_PICKLE = (
    OSError, RuntimeError, ValueError, LookupError, EOFError, AttributeError, TypeError, AssertionError,
    ArithmeticError, NameError, struct.error,
)  # fmt: skip
"""What ``torch.load`` raises of damaged files, beside its own errors: it takes their bytes at their word."""


SHORTAGES = (
    (
        re.compile("can't allocate memory|out of memory|could not create a primitive|failed to map segment"),
        "out of memory ({}); free some, or do less at once",
    ),
    (
        re.compile("can't start new thread|Resource temporarily unavailable"),
        "no further process or thread can be started ({}); raise the limits (ulimit -u and -v, or the container's)",
    ),
    (re.compile("Too many open files"), "too many files are open ({}); raise the limit (ulimit -n)"),
    (re.compile("unable to resize file.*File too large"), "shared memory is limited in size here ({}; ulimit -f)"),
)
"""What libraries say where the machine or a limit of it leaves too little, and what we say."""


def shortage_in(text: str) -> str | None:
    """What the machine has too little of, if a text of a library says so: one line."""
    return next((words.format(text[:200]) for pattern, words in SHORTAGES if pattern.search(text)), None)


def told_shortage(error: BaseException) -> str | None:
    """What the machine has too little of, if that is why something failed: one line.

    Args:
        error: looked at with all that it comes from.
    """
    cause: BaseException | None = error
    while cause is not None:
        text = " ".join(str(cause).split())[:400]
        if isinstance(cause, MemoryError):
            return SHORTAGES[0][1].format(text[:200] or type(cause).__name__)
        if (told := shortage_in(text)) is not None:
            return told
        cause = cause.__cause__ or cause.__context__
    return None


def first_line(error: BaseException) -> str:
    """What an error of another library says first, or its name."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def require_ranges(settings: dict[str, tuple[int, int, int]]) -> None:
    """Refuse settings outside of their ranges.

    Args:
        settings: by option: its value, the least and the greatest that mean something.

    Raises:
        ConfigError: the first one outside.
    """
    for option, (value, least, greatest) in settings.items():
        if not least <= value <= greatest:
            raise ConfigError(f"{option} {value}: give {least} to {greatest}")
