"""Compositing of projected Gaussians on the CPU, forward and analytic backward, compiled by numba.

The image is cut into tiles. A tile walks its Gaussians from front to back, row by row, so that the inner loops run
over the columns of a tile with no dependence between them and become vector instructions. The backward pass is the
same walk again: with S the light that the pixel still receives from behind, d(pixel) / d(alpha_i) = T_i v_i - S_i /
(1 - alpha_i).

A projected Gaussian is one row of ten numbers: column and row of the centre (pixels), inverse covariance xx, xy, yy
(1/pixel^2), opacity, red, green, blue, depth. A pixel is five: red, green, blue, depth, alpha.
"""

import inspect
import math
from typing import Any

import numpy as np

from hash3d._numba_kernel import FAST, FAST_SUMS, Array, kernel, kernel_overload, prange, types

from ._torch_splat import MAX_ALPHA

TILE_WIDTH, TILE_HEIGHT = 16, 16
TILE_PIXELS = TILE_WIDTH * TILE_HEIGHT
GOLDEN = 0.6180339887498949


def _exp_negative(x: Any) -> Any:
    """exp(-x) for x of a few units; only its compiled forms are called."""
    return np.exp(-x)


_exp_negative = inspect.unwrap(_exp_negative)


@kernel_overload(_exp_negative, FAST)
def _compile_exp_negative(x: Any) -> Any:
    """In float32 the Taylor series of exp(-x / 16) to x^6, to the power 16, vectorised: error < 2e-6 for x < 6."""

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

    return inspect.unwrap(exp_negative if x == types.float32 else library)


@kernel()
def bin_gaussians(order: Array, boxes: Array, width: int, height: int) -> tuple[Array, Array]:
    """Lists of Gaussians a tile, front to back (as `order`), and where each begins; `boxes` "N 4" end exclusively."""
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


@kernel()
def _stride(count: int) -> int:
    """A step coprime with `count`, near its golden section: tiles k * step are spread evenly over the threads."""
    step = max(1, int(GOLDEN * count))
    while math.gcd(step, count) != 1:
        step += 1
    return step


@kernel()
def _pixel_centres(like: Array) -> Array:
    """Columns and rows of a tile's pixel centres, from its corner, as one run of pixels a line: "2 P"."""
    centres = np.empty((2, TILE_PIXELS), like.dtype)
    for pixel in range(TILE_PIXELS):
        centres[0, pixel] = pixel % TILE_WIDTH + 0.5
        centres[1, pixel] = pixel // TILE_WIDTH + 0.5
    return centres


@kernel()
def _all_ended(transmittance: Array) -> bool:
    """Whether no pixel of the tile is still open; an ended pixel has the sign of its transmittance flipped."""
    num_open = 0
    for pixel in range(TILE_PIXELS):
        num_open += transmittance[pixel] > 0
    return num_open == 0


@kernel(parallel=True, fastmath=FAST)
def blend(
    splats: Array, boxes: Array, rows: Array, starts: Array, background: Array, limits: Array, image: Array
) -> None:
    """Fill `image` "H W 5". `limits` are the least alpha and the least transmittance."""
    tiles_x, count = -(-image.shape[1] // TILE_WIDTH), starts.shape[0] - 1
    step, centres = _stride(count), _pixel_centres(splats)
    for k in prange(count):
        tile = (k * step) % count
        left, top = (tile % tiles_x) * TILE_WIDTH, (tile // tiles_x) * TILE_HEIGHT
        mine = rows[starts[tile] : starts[tile + 1]]
        _blend_tile(splats, boxes, mine, left, top, background, limits, centres, image)


@kernel(fastmath=FAST)
def _blend_tile(
    splats: Array, boxes: Array, rows: Array, left: int, top: int, background: Array, limits: Array, centres: Array,
    image: Array,
) -> None:  # fmt: skip
    """Fill the tile at column `left` and row `top` of `image` from the Gaussians `rows`."""
    state = np.zeros((5, TILE_PIXELS), splats.dtype)
    state[4] = 1
    for place, n in enumerate(rows):
        first, last = max(boxes[n, 2] - top, 0), min(boxes[n, 3] - top, TILE_HEIGHT)
        _blend_one(splats[n], left, top, first * TILE_WIDTH, last * TILE_WIDTH, limits, centres, state)
        if place % 8 == 7 and _all_ended(state[4]):
            break
    for row in range(min(TILE_HEIGHT, image.shape[0] - top)):
        for column in range(min(TILE_WIDTH, image.shape[1] - left)):
            pixel, target = row * TILE_WIDTH + column, image[top + row, left + column]
            remaining = abs(state[4, pixel])
            for channel in range(3):
                target[channel] = state[channel, pixel] + remaining * background[channel]
            target[3], target[4] = state[3, pixel], 1 - remaining


@kernel(fastmath=FAST)
def _blend_one(
    splat: Array, left: int, top: int, first: int, last: int, limits: Array, centres: Array, state: Array
) -> None:
    """Add one Gaussian to pixels `first` to `last` of a tile: `state` is red, green, blue, depth, transmittance."""
    real = splat.dtype.type
    one, zero, most = real(1), real(0), real(MAX_ALPHA)
    min_alpha, min_transmittance = limits[0], limits[1]
    column, row, opacity = splat[0] - real(left), splat[1] - real(top), splat[5]
    xx, xy, yy = real(0.5) * splat[2], splat[3], real(0.5) * splat[4]
    red, green, blue, depth = splat[6], splat[7], splat[8], splat[9]
    columns, lines, transmittances = centres[0][first:last], centres[1][first:last], state[4][first:last]
    reds, greens, blues, depths = state[0][first:last], state[1][first:last], state[2][first:last], state[3][first:last]
    for pixel in range(last - first):
        dx, dy = columns[pixel] - column, lines[pixel] - row
        alpha = min(opacity * _exp_negative((xx * dx + xy * dy) * dx + yy * dy * dy), most)
        before = transmittances[pixel]
        after = before * (one - alpha)
        seen = (alpha >= min_alpha) & (before > zero)
        kept = seen & (after > min_transmittance)
        weight = alpha * before if kept else zero
        transmittances[pixel] = after if kept else (-before if seen else before)
        reds[pixel] += weight * red
        greens[pixel] += weight * green
        blues[pixel] += weight * blue
        depths[pixel] += weight * depth


@kernel(parallel=True, fastmath=FAST)
def blend_backward(
    splats: Array, boxes: Array, rows: Array, starts: Array, limits: Array, image: Array, grad_image: Array
) -> Array:
    """Gradient "N 10" with respect to `splats`, given that of the image; the same for any number of threads."""
    tiles_x, count = -(-image.shape[1] // TILE_WIDTH), starts.shape[0] - 1
    step, centres = _stride(count), _pixel_centres(splats)
    parts = np.zeros((rows.shape[0], 10), splats.dtype)
    for k in prange(count):
        tile = (k * step) % count
        left, top = (tile % tiles_x) * TILE_WIDTH, (tile // tiles_x) * TILE_HEIGHT
        begin, end = starts[tile], starts[tile + 1]
        _walk_back_tile(splats, boxes, rows[begin:end], left, top, limits, centres, image, grad_image, parts[begin:end])
    return _sum_parts(splats, rows, parts)


@kernel()
def _sum_parts(splats: Array, rows: Array, parts: Array) -> Array:
    """Sum the gradients of each Gaussian over its tiles, in the tiles' order."""
    grads = np.zeros(splats.shape, splats.dtype)
    for place, n in enumerate(rows):
        for column in range(10):
            grads[n, column] += parts[place, column]
    return grads


@kernel(fastmath=FAST)
def _walk_back_tile(
    splats: Array, boxes: Array, rows: Array, left: int, top: int, limits: Array, centres: Array, image: Array,
    grad_image: Array, parts: Array,
) -> None:  # fmt: skip
    """Fill `parts`, the gradients of the Gaussians `rows` over the tile at column `left` and row `top`."""
    state = np.zeros((6, TILE_PIXELS), splats.dtype)
    state[4] = 1
    for row in range(min(TILE_HEIGHT, image.shape[0] - top)):
        for column in range(min(TILE_WIDTH, image.shape[1] - left)):
            pixel = row * TILE_WIDTH + column
            value, grad = image[top + row, left + column], grad_image[top + row, left + column]
            state[5, pixel] = (value[4] - 1) * grad[4]
            for channel in range(4):
                state[channel, pixel] = grad[channel]
                state[5, pixel] += value[channel] * grad[channel]
    for place, n in enumerate(rows):
        first, last = max(boxes[n, 2] - top, 0), min(boxes[n, 3] - top, TILE_HEIGHT)
        first, last = first * TILE_WIDTH, last * TILE_WIDTH
        _walk_back_one(splats[n], left, top, first, last, limits, centres, state, parts[place])
        if place % 8 == 7 and _all_ended(state[4]):
            break


@kernel(fastmath=FAST_SUMS)
def _walk_back_one(
    splat: Array, left: int, top: int, first: int, last: int, limits: Array, centres: Array, state: Array, part: Array
) -> None:
    """Fill `part`, the gradient of one Gaussian's ten numbers over pixels `first` to `last` of a tile.

    `state`: the pixels' gradients (red, green, blue, depth), the transmittance, and the light still to come from
    behind weighted by those gradients. The sums by_ are of the power's gradient times 1, dx, dy and products.
    """
    real = splat.dtype.type
    one, zero, most = real(1), real(0), real(MAX_ALPHA)
    min_alpha, min_transmittance = limits[0], limits[1]
    column, row, opacity = splat[0] - real(left), splat[1] - real(top), splat[5]
    xx, xy, yy = real(0.5) * splat[2], splat[3], real(0.5) * splat[4]
    red, green, blue, depth = splat[6], splat[7], splat[8], splat[9]
    by_1, by_x, by_y, by_xx, by_xy, by_yy = zero, zero, zero, zero, zero, zero
    sum_red, sum_green, sum_blue, sum_depth = zero, zero, zero, zero
    columns, lines, transmittances = centres[0][first:last], centres[1][first:last], state[4][first:last]
    grad_reds, grad_greens, grad_blues = state[0][first:last], state[1][first:last], state[2][first:last]
    grad_depths, behinds = state[3][first:last], state[5][first:last]
    for pixel in range(last - first):
        dx, dy = columns[pixel] - column, lines[pixel] - row
        raw = opacity * _exp_negative((xx * dx + xy * dy) * dx + yy * dy * dy)
        alpha = min(raw, most)
        before = transmittances[pixel]
        after = before * (one - alpha)
        seen = (alpha >= min_alpha) & (before > zero)
        kept = seen & (after > min_transmittance)
        weight = alpha * before if kept else zero
        transmittances[pixel] = after if kept else (-before if seen else before)
        grad_red, grad_green = grad_reds[pixel], grad_greens[pixel]
        grad_blue, grad_depth = grad_blues[pixel], grad_depths[pixel]
        value = red * grad_red + green * grad_green + blue * grad_blue + depth * grad_depth
        behind = behinds[pixel] - weight * value
        behinds[pixel] = behind
        power = (behind / (one - alpha) - before * value) * raw if kept & (raw <= most) else zero
        power_x, power_y = power * dx, power * dy
        by_1, by_x, by_y = by_1 + power, by_x + power_x, by_y + power_y
        by_xx, by_xy, by_yy = by_xx + power_x * dx, by_xy + power_x * dy, by_yy + power_y * dy
        sum_red, sum_green = sum_red + weight * grad_red, sum_green + weight * grad_green
        sum_blue, sum_depth = sum_blue + weight * grad_blue, sum_depth + weight * grad_depth
    part[0], part[1] = -(splat[2] * by_x + xy * by_y), -(xy * by_x + splat[4] * by_y)
    part[2], part[3], part[4], part[5] = real(0.5) * by_xx, by_xy, real(0.5) * by_yy, -by_1 / opacity
    part[6], part[7], part[8], part[9] = sum_red, sum_green, sum_blue, sum_depth
