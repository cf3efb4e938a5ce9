"""The one error type: what goes wrong for a reason that a user can mend."""


class PartRMError(ValueError):
    """The base of every error that this package raises on purpose.

    The message is one line: where, what is wrong, and how to mend it. Each module defines its own children of it.
    """
