"""A ReLU network without bias, and together with its gradient, for losses of that gradient.

Between its kinks it is linear, y = w M_k W_k ... M_1 W_1 x, with masks M, and its gradient is g = W_1' M_1 ... W_k' M_k
w'. The derivatives of dy y + dg . g = w M_k W_k ... M_1 W_1 (dy x + dg) are those of one network on one other input,
where autograd would go through all layers twice.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hash3d.kernels import FieldBackend, find_kernels, require_last_derivative


def evaluate(
    layers: nn.Sequential,
    inputs: Float[Tensor, "N F"],
    backend: FieldBackend,
    known: Tensor | None = None,
    limit: Int[Tensor, ""] | None = None,
) -> Float[Tensor, "N O"]:
    """Compute `layers(inputs)`, linear layers with ReLU between them: by kernels, if there are, once differentiable.

    `known` is the result, where it is known already and only its derivatives are missing. `limit` says on the device
    how many rows count: Triton's kernel, then without derivative, leaves out the others.
    """
    weights = weights_of(layers)
    if kernels := find_network(backend, weights, inputs):
        if limit is not None and inputs.is_cuda:
            limited: Tensor = kernels.forward(inputs, weights, limit)
            return limited
        result: Tensor = _Network.apply(kernels, known, inputs, *weights)  # type: ignore[no-untyped-call]
        return result
    outputs: Tensor = layers(inputs)
    return outputs


def find_network(backend: FieldBackend, weights: Sequence[Tensor], inputs: Tensor) -> ModuleType | None:
    """Find the kernels for layers of such weights: numba's on a CPU for all, Triton's for those that they support."""
    kernels = find_kernels(backend, "hash3d.representations", "network", inputs)
    return kernels if kernels and kernels.supports(weights) else None


class _Network(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernels: ModuleType, known: Tensor | None, inputs: Tensor, *weights: Tensor) -> Tensor:
        ctx.kernels = kernels
        ctx.save_for_backward(inputs, *weights)
        result: Tensor = kernels.forward(inputs, weights) if known is None else known.view_as(known)
        return result

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        require_last_derivative("a field's networks")
        inputs, *weights = ctx.saved_tensors
        return None, None, *ctx.kernels.backward(inputs, weights, *grad_outputs)


def weights_of(layers: nn.Sequential) -> list[Tensor]:
    """Return the weights of the linear layers."""
    return [layer.weight for layer in layers if isinstance(layer, nn.Linear)]


def value_and_gradient(
    layers: nn.Sequential, inputs: Float[Tensor, "N F"]
) -> tuple[Float[Tensor, " N"], Float[Tensor, "N F"]]:
    """Return the single output of two or more linear layers, ReLU between them, and its gradient in the inputs.

    Both are differentiable in the weights, the output in the inputs too.
    """
    result: tuple[Tensor, Tensor] = _ValueAndGradient.apply(inputs, *weights_of(layers))  # type: ignore[no-untyped-call]
    return result


class _ValueAndGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        hidden, masks = inputs, []
        for weight in weights[:-1]:
            hidden = (hidden @ weight.T).relu_()
            masks.append(hidden > 0)
        gradient = backpropagate(weights, masks)[0] @ weights[0]
        ctx.save_for_backward(inputs, gradient, *weights, *masks)
        return (hidden @ weights[-1].T)[:, 0], gradient

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        by_value, by_gradient = grad_outputs
        inputs, gradient, *rest = ctx.saved_tensors
        weights, masks = rest[: len(rest) // 2 + 1], rest[len(rest) // 2 + 1 :]
        signal = torch.addcmul(by_gradient, by_value[:, None], inputs)
        by_weights = []
        for weight, mask, after in zip(weights, masks, backpropagate(weights, masks), strict=False):
            by_weights.append(after.T @ signal)
            signal = (signal @ weight.T) * mask
        by_weights.append(signal.sum(dim=0, keepdim=True))
        return by_value[:, None] * gradient, *by_weights


def backpropagate(weights: Sequence[Tensor], masks: Sequence[Bool[Tensor, "N _"]]) -> list[Float[Tensor, "N _"]]:
    """Return the gradients of the output in each hidden layer before its ReLU."""
    found = [masks[-1] * weights[-1]]
    for weight, mask in zip(weights[-2:0:-1], masks[-2::-1], strict=True):
        found.append((found[-1] @ weight) * mask)
    return found[::-1]
