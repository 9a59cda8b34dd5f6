# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""A ReLU network without bias and its derivatives as Triton kernels on CUDA.

Points are taken in blocks, through all layers at once; the backward pass computes the hidden layers anew. Sums are in
float32. Factors of products are float32 rounded to TF32, 10 bits after the point; in a hidden layer three such, as a
sign that rounding turns counts in full. Networks with more than one hidden layer are float16, as in threestudio, and
their gradients scaled. A program adds the weights' gradients of its blocks, and PyTorch those of the programs: no sum
depends on chance. Tiles are padded to powers of 2; inputs, outputs and their gradients are "F N" in here.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 128
"""Points of a block."""
MOST = {"inputs": 64, "hidden": 128, "outputs": 16}
"""Widths that fit into shared memory."""
LARGEST = tl.constexpr(256.0)
"""To which gradients are scaled in float16, which ends at 65,504 and has its full precision down to 6e-5."""
SHARES = {1: [(0, 1)], 2: [(0, 0), (1, 2)], 3: [(0, 0), (1, 1), (2, 3)]}
"""Layers whose weights' gradients are computed together, by the number of hidden layers: registers hold no more."""
PROGRAMS = 264
"""Programs of a backward pass: two for each multiprocessor of an H200."""


@triton.jit
def _load_points(values, row_stride, column_stride, rows, num_points, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Load a tile "points PADDED", zero beyond the points and the width."""
    columns = tl.arange(0, PADDED)
    place = values + rows.to(tl.int64)[:, None] * row_stride + columns.to(tl.int64)[None, :] * column_stride
    return tl.load(place, mask=(rows < num_points)[:, None] & (columns < WIDTH)[None, :], other=0.0)


@triton.jit
def _store_points(values, tile, rows, num_points, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Store a tile in "WIDTH N"."""
    columns = tl.arange(0, PADDED)
    place = values + columns.to(tl.int64)[None, :] * num_points + rows[:, None]
    tl.store(place, tile, mask=(rows < num_points)[:, None] & (columns < WIDTH)[None, :])


@triton.jit
def _load_weight(weight, OUT: tl.constexpr, IN: tl.constexpr, OUT_PADDED: tl.constexpr, IN_PADDED: tl.constexpr):
    """Load a layer's weights "OUT_PADDED IN_PADDED"."""
    rows, columns = tl.arange(0, OUT_PADDED)[:, None], tl.arange(0, IN_PADDED)[None, :]
    return tl.load(weight + rows * IN + columns, mask=(rows < OUT) & (columns < IN), other=0.0)


@triton.jit
def _hidden(inputs, weight, OUT: tl.constexpr, IN: tl.constexpr, PADDED: tl.constexpr, IN_PADDED: tl.constexpr):
    """Compute a hidden layer. Its signs decide what learns, so that float32 keeps its precision."""
    tile = tl.trans(_load_weight(weight, OUT, IN, PADDED, IN_PADDED)).to(inputs.dtype)
    return tl.maximum(tl.dot(inputs, tile, input_precision="tf32x3"), 0.0).to(inputs.dtype)


@triton.jit(do_not_specialize=["num_points"])
def _forward_kernel(
    inputs, w0, w1, w2, w3, outputs, num_points, row_stride, column_stride,
    IN: tl.constexpr, WIDTH: tl.constexpr, OUT: tl.constexpr, IN_PADDED: tl.constexpr, PADDED: tl.constexpr,
    OUT_PADDED: tl.constexpr, HIDDEN: tl.constexpr, DTYPE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write outputs of a block."""
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    hidden = _load_points(inputs, row_stride, column_stride, rows, num_points, IN, IN_PADDED).to(DTYPE)
    hidden = _hidden(hidden, w0, WIDTH, IN, PADDED, IN_PADDED)
    last = w1
    if HIDDEN > 1:
        hidden = _hidden(hidden, w1, WIDTH, WIDTH, PADDED, PADDED)
        last = w2
    if HIDDEN > 2:
        hidden = _hidden(hidden, w2, WIDTH, WIDTH, PADDED, PADDED)
        last = w3
    tile = _load_weight(last, OUT, WIDTH, OUT_PADDED, PADDED).to(DTYPE)
    output = tl.dot(hidden, tl.trans(tile), input_precision="tf32")
    _store_points(outputs, output, rows, num_points, OUT, OUT_PADDED)


@triton.jit
def _store_sum(sums, total, ROWS: tl.constexpr, COLUMNS: tl.constexpr, USED_ROWS: tl.constexpr, USED: tl.constexpr):
    """Store a program's sum "USED_ROWS USED"."""
    rows, columns = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    place = sums + (tl.program_id(0) * USED_ROWS + rows) * USED + columns
    tl.store(place, total, mask=(rows < USED_ROWS) & (columns < USED))


@triton.jit
def _below(g, hidden, weight, OUT: tl.constexpr, IN: tl.constexpr, OUT_PADDED: tl.constexpr, IN_PADDED: tl.constexpr):
    """Compute the gradients in a hidden layer before its ReLU from those above the next layer."""
    tile = _load_weight(weight, OUT, IN, OUT_PADDED, IN_PADDED).to(g.dtype)
    return tl.where(hidden > 0.0, tl.dot(g, tile, input_precision="tf32"), 0.0).to(g.dtype)


@triton.jit(do_not_specialize=["num_points"])
def _backward_kernel(
    inputs, w0, w1, w2, w3, above, largest, below, s0, s1, s2, s3, num_points, row_stride, column_stride,
    above_row_stride, above_column_stride,
    IN: tl.constexpr, WIDTH: tl.constexpr, OUT: tl.constexpr, IN_PADDED: tl.constexpr, PADDED: tl.constexpr,
    OUT_PADDED: tl.constexpr, HIDDEN: tl.constexpr, FIRST: tl.constexpr, LAST: tl.constexpr, BELOW: tl.constexpr,
    DTYPE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write a program's sums of the weights' gradients of layers FIRST to LAST, and BELOW, the inputs' gradients."""
    factor = 1.0
    if HIDDEN > 1:
        factor = LARGEST / tl.load(largest)
    sum0 = tl.zeros([PADDED, IN_PADDED], tl.float32)
    sum1 = tl.zeros([PADDED, PADDED], tl.float32)
    sum2 = tl.zeros([PADDED, PADDED], tl.float32)
    sum3 = tl.zeros([OUT_PADDED, PADDED], tl.float32)
    for block in range(tl.program_id(0), tl.cdiv(num_points, BLOCK), tl.num_programs(0)):
        rows = block * BLOCK + tl.arange(0, BLOCK)
        x = _load_points(inputs, row_stride, column_stride, rows, num_points, IN, IN_PADDED).to(DTYPE)
        h1 = _hidden(x, w0, WIDTH, IN, PADDED, IN_PADDED)
        top, last = h1, w1
        if HIDDEN > 1:
            h2 = _hidden(h1, w1, WIDTH, WIDTH, PADDED, PADDED)
            top, last = h2, w2
        if HIDDEN > 2:
            h3 = _hidden(h2, w2, WIDTH, WIDTH, PADDED, PADDED)
            top, last = h3, w3
        g = _load_points(above, above_row_stride, above_column_stride, rows, num_points, OUT, OUT_PADDED)
        g = (g * factor).to(DTYPE)
        if LAST == HIDDEN:
            sum3 = tl.dot(tl.trans(g), top, sum3, input_precision="tf32")
        if FIRST < HIDDEN:
            g = _below(g, top, last, OUT, WIDTH, OUT_PADDED, PADDED)
        if HIDDEN > 2:
            if (FIRST <= 2) & (LAST >= 2):
                sum2 = tl.dot(tl.trans(g), h2, sum2, input_precision="tf32")
            if FIRST < 2:
                g = _below(g, h2, w2, WIDTH, WIDTH, PADDED, PADDED)
        if HIDDEN > 1:
            if (FIRST <= 1) & (LAST >= 1):
                sum1 = tl.dot(tl.trans(g), h1, sum1, input_precision="tf32")
            if FIRST < 1:
                g = _below(g, h1, w1, WIDTH, WIDTH, PADDED, PADDED)
        if FIRST == 0:
            sum0 = tl.dot(tl.trans(g), x, sum0, input_precision="tf32")
        if BELOW:
            g = tl.dot(g, _load_weight(w0, WIDTH, IN, PADDED, IN_PADDED).to(DTYPE), input_precision="tf32")
            _store_points(below, g / factor, rows, num_points, IN, IN_PADDED)
    if FIRST == 0:
        _store_sum(s0, sum0 / factor, PADDED, IN_PADDED, WIDTH, IN)
    if (HIDDEN > 1) & (FIRST <= 1) & (LAST >= 1):
        _store_sum(s1, sum1 / factor, PADDED, PADDED, WIDTH, WIDTH)
    if (HIDDEN > 2) & (FIRST <= 2) & (LAST >= 2):
        _store_sum(s2, sum2 / factor, PADDED, PADDED, WIDTH, WIDTH)
    if LAST == HIDDEN:
        _store_sum(s3, sum3 / factor, OUT_PADDED, PADDED, OUT, WIDTH)


@triton.jit(do_not_specialize=["num_points"])
def _slope_kernel(
    inputs, w0, w1, values, gradients, num_points, row_stride, column_stride,
    IN: tl.constexpr, WIDTH: tl.constexpr, IN_PADDED: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the values and their gradients in the inputs, of a network with one hidden layer and one output."""
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = _load_points(inputs, row_stride, column_stride, rows, num_points, IN, IN_PADDED)
    first = _load_weight(w0, WIDTH, IN, PADDED, IN_PADDED)
    hidden = tl.dot(x, tl.trans(first), input_precision="tf32x3")
    units = tl.arange(0, PADDED)
    active = tl.where(hidden > 0.0, tl.load(w1 + units, mask=units < WIDTH, other=0.0)[None, :], 0.0)
    tl.store(values + rows, tl.sum(hidden * active, axis=1), mask=rows < num_points)
    gradient = tl.dot(active, first, input_precision="tf32x3")
    _store_points(gradients, gradient, rows, num_points, IN, IN_PADDED)


@triton.jit(do_not_specialize=["num_points"])
def _slope_backward_kernel(
    inputs, w0, by_value, by_gradient, sums, num_points, row_stride, column_stride, other_row_stride,
    other_column_stride,
    IN: tl.constexpr, WIDTH: tl.constexpr, IN_PADDED: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write a program's sums, for each hidden unit, of dy x + dg over the points at which it is not zero."""
    first = _load_weight(w0, WIDTH, IN, PADDED, IN_PADDED)
    total = tl.zeros([PADDED, IN_PADDED], tl.float32)
    for block in range(tl.program_id(0), tl.cdiv(num_points, BLOCK), tl.num_programs(0)):
        rows = block * BLOCK + tl.arange(0, BLOCK)
        x = _load_points(inputs, row_stride, column_stride, rows, num_points, IN, IN_PADDED)
        hidden = tl.dot(x, tl.trans(first), input_precision="tf32x3")
        active = tl.where(hidden > 0.0, 1.0, 0.0)
        signal = _load_points(by_gradient, other_row_stride, other_column_stride, rows, num_points, IN, IN_PADDED)
        signal += tl.load(by_value + rows, mask=rows < num_points, other=0.0)[:, None] * x
        total = tl.dot(tl.trans(active), signal, total, input_precision="tf32")
    _store_sum(sums, total, PADDED, IN_PADDED, WIDTH, IN)


def supports(weights: Sequence[Tensor]) -> bool:
    """Whether there are kernels for the layers: up to three hidden ones of one width, as wide as `MOST` says.

    All but small ones with one hidden layer take more shared memory than devices have that are not for data centres.
    """
    (inputs, *hidden), outputs = [weight.shape[1] for weight in weights], len(weights[-1])
    if not 1 <= len(hidden) <= 3 or len(set(hidden)) > 1:
        return False
    like, small = weights[0], len(hidden) == 1 and inputs <= 32 and hidden[0] <= 64
    large = not like.is_cuda or torch.cuda.get_device_capability(like.device) in ((9, 0), (10, 0), (10, 3))
    return inputs <= MOST["inputs"] and hidden[0] <= MOST["hidden"] and outputs <= MOST["outputs"] and (small or large)


def forward(inputs: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Compute the outputs "N O" of inputs "N F"."""
    outputs = inputs.new_empty(len(weights[-1]), len(inputs))
    sizes = _sizes(weights)
    _forward_kernel[(triton.cdiv(len(inputs), sizes["BLOCK"]),)](
        inputs, *_four(weights), outputs, len(inputs), *inputs.stride(), HIDDEN=len(weights) - 1, **sizes
    )
    return outputs.T


def backward(inputs: Tensor, weights: Sequence[Tensor], grad_outputs: Tensor) -> list[Tensor | None]:
    """Compute the gradients of the inputs, if they require some, and of each layer's weights."""
    sizes, hidden = _sizes(weights), len(weights) - 1
    programs = min(PROGRAMS, max(1, triton.cdiv(len(inputs), sizes["BLOCK"])))
    sums = [inputs.new_empty(programs, *weight.shape) for weight in weights]
    scaled = hidden > 1 and len(inputs) > 0
    largest = grad_outputs.abs().amax().clamp(min=1e-30) if scaled else weights[0]
    below = inputs.new_empty(inputs.shape[1], len(inputs) if inputs.requires_grad else 0)
    for first, last in SHARES[hidden]:
        _backward_kernel[(programs,)](
            inputs, *_four(weights), grad_outputs, largest, below, *_four(sums[:-1])[:3], sums[-1], len(inputs),
            *inputs.stride(), *grad_outputs.stride(), HIDDEN=hidden, FIRST=first, LAST=last,
            BELOW=first == 0 and inputs.requires_grad, **sizes,
        )  # fmt: skip
    return [below.T if inputs.requires_grad else None, *(each.sum(dim=0) for each in sums)]


def value_and_gradient(inputs: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Compute the single output "N" of one hidden layer, and its gradient "N F" in the inputs."""
    values, gradients = inputs.new_empty(len(inputs)), inputs.new_empty(inputs.shape[1], len(inputs))
    sizes = _sizes(weights)
    _slope_kernel[(triton.cdiv(len(inputs), sizes["BLOCK"]),)](
        inputs, *(weight.contiguous() for weight in weights), values, gradients, len(inputs), *inputs.stride(),
        **_slope_sizes(sizes),
    )  # fmt: skip
    return values, gradients.T


def value_and_gradient_backward(
    inputs: Tensor, weights: Sequence[Tensor], by_value: Tensor, by_gradient: Tensor
) -> list[Tensor]:
    """Compute the gradients of both layers' weights: those of w . (a * (W x)) at x = dy x + dg, a what is not zero."""
    sizes, (first, last) = _sizes(weights), weights
    programs = min(PROGRAMS, max(1, triton.cdiv(len(inputs), sizes["BLOCK"])))
    sums = inputs.new_empty(programs, *first.shape)
    _slope_backward_kernel[(programs,)](
        inputs, first.contiguous(), by_value.contiguous(), by_gradient, sums, len(inputs), *inputs.stride(),
        *by_gradient.stride(), **_slope_sizes(sizes),
    )  # fmt: skip
    total = sums.sum(dim=0)
    return [last.T * total, (total * first).sum(dim=1)[None]]


def _four(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Put something in place of layers that are not there; it is not read."""
    return [tensors[min(number, len(tensors) - 1)].contiguous() for number in range(4)]


def _slope_sizes(sizes: dict[str, Any]) -> dict[str, Any]:
    """Choose those of kernels of one output, in float32."""
    return {name: size for name, size in sizes.items() if "OUT" not in name and name != "DTYPE"}


def _sizes(weights: Sequence[Tensor]) -> dict[str, Any]:
    widths = {"IN": weights[0].shape[1], "WIDTH": len(weights[0]), "OUT": len(weights[-1])}
    padded = {name: max(16, triton.next_power_of_2(width)) for name, width in widths.items()}
    sizes = {"IN_PADDED": padded["IN"], "PADDED": padded["WIDTH"], "OUT_PADDED": padded["OUT"]}
    block = {"BLOCK": BLOCK, "num_warps": 8, "num_stages": 1}
    return {**widths, **sizes, **block, "DTYPE": tl.float16 if len(weights) > 2 else tl.float32}
