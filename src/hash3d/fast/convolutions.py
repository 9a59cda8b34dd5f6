"""Convolutions in few passes over memory."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .elementwise import add_bias


def conv2d(layer: nn.Conv2d, x: Tensor, *, bias: bool = True) -> Tensor:
    """Apply a convolution to `x` [N, C, H, W], with or without its bias; a 1x1 one is a matmul of rows."""
    if not bias:
        return F.conv2d(x, layer.weight, None, layer.stride, layer.padding, layer.dilation)
    if _is_1x1(layer):
        return F.linear(x.permute(0, 2, 3, 1), layer.weight.flatten(1), layer.bias).permute(0, 3, 1, 2)
    return add_bias(conv2d(layer, x, bias=False), layer.bias)


def is_downsample(layer: nn.Module) -> bool:
    """Whether `downsample` computes a layer: 3x3, stride 2, without padding of its own."""
    return (
        type(layer) is nn.Conv2d
        and (layer.kernel_size, layer.stride, layer.padding) == ((3, 3), (2, 2), (0, 0))
        and layer.groups == 1
        and layer.dilation == (1, 1)
    )


def downsample(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Convolve `x` [N, C, H, W] with stride 2, zero-padded at the bottom and right, as diffusers' Downsample2D.

    Differentiable in `x` alone.
    """
    result: Tensor = _Downsample.apply(x, layer.weight)  # type: ignore[no-untyped-call]
    return result if layer.bias is None else result + layer.bias[:, None, None]


def _is_1x1(layer: nn.Conv2d) -> bool:
    return layer.kernel_size == (1, 1) and layer.stride == (1, 1) and layer.padding == (0, 0)


class _Downsample(torch.autograd.Function):
    """Pads by 2 on all sides, as cuDNN can, and drops the first row and column: no padded copy of the input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        height, width = (size // 2 for size in x.shape[2:])
        return F.conv2d(x, weight, None, stride=2, padding=2)[:, :, 1 : height + 1, 1 : width + 1]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        x, weight = ctx.saved_tensors
        height, width = (size % 2 for size in x.shape[2:])  # Odd sizes drop a last row and column too.
        dy = F.pad(grad_outputs[0], (1, width, 1, height))
        found = torch.ops.aten.convolution_backward(
            dy, x, weight, None, (2, 2), (2, 2), (1, 1), False, (0, 0), 1, (True, False, False)
        )
        return found[0], None
