"""Whether compiled kernels can be kept for the next start."""

import warnings

from numba import njit

from partrm.errors import PartRMWarning


def _kernel(x: float) -> float:
    return x


def _can_keep() -> bool:
    try:
        njit(cache=True)(_kernel)
    except RuntimeError:
        warnings.warn(
            "kernels are compiled anew at each start: neither the installation nor a cache folder can be written; "
            "set NUMBA_CACHE_DIR to a folder that can",
            PartRMWarning,
            stacklevel=2,
        )
        return False
    return True


KEEP = _can_keep()
"""numba's ``cache``: a read-only installation without a home folder has no place for it."""
