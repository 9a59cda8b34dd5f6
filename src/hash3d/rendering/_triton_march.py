# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""`march` as one Triton kernel that runs twice: it counts the steps of each ray, then writes them.

In float32 without fused multiply-adds, as PyTorch on CUDA: both runs and the reference agree to the last bit.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from hash3d.representations.occupancy import OccupancyGrid

from .march import Rays, Steps

BLOCK = 32
"""Rays of one program."""
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


@triton.jit(do_not_specialize=["num_rays"])
def _march_kernel(
    origins, directions, shifts, occupied, counts, starts, step_rays, step_distances, step_lengths, step_points,
    num_rays, radius, inverse_radius, length, RESOLUTION: tl.constexpr, WRITE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Follow one ray a lane. WRITE: write its steps from `starts` on; else their number to `counts`."""
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
        start = tl.load(starts + ray, mask=mask, other=0)
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
            tl.store(step_rays + index, ray.to(tl.int64), mask=kept)
            tl.store(step_distances + index, distance, mask=kept)
            tl.store(step_lengths + index, step, mask=kept)
            tl.store(step_points + index * 3, x, mask=kept)
            tl.store(step_points + index * 3 + 1, y, mask=kept)
            tl.store(step_points + index * 3 + 2, z, mask=kept)
        found += kept.to(tl.int32)
    if not WRITE:
        tl.store(counts + ray, found, mask=ray < num_rays)


def march_triton(rays: Rays, radius: float, length: float, occupancy: OccupancyGrid | None) -> Steps:
    """Compute `march`. The host waits once, for the number of steps."""
    like, count = rays.origins, len(rays)
    counts = torch.empty(count, dtype=torch.int32, device=like.device)
    read = (rays.origins.contiguous(), rays.directions.contiguous(), rays.shifts.contiguous())
    cells = counts if occupancy is None else occupancy.occupied.view(torch.uint8)
    resolution = 0 if occupancy is None else occupancy.config.resolution

    def launch(starts: Tensor, steps: Steps, *, write: bool) -> None:
        columns = (steps.rays, steps.distances, steps.lengths, steps.points)
        numbers = (count, radius, 1.0 / radius, length, resolution)
        _march_kernel[(triton.cdiv(count, BLOCK),)](
            *read, cells, counts, starts, *columns, *numbers,
            WRITE=write, BLOCK=BLOCK, num_warps=1, enable_fp_fusion=False,
        )  # fmt: skip

    launch(counts, _empty_steps(like, 0), write=False)
    ends = counts.cumsum(0)
    steps = _empty_steps(like, int(ends[-1]) if count else 0)
    launch(ends - counts, steps, write=True)
    return steps


def _empty_steps(like: Tensor, count: int) -> Steps:
    rays = torch.empty(count, dtype=torch.int64, device=like.device)
    return Steps(rays, like.new_empty(count), like.new_empty(count), like.new_empty(count, 3))
