# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""The three sums of a hash grid (`_hash_grid_sums`) as Triton kernels on CUDA, in float32.

A point has two lanes, one for each side of its cell along x: the corners beside each other along x mostly share an
access to memory, as do the features of an entry, which lie side by side in a copy of the table, and the points of a ray
in coarse cells. `gather` and `scatter` go level by level: a level stays in the cache. Features are "F N" in here.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

GATHERED, DIFFERENTIATED = 128, 64
"""Points of one program."""
CHUNKS, STEPS = 64, 16
"""Points of one program of `scatter`: chunks of consecutive points. An entry that they share is added to once."""
LEVEL = tl.constexpr(6)
"""Numbers that describe a level; see `HashGrid.levels`."""
WHOLE = tl.constexpr(8388608.0)
"""2^23: from there on float32 has no fractions."""


@triton.jit
def _lanes(COUNT: tl.constexpr):
    """Number the sides of points' cells. Return the points and the sides."""
    lane = tl.arange(0, COUNT * 2)
    return lane // 2, lane % 2


@triton.jit
def _place(entry, FEATURES: tl.constexpr, PADDED: tl.constexpr):
    """Return the offsets of entries' features, and whether there are such."""
    feature = tl.arange(0, PADDED)[None, :]
    offset = entry[:, None] * FEATURES + feature
    if FEATURES == PADDED:
        offset = tl.max_contiguous(tl.multiple_of(offset, [1, FEATURES]), [1, FEATURES])
    return offset, feature < FEATURES


@triton.jit
def _axis(points, rows, mask, axis: tl.constexpr, resolution):
    """Return the lower corner of the cells along one axis, the weight of the upper one, and the weight's derivative.

    Numbers are rounded by sums: conversions take eight times as long.
    """
    coordinate = tl.load(points + rows * 3 + axis, mask=mask, other=0.0)
    scaled = tl.minimum(tl.maximum(coordinate, 0.0), 1.0) * resolution
    rounded = (scaled + WHOLE) - WHOLE
    lower = tl.minimum(tl.where(rounded > scaled, rounded - 1.0, rounded), resolution - 1.0)
    derivative = tl.where((coordinate >= 0.0) & (coordinate <= 1.0), resolution, 0.0)
    return (lower + WHOLE).to(tl.uint32, bitcast=True) & 0x7FFFFF, scaled - lower, derivative


@triton.jit
def _level(level):
    """Load a row of `HashGrid.levels`: resolution, first entry, whether all corners fit, last entry, two factors."""
    resolution = tl.load(level).to(tl.float32)
    fits = tl.load(level + 2) > 0
    last = tl.load(level + 3).to(tl.uint32)
    y_factor = tl.load(level + 4).to(tl.uint32)
    return resolution, tl.load(level + 1).to(tl.int32), fits, last, y_factor, tl.load(level + 5).to(tl.uint32)


@triton.jit
def _cell(points, rows, mask, side, level):
    """Return corner, weight and derivative along x of each side, and the lower corners, ... along y and z."""
    x, wx, dx = _axis(points, rows, mask, 0, level[0])
    y, wy, dy = _axis(points, rows, mask, 1, level[0])
    z, wz, dz = _axis(points, rows, mask, 2, level[0])
    sign = (2 * side - 1).to(tl.float32)
    wx = wx * sign + (1 - side).to(tl.float32)
    return x + side.to(tl.uint32), wx, dx * sign, y * level[4], wy, dy, z * level[5], wz, dz


@triton.jit
def _corner(cell, level, corner: tl.constexpr):
    """Return a corner's entry, its weights along the axes, and their derivatives; `corner` counts along y, then z.

    An entry is the corner's index if all fit, else its hash, in 32-bit arithmetic.
    """
    x, wx, dx, y, wy, dy, z, wz, dz = cell
    _, first, fits, last, y_factor, z_factor = level
    if corner % 2:
        y += y_factor
    else:
        wy, dy = 1.0 - wy, -dy
    if corner // 2:
        z += z_factor
    else:
        wz, dz = 1.0 - wz, -dz
    entry = tl.where(fits, x + y + z, (x ^ y ^ z) & last).to(tl.int32)
    return first + entry, wx, wy, wz, dx, dy, dz


@triton.jit
def _vector(vectors, rows, mask):
    """Load three numbers a point."""
    x = tl.load(vectors + rows * 3, mask=mask, other=0.0)
    y = tl.load(vectors + rows * 3 + 1, mask=mask, other=0.0)
    z = tl.load(vectors + rows * 3 + 2, mask=mask, other=0.0)
    return x, y, z


@triton.jit
def _along(vector, wx, wy, wz, dx, dy, dz):
    """Return the derivative of a corner's weight along vectors."""
    return vector[0] * dx * wy * wz + vector[1] * dy * wx * wz + vector[2] * dz * wx * wy


@triton.jit(do_not_specialize=["num_points"])
def _gather_kernel(
    points, vectors, levels, table, features, num_points,
    FEATURES: tl.constexpr, PADDED: tl.constexpr, ALONG: tl.constexpr, COUNT: tl.constexpr,
):  # fmt: skip
    """Write the features of a level; ALONG: with the derivatives of the weights along `vectors`."""
    rows, side = _lanes(COUNT)
    first = tl.program_id(0) * COUNT
    number = tl.program_id(1)
    mask = first + rows < num_points
    level = _level(levels + number * LEVEL)
    cell = _cell(points, first + rows, mask, side, level)
    if ALONG:
        vector = _vector(vectors, first + rows, mask)
    total = tl.zeros([COUNT * 2, PADDED], tl.float32)
    for corner in tl.static_range(4):
        entry, wx, wy, wz, dx, dy, dz = _corner(cell, level, corner)
        offset, exists = _place(entry, FEATURES, PADDED)
        value = tl.load(table + offset, mask=mask[:, None] & exists, other=0.0)
        if ALONG:
            total += _along(vector, wx, wy, wz, dx, dy, dz)[:, None] * value
        else:
            total += (wx * wy * wz)[:, None] * value
    total = tl.sum(tl.reshape(total, [COUNT, 2, PADDED]), axis=1)
    row = first + tl.arange(0, COUNT)[:, None]
    column = tl.arange(0, PADDED)[None, :]
    place = features + (number * FEATURES + column).to(tl.int64) * num_points + row
    tl.store(place, total, mask=(row < num_points) & (column < FEATURES))


@triton.jit
def _add(table, held, total, entry, value, mask, FEATURES: tl.constexpr, PADDED: tl.constexpr):
    """Add values to the entries that lanes hold, or let go of these, adding their totals to the table."""
    offset, exists = _place(held, FEATURES, PADDED)
    moved = entry != held
    tl.atomic_add(table + offset, total, mask=(moved & (held >= 0))[:, None] & exists, sem="relaxed")
    return tl.where(mask, entry, held), tl.where(moved[:, None], value, total + value)


@triton.jit(do_not_specialize=["num_points", "plane_stride", "other_plane_stride"])
def _scatter_kernel(
    points, vectors, factors, levels, table, features, others, num_points, row_stride, plane_stride,
    other_row_stride, other_plane_stride,
    FEATURES: tl.constexpr, PADDED: tl.constexpr, ALONG: tl.constexpr, FACTORS: tl.constexpr, OTHERS: tl.constexpr,
    CHUNKS: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """Add to the entries of a level: `features` times weights, or ALONG, their derivatives along `vectors`.

    FACTORS: and `factors` times weights; OTHERS: and `others` times weights.
    """
    chunk, side = _lanes(CHUNKS)
    number = tl.program_id(1)
    feature = tl.arange(0, PADDED)
    planes = features + (number * FEATURES + feature).to(tl.int64) * plane_stride
    other_planes = others + (number * FEATURES + feature).to(tl.int64) * other_plane_stride
    level = _level(levels + number * LEVEL)
    none = tl.full([CHUNKS * 2], -1, tl.int32)
    zero = tl.zeros([CHUNKS * 2, PADDED], tl.float32)
    held, totals = (none, none, none, none), (zero, zero, zero, zero)
    for step in range(STEPS):
        rows = (tl.program_id(0) * CHUNKS + chunk) * STEPS + step
        mask = rows < num_points
        used = mask[:, None] & (feature < FEATURES)[None, :]
        cell = _cell(points, rows, mask, side, level)
        value = tl.load(planes[None, :] + rows.to(tl.int64)[:, None] * row_stride, mask=used, other=0.0)
        if ALONG:
            vector = _vector(vectors, rows, mask)
        if FACTORS:
            factor = tl.load(factors + rows, mask=mask, other=0.0)
        if OTHERS:
            other = tl.load(other_planes[None, :] + rows.to(tl.int64)[:, None] * other_row_stride, mask=used, other=0.0)
        for corner in tl.static_range(4):
            entry, wx, wy, wz, dx, dy, dz = _corner(cell, level, corner)
            weight = wx * wy * wz
            scale = weight
            if ALONG:
                scale = _along(vector, wx, wy, wz, dx, dy, dz)
            if FACTORS:
                scale += factor * weight
            added = scale[:, None] * value
            if OTHERS:
                added += weight[:, None] * other
            entry, added = _add(table, held[0], totals[0], entry, added, mask, FEATURES, PADDED)
            held, totals = held[1:] + (entry,), totals[1:] + (added,)  # noqa: RUF005  (Triton has no *)
    for corner in tl.static_range(4):
        _add(table, held[corner], totals[corner], none, zero, none < 0, FEATURES, PADDED)


@triton.jit(do_not_specialize=["num_points", "num_levels", "plane_stride"])
def _gradient_kernel(
    points, vectors, levels, table, cotangents, gradients, num_points, num_levels, row_stride, plane_stride,
    FEATURES: tl.constexpr, PADDED: tl.constexpr, ALONG: tl.constexpr, COUNT: tl.constexpr,
):  # fmt: skip
    """Write the gradient in the points, given `cotangents`; ALONG: its derivative along `vectors`."""
    row, side = _lanes(COUNT)
    first = tl.program_id(0) * COUNT
    rows = first + row
    mask = rows < num_points
    if ALONG:
        vx, vy, vz = _vector(vectors, rows, mask)
    feature = tl.arange(0, PADDED)
    planes = cotangents + feature.to(tl.int64) * plane_stride
    used = mask[:, None] & (feature < FEATURES)[None, :]
    sx = tl.zeros([COUNT * 2], tl.float32)
    sy = tl.zeros([COUNT * 2], tl.float32)
    sz = tl.zeros([COUNT * 2], tl.float32)
    for number in range(num_levels):
        level = _level(levels + number * LEVEL)
        cell = _cell(points, rows, mask, side, level)
        cotangent = tl.load(planes[None, :] + rows.to(tl.int64)[:, None] * row_stride, mask=used, other=0.0)
        planes += FEATURES * plane_stride
        for corner in tl.static_range(4):
            entry, wx, wy, wz, dx, dy, dz = _corner(cell, level, corner)
            offset, exists = _place(entry, FEATURES, PADDED)
            value = tl.load(table + offset, mask=mask[:, None] & exists, other=0.0)
            total = tl.sum(value * cotangent, axis=1)
            if ALONG:
                sx += total * dx * (vy * dy * wz + vz * dz * wy)
                sy += total * dy * (vx * dx * wz + vz * dz * wx)
                sz += total * dz * (vx * dx * wy + vy * dy * wx)
            else:
                sx += total * dx * wy * wz
                sy += total * dy * wx * wz
                sz += total * dz * wx * wy
    place = gradients + (first + tl.arange(0, COUNT)) * 3
    mask = first + tl.arange(0, COUNT) < num_points
    tl.store(place, tl.sum(tl.reshape(sx, [COUNT, 2]), axis=1), mask=mask)
    tl.store(place + 1, tl.sum(tl.reshape(sy, [COUNT, 2]), axis=1), mask=mask)
    tl.store(place + 2, tl.sum(tl.reshape(sz, [COUNT, 2]), axis=1), mask=mask)


def interleave(table: Tensor) -> Tensor:
    """Put the features of an entry side by side. The shape stays "F E"; done twice it copies once."""
    return table.T.contiguous().T


def gather(points: Tensor, table: Tensor, levels: Tensor, num_planes: int, vectors: Tensor | None = None) -> Tensor:
    """Features "N num_planes"; those of levels that are not in `levels` are zero."""
    features, count = points.new_empty(num_planes, len(points)), len(table)
    features[len(levels) * count :] = 0.0
    points = points.contiguous()
    _gather_kernel[(triton.cdiv(len(points), GATHERED), len(levels))](
        points, points if vectors is None else vectors.contiguous(), levels, interleave(table).T, features,
        len(points), FEATURES=count, PADDED=triton.next_power_of_2(count), ALONG=vectors is not None, COUNT=GATHERED,
    )  # fmt: skip
    return features.T


def scatter(
    points: Tensor,
    levels: Tensor,
    cotangents: Tensor,
    shape: torch.Size,
    vectors: Tensor | None = None,
    factors: Tensor | None = None,
    others: Tensor | None = None,
) -> Tensor:
    """The gradient of a table of a shape; with `vectors` also that of `factors` "N" times cotangents and `others`."""
    table, points = points.new_zeros(shape[1], shape[0]), points.contiguous()
    along = points if vectors is None else vectors.contiguous()
    scales = points if factors is None else factors.contiguous()
    more = cotangents if others is None else others
    _scatter_kernel[(triton.cdiv(len(points), CHUNKS * STEPS), len(levels))](
        points, along, scales, levels, table, cotangents, more, len(points), *cotangents.stride(), *more.stride(),
        FEATURES=shape[0], PADDED=triton.next_power_of_2(shape[0]), ALONG=vectors is not None,
        FACTORS=factors is not None, OTHERS=others is not None, CHUNKS=CHUNKS, STEPS=STEPS,
    )  # fmt: skip
    return table.T


def differentiate(
    points: Tensor, table: Tensor, levels: Tensor, cotangents: Tensor, vectors: Tensor | None = None
) -> Tensor:
    """The gradients "N 3" in the points."""
    points, gradients = points.contiguous(), torch.empty_like(points, memory_format=torch.contiguous_format)
    _gradient_kernel[(triton.cdiv(len(points), DIFFERENTIATED),)](
        points, points if vectors is None else vectors.contiguous(), levels, interleave(table).T, cotangents,
        gradients, len(points), len(levels), *cotangents.stride(),
        FEATURES=len(table), PADDED=triton.next_power_of_2(len(table)), ALONG=vectors is not None,
        COUNT=DIFFERENTIATED,
    )  # fmt: skip
    return gradients
