"""Group normalisation with or without SiLU: the reference implementation in PyTorch, and Triton kernels on CUDA."""

from typing import Any

import torch
import torch.nn.functional as F
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
        from . import _triton_group_norm as kernels

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
        from . import _triton_group_norm as kernels

        x, statistics, weight = ctx.saved_tensors
        dy = grad_outputs[0].contiguous(memory_format=torch.channels_last)
        return kernels.group_norm_backward(x, dy, statistics, ctx.num_groups, weight, silu=ctx.silu), *[None] * 6
