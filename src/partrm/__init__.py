"""PartRM: part-level dynamics of articulated objects from images and drags."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from partrm.api import PartRM

__version__ = "0.1.0"

__all__ = ["PartRM", "__version__"]


def __getattr__(name: str) -> Any:
    """``PartRM``, loaded when it is first used: ``--version`` and ``--help`` need no torch."""
    if name == "PartRM":
        from partrm.api import PartRM

        return PartRM
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
