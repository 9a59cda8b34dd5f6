"""The three sums of a hash grid (`_hash_grid_sums`) on the CPU, compiled by numba.

Points are shared out to the threads; in `scatter` levels are, so that no two threads add to one entry. A copy of the
table has the features of an entry side by side.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hash3d._numba_kernel import FAST, Array, kernel, prange, use_torch_threads


@kernel(fastmath=FAST)
def _find_ends(coordinate: Any, size: Any) -> Any:
    """The lower corner of a cell along one axis, and the weights of both ends with their derivatives."""
    zero, one = size - size, size / size
    scaled = min(max(coordinate, zero), one) * size
    lower = min(np.floor(scaled), size - one)
    slope = size if zero <= coordinate <= one else zero
    return np.int64(lower), (one - (scaled - lower), scaled - lower), (-slope, slope)


@kernel(fastmath=FAST)
def _find_cell(points: Array, n: int, level: Array) -> Any:
    """The entries of a point's eight corners in a level, and weights and derivatives along each axis."""
    size = points.dtype.type(level[0])
    i, x, dx = _find_ends(points[n, 0], size)
    j, y, dy = _find_ends(points[n, 1], size)
    k, z, dz = _find_ends(points[n, 2], size)
    first, last, above, behind = level[1], level[3], level[4], level[5]
    a, b, c, d, e, f = i, i + 1, j * above, (j + 1) * above, k * behind, (k + 1) * behind
    if level[2]:
        e, f = e + first, f + first
        entries = a + c + e, b + c + e, a + d + e, b + d + e, a + c + f, b + c + f, a + d + f, b + d + f
    else:
        p, q, r, s = c ^ e, d ^ e, c ^ f, d ^ f
        entries = (
            ((a ^ p) & last) + first, ((b ^ p) & last) + first, ((a ^ q) & last) + first, ((b ^ q) & last) + first,
            ((a ^ r) & last) + first, ((b ^ r) & last) + first, ((a ^ s) & last) + first, ((b ^ s) & last) + first,
        )  # fmt: skip
    return entries, (x, y, z), (dx, dy, dz)


@kernel(fastmath=FAST)
def _multiply(x: Any, y: Any, z: Any) -> Any:
    """The products of the ends' weights at the eight corners."""
    a, b, c, d = x[0] * y[0], x[1] * y[0], x[0] * y[1], x[1] * y[1]
    return a * z[0], b * z[0], c * z[0], d * z[0], a * z[1], b * z[1], c * z[1], d * z[1]


@kernel(fastmath=FAST)
def _weigh(ends: Any, slopes: Any, vectors: Array, n: int, along: bool) -> Any:
    """The weights of the eight corners, or their derivatives along a vector."""
    (x, y, z), (dx, dy, dz) = ends, slopes
    if not along:
        return _multiply(x, y, z)
    vx, vy, vz = vectors[n, 0], vectors[n, 1], vectors[n, 2]
    one = _multiply((vx * dx[0], vx * dx[1]), y, z)
    two = _multiply(x, (vy * dy[0], vy * dy[1]), z)
    three = _multiply(x, y, (vz * dz[0], vz * dz[1]))
    return (
        one[0] + two[0] + three[0], one[1] + two[1] + three[1], one[2] + two[2] + three[2], one[3] + two[3] + three[3],
        one[4] + two[4] + three[4], one[5] + two[5] + three[5], one[6] + two[6] + three[6], one[7] + two[7] + three[7],
    )  # fmt: skip


@kernel(parallel=True, fastmath=FAST)
def _gather(points: Array, vectors: Array, along: bool, levels: Array, table: Array, features: Array) -> None:
    """Write features "N F" of points: sums over the corners of weights times entries."""
    count = table.shape[1]
    for n in prange(len(points)):
        for number in range(len(levels)):
            entries, ends, slopes = _find_cell(points, n, levels[number])
            weights = _weigh(ends, slopes, vectors, n, along)
            for feature in range(count):
                total = points.dtype.type(0)
                for corner in range(8):
                    total += weights[corner] * table[entries[corner], feature]
                features[n, number * count + feature] = total


@kernel(parallel=True, fastmath=FAST)
def _scatter(points: Array, vectors: Array, along: bool, levels: Array, table: Array, features: Array) -> None:
    """Add to the entries of a table: the transpose of `_gather`."""
    count = table.shape[1]
    for number in prange(len(levels)):
        for n in range(len(points)):
            entries, ends, slopes = _find_cell(points, n, levels[number])
            weights = _weigh(ends, slopes, vectors, n, along)
            for corner in range(8):
                for feature in range(count):
                    table[entries[corner], feature] += weights[corner] * features[n, number * count + feature]


@kernel(parallel=True, fastmath=FAST)
def _differentiate(
    points: Array, vectors: Array, along: bool, levels: Array, table: Array, cotangents: Array, gradients: Array
) -> None:
    """Write the gradients "N 3" in the points, or their derivatives along vectors."""
    count = table.shape[1]
    for n in prange(len(points)):
        gx = gy = gz = points.dtype.type(0)
        vx, vy, vz = vectors[n, 0], vectors[n, 1], vectors[n, 2]
        for number in range(len(levels)):
            entries, ends, slopes = _find_cell(points, n, levels[number])
            for corner in range(8):
                value = points.dtype.type(0)
                for feature in range(count):
                    value += cotangents[n, number * count + feature] * table[entries[corner], feature]
                i, j, k = corner & 1, corner >> 1 & 1, corner >> 2
                x, y, z, dx, dy, dz = ends[0][i], ends[1][j], ends[2][k], slopes[0][i], slopes[1][j], slopes[2][k]
                gx += value * dx * (vy * dy * z + vz * dz * y if along else y * z)
                gy += value * dy * (vx * dx * z + vz * dz * x if along else x * z)
                gz += value * dz * (vx * dx * y + vy * dy * x if along else x * y)
        gradients[n, 0], gradients[n, 1], gradients[n, 2] = gx, gy, gz


def gather(points: Tensor, table: Tensor, levels: Tensor, num_planes: int, vectors: Tensor | None = None) -> Tensor:
    """Features "N num_planes"; those of levels that are not in `levels` are zero."""
    features = points.new_zeros(len(points), num_planes)
    _run(_gather, points, vectors, levels, table.T, features)
    return features


def scatter(
    points: Tensor, levels: Tensor, cotangents: Tensor, shape: torch.Size, vectors: Tensor | None = None
) -> Tensor:
    """The gradient of a table of a shape."""
    table = points.new_zeros(shape[1], shape[0])
    _run(_scatter, points, vectors, levels, table, cotangents)
    return table.T


def differentiate(
    points: Tensor, table: Tensor, levels: Tensor, cotangents: Tensor, vectors: Tensor | None = None
) -> Tensor:
    """The gradients "N 3" in the points."""
    gradients = torch.empty_like(points, memory_format=torch.contiguous_format)
    _run(_differentiate, points, vectors, levels, table.T, cotangents, gradients)
    return gradients


def _run(sums: Any, points: Tensor, vectors: Tensor | None, *others: Tensor) -> None:
    use_torch_threads()
    first, *rest = (each.detach().contiguous().numpy() for each in (points, *others))
    sums(first, first if vectors is None else vectors.detach().contiguous().numpy(), vectors is not None, *rest)
