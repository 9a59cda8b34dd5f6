# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""`march` and `composite` as Triton kernels.

The march runs twice: it counts the steps of each ray, then writes them, in float32 without fused multiply-adds, as
PyTorch on CUDA: both runs and the reference agree to the last bit. Compositing is one program a ray, over its steps in
blocks with running sums; those before or behind a step leave it out by reading its neighbour, not by subtraction: thick
steps lose nothing.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from hash3d.representations.occupancy import OccupancyGrid

from .rays import Rays, Steps

BLOCK = 32
"""Rays, or steps of its one ray, that a program takes at once."""
PROPAGATE = tl.constexpr(tl.PropagateNan.ALL)


@triton.jit
def _slab(origin, direction, radius):
    """Return where rays enter and leave the space between two faces; NaN for those that run in a face."""
    first = tl.math.div_rn(-radius - origin, direction)
    second = tl.math.div_rn(radius - origin, direction)
    enter = tl.minimum(first, second, propagate_nan=PROPAGATE)
    return enter, tl.maximum(first, second, propagate_nan=PROPAGATE)


@triton.jit
def _cell(coordinate, inverse_radius, resolution):
    """Return the index along one axis of a point's cell, as `OccupancyGrid.contains` does."""
    cell = tl.floor((coordinate * inverse_radius + 1.0) * (0.5 * resolution))
    return tl.minimum(tl.maximum(cell, 0.0), resolution - 1.0).to(tl.int32)


@triton.jit
def _vector(vectors, ray, mask, other):
    """Load the vector of each ray."""
    x = tl.load(vectors + ray * 3, mask=mask, other=other)
    y = tl.load(vectors + ray * 3 + 1, mask=mask, other=other)
    z = tl.load(vectors + ray * 3 + 2, mask=mask, other=other)
    return x, y, z


@triton.jit(do_not_specialize=["num_rays", "capacity"])
def _march_kernel(
    origins, directions, shifts, occupied, numbers, step_rays, step_distances, step_lengths, step_points,
    num_rays, capacity, radius, inverse_radius, length,
    RESOLUTION: tl.constexpr, WRITE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Follow one ray a lane. WRITE: write its steps, from the one in `numbers` on, else how many to `numbers`."""
    ray = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = ray < num_rays
    ox, oy, oz = _vector(origins, ray, mask, 0.0)
    dx, dy, dz = _vector(directions, ray, mask, 1.0)
    shift = tl.load(shifts + ray, mask=mask, other=0.0)
    x_near, x_far = _slab(ox, dx, radius)
    y_near, y_far = _slab(oy, dy, radius)
    z_near, z_far = _slab(oz, dz, radius)
    near = tl.maximum(x_near, y_near, propagate_nan=PROPAGATE)
    near = tl.maximum(tl.maximum(near, z_near, propagate_nan=PROPAGATE), 0.0, propagate_nan=PROPAGATE)
    far = tl.minimum(tl.minimum(x_far, y_far, propagate_nan=PROPAGATE), z_far, propagate_nan=PROPAGATE)
    mask = mask & (far > near)
    last = tl.max(tl.where(mask, tl.ceil(tl.math.div_rn(far - near, length)), 0.0), axis=0).to(tl.int32)
    found = tl.zeros([BLOCK], tl.int32)
    if WRITE:
        start = tl.load(numbers + ray, mask=mask, other=0)
    for number in range(last):
        begin = near + length * number
        step = tl.minimum(far - begin, length)
        distance = begin + shift * step
        x = ox + distance * dx
        y = oy + distance * dy
        z = oz + distance * dz
        kept = mask & (step > 0.0)
        if RESOLUTION > 0:
            kept = kept & (tl.abs(x) <= radius) & (tl.abs(y) <= radius) & (tl.abs(z) <= radius)
            cell = _cell(x, inverse_radius, RESOLUTION) * RESOLUTION + _cell(y, inverse_radius, RESOLUTION)
            cell = cell * RESOLUTION + _cell(z, inverse_radius, RESOLUTION)
            kept = kept & (tl.load(occupied + cell, mask=kept, other=0) > 0)
        if WRITE:
            index = start + found
            fits = kept & (index < capacity)
            tl.store(step_rays + index, ray.to(tl.int64), mask=fits)
            tl.store(step_distances + index, distance, mask=fits)
            tl.store(step_lengths + index, step, mask=fits)
            tl.store(step_points + index * 3, x, mask=fits)
            tl.store(step_points + index * 3 + 1, y, mask=fits)
            tl.store(step_points + index * 3 + 2, z, mask=fits)
        found += kept.to(tl.int32)
    if not WRITE:
        tl.store(numbers + ray, found, mask=ray < num_rays)


def march(rays: Rays, radius: float, length: float, occupancy: OccupancyGrid | None) -> Steps:
    """Compute `march`. The host waits once, for the number of steps."""
    run = _prepare(rays, radius, length, occupancy)
    bounds = run.find_bounds()
    like, count = rays.origins, int(bounds[-1])
    columns = like.new_empty(count), like.new_empty(count), like.new_empty(count, 3)
    return run.write(bounds, Steps(torch.empty(count, dtype=torch.int64, device=like.device), *columns))


def march_within(
    rays: Rays, radius: float, length: float, capacity: int, occupancy: OccupancyGrid | None
) -> tuple[Steps, Tensor]:
    """Compute `march_within`."""
    run = _prepare(rays, radius, length, occupancy)
    bounds, like = run.find_bounds(), rays.origins
    columns = like.new_zeros(capacity), like.new_zeros(capacity), like.new_zeros(capacity, 3)
    last = torch.full((capacity,), len(rays) - 1, device=like.device)
    return run.write(bounds, Steps(last, *columns)), bounds


class _March(NamedTuple):
    """What both runs of a march have in common."""

    rays: Rays
    numbers: tuple[float, ...]
    cells: Tensor

    def find_bounds(self) -> Tensor:
        """Return `Steps.bounds`."""
        counts = torch.empty(len(self.rays), dtype=torch.int32, device=self.cells.device)
        none = self.rays.origins.new_empty(0)
        self._launch(counts, Steps(counts[:0].long(), none, none, none[:, None].expand(0, 3)), write=False)
        return torch.nn.functional.pad(counts.cumsum(0), (1, 0))

    def write(self, bounds: Tensor, steps: Steps) -> Steps:
        """Fill in the steps."""
        self._launch(bounds, steps, write=True)
        return steps

    def _launch(self, numbers: Tensor, steps: Steps, *, write: bool) -> None:
        columns = (steps.rays, steps.distances, steps.lengths, steps.points)
        _march_kernel[(triton.cdiv(len(self.rays), BLOCK),)](
            self.rays.origins, self.rays.directions, self.rays.shifts, self.cells, numbers, *columns,
            len(self.rays), len(steps), *self.numbers, WRITE=write, BLOCK=BLOCK, num_warps=1, enable_fp_fusion=False,
        )  # fmt: skip


def _prepare(rays: Rays, radius: float, length: float, occupancy: OccupancyGrid | None) -> _March:
    columns = (rays.origins.contiguous(), rays.directions.contiguous(), rays.shifts.contiguous())
    cells = rays.views if occupancy is None else occupancy.occupied.view(torch.uint8)
    resolution = 0 if occupancy is None else occupancy.config.resolution
    return _March(Rays(rays.views, *columns), (radius, 1.0 / radius, length, resolution), cells)


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


def composite(density: Tensor, values: Tensor, lengths: Tensor, bounds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the weights and sums of `composite`, and the transmittances."""
    num_rays, num_columns = len(bounds) - 1, values.shape[1]
    transmittances, weights = torch.empty_like(density), torch.empty_like(density)
    sums = density.new_empty(num_rays, num_columns)
    _forward_kernel[(num_rays,)](
        density, lengths, values, bounds, transmittances, weights, sums, num_columns,
        COLUMNS=triton.next_power_of_2(num_columns), BLOCK=BLOCK, num_warps=1,
    )  # fmt: skip
    return weights, sums, transmittances


def composite_backward(
    density: Tensor, lengths: Tensor, bounds: Tensor, values: Tensor, transmittances: Tensor, weights: Tensor,
    *above: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Compute the gradients of densities and values from those `above`, of weights and sums."""
    grad_density, grad_values = torch.empty_like(density), torch.empty_like(values)
    num_columns = values.shape[1]
    _backward_kernel[(len(bounds) - 1,)](
        density, lengths, values, bounds, transmittances, weights, *above, grad_density, grad_values, num_columns,
        COLUMNS=triton.next_power_of_2(num_columns), BLOCK=BLOCK, num_warps=1,
    )  # fmt: skip
    return grad_density, grad_values
