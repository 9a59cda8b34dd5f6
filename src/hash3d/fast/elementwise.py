"""What stands between a model's products, each in one pass over memory on CUDA: sums, gates, layer normalisation."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .group_norm import has_kernels

MAX_ROW = 4096
"""Numbers of a row that one program of the layer normalisation can hold."""
MAX_SHARES = 16_384
"""Numbers of a row that one program of the softmax can hold."""


def add_biased(
    x: Float[Tensor, "N C H W"],
    bias: Float[Tensor, " C"] | None,
    other: Float[Tensor, "N C H W"] | None = None,
    factor: float = 1.0,
) -> Float[Tensor, "N C H W"]:
    """(x + other + bias) factor, differentiable in the pictures where the kernel runs."""
    if has_kernels(x):
        result: Tensor = _Add.apply(x, bias, other, factor)  # type: ignore[no-untyped-call]
        return result
    x = x if other is None else x + other
    x = x if bias is None else x + bias[:, None, None]
    return x * factor


def gated(x: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows E"]:
    """a gelu(b) of rows [a, b] (Shazeer 2020, "GLU Variants Improve Transformer", GEGLU)."""
    if has_kernels(x) and not x.requires_grad and x.numel() < 2**31:
        from . import _triton_elementwise as kernels

        return kernels.gate(x.contiguous())
    values, gate = x.chunk(2, dim=-1)
    return values * F.gelu(gate)


def layer_norm(
    x: Float[Tensor, "*rows D"], weight: Float[Tensor, " D"], bias: Float[Tensor, " D"], eps: float
) -> Float[Tensor, "*rows D"]:
    """Layer normalisation of rows (Ba et al. 2016, eq. 4)."""
    if has_kernels(x) and not x.requires_grad and x.shape[-1] <= MAX_ROW:
        from . import _triton_elementwise as kernels

        return kernels.normalise_rows(x.contiguous(), weight, bias, eps)
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


def softmax(x: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows D"]:
    """Shares of rows, exp(x) over its sum, by sums in float32; differentiable in the rows."""
    if has_kernels(x) and x.shape[-1] <= MAX_SHARES:
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
        return kernels.softmax_gradient(y, grad_outputs[0].contiguous())


class _Add(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, other: Tensor | None, factor: float) -> Tensor:
        from . import _triton_elementwise as kernels

        ctx.factor = factor
        pictures = [
            picture if picture is None else picture.contiguous(memory_format=torch.channels_last)
            for picture in (x, other)
        ]
        assert pictures[0] is not None
        return kernels.add(pictures[0], pictures[1], bias, factor)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        slope = grad_outputs[0] if ctx.factor == 1.0 else grad_outputs[0] * ctx.factor
        needs_x, _, needs_other, _ = ctx.needs_input_grad
        return slope if needs_x else None, None, slope if needs_other else None, None
