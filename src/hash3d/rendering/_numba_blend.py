"""Compositing of projected Gaussians on the CPU, forward and analytic backward, compiled by numba.

The image is cut into tiles. A tile walks its Gaussians from front to back, row by row, so that the inner loops run
over the columns of a tile with no dependence between them and become vector instructions. The backward pass is the
same walk again: with S the light that the pixel still receives from behind, d(pixel) / d(alpha_i) = T_i v_i - S_i /
(1 - alpha_i).

A projected Gaussian is one row of ten numbers: column and row of the centre (pixels), inverse covariance xx, xy, yy
(1/pixel^2), opacity, red, green, blue, depth. A pixel is five: red, green, blue, depth, alpha.
"""

import math
from typing import Any

import numpy as np
from numba import njit, prange, types
from numba.extending import overload, register_jitable

from hash3d.rendering._torch_splat import MAX_ALPHA

Array = np.ndarray[Any, Any]

TILE_WIDTH, TILE_HEIGHT = 16, 16
FAST = {"contract", "nsz", "arcp"}
"""Allows fused multiply-adds; keeps NaN, infinity and the order of sums."""
GOLDEN = 0.6180339887498949


def _exp_negative(x: Any) -> Any:
    """exp(-x) for x of a few units; only its compiled forms are called."""
    return np.exp(-x)


@overload(_exp_negative, jit_options={"fastmath": FAST})  # type: ignore[untyped-decorator]
def _compile_exp_negative(x: Any) -> Any:
    """In float32 the Taylor series of exp(-x / 16) of degree 6, to the power 16: relative error below 2e-6 for x < 6.

    Larger x count as at most 12, far below the least alpha.

    A call of the library's exp would keep the loop from becoming vector instructions.
    """

    def library(x: Any) -> Any:
        return math.exp(-x)

    one, most, sixteenth = np.float32(1.0), np.float32(12.0), np.float32(-1.0 / 16.0)
    c2, c3, c4 = np.float32(1.0 / 2.0), np.float32(1.0 / 6.0), np.float32(1.0 / 24.0)
    c5, c6 = np.float32(1.0 / 120.0), np.float32(1.0 / 720.0)

    def exp_negative(x: Any) -> Any:
        y = min(x, most) * sixteenth
        series = one + y * (one + y * (c2 + y * (c3 + y * (c4 + y * (c5 + y * c6)))))
        squared = series * series
        fourth = squared * squared
        eighth = fourth * fourth
        return eighth * eighth

    return exp_negative if x == types.float32 else library


@njit(cache=True)  # type: ignore[untyped-decorator]
def bin_gaussians(order: Array, boxes: Array, width: int, height: int) -> tuple[Array, Array]:
    """Lists of Gaussians a tile, front to back: row numbers, and where each list begins.

    `order` are the rows by depth; `boxes` "N 4" are pixel ranges: first column, last column, first row, last row
    (exclusive).
    """
    tiles_x, tiles_y = -(-width // TILE_WIDTH), -(-height // TILE_HEIGHT)
    starts = np.zeros(tiles_x * tiles_y + 1, dtype=np.int64)
    for n in order:
        for y in range(boxes[n, 2] // TILE_HEIGHT, -(-boxes[n, 3] // TILE_HEIGHT)):
            for x in range(boxes[n, 0] // TILE_WIDTH, -(-boxes[n, 1] // TILE_WIDTH)):
                starts[y * tiles_x + x + 1] += 1
    starts = np.cumsum(starts)
    ends = starts[:-1].copy()
    rows = np.empty(starts[-1], dtype=np.int32)
    for n in order:
        for y in range(boxes[n, 2] // TILE_HEIGHT, -(-boxes[n, 3] // TILE_HEIGHT)):
            for x in range(boxes[n, 0] // TILE_WIDTH, -(-boxes[n, 1] // TILE_WIDTH)):
                tile = y * tiles_x + x
                rows[ends[tile]] = n
                ends[tile] += 1
    return rows, starts


@register_jitable  # type: ignore[untyped-decorator]
def _stride(count: int) -> int:
    """A step coprime with `count`, near its golden section: tiles k * step are spread evenly over the threads."""
    step = max(1, int(GOLDEN * count))
    while math.gcd(step, count) != 1:
        step += 1
    return step


@register_jitable  # type: ignore[untyped-decorator]
def _all_ended(transmittance: Array) -> bool:
    """Whether no pixel of the tile is still open; an ended pixel has the sign of its transmittance flipped."""
    largest = transmittance[0, 0]
    for row in range(TILE_HEIGHT):
        for lane in range(TILE_WIDTH):
            largest = max(largest, transmittance[row, lane])
    return bool(largest <= 0)


@njit(parallel=True, fastmath=FAST, cache=True)  # type: ignore[untyped-decorator]
def blend(
    splats: Array, boxes: Array, rows: Array, starts: Array, background: Array, limits: Array, image: Array
) -> None:
    """Fill `image` "H W 5". `limits` are the least alpha and the least transmittance."""
    height, width = image.shape[0], image.shape[1]
    tiles_x = -(-width // TILE_WIDTH)
    count = starts.shape[0] - 1
    step = _stride(count)
    for k in prange(count):
        tile = (k * step) % count
        left, top = (tile % tiles_x) * TILE_WIDTH, (tile // tiles_x) * TILE_HEIGHT
        state = np.zeros((5, TILE_HEIGHT, TILE_WIDTH), splats.dtype)
        state[4] = splats.dtype.type(1)
        for place in range(starts[tile], starts[tile + 1]):
            n = rows[place]
            first, last = max(boxes[n, 2] - top, 0), min(boxes[n, 3] - top, TILE_HEIGHT)
            _blend_one(splats[n], left, top, first, last, limits, state)
            if place % 8 == 0 and _all_ended(state[4]):
                break
        for row in range(min(TILE_HEIGHT, height - top)):
            for lane in range(min(TILE_WIDTH, width - left)):
                remaining = abs(state[4, row, lane])
                for channel in range(3):
                    image[top + row, left + lane, channel] = state[channel, row, lane] + remaining * background[channel]
                image[top + row, left + lane, 3] = state[3, row, lane]
                image[top + row, left + lane, 4] = splats.dtype.type(1) - remaining


@njit(fastmath=FAST, cache=True)  # type: ignore[untyped-decorator]
def _blend_one(splat: Array, left: int, top: int, first: int, last: int, limits: Array, state: Array) -> None:
    """Add one Gaussian to rows `first` to `last` of a tile: `state` is red, green, blue, depth, transmittance."""
    real = splat.dtype.type
    half, one, zero, most = real(0.5), real(1), real(0), real(MAX_ALPHA)
    min_alpha, min_transmittance = limits[0], limits[1]
    column, line, xx, xy, yy, opacity = splat[0], splat[1], splat[2], splat[3], splat[4], splat[5]
    red, green, blue, depth = splat[6], splat[7], splat[8], splat[9]
    offset = real(left) + half - column
    for row in range(first, last):
        dy = real(top + row) + half - line
        slope, level = xy * dy, half * yy * dy * dy
        for lane in range(TILE_WIDTH):
            dx = real(lane) + offset
            alpha = min(opacity * _exp_negative((half * xx * dx + slope) * dx + level), most)
            before = state[4, row, lane]
            after = before * (one - alpha)
            seen = (alpha >= min_alpha) & (before > zero)
            kept = seen & (after > min_transmittance)
            weight = alpha * before if kept else zero
            state[4, row, lane] = after if kept else (-before if seen else before)
            state[0, row, lane] += weight * red
            state[1, row, lane] += weight * green
            state[2, row, lane] += weight * blue
            state[3, row, lane] += weight * depth


@njit(parallel=True, fastmath=FAST, cache=True)  # type: ignore[untyped-decorator]
def blend_backward(
    splats: Array, boxes: Array, rows: Array, starts: Array, limits: Array, image: Array, grad_image: Array
) -> Array:
    """Gradient "N 10" with respect to `splats`, given that of the image; the same for any number of threads."""
    height, width = image.shape[0], image.shape[1]
    tiles_x = -(-width // TILE_WIDTH)
    count = starts.shape[0] - 1
    step = _stride(count)
    parts = np.zeros((rows.shape[0], 10), splats.dtype)
    for k in prange(count):
        tile = (k * step) % count
        left, top = (tile % tiles_x) * TILE_WIDTH, (tile // tiles_x) * TILE_HEIGHT
        state = np.zeros((6, TILE_HEIGHT, TILE_WIDTH), splats.dtype)
        state[4] = splats.dtype.type(1)
        for row in range(min(TILE_HEIGHT, height - top)):
            for lane in range(min(TILE_WIDTH, width - left)):
                pixel, grad = image[top + row, left + lane], grad_image[top + row, left + lane]
                received = (pixel[4] - splats.dtype.type(1)) * grad[4]
                for channel in range(4):
                    state[channel, row, lane] = grad[channel]
                    received += pixel[channel] * grad[channel]
                state[5, row, lane] = received
        lanes = np.empty((7, TILE_WIDTH), splats.dtype)
        for place in range(starts[tile], starts[tile + 1]):
            n = rows[place]
            first, last = max(boxes[n, 2] - top, 0), min(boxes[n, 3] - top, TILE_HEIGHT)
            lanes[:] = splats.dtype.type(0)
            _walk_back_one(splats[n], left, top, first, last, limits, state, lanes)
            _sum_lanes(splats[n], left, lanes, parts[place])
            if place % 8 == 0 and _all_ended(state[4]):
                break
    grads = np.zeros(splats.shape, splats.dtype)
    for place in range(rows.shape[0]):
        for column in range(10):
            grads[rows[place], column] += parts[place, column]
    return grads


@njit(fastmath=FAST, cache=True)  # type: ignore[untyped-decorator]
def _walk_back_one(
    splat: Array, left: int, top: int, first: int, last: int, limits: Array, state: Array, lanes: Array
) -> None:
    """Gradients of one Gaussian in a tile, a column a lane.

    `state` holds the pixels' gradients (red, green, blue, depth), the transmittance and the light still to come,
    weighted by those gradients. `lanes` gathers d(power) times 1, dy, dy^2 and the gradients of red, green, blue,
    depth.
    """
    real = splat.dtype.type
    half, one, zero, most = real(0.5), real(1), real(0), real(MAX_ALPHA)
    min_alpha, min_transmittance = limits[0], limits[1]
    column, line, xx, xy, yy, opacity = splat[0], splat[1], splat[2], splat[3], splat[4], splat[5]
    red, green, blue, depth = splat[6], splat[7], splat[8], splat[9]
    offset = real(left) + half - column
    for row in range(first, last):
        dy = real(top + row) + half - line
        slope, level = xy * dy, half * yy * dy * dy
        for lane in range(TILE_WIDTH):
            dx = real(lane) + offset
            raw = opacity * _exp_negative((half * xx * dx + slope) * dx + level)
            alpha = min(raw, most)
            before = state[4, row, lane]
            after = before * (one - alpha)
            seen = (alpha >= min_alpha) & (before > zero)
            kept = seen & (after > min_transmittance)
            weight = alpha * before if kept else zero
            state[4, row, lane] = after if kept else (-before if seen else before)
            grad_red, grad_green = state[0, row, lane], state[1, row, lane]
            grad_blue, grad_depth = state[2, row, lane], state[3, row, lane]
            value = red * grad_red + green * grad_green + blue * grad_blue + depth * grad_depth
            behind = state[5, row, lane] - weight * value
            state[5, row, lane] = behind
            grad_alpha = before * value - behind / (one - alpha)
            grad_power = -grad_alpha * raw if kept & (raw <= most) else zero
            lanes[0, lane] += grad_power
            lanes[1, lane] += grad_power * dy
            lanes[2, lane] += grad_power * dy * dy
            lanes[3, lane] += weight * grad_red
            lanes[4, lane] += weight * grad_green
            lanes[5, lane] += weight * grad_blue
            lanes[6, lane] += weight * grad_depth


@njit(fastmath=FAST, cache=True)  # type: ignore[untyped-decorator]
def _sum_lanes(splat: Array, left: int, lanes: Array, part: Array) -> None:
    """From sums a column to the gradient of one Gaussian's ten numbers, `part`."""
    real = splat.dtype.type
    half = real(0.5)
    total, by_x, by_y, by_xx, by_xy, by_yy = real(0), real(0), real(0), real(0), real(0), real(0)
    for lane in range(TILE_WIDTH):
        dx = real(left + lane) + half - splat[0]
        total += lanes[0, lane]
        by_x += lanes[0, lane] * dx
        by_xx += lanes[0, lane] * dx * dx
        by_y += lanes[1, lane]
        by_xy += lanes[1, lane] * dx
        by_yy += lanes[2, lane]
        for channel in range(4):
            part[6 + channel] += lanes[3 + channel, lane]
    part[0] = -(splat[2] * by_x + splat[3] * by_y)
    part[1] = -(splat[3] * by_x + splat[4] * by_y)
    part[2], part[3], part[4] = half * by_xx, by_xy, half * by_yy
    part[5] = -total / splat[5]
