"""A ReLU network without bias and its derivatives on the CPU, compiled by numba.

Points are taken in blocks, through all layers at once: what is between the layers stays in the nearest caches. Widths
are padded to even numbers, and products work on two rows and two columns at a time. Blocks are shared out to the
threads in `PARTS` ranges, whose sums of the weights' gradients do not depend on the number of threads. All layers'
weights lie in one array, "L W W", so that one compilation serves every depth; `sizes` are the padded widths in use.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from hash3d._numba_kernel import FAST, FAST_SUMS, Array, kernel, prange, run

BLOCK = 128
PARTS = 16


@kernel(fastmath=FAST)
def _multiply(weights: Array, inputs: Array, outputs: Array) -> None:
    for j in range(0, len(weights), 2):
        outputs[j : j + 2] = 0
        for i in range(0, weights.shape[1], 2):
            a, b, c, d = weights[j, i], weights[j, i + 1], weights[j + 1, i], weights[j + 1, i + 1]
            for p in range(BLOCK):
                outputs[j, p] += a * inputs[i, p] + b * inputs[i + 1, p]
                outputs[j + 1, p] += c * inputs[i, p] + d * inputs[i + 1, p]


@kernel(fastmath=FAST_SUMS)
def _add_products(rows: Array, columns: Array, sums: Array) -> None:
    """Add the sums over the points of products of a row and a column."""
    for j in range(0, len(sums), 2):
        for i in range(0, sums.shape[1], 2):
            a = b = c = d = sums.dtype.type(0)
            for p in range(BLOCK):
                a += rows[j, p] * columns[i, p]
                b += rows[j, p] * columns[i + 1, p]
                c += rows[j + 1, p] * columns[i, p]
                d += rows[j + 1, p] * columns[i + 1, p]
            sums[j, i] += a
            sums[j, i + 1] += b
            sums[j + 1, i] += c
            sums[j + 1, i + 1] += d


@kernel(fastmath=FAST)
def _run_layers(inputs: Array, weights: Array, sizes: Array, first: int, layers: Array) -> int:
    """Compute all layers of a block, `layers` "L + 1, W, BLOCK". Return how many points it has."""
    count = min(BLOCK, inputs.shape[1] - first)
    layers[0] = 0
    for row in range(len(inputs)):
        for p in range(count):
            layers[0, row, p] = inputs[row, first + p]
    for number in range(len(weights)):
        _multiply(weights[number, : sizes[number + 1], : sizes[number]], layers[number], layers[number + 1])
        if number < len(weights) - 1:
            for row in range(sizes[number + 1]):
                for p in range(BLOCK):
                    layers[number + 1, row, p] = max(layers[number + 1, row, p], layers.dtype.type(0))
    return count


@kernel(parallel=True, fastmath=FAST)
def _forward(inputs: Array, weights: Array, sizes: Array, outputs: Array) -> None:
    blocks = (inputs.shape[1] + BLOCK - 1) // BLOCK
    for part in prange(PARTS):
        layers = np.empty((len(weights) + 1, weights.shape[1], BLOCK), inputs.dtype)
        for block in range(part * blocks // PARTS, (part + 1) * blocks // PARTS):
            count = _run_layers(inputs, weights, sizes, block * BLOCK, layers)
            for row in range(len(outputs)):
                for p in range(count):
                    outputs[row, block * BLOCK + p] = layers[-1, row, p]


@kernel(parallel=True, fastmath=FAST)
def _backward(
    inputs: Array, weights: Array, sizes: Array, grad_outputs: Array, grad_inputs: Array, sums: Array
) -> None:
    blocks, (depth, width, _) = (inputs.shape[1] + BLOCK - 1) // BLOCK, weights.shape
    for part in prange(PARTS):
        layers = np.empty((depth + 1, width, BLOCK), inputs.dtype)
        above, below = np.empty((width, BLOCK), inputs.dtype), np.empty((width, BLOCK), inputs.dtype)
        for block in range(part * blocks // PARTS, (part + 1) * blocks // PARTS):
            count = _run_layers(inputs, weights, sizes, block * BLOCK, layers)
            above[:] = 0
            for row in range(len(grad_outputs)):
                for p in range(count):
                    above[row, p] = grad_outputs[row, block * BLOCK + p]
            for number in range(depth - 1, -1, -1):
                used = weights[number, : sizes[number + 1], : sizes[number]]
                _add_products(above, layers[number], sums[number, part, : sizes[number + 1], : sizes[number]])
                _multiply(used.T, above, below)
                if number:
                    for row in range(sizes[number]):
                        for p in range(BLOCK):
                            above[row, p] = below[row, p] if layers[number, row, p] > 0 else below.dtype.type(0)
            for row in range(len(grad_inputs)):
                for p in range(count):
                    grad_inputs[row, block * BLOCK + p] = below[row, p]


def supports(weights: Sequence[Tensor]) -> bool:
    """Whether there are kernels for the layers: for all."""
    return True


def forward(inputs: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Compute the outputs "N O" of inputs "N F"."""
    outputs = inputs.new_empty(len(weights[-1]), len(inputs))
    run(_forward, inputs.T, *_pad(weights), outputs)
    return outputs.T


def backward(inputs: Tensor, weights: Sequence[Tensor], grad_outputs: Tensor) -> list[Tensor]:
    """Compute the gradients of the inputs and of each layer's weights."""
    padded, sizes = _pad(weights)
    grad_inputs = inputs.new_empty(inputs.shape[1], len(inputs))
    sums = inputs.new_zeros(len(padded), PARTS, *padded.shape[1:])
    run(_backward, inputs.T, padded, sizes, grad_outputs.T, grad_inputs, sums)
    found = [each[: len(like), : like.shape[1]] for each, like in zip(sums.sum(dim=1), weights, strict=True)]
    return [grad_inputs.T, *found]


def _pad(weights: Sequence[Tensor]) -> tuple[Tensor, Array]:
    """Put the weights into one array of zeros. Return it, and the widths as even numbers."""
    widths = [weights[0].shape[1], *map(len, weights)]
    sizes = np.array([width + width % 2 for width in widths])
    padded = weights[0].new_zeros(len(weights), sizes.max(), sizes.max())
    for place, each in zip(padded, weights, strict=True):
        place[: len(each), : each.shape[1]] = each.detach()
    return padded, sizes
