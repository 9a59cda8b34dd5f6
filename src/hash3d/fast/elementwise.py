"""Fused elementwise kernels between a model's matmuls: bias, GEGLU, layer normalisation, softmax.

Each runs as one Triton kernel on CUDA; PyTorch computes the same elsewhere.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .group_norm import has_kernels

MAX_LAYER_NORM_WIDTH = 4096
"""Longest row that one program of the layer normalisation holds."""
MAX_SOFTMAX_WIDTH = 16_384
"""Longest row that one program of the softmax holds."""


def add_bias(
    x: Float[Tensor, "N C H W"],
    bias: Float[Tensor, " C"] | None,
    residual: Float[Tensor, "N C H W"] | None = None,
    factor: float = 1.0,
) -> Float[Tensor, "N C H W"]:
    """Return (x + residual + bias) factor. Where the kernel runs, differentiable in `x` and `residual` alone."""
    if has_kernels(x):
        result: Tensor = _AddBias.apply(x, bias, residual, factor)  # type: ignore[no-untyped-call]
        return result
    x = x if residual is None else x + residual
    x = x if bias is None else x + bias[:, None, None]
    return x * factor


def geglu(x: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows E"]:
    """Return a gelu(b) of rows [a, b] (Shazeer 2020, "GLU Variants Improve Transformer", GEGLU)."""
    if has_kernels(x) and not x.requires_grad and x.numel() < 2**31:
        from . import _triton_elementwise as kernels

        return kernels.geglu(x.contiguous())
    values, gate = x.chunk(2, dim=-1)
    return values * F.gelu(gate)


def layer_norm(
    x: Float[Tensor, "*rows D"], weight: Float[Tensor, " D"], bias: Float[Tensor, " D"], eps: float
) -> Float[Tensor, "*rows D"]:
    """Normalise rows (Ba et al. 2016, "Layer Normalization", eq. 4)."""
    if has_kernels(x) and not x.requires_grad and x.shape[-1] <= MAX_LAYER_NORM_WIDTH:
        from . import _triton_elementwise as kernels

        return kernels.layer_norm(x.contiguous(), weight, bias, eps)
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


def softmax(x: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows D"]:
    """Return exp(x) over its sum along each row, summed in float32; differentiable."""
    if has_kernels(x) and x.shape[-1] <= MAX_SOFTMAX_WIDTH:
        result: Tensor = _Softmax.apply(x)  # type: ignore[no-untyped-call]
        return result
    return x.softmax(dim=-1, dtype=torch.promote_types(x.dtype, torch.float32)).to(x.dtype)


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        from . import _triton_elementwise as kernels

        y = kernels.softmax(x.contiguous())
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        from . import _triton_elementwise as kernels

        (y,) = ctx.saved_tensors
        return kernels.softmax_backward(y, grad_outputs[0].contiguous())


class _AddBias(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, residual: Tensor | None, factor: float) -> Tensor:
        from . import _triton_elementwise as kernels

        ctx.factor = factor
        x = x.contiguous(memory_format=torch.channels_last)
        residual = None if residual is None else residual.contiguous(memory_format=torch.channels_last)
        return kernels.add_bias(x, residual, bias, factor)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        gradient = grad_outputs[0] if ctx.factor == 1.0 else grad_outputs[0] * ctx.factor
        needs_x, _, needs_residual, _ = ctx.needs_input_grad
        return gradient if needs_x else None, None, gradient if needs_residual else None, None
