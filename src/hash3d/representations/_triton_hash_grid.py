# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""The three sums of a hash grid (`_hash_grid_sums`) as Triton kernels on CUDA, in float32.

`gather` and `scatter` have a program a plane (a level's feature) and block, plane by plane, so that a level stays in
the cache.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 128
"""Points of one program."""
LEVEL = tl.constexpr(6)
"""Numbers that describe a level; see `HashGrid.levels`."""


@triton.jit
def _axis(points, rows, mask, number: tl.constexpr, resolution):
    """Return the lower corner of the cells along one axis, the weight of the upper one, and the weight's derivative."""
    coordinate = tl.load(points + rows * 3 + number, mask=mask, other=0.0)
    scaled = tl.minimum(tl.maximum(coordinate, 0.0), 1.0) * resolution
    lower = tl.minimum(tl.floor(scaled), resolution - 1.0)
    derivative = tl.where((coordinate >= 0.0) & (coordinate <= 1.0), resolution, 0.0)
    return lower.to(tl.int32).to(tl.uint32), scaled - lower, derivative


@triton.jit
def _end(lower, weight, derivative, upper: tl.constexpr):
    """Return one end of a cell along an axis: its index, its weight, the weight's derivative."""
    if upper:
        return lower + 1, weight, derivative
    else:
        return lower, 1.0 - weight, -derivative


@triton.jit
def _level(level):
    """Load a row of `HashGrid.levels`: resolution, first entry, whether all corners fit, last entry, two factors."""
    resolution = tl.load(level).to(tl.float32)
    fits = tl.load(level + 2) > 0
    last = tl.load(level + 3).to(tl.uint32)
    y_factor = tl.load(level + 4).to(tl.uint32)
    return resolution, tl.load(level + 1), fits, last, y_factor, tl.load(level + 5).to(tl.uint32)


@triton.jit
def _entry(x, y, z, fits, last, y_factor, z_factor):
    """Return a corner's entry in its level: its index if all fit, else its hash, in 32-bit arithmetic."""
    y = y * y_factor
    z = z * z_factor
    return tl.where(fits, x + y + z, (x ^ y ^ z) & last).to(tl.int64)


@triton.jit
def _vector(vectors, rows, mask):
    """Load three numbers a point."""
    x = tl.load(vectors + rows * 3, mask=mask, other=0.0)
    y = tl.load(vectors + rows * 3 + 1, mask=mask, other=0.0)
    z = tl.load(vectors + rows * 3 + 2, mask=mask, other=0.0)
    return x, y, z


@triton.jit(do_not_specialize=["num_points", "row_stride", "plane_stride"])
def _sum_kernel(
    points, vectors, levels, table, features, num_points, num_entries, row_stride, plane_stride,
    FEATURES: tl.constexpr, ALONG: tl.constexpr, SCATTER: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gather from `table` to `features`, or scatter the reverse; ALONG: with the derivatives along `vectors`."""
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = rows < num_points
    plane = tl.program_id(1)
    level = levels + (plane // FEATURES) * LEVEL
    resolution, first, fits, last, y_factor, z_factor = _level(level)
    entries = table + (plane % FEATURES).to(tl.int64) * num_entries + first
    values = features + rows.to(tl.int64) * row_stride + plane.to(tl.int64) * plane_stride
    x_lower, x_weight, x_derivative = _axis(points, rows, mask, 0, resolution)
    y_lower, y_weight, y_derivative = _axis(points, rows, mask, 1, resolution)
    z_lower, z_weight, z_derivative = _axis(points, rows, mask, 2, resolution)
    if ALONG:
        vx, vy, vz = _vector(vectors, rows, mask)
    if SCATTER:
        value = tl.load(values, mask=mask, other=0.0)
    total = tl.zeros([BLOCK], tl.float32)
    for corner in tl.static_range(8):
        x, wx, dx = _end(x_lower, x_weight, x_derivative, corner & 1)
        y, wy, dy = _end(y_lower, y_weight, y_derivative, (corner >> 1) & 1)
        z, wz, dz = _end(z_lower, z_weight, z_derivative, corner >> 2)
        if ALONG:  # noqa: SIM108  (a constant, compiled away)
            weight = vx * dx * wy * wz + vy * dy * wx * wz + vz * dz * wx * wy
        else:
            weight = wx * wy * wz
        index = entries + _entry(x, y, z, fits, last, y_factor, z_factor)
        if SCATTER:
            tl.atomic_add(index, weight * value, mask=mask, sem="relaxed")
        else:
            total += weight * tl.load(index, mask=mask, other=0.0)
    if not SCATTER:
        tl.store(values, total, mask=mask)


@triton.jit(do_not_specialize=["num_points", "num_levels", "row_stride", "plane_stride"])
def _gradient_kernel(
    points, vectors, levels, table, cotangents, gradients, num_points, num_entries, num_levels, row_stride,
    plane_stride,
    FEATURES: tl.constexpr, ALONG: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the gradient in the points, given `cotangents`; ALONG: its derivative along `vectors`."""
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = rows < num_points
    if ALONG:
        vx, vy, vz = _vector(vectors, rows, mask)
    sx = tl.zeros([BLOCK], tl.float32)
    sy = tl.zeros([BLOCK], tl.float32)
    sz = tl.zeros([BLOCK], tl.float32)
    for number in range(num_levels):
        level = levels + number * LEVEL
        resolution, first, fits, last, y_factor, z_factor = _level(level)
        x_lower, x_weight, x_derivative = _axis(points, rows, mask, 0, resolution)
        y_lower, y_weight, y_derivative = _axis(points, rows, mask, 1, resolution)
        z_lower, z_weight, z_derivative = _axis(points, rows, mask, 2, resolution)
        for feature in tl.static_range(FEATURES):
            column = cotangents + rows.to(tl.int64) * row_stride + (number * FEATURES + feature) * plane_stride
            cotangent = tl.load(column, mask=mask, other=0.0)
            entries = table + feature * num_entries + first
            for corner in tl.static_range(8):
                x, wx, dx = _end(x_lower, x_weight, x_derivative, corner & 1)
                y, wy, dy = _end(y_lower, y_weight, y_derivative, (corner >> 1) & 1)
                z, wz, dz = _end(z_lower, z_weight, z_derivative, corner >> 2)
                index = entries + _entry(x, y, z, fits, last, y_factor, z_factor)
                value = cotangent * tl.load(index, mask=mask, other=0.0)
                if ALONG:
                    sx += value * dx * (vy * dy * wz + vz * dz * wy)
                    sy += value * dy * (vx * dx * wz + vz * dz * wx)
                    sz += value * dz * (vx * dx * wy + vy * dy * wx)
                else:
                    sx += value * dx * wy * wz
                    sy += value * dy * wx * wz
                    sz += value * dz * wx * wy
    tl.store(gradients + rows * 3, sx, mask=mask)
    tl.store(gradients + rows * 3 + 1, sy, mask=mask)
    tl.store(gradients + rows * 3 + 2, sz, mask=mask)


def gather(points: Tensor, table: Tensor, levels: Tensor, num_planes: int, vectors: Tensor | None = None) -> Tensor:
    planes = points.new_empty(num_planes, len(points))
    planes[len(levels) * len(table) :] = 0.0
    _sum(points, table.contiguous(), levels, planes.T, vectors, scatter=False)
    return planes.T


def scatter(
    points: Tensor, levels: Tensor, cotangents: Tensor, shape: torch.Size, vectors: Tensor | None = None
) -> Tensor:
    table = points.new_zeros(shape)
    _sum(points, table, levels, cotangents, vectors, scatter=True)
    return table


def _sum(
    points: Tensor, table: Tensor, levels: Tensor, features: Tensor, vectors: Tensor | None, *, scatter: bool
) -> None:
    points = points.contiguous()
    grid = (triton.cdiv(len(points), BLOCK), len(levels) * len(table))
    along = points if vectors is None else vectors.contiguous()
    _sum_kernel[grid](
        points, along, levels, table, features, len(points), table.shape[1], *features.stride(),
        FEATURES=len(table), ALONG=vectors is not None, SCATTER=scatter, BLOCK=BLOCK,
    )  # fmt: skip


def differentiate(
    points: Tensor, table: Tensor, levels: Tensor, cotangents: Tensor, vectors: Tensor | None = None
) -> Tensor:
    points, gradients = points.contiguous(), torch.empty_like(points, memory_format=torch.contiguous_format)
    along = points if vectors is None else vectors.contiguous()
    _gradient_kernel[(triton.cdiv(len(points), BLOCK),)](
        points, along, levels, table.contiguous(), cotangents, gradients,
        len(points), table.shape[1], len(levels), *cotangents.stride(),
        FEATURES=len(table), ALONG=vectors is not None, BLOCK=BLOCK,
    )  # fmt: skip
    return gradients
