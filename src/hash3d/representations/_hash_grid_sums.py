"""A hash grid as a differentiable function of three sums, which `_numba_hash_grid` and `_triton_hash_grid` compute.

Trilinear interpolation is a sum over a cell's corners, f = sum_c w_c(point) T_c, linear in the table T. All passes are
one of three sums, each also along a vector v, with v . dw_c/dpoint for w_c: gather sum_c w_c T_c; scatter, its
transpose, T_c += w_c g; and differentiate sum_c (g . T_c) dw_c/dpoint.
"""

from typing import Any

import torch
from torch import Tensor

from hash3d.kernels import require_last_derivative


def encode(
    sums: Any, points: Tensor, table: Tensor, levels: Tensor, num_planes: int, known: Tensor | None = None
) -> Tensor:
    """Compute `HashGrid.forward`, "N num_planes", of `points` "N 3" in [0, 1]^3; levels not in `levels` are zero.

    `known` is the result, where it is known already and only its derivatives are missing.
    """
    result: Tensor = _Encode.apply(sums, points, table, levels, num_planes, known)  # type: ignore[no-untyped-call]
    return result


def encode_backward(sums: Any, points: Tensor, table: Tensor, levels: Tensor, cotangents: Tensor) -> Tensor:
    """Return the gradient "N 3" in the points from `cotangents` "N F" in the features; once differentiable."""
    result: Tensor = _Gradient.apply(sums, points, table, levels, cotangents)  # type: ignore[no-untyped-call]
    return result


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, sums: Any, points: Tensor, table: Tensor, levels: Tensor, num_planes: int, known: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(points, table, levels)
        ctx.sums = sums
        result: Tensor = sums.gather(points, table, levels, num_planes) if known is None else known.view_as(known)
        return result

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        require_last_derivative("the hash grid's features")
        points, table, levels = ctx.saved_tensors
        (cotangents,) = grad_outputs
        _, needs_points, needs_table, *_ = ctx.needs_input_grad
        by_points = ctx.sums.differentiate(points, table, levels, cotangents) if needs_points else None
        by_table = ctx.sums.scatter(points, levels, cotangents, table.shape) if needs_table else None
        return None, by_points, by_table, None, None, None


class _Gradient(torch.autograd.Function):
    """The gradient of `_Encode` in the points."""

    @staticmethod
    def forward(ctx: Any, sums: Any, points: Tensor, table: Tensor, levels: Tensor, cotangents: Tensor) -> Tensor:
        ctx.save_for_backward(points, table, levels, cotangents)
        ctx.sums = sums
        result: Tensor = sums.differentiate(points, table, levels, cotangents)
        return result

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        require_last_derivative("the hash grid's gradient")
        points, table, levels, cotangents = ctx.saved_tensors
        (vectors,) = grad_outputs
        sums, (_, needs_points, needs_table, _, needs_cotangents) = ctx.sums, ctx.needs_input_grad
        by_points = sums.differentiate(points, table, levels, cotangents, vectors) if needs_points else None
        by_table = sums.scatter(points, levels, cotangents, table.shape, vectors) if needs_table else None
        by_cotangents = sums.gather(points, table, levels, cotangents.shape[1], vectors) if needs_cotangents else None
        return None, by_points, by_table, None, by_cotangents
