"""Group normalisation with or without SiLU: the reference implementation in PyTorch, and Triton kernels on CUDA."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hash3d.kernels import has_triton

Shifts = tuple[Tensor | None, Tensor | None]
"""What is added to the input first: one number a channel [C], and one a channel of each image [N, C]."""


def group_norm(
    norm: nn.GroupNorm, x: Tensor, *, silu: bool = False, shifts: Shifts = (None, None), fixed: bool = False
) -> Tensor:
    """Normalise `x` [N, C, H, W] or [N, C, L] plus `shifts` in groups (Wu and He 2018, eq. 1).

    `silu` applies SiLU to the result, which has the dtype of `x`. Where the kernels run, differentiable in `x` alone:
    the weights are those of a frozen model. With `fixed` the gradient takes the means and variances as constants.
    """
    if x.ndim == 3:
        return group_norm(norm, x[..., None], silu=silu, shifts=shifts, fixed=fixed)[..., 0]
    arguments = x, norm.num_groups, norm.weight, norm.bias, norm.eps
    if has_kernels(x):
        result: Tensor = _Kernels.apply(*arguments, silu, shifts, fixed)  # type: ignore[no-untyped-call]
        return result
    for shift in shifts:
        x = x if shift is None else x + shift[..., None, None]
    function: Any = _FixedGroupNorm.apply if fixed else F.group_norm
    y: Tensor = function(x, *arguments[1:])
    return F.silu(y) if silu else y


def has_kernels(x: Tensor) -> bool:
    """Whether the kernels run for a tensor: on a CUDA device, with Triton installed."""
    return x.is_cuda and has_triton()


class _FixedGroupNorm(torch.autograd.Function):
    """Group normalisation whose gradient in x is weight / std times that in the result."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, num_groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        sizes = x.shape[0], x.shape[1], x.shape[2] * x.shape[3]
        # Channels first or last, as F.group_norm chooses: it looks at the strides of sides of length 1 too.
        layout = torch.channels_last if x.stride(3) == x.shape[1] else torch.contiguous_format
        dense = x.contiguous(memory_format=layout)
        y, _, inverse = torch.native_group_norm(dense, weight, bias, *sizes, num_groups, eps)
        gain = inverse.repeat_interleave(x.shape[1] // num_groups, dim=1) * weight
        ctx.save_for_backward(gain.to(x.dtype)[..., None, None])
        return y

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (gain,) = ctx.saved_tensors
        return grad_outputs[0] * gain, *[None] * 4


class _Kernels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *arguments: Any) -> Tensor:
        from . import _triton_group_norm as kernels

        num_groups, weight, bias, eps, silu, shifts, fixed = arguments
        x = x.contiguous(memory_format=torch.channels_last)
        if not ctx.needs_input_grad[0]:
            y = kernels.group_norm_small(x, num_groups, weight, bias, eps, silu=silu, shifts=shifts)
            if y is not None:
                return y
        y, statistics = kernels.group_norm(x, num_groups, weight, bias, eps, silu=silu, shifts=shifts)
        ctx.save_for_backward(x, statistics, weight)
        ctx.num_groups, ctx.flags = num_groups, {"silu": silu, "fixed": fixed}
        return y

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        from . import _triton_group_norm as kernels

        x, statistics, weight = ctx.saved_tensors
        dy = grad_outputs[0].contiguous(memory_format=torch.channels_last)
        return kernels.group_norm_backward(x, dy, statistics, ctx.num_groups, weight, **ctx.flags), *[None] * 7
