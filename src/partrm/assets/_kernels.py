"""Numba kernels of the assets: Gaussians on a grid, triangles on an image, boxes of cells and cells that boxes meet.

``no_type_check`` keeps the shape checks of the test run out of what numba compiles.
"""

from itertools import permutations
from typing import no_type_check

import numpy as np
from numba import njit

from partrm.geometry.kernel_cache import KEEP

REACH = 3.0
"""Standard deviations after which a Gaussian ends."""

ORDERS = np.array(list(permutations(range(3))))
"""Of the axes along which a box grows."""


@njit(cache=KEEP, nogil=True, error_model="numpy")
@no_type_check
def accumulate(means, rotations, scales, opacities, rgb, low, voxel, density, colors):
    """Add opacity-weighted Gaussians to ``density`` [x, y, z], and their weighted RGB to ``colors`` [x, y, z, 3]."""
    for k in range(means.shape[0]):
        first, last = np.zeros(3, np.int64), np.zeros(3, np.int64)
        for i in range(3):
            spread = 0.0
            for j in range(3):
                spread += (rotations[k, i, j] * scales[k, j]) ** 2
            spread = REACH * np.sqrt(spread)
            first[i] = max(0, int(np.ceil((means[k, i] - spread - low[i]) / voxel)))
            last[i] = min(density.shape[i] - 1, int(np.floor((means[k, i] + spread - low[i]) / voxel)))
        for x in range(first[0], last[0] + 1):
            dx = low[0] + x * voxel - means[k, 0]
            for y in range(first[1], last[1] + 1):
                dy = low[1] + y * voxel - means[k, 1]
                for z in range(first[2], last[2] + 1):
                    dz = low[2] + z * voxel - means[k, 2]
                    squared = 0.0
                    for j in range(3):
                        along = rotations[k, 0, j] * dx + rotations[k, 1, j] * dy + rotations[k, 2, j] * dz
                        squared += (along / scales[k, j]) ** 2
                    weight = opacities[k] * np.exp(-0.5 * squared)
                    density[x, y, z] += weight
                    for c in range(3):
                        colors[x, y, z, c] += weight * rgb[k, c]


@njit(cache=KEEP, nogil=True, error_model="numpy")
@no_type_check
def rasterise(corners, width, height):
    """The nearest triangle at each pixel centre.

    Args:
        corners: [f, 3, 3] pixel coordinates and depth.
        width: of the image, pixels.
        height: likewise.

    Returns:
        face [h, w], -1 for none, and depth [h, w], infinite there.
    """
    face, depth = np.full((height, width), -1, np.int64), np.full((height, width), np.inf)
    for f in range(corners.shape[0]):
        a, b, c = corners[f, 0], corners[f, 1], corners[f, 2]
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if area == 0 or min(a[2], b[2], c[2]) <= 0:
            continue
        left, right = min(a[0], b[0], c[0]), max(a[0], b[0], c[0])
        top, bottom = min(a[1], b[1], c[1]), max(a[1], b[1], c[1])
        for y in range(max(0, int(np.floor(top))), min(height, int(np.ceil(bottom)) + 1)):
            for x in range(max(0, int(np.floor(left))), min(width, int(np.ceil(right)) + 1)):
                px, py = x + 0.5, y + 0.5
                v = ((px - a[0]) * (c[1] - a[1]) - (py - a[1]) * (c[0] - a[0])) / area
                w = ((b[0] - a[0]) * (py - a[1]) - (b[1] - a[1]) * (px - a[0])) / area
                u = 1 - v - w
                if u < 0 or v < 0 or w < 0:
                    continue
                # Depth is linear in the image only as its inverse.
                z = 1 / (u / a[2] + v / b[2] + w / c[2])
                if z < depth[y, x]:
                    face[y, x], depth[y, x] = f, z
    return face, depth


@njit(cache=KEEP, nogil=True, error_model="numpy")
@no_type_check
def texel_points(triangles, uv, face, rows, columns, size):
    """Points [n, 3] of triangles [f, 3, 3], whose corners have UVs [f, 3, 2], at the centres of texels.

    A centre outside of its triangle, as rounding may have it, is drawn to its edge.

    Args:
        triangles: corners.
        uv: of the corners; v = 1 at the image's top.
        face: [n] the texels' triangles.
        rows: [n] of the texels.
        columns: likewise.
        size: side of the image, pixels.
    """
    points = np.empty((face.shape[0], 3))
    for n in range(face.shape[0]):
        corners, t = uv[face[n]], triangles[face[n]]
        a, b = corners[1, 0] - corners[0, 0], corners[1, 1] - corners[0, 1]
        c, d = corners[2, 0] - corners[0, 0], corners[2, 1] - corners[0, 1]
        p = (columns[n] + 0.5) / size - corners[0, 0]
        q = 1 - (rows[n] + 0.5) / size - corners[0, 1]
        area = a * d - b * c
        if abs(area) < 1e-15:
            area = 1e-15
        second = (p * d - q * c) / area
        third = (a * q - b * p) / area
        first = min(max(1 - second - third, 0.0), 1.0)
        second, third = min(max(second, 0.0), 1.0), min(max(third, 0.0), 1.0)
        total = first + second + third
        for i in range(3):
            points[n, i] = first / total * t[0, i] + second / total * t[1, i] + third / total * t[2, i]
    return points


@njit(cache=KEEP, nogil=True, error_model="numpy")
@no_type_check
def cells_hit(points, reach, centres, halves, inverse):
    """Which cubes (centres [n, 3], half side ``reach``) boxes meet in each pose (inverted) [steps, 4, 4]."""
    found = np.zeros((inverse.shape[0], points.shape[0]), np.bool_)
    for s in range(inverse.shape[0]):
        T = inverse[s]
        # A cube's extent along the turned axes of the boxes.
        e = np.empty(3)
        for i in range(3):
            e[i] = reach * (abs(T[i, 0]) + abs(T[i, 1]) + abs(T[i, 2]))
        for n in range(points.shape[0]):
            p = points[n]
            x = T[0, 0] * p[0] + T[0, 1] * p[1] + T[0, 2] * p[2] + T[0, 3]
            y = T[1, 0] * p[0] + T[1, 1] * p[1] + T[1, 2] * p[2] + T[1, 3]
            z = T[2, 0] * p[0] + T[2, 1] * p[1] + T[2, 2] * p[2] + T[2, 3]
            for b in range(centres.shape[0]):
                if (
                    abs(x - centres[b, 0]) < halves[b, 0] + e[0]
                    and abs(y - centres[b, 1]) < halves[b, 1] + e[1]
                    and abs(z - centres[b, 2]) < halves[b, 2] + e[2]
                ):
                    found[s, n] = True
                    break
    return found


@njit(cache=KEEP, nogil=True)
@no_type_check
def grown_boxes(free, found):
    """Boxes of free cells [x, y, z], which are taken from it: how many, their corners in ``found`` [most, 2, 3].

    The first free cell grows along the axes in the order that makes it largest, and so on.
    """
    count, high, end = 0, np.empty(3, np.int64), np.empty(3, np.int64)
    for x in range(free.shape[0]):
        for y in range(free.shape[1]):
            for z in range(free.shape[2]):
                if not free[x, y, z]:
                    continue
                largest = 0
                for n in range(ORDERS.shape[0]):
                    high[0], high[1], high[2] = x + 1, y + 1, z + 1
                    for m in range(3):
                        axis = ORDERS[n, m]
                        for i in range(3):
                            end[i] = high[i]
                        while end[axis] < free.shape[axis] and _free_behind(free, x, y, z, end, axis):
                            end[axis] += 1
                        high[axis] = end[axis]
                    size = (high[0] - x) * (high[1] - y) * (high[2] - z)
                    if size > largest:
                        largest = size
                        for i in range(3):
                            found[count, 1, i] = high[i]
                found[count, 0, 0], found[count, 0, 1], found[count, 0, 2] = x, y, z
                for a in range(x, found[count, 1, 0]):
                    for b in range(y, found[count, 1, 1]):
                        for c in range(z, found[count, 1, 2]):
                            free[a, b, c] = False
                count += 1
    return count


@njit(cache=KEEP, nogil=True)
@no_type_check
def _free_behind(free, x, y, z, end, axis):
    """Whether the layer of cells behind a box, from x, y, z to ``end``, is free along an axis."""
    a, b, c = end[0], end[1], end[2]
    if axis == 0:
        x, a = a, a + 1
    elif axis == 1:
        y, b = b, b + 1
    else:
        z, c = c, c + 1
    for i in range(x, a):
        for j in range(y, b):
            for k in range(z, c):
                if not free[i, j, k]:
                    return False
    return True
