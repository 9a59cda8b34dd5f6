# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""The Triton kernels of `elementwise`, one pass over memory each."""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024
"""Elements of one program."""


@triton.jit
def _add_bias(
    x, residual, bias, y, count, channels, factor, RESIDUAL: tl.constexpr, BIAS: tl.constexpr, SIZE: tl.constexpr
):
    """y = (x + residual + bias) factor."""
    index = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    inside = index < count
    value = tl.load(x + index, mask=inside, other=0.0).to(tl.float32)
    if RESIDUAL:
        value += tl.load(residual + index, mask=inside, other=0.0).to(tl.float32)
    if BIAS:
        first = ((tl.program_id(0).to(tl.int64) * SIZE) % channels).to(tl.int32)
        value += tl.load(bias + (first + tl.arange(0, SIZE)) % channels, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + index, (value * factor).to(y.dtype.element_ty), mask=inside)


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
def _layer_norm(x, y, weight, bias, rows, width, eps, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Normalise ROWS rows."""
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
    index = tl.program_id(0).to(tl.int64) * width + column
    values = tl.load(x + index, mask=column < width, other=float("-inf")).to(tl.float32)
    values = tl.exp(values - tl.max(values, axis=0))
    tl.store(y + index, (values / tl.sum(values, axis=0)).to(y.dtype.element_ty), mask=column < width)


@triton.jit
def _softmax_backward(y, dy, dx, width, WIDTH: tl.constexpr):
    """dx = y (dy - sum of y dy) of one row."""
    column = tl.arange(0, WIDTH)
    index = tl.program_id(0).to(tl.int64) * width + column
    weights = tl.load(y + index, mask=column < width, other=0.0).to(tl.float32)
    gradient = tl.load(dy + index, mask=column < width, other=0.0).to(tl.float32)
    result = weights * (gradient - tl.sum(weights * gradient, axis=0))
    tl.store(dx + index, result.to(dx.dtype.element_ty), mask=column < width)


def add_bias(x: Tensor, residual: Tensor | None, bias: Tensor | None, factor: float) -> Tensor:
    """Return (x + residual + bias) factor of channels-last images of one shape."""
    y = torch.empty_like(x)
    _add_bias[(triton.cdiv(x.numel(), BLOCK),)](
        x, x if residual is None else residual, x if bias is None else bias, y, x.numel(), x.shape[1], factor,
        RESIDUAL=residual is not None, BIAS=bias is not None, SIZE=BLOCK,
    )  # fmt: skip
    return y


def geglu(x: Tensor) -> Tensor:
    """Return a gelu(b) of contiguous rows [a, b]."""
    width = x.shape[-1] // 2
    y = x.new_empty(*x.shape[:-1], width)
    _geglu[(triton.cdiv(y.numel(), BLOCK),)](x, y, y.numel(), width, SIZE=BLOCK)
    return y


def softmax(x: Tensor) -> Tensor:
    """Return the softmax of contiguous rows."""
    width, y = x.shape[-1], torch.empty_like(x)
    _softmax[(x.numel() // width,)](x, y, width, WIDTH=triton.next_power_of_2(width), num_warps=_warps(width))
    return y


def softmax_backward(y: Tensor, dy: Tensor) -> Tensor:
    """Return the gradient in the rows, given that in their softmax `y`, both contiguous."""
    width, dx = y.shape[-1], torch.empty_like(y)
    _softmax_backward[(y.numel() // width,)](
        y, dy, dx, width, WIDTH=triton.next_power_of_2(width), num_warps=_warps(width)
    )
    return dx


def _warps(width: int) -> int:
    """Return the warps of a program that holds one row."""
    return 4 if width <= 2048 else 8 if width <= 8192 else 16


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise contiguous rows."""
    width = x.shape[-1]
    rows, padded = x.numel() // width, triton.next_power_of_2(width)
    each = max(1, 2048 // padded)
    y = torch.empty_like(x)
    _layer_norm[(triton.cdiv(rows, each),)](x, y, weight, bias, rows, width, eps, ROWS=each, WIDTH=padded)
    return y
