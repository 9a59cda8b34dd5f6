# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""The Triton kernels of `elementwise`, one pass over memory each."""

import torch
import triton
import triton.language as tl
from torch import Tensor

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
