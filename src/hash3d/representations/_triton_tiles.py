# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""What Triton's kernels of small networks share: blocks of points, and sums that programs write."""

from collections.abc import Sequence
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

BLOCK = 128
"""Points of a block."""
PROGRAMS = 264
"""Programs of a backward pass: two for each multiprocessor of an H200."""


@triton.jit
def load_points(values, row_stride, column_stride, rows, num_points, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Load a tile "points PADDED", zero beyond the points and the width."""
    columns = tl.arange(0, PADDED)
    place = values + rows.to(tl.int64)[:, None] * row_stride + columns.to(tl.int64)[None, :] * column_stride
    return tl.load(place, mask=(rows < num_points)[:, None] & (columns < WIDTH)[None, :], other=0.0)


@triton.jit
def store_points(values, tile, rows, num_points, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Store a tile in "WIDTH N"."""
    columns = tl.arange(0, PADDED)
    place = values + columns.to(tl.int64)[None, :] * num_points + rows[:, None]
    tl.store(place, tile, mask=(rows < num_points)[:, None] & (columns < WIDTH)[None, :])


@triton.jit
def load_weight(weight, OUT: tl.constexpr, IN: tl.constexpr, OUT_PADDED: tl.constexpr, IN_PADDED: tl.constexpr):
    """Load a layer's weights "OUT_PADDED IN_PADDED"."""
    rows, columns = tl.arange(0, OUT_PADDED)[:, None], tl.arange(0, IN_PADDED)[None, :]
    return tl.load(weight + rows * IN + columns, mask=(rows < OUT) & (columns < IN), other=0.0)


@triton.jit
def before_relu(inputs, weight, OUT: tl.constexpr, IN: tl.constexpr, PADDED: tl.constexpr, IN_PADDED: tl.constexpr):
    """Compute a hidden layer before its ReLU. Its signs decide what learns, so that float32 keeps its precision."""
    tile = tl.trans(load_weight(weight, OUT, IN, PADDED, IN_PADDED)).to(inputs.dtype)
    return tl.dot(inputs, tile, input_precision="tf32x3")


@triton.jit
def store_sum(sums, total, ROWS: tl.constexpr, COLUMNS: tl.constexpr, USED_ROWS: tl.constexpr, USED: tl.constexpr):
    """Store a program's sum "USED_ROWS USED"."""
    rows, columns = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    place = sums + (tl.program_id(0) * USED_ROWS + rows) * USED + columns
    tl.store(place, total, mask=(rows < USED_ROWS) & (columns < USED))


def fill(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Put something in place of layers that are not there; it is not read."""
    return [tensors[min(number, len(tensors) - 1)].contiguous() for number in range(4)]


def choose_sizes(weights: Sequence[Tensor]) -> dict[str, Any]:
    """Choose the sizes that all kernels take for such layers.

    On an H200 (Triton 3.6) gradients of 16 padded inputs to two layers of 64 units were wrong; those of 32 are right.
    """
    (width, inputs), hidden = weights[0].shape, len(weights) - 1
    least = 32 if hidden > 1 and width > 16 else 16
    widths = {"IN": inputs, "WIDTH": width, "IN_PADDED": max(least, pad(inputs)), "PADDED": pad(width)}
    return {**widths, "HIDDEN": hidden, "BLOCK": BLOCK, "num_warps": 8, "num_stages": 1}


def pad(width: int) -> int:
    """Return the width of a tile."""
    return max(16, triton.next_power_of_2(width))
