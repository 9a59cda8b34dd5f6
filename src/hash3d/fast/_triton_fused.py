# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""The Triton kernels of `fused_layers`, channels last: elementwise ones, and the launches of group normalisation's."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._triton_group_norm import (
    apply_backward,
    apply_forward,
    backward_sums,
    finish_backward,
    finish_forward,
    forward_sums,
    whole_group,
)
from .fused_layers import Shifts

WHOLE_GROUP = 8192
"""Largest group that one program holds; larger ones are read faster in parts (docs/benchmarks/systems_full_size.md)."""
BLOCK_CHANNELS = 64
BLOCK_ROWS = 32
PROGRAMS = 2112
"""Programs over the rows of an image, about: sixteen for each multiprocessor of an H100 or H200."""


class _Shape:
    """Sizes of the launches for a channels-last [N, C, H, W] tensor."""

    def __init__(self, x: Tensor, num_groups: int) -> None:
        self.images, self.channels = x.shape[0], x.shape[1]
        self.rows, self.groups = x.shape[2] * x.shape[3], num_groups
        self.width = self.channels // num_groups
        self.padded_width = triton.next_power_of_2(self.width)
        self.channel_blocks = triton.cdiv(self.channels, BLOCK_CHANNELS)
        most = triton.cdiv(PROGRAMS, self.images * self.channel_blocks)
        blocks = triton.cdiv(self.rows, BLOCK_ROWS)
        self.rows_each = BLOCK_ROWS * triton.cdiv(blocks, min(blocks, most))
        self.parts = triton.cdiv(self.rows, self.rows_each)

    @property
    def pixels(self) -> tuple[int, int, int]:
        """Grid of the kernels over all elements."""
        return triton.cdiv(self.rows, BLOCK_ROWS), self.images, self.channel_blocks

    @property
    def reduction(self) -> dict[str, int]:
        """Block of the sum of partial sums: as many parts at a time as make 4,096 numbers."""
        parts = min(triton.next_power_of_2(self.parts), max(1, 4096 // self.padded_width))
        return {"PARTS": parts, "WIDTH": self.padded_width}

    @property
    def held(self) -> int:
        """Size of a group, padded to powers of two."""
        return int(triton.next_power_of_2(self.rows)) * int(self.padded_width)

    def sums(self, like: Tensor) -> Tensor:
        """Allocate the partial sums."""
        return torch.empty(self.images, self.parts, 2, self.channels, dtype=torch.float32, device=like.device)


def _shift_arguments(shifts: Shifts, like: Tensor) -> tuple[tuple[Tensor, Tensor], dict[str, bool]]:
    first, second = shifts
    tensors = (like if first is None else first, like if second is None else second.contiguous())
    return tensors, {"FIRST": first is not None, "SECOND": second is not None}


def group_norm_small(
    x: Tensor, num_groups: int, weight: Tensor, bias: Tensor, eps: float, *, silu: bool, shifts: Shifts
) -> Tensor | None:
    """Normalise an image whose groups fit a program, without a derivative; None for a larger one."""
    shape = _Shape(x, num_groups)
    if shape.held > WHOLE_GROUP:
        return None
    y = torch.empty_like(x, memory_format=torch.channels_last)
    tensors, flags = _shift_arguments(shifts, x)
    whole_group[(num_groups, shape.images)](
        x, *tensors, y, weight, bias, shape.rows, shape.channels, shape.width, eps, **flags,
        SILU=silu, ROWS=triton.next_power_of_2(shape.rows), WIDTH=shape.padded_width,
        num_warps=4 if shape.held <= 4096 else 8 if shape.held <= 16_384 else 16,
    )  # fmt: skip
    return y


def group_norm(
    x: Tensor, num_groups: int, weight: Tensor, bias: Tensor, eps: float, *, silu: bool, shifts: Shifts
) -> tuple[Tensor, Tensor]:
    """Return the result, and what the backward pass needs: `statistics` [N, 4, C]."""
    shape = _Shape(x, num_groups)
    y, sums = torch.empty_like(x, memory_format=torch.channels_last), shape.sums(x)
    statistics = torch.empty(shape.images, 4, shape.channels, dtype=torch.float32, device=x.device)
    blocks = {"ROWS": BLOCK_ROWS, "CHANNELS": BLOCK_CHANNELS}
    sizes = (shape.rows, shape.channels)
    tensors, flags = _shift_arguments(shifts, x)
    grid = (shape.parts, shape.images, shape.channel_blocks)
    forward_sums[grid](x, *tensors, sums, *sizes, shape.rows_each, **flags, **blocks)
    finish_forward[(num_groups, shape.images)](
        sums, *tensors, weight, bias, statistics, shape.parts, *sizes, shape.width, eps, **flags, **shape.reduction
    )
    apply_forward[shape.pixels](x, y, statistics, *sizes, SILU=silu, **blocks)
    return y, statistics


def group_norm_backward(
    x: Tensor, dy: Tensor, statistics: Tensor, num_groups: int, weight: Tensor, *, silu: bool
) -> Tensor:
    """Return the gradient in x given that in the result, `dy`."""
    shape = _Shape(x, num_groups)
    sizes, blocks = (shape.rows, shape.channels), {"ROWS": BLOCK_ROWS, "CHANNELS": BLOCK_CHANNELS}
    coefficients = torch.empty(shape.images, 2, shape.channels, dtype=torch.float32, device=x.device)
    sums = shape.sums(x)
    grid = (shape.parts, shape.images, shape.channel_blocks)
    backward_sums[grid](x, dy, statistics, sums, *sizes, shape.rows_each, SILU=silu, **blocks)
    finish_backward[(num_groups, shape.images)](
        sums, weight, statistics, coefficients, shape.parts, *sizes, shape.width, **shape.reduction
    )
    dx = torch.empty_like(x, memory_format=torch.channels_last)
    apply_backward[shape.pixels](x, dy, dx, statistics, coefficients, *sizes, SILU=silu, **blocks)
    return dx


BLOCK = 1024
"""Elements of one program."""


@triton.jit
def _add_bias(x, residual, bias, y, count, channels, RESIDUAL: tl.constexpr, BIAS: tl.constexpr, SIZE: tl.constexpr):
    """y = x + residual + bias."""
    index = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    inside = index < count
    value = tl.load(x + index, mask=inside, other=0.0).to(tl.float32)
    if RESIDUAL:
        value += tl.load(residual + index, mask=inside, other=0.0).to(tl.float32)
    if BIAS:
        first = ((tl.program_id(0).to(tl.int64) * SIZE) % channels).to(tl.int32)
        value += tl.load(bias + (first + tl.arange(0, SIZE)) % channels, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + index, value.to(y.dtype.element_ty), mask=inside)


@triton.jit
def _geglu(x, y, count, width, SIZE: tl.constexpr):
    """y = a gelu(b) of rows [a, b]."""
    index = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    inside = index < count
    row, column = index // width, index % width
    at = x + row.to(tl.int64) * 2 * width + column
    value = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(at + width, mask=inside, other=0.0).to(tl.float32)
    # Rounded to the dtype of x first, as the reference implementation does.
    gate = (0.5 * gate * (1.0 + tl.erf(gate * 0.7071067811865476))).to(y.dtype.element_ty).to(tl.float32)
    tl.store(y + index, (value * gate).to(y.dtype.element_ty), mask=inside)


@triton.jit
def _layer_norm(x, weight, bias, y, rows, width, eps, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """y = (x - mean) / sqrt(variance + eps) weight + bias of each row."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (column < width)
    index = row.to(tl.int64) * width + column
    values = tl.load(x + index, mask=inside, other=0.0).to(tl.float32)
    centred = tl.where(inside, values - tl.sum(values, axis=1)[:, None] / width, 0.0)
    inverse = tl.rsqrt(tl.sum(centred * centred, axis=1)[:, None] / width + eps)
    gain = tl.load(weight + column, mask=column < width, other=0.0).to(tl.float32)
    shift = tl.load(bias + column, mask=column < width, other=0.0).to(tl.float32)
    tl.store(y + index, (centred * inverse * gain + shift).to(y.dtype.element_ty), mask=inside)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise contiguous rows."""
    y, width = torch.empty_like(x), x.shape[-1]
    padded = triton.next_power_of_2(width)
    rows, each = x.numel() // width, max(1, 4 * BLOCK // padded)
    _layer_norm[(triton.cdiv(rows, each),)](x, weight, bias, y, rows, width, eps, ROWS=each, WIDTH=padded)
    return y


def add_bias(x: Tensor, residual: Tensor | None, bias: Tensor | None) -> Tensor:
    """Return x + residual + bias of channels-last images of one shape."""
    y = torch.empty_like(x)
    _add_bias[(triton.cdiv(x.numel(), BLOCK),)](
        x, x if residual is None else residual, x if bias is None else bias, y, x.numel(), x.shape[1],
        RESIDUAL=residual is not None, BIAS=bias is not None, SIZE=BLOCK,
    )  # fmt: skip
    return y


def geglu(x: Tensor) -> Tensor:
    """Return a gelu(b) of contiguous rows [a, b]."""
    width = x.shape[-1] // 2
    y = x.new_empty(*x.shape[:-1], width)
    _geglu[(triton.cdiv(y.numel(), BLOCK),)](x, y, y.numel(), width, SIZE=BLOCK)
    return y
