"""The three sums of a hash grid (`_hash_grid_sums`) on the CPU, compiled by numba.

Points are taken in blocks, level by level, so that the arithmetic runs in vector lanes. Blocks are shared out to the
threads; in `scatter` the rows of the table are, so that no two threads add to one entry. Features are "F N" in here.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hash3d._numba_kernel import FAST, Array, kernel, prange, run

BLOCK = 64
"""Points of a block: what is known of their cells stays in the nearest cache. Loops go to its end where what lies past
the points is not used: a number known in advance is faster, also to compile."""


@kernel(fastmath=FAST)
def _reserve(dtype: Any) -> Any:
    """Memory of a block: points, vectors, lower corners, weights of both ends along axes, entries, their weights."""
    points, vectors, lower = np.empty((3, BLOCK), dtype), np.empty((3, BLOCK), dtype), np.empty((3, BLOCK), np.int32)
    entries, weights = np.empty((8, BLOCK), np.uint32), np.empty((8, BLOCK), dtype)
    return points, vectors, lower, np.empty((3, 2, BLOCK), dtype), entries, weights


@kernel(fastmath=FAST)
def _load(memory: Any, points: Array, vectors: Array | None, first: int) -> int:
    """Copy a block of points and, if there are any, of vectors. Return how many points there are."""
    count = min(BLOCK, len(points) - first)
    for p in range(count):
        for axis in range(3):
            memory[0][axis, p] = points[first + p, axis]
            if vectors is not None:
                memory[1][axis, p] = vectors[first + p, axis]
    return count


@kernel(fastmath=FAST)
def _find_cells(memory: Any, level: Array) -> None:
    """Find the cells of a block's points in a level: weights along the axes, and the entries at the corners."""
    points, _, lower, ends, entries, _ = memory
    zero, one = points.dtype.type(0), points.dtype.type(1)
    size, top = points.dtype.type(level[0]), np.int32(level[0] - 1)
    for axis in range(3):
        for p in range(BLOCK):
            scaled = min(max(points[axis, p], zero), one) * size
            low = min(np.int32(scaled), top)
            share = scaled - points.dtype.type(low)
            lower[axis, p], ends[axis, 0, p], ends[axis, 1, p] = low, one - share, share
    start, last, above, behind = np.int32(level[1]), np.int32(level[3]), np.int32(level[4]), np.int32(level[5])
    for corner in range(8):
        i, j, k = np.int32(corner & 1), np.int32(corner >> 1 & 1), np.int32(corner >> 2)
        for p in range(BLOCK):  # Numba widens sums of int32, which take half the vector lanes then.
            x, y = np.int32(lower[0, p] + i), np.int32(np.int32(lower[1, p] + j) * above)
            z = np.int32(np.int32(lower[2, p] + k) * behind)
            entries[corner, p] = np.uint32(start + (np.int32(np.int32(x + y) + z) if level[2] else (x ^ y ^ z) & last))


@kernel(fastmath=FAST)
def _slope(place: Any, end: int, size: Any) -> Any:
    """The derivative of an end's weight at a coordinate: 0 where it is clamped."""
    return (size if end else -size) if 0 <= place <= 1 else size - size


@kernel(fastmath=FAST)
def _weigh(memory: Any, level: Array, vectors: Array | None) -> None:
    """Compute the weights of the corners, or their derivatives along the vectors, if there are any."""
    points, along, _, ends, _, weights = memory
    size = points.dtype.type(level[0])
    for corner in range(8):
        i, j, k = corner & 1, corner >> 1 & 1, corner >> 2
        for p in range(BLOCK):
            x, y, z = ends[0, i, p], ends[1, j, p], ends[2, k, p]
            if vectors is not None:
                dx, dy = along[0, p] * _slope(points[0, p], i, size), along[1, p] * _slope(points[1, p], j, size)
                dz = along[2, p] * _slope(points[2, p], k, size)
                weights[corner, p] = dx * y * z + x * dy * z + x * y * dz
            else:
                weights[corner, p] = x * y * z


@kernel(parallel=True, fastmath=FAST)
def _gather(points: Array, vectors: Array | None, levels: Array, table: Array, features: Array) -> None:
    """Write features "F N" of points: sums over the corners of weights times entries."""
    for block in prange((len(points) + BLOCK - 1) // BLOCK):
        memory, first = _reserve(points.dtype), block * BLOCK
        _, _, _, _, e, w = memory
        count = _load(memory, points, vectors, first)
        for plane in range(len(levels) * len(table)):
            number, row = plane // len(table), plane % len(table)
            if row == 0:
                _find_cells(memory, levels[number])
                _weigh(memory, levels[number], vectors)
            for p in range(count):
                features[plane, first + p] = (
                    w[0, p] * table[row, e[0, p]] + w[1, p] * table[row, e[1, p]] + w[2, p] * table[row, e[2, p]]
                    + w[3, p] * table[row, e[3, p]] + w[4, p] * table[row, e[4, p]] + w[5, p] * table[row, e[5, p]]
                    + w[6, p] * table[row, e[6, p]] + w[7, p] * table[row, e[7, p]]
                )  # fmt: skip


@kernel(parallel=True, fastmath=FAST)
def _scatter(points: Array, vectors: Array | None, levels: Array, table: Array, features: Array) -> None:
    """Add to the entries of a table: the transpose of `_gather`."""
    for plane in prange(len(levels) * len(table)):
        number, row = plane // len(table), plane % len(table)
        memory = _reserve(points.dtype)
        _, _, _, _, entries, weights = memory
        for first in range(0, len(points), BLOCK):
            count = _load(memory, points, vectors, first)
            _find_cells(memory, levels[number])
            _weigh(memory, levels[number], vectors)
            for p in range(count):
                for corner in range(8):
                    table[row, entries[corner, p]] += weights[corner, p] * features[plane, first + p]


@kernel(parallel=True, fastmath=FAST)
def _differentiate(
    points: Array, vectors: Array | None, levels: Array, table: Array, cotangents: Array, gradients: Array
) -> None:
    """Write the gradients "N 3" in the points, or their derivatives along vectors."""
    for block in prange((len(points) + BLOCK - 1) // BLOCK):
        memory, first, sums = _reserve(points.dtype), block * BLOCK, np.zeros((3, BLOCK), points.dtype)
        places, along, _, ends, entries, values = memory
        count = _load(memory, points, vectors, first)
        for number in range(len(levels)):
            _find_cells(memory, levels[number])
            size = points.dtype.type(levels[number, 0])
            for corner in range(8):
                i, j, k = corner & 1, corner >> 1 & 1, corner >> 2
                values[corner] = 0
                for row in range(len(table)):
                    for p in range(count):
                        entry = table[row, entries[corner, p]]
                        values[corner, p] += cotangents[number * len(table) + row, first + p] * entry
                for p in range(count):
                    x, y, z, value = ends[0, i, p], ends[1, j, p], ends[2, k, p], values[corner, p]
                    dx, dy = _slope(places[0, p], i, size), _slope(places[1, p], j, size)
                    dz, a, b, c = _slope(places[2, p], k, size), y * z, x * z, x * y
                    if vectors is not None:
                        vx, vy, vz = along[0, p] * dx, along[1, p] * dy, along[2, p] * dz
                        a, b, c = vy * z + vz * y, vx * z + vz * x, vx * y + vy * x
                    sums[0, p] += value * dx * a
                    sums[1, p] += value * dy * b
                    sums[2, p] += value * dz * c
        for p in range(count):
            for axis in range(3):
                gradients[first + p, axis] = sums[axis, p]


def gather(points: Tensor, table: Tensor, levels: Tensor, num_planes: int, vectors: Tensor | None = None) -> Tensor:
    """Features "N num_planes"; those of levels that are not in `levels` are zero."""
    features = points.new_zeros(num_planes, len(points))
    run(_gather, points, vectors, levels, table, features)
    return features.T


def scatter(
    points: Tensor, levels: Tensor, cotangents: Tensor, shape: torch.Size, vectors: Tensor | None = None
) -> Tensor:
    """The gradient of a table of a shape."""
    table = points.new_zeros(shape)
    run(_scatter, points, vectors, levels, table, cotangents.T)
    return table


def differentiate(
    points: Tensor, table: Tensor, levels: Tensor, cotangents: Tensor, vectors: Tensor | None = None
) -> Tensor:
    """The gradients "N 3" in the points."""
    gradients = torch.empty_like(points, memory_format=torch.contiguous_format)
    run(_differentiate, points, vectors, levels, table, cotangents.T, gradients)
    return gradients
