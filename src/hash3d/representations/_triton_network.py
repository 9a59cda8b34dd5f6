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

from . import _triton_slopes as slopes  # noqa: F401  (found here, as `supports` is)
from ._triton_tiles import (
    PROGRAMS,
    before_relu,
    choose_sizes,
    fill,
    load_points,
    load_weight,
    pad,
    store_points,
    store_sum,
)

MOST = {"inputs": 64, "hidden": 128, "outputs": 16}
"""Widths that fit into shared memory."""
LARGEST = tl.constexpr(256.0)
"""To which gradients are scaled in float16, which ends at 65,504 and has its full precision down to 6e-5."""
SHARES = {1: [(0, 1)], 2: [(0, 0), (1, 2)], 3: [(0, 0), (1, 1), (2, 3)]}
"""Layers whose weights' gradients are computed together, by the number of hidden layers: registers hold no more."""


@triton.jit
def _hidden(inputs, weight, OUT: tl.constexpr, IN: tl.constexpr, PADDED: tl.constexpr, IN_PADDED: tl.constexpr):
    """Compute a hidden layer."""
    return tl.maximum(before_relu(inputs, weight, OUT, IN, PADDED, IN_PADDED), 0.0).to(inputs.dtype)


@triton.jit(do_not_specialize=["num_points"])
def _forward_kernel(
    inputs, w0, w1, w2, w3, outputs, limit, num_points, row_stride, column_stride,
    IN: tl.constexpr, WIDTH: tl.constexpr, OUT: tl.constexpr, IN_PADDED: tl.constexpr, PADDED: tl.constexpr,
    OUT_PADDED: tl.constexpr, HIDDEN: tl.constexpr, DTYPE: tl.constexpr, BLOCK: tl.constexpr, LIMITED: tl.constexpr,
):  # fmt: skip
    """Write outputs of a block; LIMITED: if it begins before the number in `limit`."""
    if LIMITED:  # noqa: SIM102  (Triton compiles no `and` of the two.)
        if tl.program_id(0) * BLOCK >= tl.load(limit):
            return
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    hidden = load_points(inputs, row_stride, column_stride, rows, num_points, IN, IN_PADDED).to(DTYPE)
    hidden = _hidden(hidden, w0, WIDTH, IN, PADDED, IN_PADDED)
    last = w1
    if HIDDEN > 1:
        hidden = _hidden(hidden, w1, WIDTH, WIDTH, PADDED, PADDED)
        last = w2
    if HIDDEN > 2:
        hidden = _hidden(hidden, w2, WIDTH, WIDTH, PADDED, PADDED)
        last = w3
    tile = load_weight(last, OUT, WIDTH, OUT_PADDED, PADDED).to(DTYPE)
    output = tl.dot(hidden, tl.trans(tile), input_precision="tf32")
    store_points(outputs, output, rows, num_points, OUT, OUT_PADDED)


@triton.jit
def _below(g, hidden, weight, OUT: tl.constexpr, IN: tl.constexpr, OUT_PADDED: tl.constexpr, IN_PADDED: tl.constexpr):
    """Compute the gradients in a hidden layer before its ReLU from those above the next layer."""
    tile = load_weight(weight, OUT, IN, OUT_PADDED, IN_PADDED).to(g.dtype)
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
        x = load_points(inputs, row_stride, column_stride, rows, num_points, IN, IN_PADDED).to(DTYPE)
        h1 = _hidden(x, w0, WIDTH, IN, PADDED, IN_PADDED)
        top, last = h1, w1
        if HIDDEN > 1:
            h2 = _hidden(h1, w1, WIDTH, WIDTH, PADDED, PADDED)
            top, last = h2, w2
        if HIDDEN > 2:
            h3 = _hidden(h2, w2, WIDTH, WIDTH, PADDED, PADDED)
            top, last = h3, w3
        g = load_points(above, above_row_stride, above_column_stride, rows, num_points, OUT, OUT_PADDED)
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
            g = tl.dot(g, load_weight(w0, WIDTH, IN, PADDED, IN_PADDED).to(DTYPE), input_precision="tf32")
            store_points(below, g / factor, rows, num_points, IN, IN_PADDED)
    if FIRST == 0:
        store_sum(s0, sum0 / factor, PADDED, IN_PADDED, WIDTH, IN)
    if (HIDDEN > 1) & (FIRST <= 1) & (LAST >= 1):
        store_sum(s1, sum1 / factor, PADDED, PADDED, WIDTH, WIDTH)
    if (HIDDEN > 2) & (FIRST <= 2) & (LAST >= 2):
        store_sum(s2, sum2 / factor, PADDED, PADDED, WIDTH, WIDTH)
    if LAST == HIDDEN:
        store_sum(s3, sum3 / factor, OUT_PADDED, PADDED, OUT, WIDTH)


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


def forward(inputs: Tensor, weights: Sequence[Tensor], limit: Tensor | None = None) -> Tensor:
    """Compute the outputs "N O" of inputs "N F"; after `limit` rows, a number on the device, they may be anything."""
    outputs = inputs.new_empty(len(weights[-1]), len(inputs))
    sizes = _choose_sizes(weights)
    _forward_kernel[(triton.cdiv(len(inputs), sizes["BLOCK"]),)](
        inputs, *fill(weights), outputs, inputs if limit is None else limit, len(inputs), *inputs.stride(),
        LIMITED=limit is not None, **sizes,
    )  # fmt: skip
    return outputs.T


def backward(inputs: Tensor, weights: Sequence[Tensor], grad_outputs: Tensor) -> list[Tensor | None]:
    """Compute the gradients of the inputs, if they require some, and of each layer's weights."""
    sizes, hidden = _choose_sizes(weights), len(weights) - 1
    programs = min(PROGRAMS, max(1, triton.cdiv(len(inputs), sizes["BLOCK"])))
    sums = [inputs.new_empty(programs, *weight.shape) for weight in weights]
    scaled = hidden > 1 and len(inputs) > 0
    largest = grad_outputs.abs().amax().clamp(min=1e-30) if scaled else weights[0]
    below = inputs.new_empty(inputs.shape[1], len(inputs) if inputs.requires_grad else 0)
    for first, last in SHARES[hidden]:
        _backward_kernel[(programs,)](
            inputs, *fill(weights), grad_outputs, largest, below, *fill(sums[:-1])[:3], sums[-1], len(inputs),
            *inputs.stride(), *grad_outputs.stride(), FIRST=first, LAST=last,
            BELOW=first == 0 and inputs.requires_grad, **sizes,
        )  # fmt: skip
    return [below.T if inputs.requires_grad else None, *(each.sum(dim=0) for each in sums)]


def _choose_sizes(weights: Sequence[Tensor]) -> dict[str, Any]:
    """Choose the sizes for such layers; several hidden ones are float16."""
    out = len(weights[-1])
    own = {"OUT": out, "OUT_PADDED": pad(out), "DTYPE": tl.float16 if len(weights) > 2 else tl.float32}
    sizes = choose_sizes(weights)
    return sizes | own | {"num_warps": 4 if sizes["PADDED"] <= 64 else 8}  # Backward of 64 units: 1.9 ms, by 8 2.5.
