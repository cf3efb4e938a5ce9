"""What can be said about drags in pixels without the image, and without PyTorch, which takes a second to import."""

import math
from collections.abc import Sequence

from partrm.errors import PartRMError

MAX_DRAGS = 10
"""Most drags that one sample carries (the paper's number)."""

MIN_DRAG_PX = 1.0
"""A shorter drag has no direction."""

FARTHEST_PX = 1e7
"""Greatest coordinate of a drag: beyond the side of any image that is opened."""


class DragError(PartRMError):
    """A drag that cannot be used; the message says which and why."""


def check_drag_numbers(drags: Sequence[Sequence[float | int]]) -> None:
    """Refuse drags that no image has; see :func:`partrm.inference.source.check_drags`.

    Raises:
        DragError: too many or none, or one that is not four finite numbers, or of no length.
    """
    if not 1 <= len(drags) <= MAX_DRAGS:
        raise DragError(f"{len(drags)} drags given, needs 1 to {MAX_DRAGS}")
    for number, drag in enumerate(drags, start=1):
        if len(drag) != 4:
            raise DragError(f"drag {number}: has {len(drag)} values, needs 4: X0,Y0,X1,Y1")
        if not all(_is_finite(value) for value in drag):
            raise DragError(f"drag {number}: its values must be finite numbers")
        if max(abs(value) for value in drag) > FARTHEST_PX:
            raise DragError(f"drag {number}: it leads out of any image, give pixels of at most {FARTHEST_PX:g}")
        x0, y0, x1, y1 = drag
        if math.hypot(x1 - x0, y1 - y0) < MIN_DRAG_PX:
            raise DragError(f"drag {number}: start and end are the same point, drag at least {MIN_DRAG_PX:g} pixel")


def _is_finite(value: float | int) -> bool:
    try:
        return math.isfinite(value)
    except (TypeError, ValueError, OverflowError):  # a text, a list, a whole number beyond all floats
        return False
