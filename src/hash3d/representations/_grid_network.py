"""A hash grid and a network with one output behind it, together with the gradient in the points, as one function.

Its backward pass goes over the table once, where those of the parts (`_hash_grid_sums`, `relu_network`) would twice.
"""

from typing import Any

import torch
from torch import Tensor

from hash3d.kernels import require_last_derivative


def value_and_gradient(
    sums: Any, network: Any, points: Tensor, table: Tensor, levels: Tensor, num_planes: int, weights: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return features "N num_planes", values "N" and their gradients "N 3", differentiable in table and weights.

    `sums` and `network` are modules of kernels, `_triton_hash_grid` and `_triton_slopes`.
    """
    result: tuple[Tensor, Tensor, Tensor]
    result = _ValueAndGradient.apply(sums, network, points, table, levels, num_planes, *weights)  # type: ignore[no-untyped-call]
    return result


class _ValueAndGradient(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, sums: Any, network: Any, points: Tensor, table: Tensor, levels: Tensor, num_planes: int,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        table = sums.interleave(table)
        features = sums.gather(points, table, levels, num_planes)
        values, by_features = network.value_and_gradient(features, weights)
        ctx.save_for_backward(points, table, levels, features, by_features, *weights)
        ctx.sums, ctx.network = sums, network
        ctx.set_materialize_grads(False)
        return features, values, sums.differentiate(points, table, levels, by_features)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> Any:
        require_last_derivative("a field's gradient")
        points, table, levels, features, by_features, *weights = ctx.saved_tensors
        grad_features, grad_values, vectors = grad_outputs
        grad_values = points.new_zeros(len(points)) if grad_values is None else grad_values
        vectors = torch.zeros_like(points) if vectors is None else vectors
        grad_gradients = ctx.sums.gather(points, table, levels, features.shape[1], vectors)
        by_weights = ctx.network.value_and_gradient_backward(features, weights, grad_values, grad_gradients)
        by_table = ctx.sums.scatter(points, levels, by_features, table.shape, vectors, grad_values, grad_features)
        return None, None, None, by_table, None, None, *by_weights
