"""Numba kernels that sort splats, bin them to tiles and blend them, and the gradient of blending.

Front-to-back blending of 3D Gaussian Splatting (Kerbl et al. 2023) with gsplat's constants: alpha at most 0.999,
contributions below 1/255 skipped, a pixel closed before its transmittance falls to 1e-4. Array layouts are those of
``projection``. The loops over the pixels of a tile are written so that LLVM vectorises them: one flat induction
variable, unsigned indices into one buffer, selections instead of branches. What becomes a float is cut to int32 first:
numba widens every sum to int64, for whose conversion AVX2 has no vector instruction. No value is stored that is perhaps
the one loaded: LLVM would make masked stores of that, which are slow.
"""

import math
from typing import no_type_check

import numpy as np
from numba import njit

from partrm.geometry.kernel_cache import KEEP
from partrm.rendering._cpu_splats.projection import (
    EXTENT_Y,
    GRAD_A,
    GRAD_B,
    GRAD_BLUE,
    GRAD_C,
    GRAD_GREEN,
    GRAD_LOG_OPACITY,
    GRAD_RED,
    GRAD_X,
    GRAD_Y,
    LOG2_OPACITY,
    MIN_ALPHA,
    TILE,
    A,
    B,
    C,
    X,
    Y,
)

_f = np.float32
_AREA = TILE * TILE
_GREEN, _BLUE, _T, _STOP = np.uintp(_AREA), np.uintp(2 * _AREA), np.uintp(3 * _AREA), np.uintp(4 * _AREA)
_V_ALPHA, _REST = np.uintp(5 * _AREA), np.uintp(6 * _AREA)
_LOG2_E = _f(math.log2(math.e))
_MAX_ALPHA, _MIN_ALPHA, _MIN_TRANSMITTANCE = _f(0.999), _f(MIN_ALPHA), _f(1e-4)
_CLOSED = _f(2.0)
_FAST = {"contract", "nsz", "arcp", "reassoc"}


@njit(cache=KEEP, nogil=True, inline="always")
@no_type_check
def _exp2(p):
    """2**p of a float32 between -100 and 100, relative error below 3e-7: exponent bits times a polynomial."""
    whole = np.int32(np.int32(p + _f(1000.5)) - np.int32(1000))
    r = p - _f(whole)
    y = _f(1.5403530e-4)
    y = y * r + _f(1.3333558e-3)
    y = y * r + _f(9.6181291e-3)
    y = y * r + _f(5.5504109e-2)
    y = y * r + _f(2.4022651e-1)
    y = y * r + _f(6.9314718e-1)
    y = y * r + _f(1.0)
    return y * np.int32((whole + np.int32(127)) << np.int32(23)).view(np.float32)


@njit(cache=KEEP, nogil=True)
@no_type_check
def sort_by_depth(depth_bits):
    """Indices of the nonzero depths from near to far, stable: radix sort of positive float32 given as uint32 bits."""
    count = 0
    order = np.empty(depth_bits.shape[0], np.int32)
    for g in range(depth_bits.shape[0]):
        if depth_bits[g] != 0:
            order[count] = g
            count += 1
    order = order[:count]
    other = np.empty_like(order)
    for shift in (0, 11, 22):
        starts = np.zeros(2049, np.int64)
        for i in range(count):
            starts[((depth_bits[order[i]] >> shift) & 2047) + 1] += 1
        for d in range(2048):
            starts[d + 1] += starts[d]
        for i in range(count):
            digit = (depth_bits[order[i]] >> shift) & 2047
            other[starts[digit]] = order[i]
            starts[digit] += 1
        order, other = other, order
    return order


@njit(cache=KEEP, nogil=True)
@no_type_check
def bin_tiles(order, tiles, tiles_x, tiles_y):
    """Gaussians of each tile from near to far: ``ids[starts[t]:starts[t + 1]]`` for the tiles in row order."""
    starts = np.zeros(tiles_x * tiles_y + 1, np.int64)
    for g in order:
        for ty in range(tiles[g, 1], tiles[g, 3]):
            for tx in range(tiles[g, 0], tiles[g, 2]):
                starts[ty * tiles_x + tx + 1] += 1
    for t in range(tiles_x * tiles_y):
        starts[t + 1] += starts[t]
    ids = np.empty(starts[-1], np.int32)
    ends = starts[:-1].copy()
    for g in order:
        for ty in range(tiles[g, 1], tiles[g, 3]):
            for tx in range(tiles[g, 0], tiles[g, 2]):
                t = ty * tiles_x + tx
                ids[ends[t]] = g
                ends[t] += 1
    return starts, ids


@njit(cache=KEEP, nogil=True)
@no_type_check
def mark_tiles(changed, tiles, tiles_x, marks):
    """Set ``marks`` [tiles] where a changed Gaussian [n] reaches by its ``tiles`` [n, 4]."""
    for g in range(changed.shape[0]):
        if changed[g]:
            for ty in range(tiles[g, 1], tiles[g, 3]):
                for tx in range(tiles[g, 0], tiles[g, 2]):
                    marks[ty * tiles_x + tx] = True


@njit(cache=KEEP, nogil=True, inline="always")
@no_type_check
def _rows(splat, tile_y):
    """Rows of the tile that a splat reaches, half open, in pairs (one 512-bit vector)."""
    top, reach = splat[Y] - _f(tile_y * TILE), splat[EXTENT_Y]
    first = int(max(top - reach - _f(0.5), _f(0.0)))
    last = int(min(top + reach + _f(0.5), _f(TILE)))
    return first & ~1, (last + 1) & ~1


@njit(cache=KEEP, nogil=True, error_model="numpy", fastmath=_FAST)
@no_type_check
def blend(splats, colors, starts, ids, tiles_x, chosen, first, step, image):
    """Blend tiles ``chosen[first], chosen[first + step], …`` into ``image`` [5, tiles y, tiles x, TILE * TILE].

    The planes are premultiplied red, green, blue, the transmittance, and a scratch plane of stopping thresholds.
    """
    buffer = np.empty(5 * _AREA, np.float32)
    for index in range(first, chosen.shape[0], step):
        tile = chosen[index]
        tile_y, tile_x = tile // tiles_x, tile % tiles_x
        for j in range(3 * _AREA):
            buffer[j] = 0.0
        for j in range(_AREA):
            buffer[3 * _AREA + j] = 1.0
            buffer[4 * _AREA + j] = _MIN_TRANSMITTANCE
        for pair in range(starts[tile], starts[tile + 1]):
            g = ids[pair]
            splat = splats[g]
            x, y = splat[X] - _f(tile_x * TILE) - _f(0.5), splat[Y] - _f(tile_y * TILE) - _f(0.5)
            a, b, c = _f(-0.5) * _LOG2_E * splat[A], -_LOG2_E * splat[B], _f(-0.5) * _LOG2_E * splat[C]
            log2_opacity = splat[LOG2_OPACITY]
            red, green, blue = colors[g, 0], colors[g, 1], colors[g, 2]
            first_row, last_row = _rows(splat, tile_y)
            for lane in range(first_row * TILE, last_row * TILE):
                j = np.uintp(lane)
                dx, dy = _f(np.int32(lane & 7)) - x, _f(np.int32(lane >> 3)) - y
                p = (a * dx + b * dy) * dx + c * dy * dy + log2_opacity
                p = p if p > _f(-20.0) else _f(-20.0)
                alpha = _exp2(p)
                alpha = alpha if alpha < _MAX_ALPHA else _MAX_ALPHA
                alpha = alpha if alpha >= _MIN_ALPHA else _f(0.0)
                t = buffer[_T + j]
                stop = buffer[_STOP + j]
                following = t * (_f(1.0) - alpha)
                is_open = following > stop
                alpha = alpha if is_open else _f(0.0)
                weight = alpha * t
                buffer[j] += weight * red
                buffer[_GREEN + j] += weight * green
                buffer[_BLUE + j] += weight * blue
                buffer[_T + j] = t * (_f(1.0) - alpha)
                buffer[_STOP + j] = stop + (_f(0.0) if is_open else _CLOSED)
            if pair & 7 == 7 and _all_closed(buffer):
                break
        for plane in range(5):
            for j in range(_AREA):
                image[plane, tile_y, tile_x, j] = buffer[plane * _AREA + j]


@njit(cache=KEEP, nogil=True, error_model="numpy", fastmath=_FAST)
@no_type_check
def _all_closed(buffer):
    """Whether every pixel of the tile has stopped."""
    lowest = _CLOSED
    for j in range(_AREA):
        stop = buffer[4 * _AREA + j]
        lowest = stop if stop < lowest else lowest
    return lowest == _CLOSED


@njit(cache=KEEP, nogil=True)
@no_type_check
def _start_backward(image, image_grad, buffer):
    """Per-pixel state of one tile before its first splat: cotangents, transmittance, threshold, and the whole sum."""
    for j in range(_AREA):
        rest = image_grad[3, j] * (_f(1.0) - image[3, j])
        for plane in range(3):
            rest += image_grad[plane, j] * image[plane, j]
            buffer[plane * _AREA + j] = image_grad[plane, j]
        buffer[3 * _AREA + j] = 1.0
        buffer[4 * _AREA + j] = _MIN_TRANSMITTANCE
        buffer[5 * _AREA + j] = image_grad[3, j]
        buffer[6 * _AREA + j] = rest


@njit(cache=KEEP, nogil=True, error_model="numpy", fastmath=_FAST)
@no_type_check
def blend_backward(splats, colors, starts, ids, tiles_x, first, step, image, image_grad, flat_grads):
    """Add the gradient of :func:`blend` to ``flat_grads`` [n, 9], from near to far like the forward pass.

    ``image_grad`` [4, tiles y, tiles x, TILE * TILE] is the gradient to premultiplied red, green, blue and to alpha.
    With g_i the gradient along Gaussian i's contribution w_i = alpha_i T_i, the gradient to alpha_i is
    T_i g_i - (sum of w_k g_k over the Gaussians k behind i) / (1 - alpha_i); the sum over all comes from the image.
    """
    buffer = np.empty(7 * _AREA, np.float32)
    for tile in range(first, starts.shape[0] - 1, step):
        tile_y, tile_x = tile // tiles_x, tile % tiles_x
        _start_backward(image[:, tile_y, tile_x], image_grad[:, tile_y, tile_x], buffer)
        for pair in range(starts[tile], starts[tile + 1]):
            g = ids[pair]
            splat = splats[g]
            x, y = splat[X] - _f(tile_x * TILE) - _f(0.5), splat[Y] - _f(tile_y * TILE) - _f(0.5)
            a, b, c = _f(-0.5) * _LOG2_E * splat[A], -_LOG2_E * splat[B], _f(-0.5) * _LOG2_E * splat[C]
            log2_opacity = splat[LOG2_OPACITY]
            red, green, blue = colors[g, 0], colors[g, 1], colors[g, 2]
            sum_red = sum_green = sum_blue = _f(0.0)
            s, s_x, s_y, s_xx, s_xy, s_yy = _f(0.0), _f(0.0), _f(0.0), _f(0.0), _f(0.0), _f(0.0)
            first_row, last_row = _rows(splat, tile_y)
            for lane in range(first_row * TILE, last_row * TILE):
                j = np.uintp(lane)
                dx, dy = _f(np.int32(lane & 7)) - x, _f(np.int32(lane >> 3)) - y
                p = (a * dx + b * dy) * dx + c * dy * dy + log2_opacity
                p = p if p > _f(-20.0) else _f(-20.0)
                raw = _exp2(p)
                alpha = raw if raw < _MAX_ALPHA else _MAX_ALPHA
                alpha = alpha if alpha >= _MIN_ALPHA else _f(0.0)
                t, stop = buffer[_T + j], buffer[_STOP + j]
                following = t * (_f(1.0) - alpha)
                is_open = following > stop
                alpha = alpha if is_open else _f(0.0)
                weight = alpha * t
                v_red, v_green, v_blue = buffer[j], buffer[_GREEN + j], buffer[_BLUE + j]
                along = v_red * red + v_green * green + v_blue * blue + buffer[_V_ALPHA + j]
                rest = buffer[_REST + j] - weight * along
                buffer[_T + j] = t * (_f(1.0) - alpha)
                buffer[_STOP + j] = stop + (_f(0.0) if is_open else _CLOSED)
                buffer[_REST + j] = rest
                v_log_alpha = alpha * (t * along - rest / (_f(1.0) - alpha))
                v_log_alpha = v_log_alpha if is_open and raw < _MAX_ALPHA else _f(0.0)
                sum_red += weight * v_red
                sum_green += weight * v_green
                sum_blue += weight * v_blue
                s += v_log_alpha
                s_x += v_log_alpha * dx
                s_y += v_log_alpha * dy
                s_xx += v_log_alpha * dx * dx
                s_xy += v_log_alpha * dx * dy
                s_yy += v_log_alpha * dy * dy
            grad = flat_grads[g]
            grad[GRAD_X] += splat[A] * s_x + splat[B] * s_y
            grad[GRAD_Y] += splat[B] * s_x + splat[C] * s_y
            grad[GRAD_A] -= _f(0.5) * s_xx
            grad[GRAD_B] -= s_xy
            grad[GRAD_C] -= _f(0.5) * s_yy
            grad[GRAD_LOG_OPACITY] += s
            grad[GRAD_RED] += sum_red
            grad[GRAD_GREEN] += sum_green
            grad[GRAD_BLUE] += sum_blue
            if pair & 7 == 7 and _all_closed(buffer):
                break
