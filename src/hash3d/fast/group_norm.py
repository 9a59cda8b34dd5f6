"""Group normalisation with or without SiLU: the definition in PyTorch, and the kernels that stand in for it on CUDA."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hash3d.kernels import has_triton


def group_norm(
    x: Float[Tensor, "N C H W"],
    num_groups: int,
    weight: Float[Tensor, " C"],
    bias: Float[Tensor, " C"],
    eps: float,
    *,
    silu: bool,
    shifts: tuple[Float[Tensor, " C"] | None, Float[Tensor, "N C"] | None] = (None, None),
    fixed: bool = False,
) -> Float[Tensor, "N C H W"]:
    """Group normalisation (Wu and He 2018, eq. 1) of `x` plus shifts of its channels, then SiLU if asked for.

    In the dtype of `x`. Differentiable in `x` alone where the kernels run: weights of a frozen model. With `fixed` the
    gradient, but not the result, is that of means and variances which do not depend on `x`.
    """
    if has_kernels(x):
        arguments = x, num_groups, weight, bias, eps, silu, shifts, fixed
        result: Tensor = _Kernels.apply(*arguments)  # type: ignore[no-untyped-call]
        return result
    for shift in shifts:
        x = x if shift is None else x + shift[..., None, None]
    function: Any = _Fixed.apply if fixed else F.group_norm
    normalised: Tensor = function(x, num_groups, weight, bias, eps)
    return F.silu(normalised) if silu else normalised


def normalised(
    norm: nn.GroupNorm, x: Tensor, *, silu: bool = False, shifts: Any = (None, None), fixed: bool = False
) -> Tensor:
    """A picture [N, C, H, W], or [N, C, L], by a layer's settings."""
    picture = x[..., None] if x.ndim == 3 else x
    result = group_norm(
        picture, norm.num_groups, norm.weight, norm.bias, norm.eps, silu=silu, shifts=shifts, fixed=fixed
    )
    return result[..., 0] if x.ndim == 3 else result


def has_kernels(x: Tensor) -> bool:
    """Whether the kernels run for a tensor: on a CUDA device, with Triton installed."""
    return x.is_cuda and has_triton()


class _Fixed(torch.autograd.Function):
    """Group normalisation whose gradient in x is weight / std times that in the result."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, num_groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        sizes = x.shape[0], x.shape[1], x.shape[2] * x.shape[3]
        # Planes or channels last, as F.group_norm chooses: it looks at the strides of sides of one pixel too.
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
    def forward(
        ctx: Any,
        x: Tensor,
        num_groups: int,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        silu: bool,
        shifts: Any,
        fixed: bool,
    ) -> Tensor:
        from . import _triton_group_norm as kernels

        x = x.contiguous(memory_format=torch.channels_last)
        if not ctx.needs_input_grad[0]:
            small = kernels.normalise_small(x, num_groups, weight, bias, eps, silu=silu, shifts=shifts)
            if small is not None:
                return small
        y, lines = kernels.normalise(x, num_groups, weight, bias, eps, silu=silu, shifts=shifts)
        ctx.save_for_backward(x, lines, weight)
        ctx.num_groups, ctx.flags = num_groups, {"silu": silu, "fixed": fixed}
        return y

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        from . import _triton_group_norm as kernels

        x, lines, weight = ctx.saved_tensors
        dy = grad_outputs[0].contiguous(memory_format=torch.channels_last)
        return kernels.differentiate(x, dy, lines, ctx.num_groups, weight, **ctx.flags), *[None] * 7
