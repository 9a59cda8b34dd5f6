"""Convolutions in as few passes over memory as PyTorch's own take, and their gradient in the picture."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .elementwise import add_biased


def product(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution without its bias."""
    return F.conv2d(x, layer.weight, None, layer.stride, layer.padding, layer.dilation)


def biased(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution with its bias; one of single pixels is a product of rows with theirs."""
    if _of_single_pixels(layer):
        return F.linear(x.permute(0, 2, 3, 1), layer.weight.flatten(1), layer.bias).permute(0, 3, 1, 2)
    return add_biased(product(layer, x), layer.bias)


def halves(layer: nn.Module) -> bool:
    """Whether a layer is a convolution that `halved` computes."""
    return (
        type(layer) is nn.Conv2d
        and (layer.kernel_size, layer.stride, layer.padding) == ((3, 3), (2, 2), (0, 0))
        and layer.groups == 1
        and layer.dilation == (1, 1)
    )


def halved(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution of stride 2 of a picture [N, C, H, W] with a border of noughts below and on the right.

    Differentiable in `x` alone.
    """
    result: Tensor = _Halved.apply(x, layer.weight)  # type: ignore[no-untyped-call]
    return result if layer.bias is None else result + layer.bias[:, None, None]


def adjoint(layer: nn.Conv2d, dy: Tensor, like: Tensor) -> Tensor:
    """The gradient in what a convolution was given, of the shape and layout of `like`, for that in its result."""
    if _of_single_pixels(layer):
        return F.linear(dy.permute(0, 2, 3, 1), layer.weight.flatten(1).T).permute(0, 3, 1, 2)
    return _adjoint(dy, like, layer.weight, layer.stride, layer.padding)


def _of_single_pixels(layer: nn.Conv2d) -> bool:
    """Whether a convolution is a product of rows, one a pixel."""
    return layer.kernel_size == (1, 1) and layer.stride == (1, 1) and layer.padding == (0, 0)


def _adjoint(dy: Tensor, like: Tensor, weight: Tensor, stride: Sequence[int], padding: str | Sequence[int]) -> Tensor:
    wanted = [True, False, False]
    found: Tensor = torch.ops.aten.convolution_backward(
        dy, like, weight, None, stride, padding, [1, 1], False, [0, 0], 1, wanted
    )[0]
    return found


class _Halved(torch.autograd.Function):
    """With two borders all around, as convolutions can have them, the result is the same after a first row and column.

    So the picture, and its gradient, need not be copied into a larger one.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        height, width = (size // 2 for size in x.shape[2:])
        return F.conv2d(x, weight, None, stride=2, padding=2)[:, :, 1 : height + 1, 1 : width + 1]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        x, weight = ctx.saved_tensors
        # Odd sizes have a last row and column that nothing else has, too.
        height, width = (size % 2 for size in x.shape[2:])
        return _adjoint(F.pad(grad_outputs[0], (1, width, 1, height)), x, weight, (2, 2), (2, 2)), None
