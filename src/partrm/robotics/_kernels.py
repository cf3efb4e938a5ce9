"""Numba kernel of the grasps: how deep an open gripper comes at many orientations.

``no_type_check`` keeps the shape checks of the test run out of what numba compiles.
"""

from typing import no_type_check

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
@no_type_check
def depths(points, moving, rotations, half, sizes, clearance, strays, deep):
    """How an open gripper fits about one place at several orientations.

    Args:
        points: [k, 3] about the place, which is the origin; metres.
        moving: [k] which are the part's.
        rotations: [r, 3, 3] columns x, y, z of the gripper.
        half: of the opening.
        sizes: half width of the pads, half width of the fingers, their thickness, their length, half width of the
            palm, half length of the palm.
        clearance: to what must not be touched.
        strays: points in the way that are taken for noise; at most 7.
        deep: no farther do the tips go beyond where the part begins.

    Returns:
        [r, 5] the middle of the part between the fingers along y; along z where the part begins and where the tips
        stop (infinite where there is nothing); points of the part between the fingers above there; how much the steeper
        of the two surfaces that the fingers close on leans (tangent).
    """
    pad, wide, thick, length, palm_x, palm_y = sizes
    found = np.empty((len(rotations), 5))
    local = np.empty((len(points), 3))
    for r in range(len(rotations)):
        R = rotations[r]
        total, count = 0.0, 0
        for i in range(len(points)):
            for j in range(3):
                local[i, j] = points[i, 0] * R[0, j] + points[i, 1] * R[1, j] + points[i, 2] * R[2, j]
            x, y, z = abs(local[i, 0]), local[i, 1], local[i, 2]
            if moving[i] and x < pad and abs(y) < half and abs(z) < 0.02:
                total += y
                count += 1
        shift = total / count if count else 0.0
        front, stop, palm = np.full(8, np.inf), np.full(8, np.inf), np.full(8, np.inf)
        for i in range(len(points)):
            x, y, z = abs(local[i, 0]), abs(local[i, 1] - shift), local[i, 2]
            inner = x < pad and y < half - clearance
            if inner and moving[i]:
                _insert(front, z, strays)
            if (inner and not moving[i]) or (x < wide and half - clearance <= y < half + thick):
                _insert(stop, z, strays)
            if x < palm_x and y < palm_y:
                _insert(palm, z, strays)
        tip = min(min(stop[strays], palm[strays] + length) - clearance, front[strays] + deep)
        held, low, high = 0, np.inf, -np.inf
        for i in range(len(points)):
            x, y = abs(local[i, 0]), local[i, 1] - shift
            if moving[i] and x < pad and abs(y) < half - clearance and local[i, 2] < tip:
                held += 1
                low, high = min(low, y), max(high, y)
        sums = np.zeros((2, 9))
        for i in range(len(points)):
            x, y, z = local[i, 0], local[i, 1] - shift, local[i, 2]
            if moving[i] and abs(x) < pad and abs(y) < half - clearance and z < tip:
                side = sums[1 if y > 0.5 * (low + high) else 0]
                side += np.array([1.0, x, y, z, x * x, x * z, z * z, x * y, z * y])
        lean = max(_lean(sums[0]), _lean(sums[1]))
        found[r, 0], found[r, 1], found[r, 2], found[r, 3], found[r, 4] = shift, front[strays], tip, held, lean
    return found


@njit(cache=True, nogil=True)
@no_type_check
def _lean(sums):
    """Slope of y over x and z, by least squares from sums of 1, x, y, z, xx, xz, zz, xy, zy; slack of 1 mm."""
    n = sums[0]
    if n < 3:
        return 0.0
    x, y, z = sums[1] / n, sums[2] / n, sums[3] / n
    xx, xz, zz = sums[4] / n - x * x + 1e-6, sums[5] / n - x * z, sums[6] / n - z * z + 1e-6
    xy, zy = sums[7] / n - x * y, sums[8] / n - z * y
    det = xx * zz - xz * xz
    return np.hypot((zz * xy - xz * zy) / det, (xx * zy - xz * xy) / det)


@njit(cache=True, nogil=True)
@no_type_check
def _insert(smallest, value, last):
    """Keep the ``last + 1`` smallest values, in order."""
    if value < smallest[last]:
        at = last
        while at > 0 and smallest[at - 1] > value:
            smallest[at] = smallest[at - 1]
            at -= 1
        smallest[at] = value
