# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""Compositing along rays as Triton kernels: one program a ray, over its steps in blocks with running sums.

Sums before or behind a step leave it out by reading its neighbour, not by subtraction: thick steps lose nothing.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from hash3d.kernels import require_last_derivative

BLOCK = 32
"""Steps that a program takes at once."""


@triton.jit
def _thickness(density, lengths, steps, mask):
    """Density times length; 0 where there is no step."""
    return tl.load(density + steps, mask=mask, other=0.0) * tl.load(lengths + steps, mask=mask, other=0.0)


@triton.jit
def _alpha(thickness):
    """1 - exp(-thickness), by its series up to 1/4, where the difference would lose digits."""
    t = thickness
    terms = 1.0 - t / 5.0 * (1.0 - t / 6.0 * (1.0 - t / 7.0))
    series = t * (1.0 - t / 2.0 * (1.0 - t / 3.0 * (1.0 - t / 4.0 * terms)))
    return tl.where(t < 0.25, series, 1.0 - tl.exp(-t))


@triton.jit
def _transmittance(density, lengths, steps, first, end, passed):
    """Return the transmittance at a block of steps behind a thickness of `passed`, and the block's thicknesses."""
    thickness = _thickness(density, lengths, steps, steps < end)
    before = _thickness(density, lengths, steps - 1, (steps > first) & (steps < end))
    return tl.exp(-(passed + tl.cumsum(before, axis=0))), thickness


@triton.jit
def _visible_kernel(density, lengths, bounds, min_alpha, found, min_transmittance, BLOCK: tl.constexpr):
    ray = tl.program_id(0)
    begin = tl.load(bounds + ray).to(tl.int32)
    end = tl.load(bounds + ray + 1).to(tl.int32)
    faintest = tl.load(min_alpha)
    passed = 0.0
    for first in range(begin, end, BLOCK):
        steps = first + tl.arange(0, BLOCK)
        transmittance, thickness = _transmittance(density, lengths, steps, first, end, passed)
        chosen = (_alpha(thickness) >= faintest) & (transmittance >= min_transmittance)
        tl.store(found + steps, chosen.to(tl.uint8), mask=steps < end)
        passed += tl.sum(thickness, axis=0)


@triton.jit
def _forward_kernel(
    density, lengths, values, bounds, transmittances, weights, sums, num_columns, COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    ray = tl.program_id(0)
    begin = tl.load(bounds + ray).to(tl.int32)
    end = tl.load(bounds + ray + 1).to(tl.int32)
    columns = tl.arange(0, COLUMNS)
    total = tl.zeros([COLUMNS], tl.float32)
    passed = 0.0
    for first in range(begin, end, BLOCK):
        steps = first + tl.arange(0, BLOCK)
        mask = steps < end
        transmittance, thickness = _transmittance(density, lengths, steps, first, end, passed)
        weight = transmittance * _alpha(thickness)
        tl.store(transmittances + steps, transmittance, mask=mask)
        tl.store(weights + steps, weight, mask=mask)
        tile = mask[:, None] & (columns < num_columns)[None, :]
        value = tl.load(values + steps[:, None] * num_columns + columns[None, :], mask=tile, other=0.0)
        total += tl.sum(weight[:, None] * value, axis=0)
        passed += tl.sum(thickness, axis=0)
    tl.store(sums + ray * num_columns + columns, total, mask=columns < num_columns)


@triton.jit
def _weight_gradient(values, grad_weights, grad_sum, steps, mask, num_columns, COLUMNS: tl.constexpr):
    """Return the gradient in the steps' weights."""
    columns = tl.arange(0, COLUMNS)
    tile = mask[:, None] & (columns < num_columns)[None, :]
    value = tl.load(values + steps[:, None] * num_columns + columns[None, :], mask=tile, other=0.0)
    return tl.load(grad_weights + steps, mask=mask, other=0.0) + tl.sum(value * grad_sum[None, :], axis=1)


@triton.jit
def _backward_kernel(
    density, lengths, values, bounds, transmittances, weights, grad_weights, grad_sums, grad_density, grad_values,
    num_columns, COLUMNS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """From the last block to the first; a = dL/dw, t the thickness: dL/dt_i = a_i T_i exp(-t_i) - sum_{j>i} a_j w_j."""
    ray = tl.program_id(0)
    begin = tl.load(bounds + ray).to(tl.int32)
    end = tl.load(bounds + ray + 1).to(tl.int32)
    columns = tl.arange(0, COLUMNS)
    grad_sum = tl.load(grad_sums + ray * num_columns + columns, mask=columns < num_columns, other=0.0)
    num_blocks = tl.cdiv(end - begin, BLOCK)
    after = 0.0
    for block in range(num_blocks):
        first = begin + (num_blocks - 1 - block) * BLOCK
        steps = first + tl.arange(0, BLOCK)
        mask = steps < end
        following = (steps + 1 < end) & (steps + 1 < first + BLOCK)
        gradient = _weight_gradient(values, grad_weights, grad_sum, steps, mask, num_columns, COLUMNS)
        weight = tl.load(weights + steps, mask=mask, other=0.0)
        next_gradient = _weight_gradient(values, grad_weights, grad_sum, steps + 1, following, num_columns, COLUMNS)
        next_weight = tl.load(weights + steps + 1, mask=following, other=0.0)
        behind = after + tl.cumsum(next_gradient * next_weight, axis=0, reverse=True)
        left = tl.load(transmittances + steps, mask=mask, other=0.0)
        left = left * tl.exp(-_thickness(density, lengths, steps, mask))
        by_density = (gradient * left - behind) * tl.load(lengths + steps, mask=mask, other=0.0)
        tl.store(grad_density + steps, by_density, mask=mask)
        tile = mask[:, None] & (columns < num_columns)[None, :]
        offsets = grad_values + steps[:, None] * num_columns + columns[None, :]
        tl.store(offsets, weight[:, None] * grad_sum[None, :], mask=tile)
        after += tl.sum(gradient * weight, axis=0)


def is_visible_triton(
    density: Tensor, lengths: Tensor, bounds: Tensor, min_alpha: Tensor, min_transmittance: float
) -> Tensor:
    """Compute `is_visible` of the rays whose steps have these `bounds`."""
    found = torch.empty(len(density), dtype=torch.bool, device=density.device)
    _visible_kernel[(len(bounds) - 1,)](
        density.contiguous(), lengths, bounds, min_alpha, found.view(torch.uint8), min_transmittance,
        BLOCK=BLOCK, num_warps=1,
    )  # fmt: skip
    return found


def composite_triton(density: Tensor, values: Tensor, lengths: Tensor, bounds: Tensor) -> tuple[Tensor, Tensor]:
    """Compute `composite` of the rays whose steps have these `bounds`; once differentiable."""
    result: tuple[Tensor, Tensor] = _Composite.apply(density.contiguous(), values.contiguous(), lengths, bounds)
    return result


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, density: Tensor, values: Tensor, lengths: Tensor, bounds: Tensor) -> Any:
        num_rays, num_columns = len(bounds) - 1, values.shape[1]
        transmittances, weights = torch.empty_like(density), torch.empty_like(density)
        sums = density.new_empty(num_rays, num_columns)
        _forward_kernel[(num_rays,)](
            density, lengths, values, bounds, transmittances, weights, sums, num_columns,
            COLUMNS=triton.next_power_of_2(num_columns), BLOCK=BLOCK, num_warps=1,
        )  # fmt: skip
        ctx.save_for_backward(density, values, lengths, bounds, transmittances, weights)
        return weights, sums

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        require_last_derivative("the light along rays")
        density, values, lengths, bounds, transmittances, weights = ctx.saved_tensors
        grad_weights, grad_sums = (grad.contiguous() for grad in grad_outputs)
        grad_density, grad_values = torch.empty_like(density), torch.empty_like(values)
        num_columns = values.shape[1]
        _backward_kernel[(len(bounds) - 1,)](
            density, lengths, values, bounds, transmittances, weights, grad_weights, grad_sums,
            grad_density, grad_values, num_columns,
            COLUMNS=triton.next_power_of_2(num_columns), BLOCK=BLOCK, num_warps=1,
        )  # fmt: skip
        return grad_density, grad_values, None, None
