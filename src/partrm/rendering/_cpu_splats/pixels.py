"""A numba kernel that makes bytes of rendered images in one pass, the same ones as PyTorch's operations do."""

from typing import no_type_check

import numpy as np
from numba import njit

from partrm.geometry.kernel_cache import KEEP

_ZERO, _ONE, _MOST = np.float32(0), np.float32(1), np.float32(255)


@no_type_check
@njit(nogil=True, cache=KEEP)
def _byte(value):
    return np.uint8(np.rint(min(max(value, _ZERO), _ONE) * _MOST))


@no_type_check
@njit(nogil=True, cache=KEEP)
def straight_bytes(rgb, alpha, background, out):
    """Colours [v, 3, h, w] on a background [3] and their opacity [v, h, w] as straight RGBA bytes [v, h, w, 4]."""
    views, _, height, width = rgb.shape
    for v in range(views):
        for y in range(height):
            for x in range(width):
                opacity = alpha[v, y, x]
                out[v, y, x, 3] = _byte(opacity)
                for channel in range(3):
                    if opacity > _ZERO:
                        own = rgb[v, channel, y, x] - (_ONE - opacity) * background[channel]
                        out[v, y, x, channel] = _byte(own / opacity)
                    else:
                        out[v, y, x, channel] = 0
