"""The one error type: what goes wrong for a reason that a user can mend."""

import struct


class PartRMError(ValueError):
    """The base of every error that this package raises on purpose.

    The message is one line: where, what is wrong, and how to mend it. Each module defines its own children of it.
    """


class PartRMWarning(UserWarning):
    """What went on in another way than asked for, or looks odd; one line, for the user."""


class ConfigError(PartRMError):
    """A setting that has no meaning, or that another one excludes; raised where the settings are put together."""


BROKEN_PICKLE = (
    OSError, RuntimeError, ValueError, LookupError, EOFError, AttributeError, TypeError, AssertionError,
    ArithmeticError, NameError, struct.error,
)  # fmt: skip
"""What ``torch.load`` raises of damaged files, beside its own errors: it takes their bytes at their word."""


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
