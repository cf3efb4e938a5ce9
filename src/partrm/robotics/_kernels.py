"""Numba kernel of the grasps: how deep an open gripper comes at many orientations.

``no_type_check`` keeps the shape checks of the test run out of what numba compiles.
"""

from typing import no_type_check

import numpy as np
from numba import njit

from partrm.geometry.kernel_cache import KEEP

PAD_CELLS = 4
"""Of a pad along each of its sides."""

BEHIND_M, FLAT_M = 0.004, 0.0015
"""So far go the tips beyond a part that ends between the fingers; so near to a pad is what it touches."""


@njit(cache=KEEP, nogil=True)
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
        [r, 7] the middle of the part between the fingers along y; along z where the part begins, how deep the tips come
        (infinite where there is nothing) and where they best stop, so that a bar is between the pads and not behind
        them; points of the part between the fingers; how much the steeper of the two surfaces that the fingers close on
        leans (tangent); of where something is before a pad, the share that touches it, the lesser of the two.
    """
    pad, wide, thick, length, palm_x, palm_y = sizes
    found = np.empty((len(rotations), 7))
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
        held, low, high, back = 0, np.inf, -np.inf, -np.inf
        for i in range(len(points)):
            x, y = abs(local[i, 0]), local[i, 1] - shift
            if moving[i] and x < pad and abs(y) < half - clearance and local[i, 2] < tip:
                held += 1
                low, high, back = min(low, y), max(high, y), max(back, local[i, 2])
        end, middle = min(tip, back + BEHIND_M), 0.5 * (low + high)
        outer = np.full((2, PAD_CELLS, PAD_CELLS), -np.inf)
        sums = np.zeros((2, 9))
        for i in range(len(points)):
            x, y, z = local[i, 0], local[i, 1] - shift, local[i, 2]
            if moving[i] and abs(x) < pad and abs(y) < half - clearance and z < tip:
                above = 1 if y > middle else 0
                across, along = int((x / pad + 1) * PAD_CELLS / 2), int((end - z) / pad * PAD_CELLS / 2)
                if 0 <= across < PAD_CELLS and 0 <= along < PAD_CELLS:
                    outer[above, across, along] = max(outer[above, across, along], abs(y - middle))
                side = sums[above]
                side += np.array([1.0, x, y, z, x * x, x * z, z * z, x * y, z * y])
        lean = max(_lean(sums[0]), _lean(sums[1]))
        touching = min(_touching(outer[0]), _touching(outer[1]))
        found[r] = np.array([shift, front[strays], tip, end, held, lean, touching])
    return found


@njit(cache=KEEP, nogil=True)
@no_type_check
def _touching(outer):
    """Share of a pad's cells, of those with a surface before them, that touch when it meets the highest."""
    first, some, near = outer.max(), 0, 0
    for value in outer.ravel():
        some += value > -np.inf
        near += value > -np.inf and value > first - FLAT_M
    return near / max(some, 1)


@njit(cache=KEEP, nogil=True)
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


@njit(cache=KEEP, nogil=True)
@no_type_check
def _insert(smallest, value, last):
    """Keep the ``last + 1`` smallest values, in order."""
    if value < smallest[last]:
        at = last
        while at > 0 and smallest[at - 1] > value:
            smallest[at] = smallest[at - 1]
            at -= 1
        smallest[at] = value
