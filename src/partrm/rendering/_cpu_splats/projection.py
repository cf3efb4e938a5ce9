"""Numba kernels that project 3D Gaussians to splats in an image, and the gradient of that.

EWA projection (Zwicker et al. 2001) as in 3D Gaussian Splatting (Kerbl et al. 2023). Like the authors' rasterizer (and
unlike gsplat), a splat is cut to the 16-pixel blocks that the square of 3 standard deviations around it touches; that
reproduces its images to 4e-6. Kernels release the GIL; ``_cpu_splats`` runs them on threads. ``no_type_check`` keeps
the shape checks of the test run out of what numba compiles.

Arrays are C-contiguous float32 unless said otherwise. A row of ``splats`` holds what blending needs of one Gaussian in
one image: centre x, y (pixels), inverse 2D covariance a, b, c, log2 opacity, depth (0 when culled), extent in y
(pixels). A row of ``flat_grads`` holds the gradient to centre x, y, a, b, c, log opacity and red, green, blue. A row of
``grads`` holds the gradient to mean, opacity, scale, quaternion and colour.
"""

import math
from typing import no_type_check

import numpy as np
from numba import njit

from partrm.geometry.kernel_cache import KEEP

TILE = 8
"""Side of a tile, pixels: two rows of a tile fill one 512-bit vector."""
X, Y, A, B, C, LOG2_OPACITY, DEPTH, EXTENT_Y, SPLAT_WIDTH = range(9)
GRAD_X, GRAD_Y, GRAD_A, GRAD_B, GRAD_C, GRAD_LOG_OPACITY, GRAD_RED, GRAD_GREEN, GRAD_BLUE, FLAT_GRAD_WIDTH = range(10)
MIN_ALPHA = 1 / 255
"""A splat contributes nothing where its alpha is smaller."""

_BLOCK = 16


@njit(cache=KEEP, nogil=True, inline="always")
@no_type_check
def _rotation(w, x, y, z):
    """Rows of the rotation matrix of a unit quaternion."""
    return (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )


@njit(cache=KEEP, nogil=True, error_model="numpy")
@no_type_check
def _axes_in_camera(quat, scale, T_camera_world, M, WR):
    """WR = camera rotation x Gaussian rotation, M = WR diag(scale); returns the unit quaternion and its old norm."""
    norm = max(math.sqrt(quat[0] ** 2 + quat[1] ** 2 + quat[2] ** 2 + quat[3] ** 2), 1e-12)
    w, x, y, z = quat[0] / norm, quat[1] / norm, quat[2] / norm, quat[3] / norm
    R = _rotation(w, x, y, z)
    for i in range(3):
        for k in range(3):
            WR[i, k] = T_camera_world[i, 0] * R[0][k] + T_camera_world[i, 1] * R[1][k] + T_camera_world[i, 2] * R[2][k]
            M[i, k] = WR[i, k] * scale[k]
    return w, x, y, z, norm


@njit(cache=KEEP, nogil=True, inline="always")
@no_type_check
def _to_camera(T, mean):
    """A world point in the camera's frame."""
    return (
        T[0, 0] * mean[0] + T[0, 1] * mean[1] + T[0, 2] * mean[2] + T[0, 3],
        T[1, 0] * mean[0] + T[1, 1] * mean[1] + T[1, 2] * mean[2] + T[1, 3],
        T[2, 0] * mean[0] + T[2, 1] * mean[1] + T[2, 2] * mean[2] + T[2, 3],
    )


@njit(cache=KEEP, nogil=True, error_model="numpy")
@no_type_check
def project(means, quats, scales, opacities, T_camera_world, focal_px, width, height, low_pass_px, near, splats, tiles):
    """Project all Gaussians: fills ``splats`` [n, 8] and their tile ranges ``tiles`` [n, 4] (x0, y0, x1, y1; int32)."""
    lim_x, lim_y = 0.65 * width / focal_px, 0.65 * height / focal_px
    M, WR = np.empty((3, 3)), np.empty((3, 3))
    for g in range(means.shape[0]):
        splats[g, DEPTH] = 0.0
        tiles[g, 0] = tiles[g, 1] = tiles[g, 2] = tiles[g, 3] = 0
        x, y, z = _to_camera(T_camera_world, means[g])
        if not (z >= near and opacities[g] >= MIN_ALPHA):
            continue
        _axes_in_camera(quats[g], scales[g], T_camera_world, M, WR)
        u, v = min(max(x / z, -lim_x), lim_x), min(max(y / z, -lim_y), lim_y)
        xx, xy, yy = float(low_pass_px), 0.0, float(low_pass_px)
        for k in range(3):
            row_x, row_y = focal_px / z * (M[0, k] - u * M[2, k]), focal_px / z * (M[1, k] - v * M[2, k])
            xx += row_x * row_x
            xy += row_x * row_y
            yy += row_y * row_y
        det = xx * yy - xy * xy
        if not (det > 0 and math.isfinite(det)):
            continue
        px, py = focal_px * x / z + 0.5 * width, focal_px * y / z + 0.5 * height
        extent = math.sqrt(2 * math.log(opacities[g] / MIN_ALPHA))
        ex, ey = extent * math.sqrt(xx), extent * math.sqrt(yy)
        if not (px + ex > 0 and px - ex < width and py + ey > 0 and py - ey < height):
            continue
        splats[g, X], splats[g, Y] = px, py
        splats[g, A], splats[g, B], splats[g, C] = yy / det, -xy / det, xx / det
        splats[g, LOG2_OPACITY] = math.log2(opacities[g])
        splats[g, DEPTH], splats[g, EXTENT_Y] = z, ey
        half = 0.5 * (xx + yy)
        radius = math.ceil(3 * math.sqrt(half + math.sqrt(max(half * half - det, 0.1))))
        tiles[g, 0], tiles[g, 2] = _tile_range(px, ex, radius, width)
        tiles[g, 1], tiles[g, 3] = _tile_range(py, ey, radius, height)


@njit(cache=KEEP, nogil=True, error_model="numpy")
@no_type_check
def _tile_range(centre, extent, radius, size):
    """Tiles along one axis within ``extent`` of the centre and in a block that ``radius`` reaches, half open."""
    per_block = _BLOCK // TILE
    first = max(int(max(centre - extent, 0.0) / TILE), int(max(centre - 0.5 - radius, 0.0) / _BLOCK) * per_block)
    block_end = int(max(centre - 0.5 + radius + _BLOCK - 1, 0.0) / _BLOCK)
    last = min(int(min(centre + extent, size) / TILE) + 1, block_end * per_block, (size + TILE - 1) // TILE)
    return first, max(last, first)


@njit(cache=KEEP, nogil=True, error_model="numpy")
@no_type_check
def project_backward(
    means, quats, scales, opacities, T_camera_world, focal_px, width, height, splats, flat_grads, first, last, grads
):
    """Add the gradient of :func:`project` for Gaussians ``first`` to ``last`` to ``grads`` [n, 14].

    ``flat_grads`` [parts, n, 9] is summed over its parts. Camera parameters receive no gradient.
    """
    lim_x, lim_y = 0.65 * width / focal_px, 0.65 * height / focal_px
    M, WR, v_M, v_R = np.empty((3, 3)), np.empty((3, 3)), np.empty((3, 3)), np.empty((3, 3))
    U, v_U, flat = np.empty((2, 3)), np.empty((2, 3)), np.empty(FLAT_GRAD_WIDTH)
    T = T_camera_world
    for g in range(first, last):
        if splats[g, DEPTH] == 0:
            continue
        for i in range(FLAT_GRAD_WIDTH):
            flat[i] = 0.0
            for part in range(flat_grads.shape[0]):
                flat[i] += flat_grads[part, g, i]
        x, y, z = _to_camera(T, means[g])
        qw, qx, qy, qz, norm = _axes_in_camera(quats[g], scales[g], T, M, WR)
        u, v = min(max(x / z, -lim_x), lim_x), min(max(y / z, -lim_y), lim_y)
        fz = focal_px / z
        for k in range(3):
            U[0, k], U[1, k] = fz * (M[0, k] - u * M[2, k]), fz * (M[1, k] - v * M[2, k])
        v_xx, v_xy, v_yy = _inverse_backward(splats[g], flat)
        v_u = v_v = v_fz = 0.0
        for k in range(3):
            v_U[0, k], v_U[1, k] = 2 * (v_xx * U[0, k] + v_xy * U[1, k]), 2 * (v_xy * U[0, k] + v_yy * U[1, k])
            v_M[0, k], v_M[1, k] = fz * v_U[0, k], fz * v_U[1, k]
            v_M[2, k] = -fz * (u * v_U[0, k] + v * v_U[1, k])
            v_u -= fz * M[2, k] * v_U[0, k]
            v_v -= fz * M[2, k] * v_U[1, k]
            v_fz += (v_U[0, k] * U[0, k] + v_U[1, k] * U[1, k]) / fz
        v_u = v_u if abs(x / z) <= lim_x else 0.0
        v_v = v_v if abs(y / z) <= lim_y else 0.0
        v_x, v_y = fz * flat[GRAD_X] + v_u / z, fz * flat[GRAD_Y] + v_v / z
        v_z = -(v_x * x + v_y * y + fz * v_fz) / z
        for i in range(3):
            grads[g, i] += T[0, i] * v_x + T[1, i] * v_y + T[2, i] * v_z
            grads[g, 4 + i] += WR[0, i] * v_M[0, i] + WR[1, i] * v_M[1, i] + WR[2, i] * v_M[2, i]
            grads[g, 11 + i] += flat[GRAD_RED + i]
            for k in range(3):
                v_R[i, k] = (T[0, i] * v_M[0, k] + T[1, i] * v_M[1, k] + T[2, i] * v_M[2, k]) * scales[g, k]
        grads[g, 3] += flat[GRAD_LOG_OPACITY] / opacities[g]
        v_q = _rotation_backward(qw, qx, qy, qz, v_R)
        radial = qw * v_q[0] + qx * v_q[1] + qy * v_q[2] + qz * v_q[3]
        grads[g, 7] += (v_q[0] - radial * qw) / norm
        grads[g, 8] += (v_q[1] - radial * qx) / norm
        grads[g, 9] += (v_q[2] - radial * qy) / norm
        grads[g, 10] += (v_q[3] - radial * qz) / norm


@njit(cache=KEEP, nogil=True, inline="always")
@no_type_check
def _inverse_backward(splat, flat):
    """Gradient to the covariance entries (xx, half of xy, yy) from that to its inverse: -S V S."""
    a, b, c = splat[A], splat[B], splat[C]
    va, vb, vc = flat[GRAD_A], 0.5 * flat[GRAD_B], flat[GRAD_C]
    left_a, left_b, left_c, left_d = a * va + b * vb, a * vb + b * vc, b * va + c * vb, b * vb + c * vc
    return -(left_a * a + left_b * b), -(left_a * b + left_b * c), -(left_c * b + left_d * c)


@njit(cache=KEEP, nogil=True, inline="always")
@no_type_check
def _rotation_backward(w, x, y, z, V):
    """Gradient to a quaternion from the gradient V to the entries of :func:`_rotation`."""
    return (
        2 * (x * (V[2, 1] - V[1, 2]) + y * (V[0, 2] - V[2, 0]) + z * (V[1, 0] - V[0, 1])),
        2 * (w * (V[2, 1] - V[1, 2]) + y * (V[0, 1] + V[1, 0]) + z * (V[0, 2] + V[2, 0]) - 2 * x * (V[1, 1] + V[2, 2])),
        2 * (w * (V[0, 2] - V[2, 0]) + x * (V[0, 1] + V[1, 0]) + z * (V[1, 2] + V[2, 1]) - 2 * y * (V[0, 0] + V[2, 2])),
        2 * (w * (V[1, 0] - V[0, 1]) + x * (V[0, 2] + V[2, 0]) + y * (V[1, 2] + V[2, 1]) - 2 * z * (V[0, 0] + V[1, 1])),
    )
