# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""The output of a ReLU network together with its gradient in the inputs, and the derivatives of both, by Triton.

`relu_network` has the mathematics. In float32; hidden layers keep its precision, since they decide signs, all other
products have factors rounded to TF32.
"""

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from ._triton_tiles import PROGRAMS, before_relu, choose_sizes, fill, load_points, load_weight, store_points, store_sum

MOST = {"inputs": 32, "hidden": 64}
"""Widths that fit into shared memory."""


@triton.jit
def _slopes(first, last, weights, PADDED: tl.constexpr, WIDTH: tl.constexpr, HIDDEN: tl.constexpr):
    """Compute the output's gradients in the hidden layers `first` and `last`, all before ReLU; one layer is both."""
    units = tl.arange(0, PADDED)
    output = tl.load(weights[HIDDEN] + units, mask=units < WIDTH, other=0.0)[None, :]
    above = tl.where(last > 0.0, output, 0.0)
    if HIDDEN == 1:
        return above, above
    below = tl.dot(above, load_weight(weights[1], WIDTH, WIDTH, PADDED, PADDED), input_precision="tf32")
    return tl.where(first > 0.0, below, 0.0), above


@triton.jit(do_not_specialize=["num_points"])
def _slope_kernel(
    inputs, w0, w1, w2, values, gradients, num_points, row_stride, column_stride,
    IN: tl.constexpr, WIDTH: tl.constexpr, IN_PADDED: tl.constexpr, PADDED: tl.constexpr, HIDDEN: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the values and their gradients in the inputs, of a network with one output and one or two hidden layers."""
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = load_points(inputs, row_stride, column_stride, rows, num_points, IN, IN_PADDED)
    first = before_relu(x, w0, WIDTH, IN, PADDED, IN_PADDED)
    last = first
    if HIDDEN > 1:
        last = before_relu(tl.maximum(first, 0.0), w1, WIDTH, WIDTH, PADDED, PADDED)
    below, above = _slopes(first, last, (w0, w1, w2), PADDED, WIDTH, HIDDEN)
    tl.store(values + rows, tl.sum(last * above, axis=1), mask=rows < num_points)
    gradient = tl.dot(below, load_weight(w0, WIDTH, IN, PADDED, IN_PADDED), input_precision="tf32")
    store_points(gradients, gradient, rows, num_points, IN, IN_PADDED)


@triton.jit(do_not_specialize=["num_points"])
def _slope_backward_kernel(
    inputs, w0, w1, w2, by_value, by_gradient, s0, s1, num_points, row_stride, column_stride, other_row_stride,
    other_column_stride,
    IN: tl.constexpr, WIDTH: tl.constexpr, IN_PADDED: tl.constexpr, PADDED: tl.constexpr, HIDDEN: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Write a program's sums, with dy x + dg in place of the inputs: by unit of the last layer, of what it gets if on.

    With two hidden layers, also the gradient of the first.
    """
    sum0 = tl.zeros([PADDED, IN_PADDED], tl.float32)
    sum1 = tl.zeros([PADDED, PADDED], tl.float32)
    for block in range(tl.program_id(0), tl.cdiv(num_points, BLOCK), tl.num_programs(0)):
        rows = block * BLOCK + tl.arange(0, BLOCK)
        x = load_points(inputs, row_stride, column_stride, rows, num_points, IN, IN_PADDED)
        first = before_relu(x, w0, WIDTH, IN, PADDED, IN_PADDED)
        signal = load_points(by_gradient, other_row_stride, other_column_stride, rows, num_points, IN, IN_PADDED)
        signal += tl.load(by_value + rows, mask=rows < num_points, other=0.0)[:, None] * x
        if HIDDEN == 1:
            sum0 = tl.dot(tl.trans(tl.where(first > 0.0, 1.0, 0.0)), signal, sum0, input_precision="tf32")
        else:
            last = before_relu(tl.maximum(first, 0.0), w1, WIDTH, WIDTH, PADDED, PADDED)
            below, _ = _slopes(first, last, (w0, w1, w2), PADDED, WIDTH, HIDDEN)
            sum0 = tl.dot(tl.trans(below), signal, sum0, input_precision="tf32")
            weight = tl.trans(load_weight(w0, WIDTH, IN, PADDED, IN_PADDED))
            signal = tl.where(first > 0.0, tl.dot(signal, weight, input_precision="tf32"), 0.0)
            sum1 = tl.dot(tl.trans(tl.where(last > 0.0, 1.0, 0.0)), signal, sum1, input_precision="tf32")
    store_sum(s0, sum0, PADDED, IN_PADDED, WIDTH, IN)
    if HIDDEN > 1:
        store_sum(s1, sum1, PADDED, PADDED, WIDTH, WIDTH)


def supports(weights: Sequence[Tensor]) -> bool:
    """Whether there are kernels for layers that `_triton_network` supports: up to two hidden ones, one output."""
    inputs, hidden = (weight.shape[1] for weight in weights[:2])
    fits = inputs <= MOST["inputs"] and hidden <= MOST["hidden"]
    return fits and len(weights) <= 3 and len(weights[-1]) == 1


def value_and_gradient(inputs: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Compute the single output "N", and its gradient "N F" in the inputs."""
    values, gradients = inputs.new_empty(len(inputs)), inputs.new_empty(inputs.shape[1], len(inputs))
    sizes = choose_sizes(weights)
    _slope_kernel[(triton.cdiv(len(inputs), sizes["BLOCK"]),)](
        inputs, *fill(weights)[:3], values, gradients, len(inputs), *inputs.stride(), **sizes
    )
    return values, gradients.T


def value_and_gradient_backward(
    inputs: Tensor, weights: Sequence[Tensor], by_value: Tensor, by_gradient: Tensor
) -> list[Tensor]:
    """Compute the gradients of the layers' weights: those of one network at x = dy x + dg (`relu_network`)."""
    sizes, (*hidden, last) = choose_sizes(weights), weights
    programs = min(PROGRAMS, max(1, triton.cdiv(len(inputs), sizes["BLOCK"])))
    sums = [inputs.new_empty(programs, *weight.shape) for weight in hidden]
    _slope_backward_kernel[(programs,)](
        inputs, *fill(weights)[:3], by_value.contiguous(), by_gradient, sums[0], sums[-1], len(inputs),
        *inputs.stride(), *by_gradient.stride(), **sizes,
    )  # fmt: skip
    *found, total = (each.sum(dim=0) for each in sums)
    return [*found, last.T * total, (total * hidden[-1]).sum(dim=1)[None]]
