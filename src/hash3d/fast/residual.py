"""Residual blocks of Stable Diffusion and its autoencoder in few passes over memory.

A block of an autoencoder on a GPU has its own backward, for the gradient in the input alone: the kernel that writes the
gradient of the first normalisation adds that of the skip connection.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .convolutions import conv2d, conv2d_backward
from .elementwise import add_bias
from .group_norm import group_norm, has_kernels


class ResidualBlock:
    """(skip(x) + conv(silu(norm(conv(silu(norm(x))) + embedding)))) / scale, as diffusers' ResnetBlock2D.

    Args:
        block: the layer, without resampling or dropout.
        fixed: take means and variances as constants in the gradient.
    """

    def __init__(self, block: Any, *, fixed: bool = False) -> None:
        self.block, self.fixed = block, fixed

    def __call__(self, input_tensor: Tensor, temb: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
        """Return the block's output [N, C, H, W]."""
        conditional = self.block.time_emb_proj is not None and temb is not None
        if not conditional and has_kernels(input_tensor) and torch.is_grad_enabled() and input_tensor.requires_grad:
            result: Tensor = _Differentiable.apply(input_tensor, self)  # type: ignore[no-untyped-call]
            return result
        block = self.block
        embedding = block.time_emb_proj(F.silu(temb)) if conditional and temb is not None else None
        hidden = group_norm(block.norm1, input_tensor, silu=True, fixed=self.fixed)
        hidden = conv2d(block.conv1, hidden, bias=False)
        hidden = group_norm(block.norm2, hidden, silu=True, shifts=(block.conv1.bias, embedding), fixed=self.fixed)
        return self._add_skip(input_tensor, conv2d(block.conv2, hidden, bias=False))

    def _add_skip(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Add the second bias and the skip connection, and scale."""
        block = self.block
        skip = x if block.conv_shortcut is None else conv2d(block.conv_shortcut, x)
        return add_bias(hidden, block.conv2.bias, skip, 1.0 / block.output_scale_factor)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the output on a GPU, and what the backward pass needs."""
        from . import _triton_group_norm as norms

        block = self.block
        first, second = ((norm.num_groups, norm.weight, norm.bias, norm.eps) for norm in (block.norm1, block.norm2))
        x = _channels_last(x)
        hidden, first_statistics = norms.group_norm(x, *first, silu=True, shifts=(None, None))
        middle = _channels_last(conv2d(block.conv1, hidden, bias=False))
        hidden, second_statistics = norms.group_norm(middle, *second, silu=True, shifts=(block.conv1.bias, None))
        output = self._add_skip(x, conv2d(block.conv2, hidden, bias=False))
        return output, (x, first_statistics, middle, second_statistics)

    def backward(self, saved: tuple[Tensor, ...], dy: Tensor) -> Tensor:
        """Return the gradient in the input, given that in the output."""
        from . import _triton_group_norm as norms

        x, first_statistics, middle, second_statistics = saved
        block, fixed = self.block, self.fixed
        first, second = ((norm.num_groups, norm.weight) for norm in (block.norm1, block.norm2))
        dy = _channels_last(dy if block.output_scale_factor == 1.0 else dy / block.output_scale_factor)
        gradient = _channels_last(conv2d_backward(block.conv2, dy, middle))
        gradient = norms.group_norm_backward(middle, gradient, second_statistics, *second, silu=True, fixed=fixed)
        gradient = _channels_last(conv2d_backward(block.conv1, gradient, x))
        skip = dy if block.conv_shortcut is None else _channels_last(conv2d_backward(block.conv_shortcut, dy, x))
        return norms.group_norm_backward(x, gradient, first_statistics, *first, silu=True, fixed=fixed, plus=skip)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


class _Differentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, block: ResidualBlock) -> Tensor:
        result, saved = block.forward(x)
        ctx.save_for_backward(*saved)
        ctx.block = block
        return result

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return ctx.block.backward(ctx.saved_tensors, grad_outputs[0]), None
