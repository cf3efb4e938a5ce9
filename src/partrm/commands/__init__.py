"""One module a subcommand of ``partrm``; its function's signature is the command line, its docstring the help."""

from partrm.errors import PartRMError


class UsageError(PartRMError):
    """Arguments that are wrong whatever the files hold: exit code 2."""
