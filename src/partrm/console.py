"""Where commands print: paths and reasons as they are, whatever brackets and colons they have."""

from rich.console import Console


def plain_console() -> Console:
    """A console on standard output that neither colours, wraps nor reads markup in what it is given."""
    return Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
