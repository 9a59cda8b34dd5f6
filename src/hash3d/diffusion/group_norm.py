"""Group normalisation with or without SiLU: the definition in PyTorch, and the kernels that stand in for it on CUDA."""

from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def group_norm(
    x: Float[Tensor, "N C H W"],
    num_groups: int,
    weight: Float[Tensor, " C"],
    bias: Float[Tensor, " C"],
    eps: float,
    *,
    silu: bool,
    shifts: tuple[Float[Tensor, " C"] | None, Float[Tensor, "N C"] | None] = (None, None),
) -> Float[Tensor, "N C H W"]:
    """Group normalisation (Wu and He 2018, eq. 1) of `x` plus shifts of its channels, then SiLU if asked for.

    In the dtype of `x`. Differentiable in `x` alone where the kernels run: weights of a frozen model.
    """
    if has_kernels(x):
        result: Tensor = _Kernels.apply(x, num_groups, weight, bias, eps, silu, shifts)  # type: ignore[no-untyped-call]
        return result
    for shift in shifts:
        x = x if shift is None else x + shift[..., None, None]
    normalised = F.group_norm(x, num_groups, weight, bias, eps)
    return F.silu(normalised) if silu else normalised


def has_kernels(x: Tensor) -> bool:
    """Whether the kernels run for a tensor: on a CUDA device, with Triton installed."""
    return x.is_cuda and _has_triton()


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


class _Kernels(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, num_groups: int, weight: Tensor, bias: Tensor, eps: float, silu: bool, shifts: Any
    ) -> Tensor:
        from hash3d.diffusion import _triton_group_norm as kernels

        x = x.contiguous(memory_format=torch.channels_last)
        if not ctx.needs_input_grad[0]:
            small = kernels.normalise_small(x, num_groups, weight, bias, eps, silu=silu, shifts=shifts)
            if small is not None:
                return small
        y, lines = kernels.normalise(x, num_groups, weight, bias, eps, silu=silu, shifts=shifts)
        ctx.save_for_backward(x, lines, weight)
        ctx.num_groups, ctx.silu = num_groups, silu
        return y

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        from hash3d.diffusion import _triton_group_norm as kernels

        x, lines, weight = ctx.saved_tensors
        dy = grad_outputs[0].contiguous(memory_format=torch.channels_last)
        return kernels.differentiate(x, dy, lines, ctx.num_groups, weight, silu=ctx.silu), *[None] * 6
