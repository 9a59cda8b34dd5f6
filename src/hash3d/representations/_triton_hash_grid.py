# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""The three sums of a hash grid (`_hash_grid_sums`) as Triton kernels on CUDA, in float32.

A lane has one corner of a point's cell: those beside each other along x mostly share an access to memory, as do the
features of an entry, which lie side by side in a copy of the table. `gather` and `scatter` go level by level: a level
stays in the cache. Features are "F N" in here.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

GATHERED, DIFFERENTIATED = 64, 32
"""Points of one program."""
CHUNKS, STEPS = 16, 16
"""Points of one program of `scatter`: chunks of consecutive points. An entry that they share is added to once."""
LEVEL = tl.constexpr(6)
"""Numbers that describe a level; see `HashGrid.levels`."""


@triton.jit
def _lanes(COUNT: tl.constexpr):
    """Number the corners of points' cells. Return the points and the corners."""
    lane = tl.arange(0, COUNT * 8)
    return lane // 8, lane % 8


@triton.jit
def _place(entry, FEATURES: tl.constexpr, PADDED: tl.constexpr):
    """Return the offsets of entries' features, and whether there are such."""
    feature = tl.arange(0, PADDED)[None, :]
    offset = entry[:, None] * FEATURES + feature
    if FEATURES == PADDED:
        offset = tl.max_contiguous(tl.multiple_of(offset, [1, FEATURES]), [1, FEATURES])
    return offset, feature < FEATURES


@triton.jit
def _ends(points, rows, mask, corner, axis: tl.constexpr, resolution):
    """Return the corners' indices along an axis, their weights, and the weights' derivatives."""
    coordinate = tl.load(points + rows * 3 + axis, mask=mask, other=0.0)
    scaled = tl.minimum(tl.maximum(coordinate, 0.0), 1.0) * resolution
    lower = tl.minimum(tl.floor(scaled), resolution - 1.0)
    derivative = tl.where((coordinate >= 0.0) & (coordinate <= 1.0), resolution, 0.0)
    upper = (corner >> axis) & 1
    share = scaled - lower
    index = lower.to(tl.int32).to(tl.uint32) + upper.to(tl.uint32)
    return index, tl.where(upper == 1, share, 1.0 - share), tl.where(upper == 1, derivative, -derivative)


@triton.jit
def _cells(points, rows, mask, corner, level):
    """Return the entries at corners of points' cells in a level, their weights along the axes, and derivatives.

    An entry is the corner's index if all fit, else its hash, in 32-bit arithmetic.
    """
    resolution = tl.load(level).to(tl.float32)
    x, wx, dx = _ends(points, rows, mask, corner, 0, resolution)
    y, wy, dy = _ends(points, rows, mask, corner, 1, resolution)
    z, wz, dz = _ends(points, rows, mask, corner, 2, resolution)
    y = y * tl.load(level + 4).to(tl.uint32)
    z = z * tl.load(level + 5).to(tl.uint32)
    last = tl.load(level + 3).to(tl.uint32)
    entry = tl.where(tl.load(level + 2) > 0, x + y + z, (x ^ y ^ z) & last).to(tl.int32)
    return tl.load(level + 1).to(tl.int32) + entry, wx, wy, wz, dx, dy, dz


@triton.jit
def _vector(vectors, rows, mask):
    """Load three numbers a point."""
    x = tl.load(vectors + rows * 3, mask=mask, other=0.0)
    y = tl.load(vectors + rows * 3 + 1, mask=mask, other=0.0)
    z = tl.load(vectors + rows * 3 + 2, mask=mask, other=0.0)
    return x, y, z


@triton.jit
def _weigh(points, vectors, rows, mask, corner, level, ALONG: tl.constexpr):
    """Return the entries at corners, their weights, and the weights' derivatives along vectors, ALONG, or else 0."""
    entry, wx, wy, wz, dx, dy, dz = _cells(points, rows, mask, corner, level)
    along = 0.0
    if ALONG:
        vx, vy, vz = _vector(vectors, rows, mask)
        along = vx * dx * wy * wz + vy * dy * wx * wz + vz * dz * wx * wy
    return entry, wx * wy * wz, along


@triton.jit(do_not_specialize=["num_points"])
def _gather_kernel(
    points, vectors, levels, table, features, limit, num_points,
    FEATURES: tl.constexpr, PADDED: tl.constexpr, ALONG: tl.constexpr, LIMITED: tl.constexpr, COUNT: tl.constexpr,
):  # fmt: skip
    """Write the features of a level; ALONG: with the derivatives of the weights along `vectors`.

    LIMITED: of no more points than the number in `limit`.
    """
    rows, corner = _lanes(COUNT)
    first = tl.program_id(0) * COUNT
    number = tl.program_id(1)
    if LIMITED:  # noqa: SIM102  (Triton compiles no `and` of the two.)
        if first >= tl.load(limit):
            return
    mask = first + rows < num_points
    entry, weight, along = _weigh(points, vectors, first + rows, mask, corner, levels + number * LEVEL, ALONG)
    if ALONG:
        weight = along
    offset, exists = _place(entry, FEATURES, PADDED)
    value = tl.load(table + offset, mask=mask[:, None] & exists, other=0.0)
    total = tl.sum(tl.reshape(weight[:, None] * value, [COUNT, 8, PADDED]), axis=1)
    row = first + tl.arange(0, COUNT)[:, None]
    column = tl.arange(0, PADDED)[None, :]
    place = features + (number * FEATURES + column).to(tl.int64) * num_points + row
    tl.store(place, total, mask=(row < num_points) & (column < FEATURES))


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
    chunk, corner = _lanes(CHUNKS)
    number = tl.program_id(1)
    feature = tl.arange(0, PADDED)
    planes = features + (number * FEATURES + feature).to(tl.int64) * plane_stride
    other_planes = others + (number * FEATURES + feature).to(tl.int64) * other_plane_stride
    held = tl.full([CHUNKS * 8], -1, tl.int32)
    total = tl.zeros([CHUNKS * 8, PADDED], tl.float32)
    for step in range(STEPS):
        rows = (tl.program_id(0) * CHUNKS + chunk) * STEPS + step
        mask = rows < num_points
        entry, weight, along = _weigh(points, vectors, rows, mask, corner, levels + number * LEVEL, ALONG)
        used = mask[:, None] & (feature < FEATURES)[None, :]
        value = tl.load(planes[None, :] + rows.to(tl.int64)[:, None] * row_stride, mask=used, other=0.0)
        if ALONG:
            if FACTORS:
                along += tl.load(factors + rows, mask=mask, other=0.0) * weight
            value = value * along[:, None]
        else:
            value = value * weight[:, None]
        if OTHERS:
            other = tl.load(other_planes[None, :] + rows.to(tl.int64)[:, None] * other_row_stride, mask=used, other=0.0)
            value += other * weight[:, None]
        offset, exists = _place(held, FEATURES, PADDED)
        moved = entry != held
        tl.atomic_add(table + offset, total, mask=(moved & (held >= 0))[:, None] & exists, sem="relaxed")
        total = tl.where(moved[:, None], value, total + value)
        held = tl.where(mask, entry, held)
    offset, exists = _place(held, FEATURES, PADDED)
    tl.atomic_add(table + offset, total, mask=(held >= 0)[:, None] & exists, sem="relaxed")


@triton.jit(do_not_specialize=["num_points", "num_levels", "plane_stride"])
def _gradient_kernel(
    points, vectors, levels, table, cotangents, gradients, num_points, num_levels, row_stride, plane_stride,
    FEATURES: tl.constexpr, PADDED: tl.constexpr, ALONG: tl.constexpr, COUNT: tl.constexpr,
):  # fmt: skip
    """Write the gradient in the points, given `cotangents`; ALONG: its derivative along `vectors`."""
    row, corner = _lanes(COUNT)
    first = tl.program_id(0) * COUNT
    rows = first + row
    mask = rows < num_points
    if ALONG:
        vx, vy, vz = _vector(vectors, rows, mask)
    feature = tl.arange(0, PADDED)
    planes = cotangents + feature.to(tl.int64) * plane_stride
    used = mask[:, None] & (feature < FEATURES)[None, :]
    sx = tl.zeros([COUNT * 8], tl.float32)
    sy = tl.zeros([COUNT * 8], tl.float32)
    sz = tl.zeros([COUNT * 8], tl.float32)
    for number in range(num_levels):
        entry, wx, wy, wz, dx, dy, dz = _cells(points, rows, mask, corner, levels + number * LEVEL)
        offset, exists = _place(entry, FEATURES, PADDED)
        value = tl.load(table + offset, mask=mask[:, None] & exists, other=0.0)
        value *= tl.load(planes[None, :] + rows.to(tl.int64)[:, None] * row_stride, mask=used, other=0.0)
        planes += FEATURES * plane_stride
        total = tl.sum(value, axis=1)
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
    tl.store(place, tl.sum(tl.reshape(sx, [COUNT, 8]), axis=1), mask=mask)
    tl.store(place + 1, tl.sum(tl.reshape(sy, [COUNT, 8]), axis=1), mask=mask)
    tl.store(place + 2, tl.sum(tl.reshape(sz, [COUNT, 8]), axis=1), mask=mask)


def interleave(table: Tensor) -> Tensor:
    """Put the features of an entry side by side. The shape stays "F E"; done twice it copies once."""
    return table.T.contiguous().T


def gather(
    points: Tensor,
    table: Tensor,
    levels: Tensor,
    num_planes: int,
    vectors: Tensor | None = None,
    limit: Tensor | None = None,
) -> Tensor:
    """Features "N num_planes"; those of levels that are not in `levels` are zero.

    After `limit` points, a number on the device, features may be anything.
    """
    features, count = points.new_empty(num_planes, len(points)), len(table)
    features[len(levels) * count :] = 0.0
    points = points.contiguous()
    _gather_kernel[(triton.cdiv(len(points), GATHERED), len(levels))](
        points, points if vectors is None else vectors.contiguous(), levels, interleave(table).T, features,
        levels if limit is None else limit, len(points), FEATURES=count, PADDED=triton.next_power_of_2(count),
        ALONG=vectors is not None, LIMITED=limit is not None, COUNT=GATHERED,
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
