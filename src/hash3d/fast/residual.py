"""Residual blocks as Stable Diffusion and its autoencoder have them, in few passes over memory.

A block of an autoencoder on a GPU has its own backward, for the gradient in the image alone: the skip's gradient is
added by the kernel that writes the gradient of the first normalisation.
"""

from typing import Any, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from .convolutions import adjoint, biased, product
from .elementwise import add_biased
from .group_norm import has_kernels, normalised


class ResidualBlock:
    """(skip(x) + conv(silu(norm(conv(silu(norm(x))) + embedding)))) / scale of diffusers' ResnetBlock2D.

    Args:
        block: the layer, without sampling or dropout.
        fixed: let no gradient flow through means and variances.
    """

    def __init__(self, block: Any, *, fixed: bool = False) -> None:
        self.block, self.fixed = block, fixed

    def __call__(self, input_tensor: Tensor, temb: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
        """The block's result."""
        conditional = self.block.time_emb_proj is not None and temb is not None
        if not conditional and has_kernels(input_tensor) and torch.is_grad_enabled() and input_tensor.requires_grad:
            result: Tensor = _Differentiable.apply(input_tensor, self)  # type: ignore[no-untyped-call]
            return result
        block = self.block
        embedding = block.time_emb_proj(F.silu(temb)) if conditional and temb is not None else None
        hidden = normalised(block.norm1, input_tensor, silu=True, fixed=self.fixed)
        hidden = product(block.conv1, hidden)
        hidden = normalised(block.norm2, hidden, silu=True, shifts=(block.conv1.bias, embedding), fixed=self.fixed)
        return self._sum(input_tensor, product(block.conv2, hidden))

    def _sum(self, x: Tensor, hidden: Tensor) -> Tensor:
        """What the second product gave, with what is added to it."""
        block = self.block
        skip = x if block.conv_shortcut is None else biased(block.conv_shortcut, x)
        return add_biased(hidden, block.conv2.bias, skip, 1.0 / block.output_scale_factor)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The result for a picture on a GPU, and what the gradient needs."""
        from . import _triton_group_norm as norms

        block = self.block
        first, second = ((norm.num_groups, norm.weight, norm.bias, norm.eps) for norm in (block.norm1, block.norm2))
        x = _channels_last(x)
        hidden, first_lines = norms.normalise(x, *first, silu=True, shifts=(None, None))
        middle = _channels_last(product(block.conv1, hidden))
        hidden, second_lines = norms.normalise(middle, *second, silu=True, shifts=(block.conv1.bias, None))
        return self._sum(x, product(block.conv2, hidden)), (x, first_lines, middle, second_lines)

    def backward(self, saved: tuple[Tensor, ...], dy: Tensor) -> Tensor:
        """The gradient in the picture for that in the result."""
        from . import _triton_group_norm as norms

        x, first_lines, middle, second_lines = saved
        block, flags = self.block, _Flags(silu=True, fixed=self.fixed)
        first, second = ((norm.num_groups, norm.weight) for norm in (block.norm1, block.norm2))
        dy = _channels_last(dy if block.output_scale_factor == 1.0 else dy / block.output_scale_factor)
        slope = _channels_last(adjoint(block.conv2, dy, middle))
        slope = norms.differentiate(middle, slope, second_lines, *second, **flags)
        slope = _channels_last(adjoint(block.conv1, slope, x))
        skip = dy if block.conv_shortcut is None else _channels_last(adjoint(block.conv_shortcut, dy, x))
        return norms.differentiate(x, slope, first_lines, *first, **flags, plus=skip)


class _Flags(TypedDict):
    """How the normalisations are differentiated."""

    silu: bool
    fixed: bool


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
