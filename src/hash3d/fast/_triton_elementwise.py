# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""Sums, gates and layer normalisation of rows on CUDA: the kernels of `elementwise`, one pass over memory each."""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024
"""Numbers a program handles."""


@triton.jit
def _add(x, other, bias, y, count, channels, factor, OTHER: tl.constexpr, BIAS: tl.constexpr, SIZE: tl.constexpr):
    """y = (x + other + bias) factor."""
    place = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    inside = place < count
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    if OTHER:
        value += tl.load(other + place, mask=inside, other=0.0).to(tl.float32)
    if BIAS:
        first = ((tl.program_id(0).to(tl.int64) * SIZE) % channels).to(tl.int32)
        value += tl.load(bias + (first + tl.arange(0, SIZE)) % channels, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + place, (value * factor).to(y.dtype.element_ty), mask=inside)


@triton.jit
def _gate(x, y, count, width, SIZE: tl.constexpr):
    """y = a gelu(b) of rows [a, b]."""
    place = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    inside = place < count
    row, column = place // width, place % width
    at = x + row.to(tl.int64) * 2 * width + column
    value = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(at + width, mask=inside, other=0.0).to(tl.float32)
    # The rounding of the definition: a gate in the dtype of x.
    gate = (0.5 * gate * (1.0 + tl.erf(gate * 0.7071067811865476))).to(y.dtype.element_ty).to(tl.float32)
    tl.store(y + place, (value * gate).to(y.dtype.element_ty), mask=inside)


@triton.jit
def _normalise_rows(x, y, weight, bias, rows, width, eps, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Layer normalisation of some rows."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, WIDTH)[None, :]
    kept = column < width
    inside = (row < rows) & kept
    values = tl.load(x + row * width + column, mask=inside, other=0.0).to(tl.float32)
    mean = tl.sum(values, axis=1)[:, None] / width
    centred = tl.where(kept, values - mean, 0.0)
    inverse = tl.rsqrt(tl.sum(centred * centred, axis=1)[:, None] / width + eps)
    gain = tl.load(weight + column, mask=kept, other=0.0).to(tl.float32)
    shift = tl.load(bias + column, mask=kept, other=0.0).to(tl.float32)
    tl.store(y + row * width + column, (centred * inverse * gain + shift).to(y.dtype.element_ty), mask=inside)


@triton.jit
def _softmax(x, y, width, WIDTH: tl.constexpr):
    """y = exp(x - max) / sum of one row."""
    column = tl.arange(0, WIDTH)
    place = tl.program_id(0).to(tl.int64) * width + column
    values = tl.load(x + place, mask=column < width, other=float("-inf")).to(tl.float32)
    values = tl.exp(values - tl.max(values, axis=0))
    tl.store(y + place, (values / tl.sum(values, axis=0)).to(y.dtype.element_ty), mask=column < width)


@triton.jit
def _softmax_gradient(y, dy, dx, width, WIDTH: tl.constexpr):
    """dx = y (dy - sum of y dy) of one row."""
    column = tl.arange(0, WIDTH)
    place = tl.program_id(0).to(tl.int64) * width + column
    shares = tl.load(y + place, mask=column < width, other=0.0).to(tl.float32)
    slope = tl.load(dy + place, mask=column < width, other=0.0).to(tl.float32)
    result = shares * (slope - tl.sum(shares * slope, axis=0))
    tl.store(dx + place, result.to(dx.dtype.element_ty), mask=column < width)


def add(x: Tensor, other: Tensor | None, bias: Tensor | None, factor: float) -> Tensor:
    """(x + other + bias) factor of channels-last pictures of one shape and a number a channel."""
    y = torch.empty_like(x)
    _add[(triton.cdiv(x.numel(), BLOCK),)](
        x, x if other is None else other, x if bias is None else bias, y, x.numel(), x.shape[1], factor,
        OTHER=other is not None, BIAS=bias is not None, SIZE=BLOCK,
    )  # fmt: skip
    return y


def gate(x: Tensor) -> Tensor:
    """a gelu(b) of contiguous rows [a, b]."""
    width = x.shape[-1] // 2
    y = x.new_empty(*x.shape[:-1], width)
    _gate[(triton.cdiv(y.numel(), BLOCK),)](x, y, y.numel(), width, SIZE=BLOCK)
    return y


def softmax(x: Tensor) -> Tensor:
    """Contiguous rows as shares."""
    width, y = x.shape[-1], torch.empty_like(x)
    _softmax[(x.numel() // width,)](x, y, width, WIDTH=triton.next_power_of_2(width), num_warps=_warps(width))
    return y


def softmax_gradient(y: Tensor, dy: Tensor) -> Tensor:
    """The gradient in the rows for that in their shares `y`, both contiguous."""
    width, dx = y.shape[-1], torch.empty_like(y)
    _softmax_gradient[(y.numel() // width,)](
        y, dy, dx, width, WIDTH=triton.next_power_of_2(width), num_warps=_warps(width)
    )
    return dx


def _warps(width: int) -> int:
    """Of a program that holds one row."""
    return 4 if width <= 2048 else 8 if width <= 8192 else 16


def normalise_rows(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Layer normalisation of contiguous rows."""
    width = x.shape[-1]
    rows, padded = x.numel() // width, triton.next_power_of_2(width)
    each = max(1, 2048 // padded)
    y = torch.empty_like(x)
    _normalise_rows[(triton.cdiv(rows, each),)](x, y, weight, bias, rows, width, eps, ROWS=each, WIDTH=padded)
    return y
