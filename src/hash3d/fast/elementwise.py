"""Fused elementwise kernels between a model's matmuls: bias and residual, GEGLU.

Each runs as one Triton kernel on CUDA; PyTorch computes the same elsewhere.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .group_norm import has_kernels


def add_bias(
    x: Float[Tensor, "N C H W"],
    bias: Float[Tensor, " C"] | None,
    residual: Float[Tensor, "N C H W"] | None = None,
) -> Float[Tensor, "N C H W"]:
    """Return x + residual + bias. Where the kernel runs, differentiable in `x` and `residual` alone."""
    if has_kernels(x):
        result: Tensor = _AddBias.apply(x, bias, residual)  # type: ignore[no-untyped-call]
        return result
    x = x if residual is None else x + residual
    return x if bias is None else x + bias[:, None, None]


def geglu(x: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows E"]:
    """Return a gelu(b) of rows [a, b] (Shazeer 2020, "GLU Variants Improve Transformer", GEGLU)."""
    if has_kernels(x) and not x.requires_grad and x.numel() < 2**31:
        from . import _triton_elementwise as kernels

        return kernels.geglu(x.contiguous())
    values, gate = x.chunk(2, dim=-1)
    return values * F.gelu(gate)


class _AddBias(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, residual: Tensor | None) -> Tensor:
        from . import _triton_elementwise as kernels

        x = x.contiguous(memory_format=torch.channels_last)
        residual = None if residual is None else residual.contiguous(memory_format=torch.channels_last)
        return kernels.add_bias(x, residual, bias)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        needs_x, _, needs_residual = ctx.needs_input_grad
        return grad_outputs[0] if needs_x else None, None, grad_outputs[0] if needs_residual else None
