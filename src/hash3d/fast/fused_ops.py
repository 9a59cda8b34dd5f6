"""What lies between a model's matmuls: group normalisation with SiLU, bias and residual, GEGLU.

Each is fused into Triton kernels on CUDA; PyTorch computes the same elsewhere, and is the reference implementation.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hash3d.kernels import has_triton

Shifts = tuple[Tensor | None, Tensor | None]
"""What is added to the input first: one number a channel [C], and one a channel of each image [N, C]."""


def group_norm(norm: nn.GroupNorm, x: Tensor, *, silu: bool = False, shifts: Shifts = (None, None)) -> Tensor:
    """Normalise `x` [N, C, H, W] plus `shifts`, or [N, C, L], in groups (Wu and He 2018, eq. 1).

    `silu` applies SiLU to the result, which has the dtype of `x`. Where the kernels run, differentiable in `x` alone:
    the weights are those of a frozen model.
    """
    if x.ndim == 3:
        return group_norm(norm, x[..., None], silu=silu)[..., 0]
    arguments = norm.num_groups, norm.weight, norm.bias, norm.eps
    if has_kernels(x):
        result: Tensor = _Kernels.apply(x, *arguments, silu, shifts)  # type: ignore[no-untyped-call]
        return result
    for shift in shifts:
        x = x if shift is None else x + shift[..., None, None]
    y = F.group_norm(x, *arguments)
    return F.silu(y) if silu else y


def has_kernels(x: Tensor) -> bool:
    """Whether the kernels run for a tensor: on a CUDA device, with Triton installed."""
    return x.is_cuda and has_triton()


class _Kernels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *arguments: Any) -> Tensor:
        from . import _triton_fused as kernels

        num_groups, weight, bias, eps, silu, shifts = arguments
        x = x.contiguous(memory_format=torch.channels_last)
        if not ctx.needs_input_grad[0]:
            y = kernels.group_norm_small(x, num_groups, weight, bias, eps, silu=silu, shifts=shifts)
            if y is not None:
                return y
        y, statistics = kernels.group_norm(x, num_groups, weight, bias, eps, silu=silu, shifts=shifts)
        ctx.save_for_backward(x, statistics, weight)
        ctx.num_groups, ctx.silu = num_groups, silu
        return y

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        from . import _triton_fused as kernels

        x, statistics, weight = ctx.saved_tensors
        dy = grad_outputs[0].contiguous(memory_format=torch.channels_last)
        return kernels.group_norm_backward(x, dy, statistics, ctx.num_groups, weight, silu=ctx.silu), *[None] * 6


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
        from . import _triton_fused as kernels

        return kernels.geglu(x.contiguous())
    values, gate = x.chunk(2, dim=-1)
    return values * F.gelu(gate)


class _AddBias(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, residual: Tensor | None) -> Tensor:
        from . import _triton_fused as kernels

        x = x.contiguous(memory_format=torch.channels_last)
        residual = None if residual is None else residual.contiguous(memory_format=torch.channels_last)
        return kernels.add_bias(x, residual, bias)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        needs_x, _, needs_residual = ctx.needs_input_grad
        return grad_outputs[0] if needs_x else None, None, grad_outputs[0] if needs_residual else None
