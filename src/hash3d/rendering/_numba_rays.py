"""`march` and `composite` on the CPU, compiled by numba: one ray after the other, shared out to threads.

The march is without fused multiply-adds, so that its steps are the reference's to the last bit.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hash3d._numba_kernel import FAST, Array, kernel, prange, run
from hash3d.representations.occupancy import OccupancyGrid

from .rays import Rays, Steps


@kernel()
def _clip(origin: Array, direction: Array, radius: Any) -> Any:
    """Return where a ray enters and leaves the cube; NaN for one that runs in a face."""
    near, far = radius - radius, radius / (radius - radius)
    for axis in range(3):
        first, second = (-radius - origin[axis]) / direction[axis], (radius - origin[axis]) / direction[axis]
        near = np.maximum(near, np.minimum(first, second))
        far = np.minimum(far, np.maximum(first, second))
    return near, far


@kernel()
def _sample(near: Any, far: Any, length: Any, number: Any, shift: Any) -> Any:
    """Return the distance of a step's sample, and the step's length, which is not above 0 past the cube."""
    start = near + length * number
    step = min(far - start, length)
    return start + shift * step, step


@kernel(parallel=True)
def _choose(
    origins: Array, directions: Array, shifts: Array, radius: Any, length: Any, occupied: Array, side: int,
    numbers: Array, counts: Array,
) -> None:  # fmt: skip
    """Write the numbers of each ray's steps in occupied cells, and how many they are."""
    one, scale = numbers.dtype.type(1), numbers.dtype.type(0.5 * side)
    for ray in prange(len(origins)):
        near, far = _clip(origins[ray], directions[ray], radius)
        number = one - one
        distance, step = _sample(near, far, length, number, shifts[ray])
        while step > 0:
            cell, inside = 0, True
            for axis in range(3):
                place = origins[ray, axis] + distance * directions[ray, axis]
                inside = inside and abs(place) <= radius
                cell = cell * side + min(max(int(np.floor((place / radius + one) * scale)), 0), side - 1)
            if side == 0 or (inside and occupied[cell]):
                numbers[ray, counts[ray]] = number
                counts[ray] += 1
            number += one
            distance, step = _sample(near, far, length, number, shifts[ray])


@kernel(parallel=True)
def _write(
    origins: Array, directions: Array, shifts: Array, radius: Any, length: Any, numbers: Array, bounds: Array,
    rays: Array, distances: Array, lengths: Array, points: Array,
) -> None:  # fmt: skip
    """Write the chosen steps."""
    for ray in prange(len(origins)):
        near, far = _clip(origins[ray], directions[ray], radius)
        for n in range(bounds[ray], bounds[ray + 1]):
            distance, lengths[n] = _sample(near, far, length, numbers[ray, n - bounds[ray]], shifts[ray])
            rays[n], distances[n] = ray, distance
            for axis in range(3):
                points[n, axis] = origins[ray, axis] + distance * directions[ray, axis]


def march(rays: Rays, radius: float, length: float, occupancy: OccupancyGrid | None) -> Steps:
    """Compute `march`."""
    like = rays.origins
    lines = (rays.origins, rays.directions, rays.shifts, *like.new_tensor([radius, length]).numpy())
    numbers = like.new_empty(len(rays), int(2.0 * math.sqrt(3.0) * radius / length) + 2)
    bounds = torch.zeros(len(rays) + 1, dtype=torch.int64)
    cells, side = (bounds > 0, 0) if occupancy is None else (occupancy.occupied, occupancy.config.resolution)
    run(_choose, *lines, cells, side, numbers, bounds[1:])
    bounds = bounds.cumsum(0)
    total = int(bounds[-1])
    found = Steps(torch.empty(total, dtype=torch.int64), *(like.new_empty(total, *more) for more in ((), (), (3,))))
    run(_write, *lines, numbers, bounds, *vars(found).values())
    return found


@kernel(parallel=True, fastmath=FAST)
def _composite(
    density: Array, lengths: Array, bounds: Array, values: Array, transmittances: Array, weights: Array, sums: Array
) -> None:
    for ray in prange(len(bounds) - 1):
        passed = 0.0
        for n in range(bounds[ray], bounds[ray + 1]):
            thickness = density[n] * lengths[n]
            transmittances[n] = np.exp(-passed)
            weights[n] = transmittances[n] * -np.expm1(-thickness)
            passed += thickness
            for column in range(values.shape[1]):
                sums[ray, column] += weights[n] * values[n, column]


@kernel(parallel=True, fastmath=FAST)
def _composite_backward(
    density: Array, lengths: Array, bounds: Array, values: Array, transmittances: Array, weights: Array,
    grad_weights: Array, grad_sums: Array, grad_density: Array, grad_values: Array,
) -> None:  # fmt: skip
    """From the last step to the first; a = dL/dw, t the thickness: dL/dt_i = a_i T_i exp(-t_i) - sum_{j>i} a_j w_j."""
    for ray in prange(len(bounds) - 1):
        behind = 0.0
        for n in range(bounds[ray + 1] - 1, bounds[ray] - 1, -1):
            gradient = grad_weights[n]
            for column in range(values.shape[1]):
                gradient += values[n, column] * grad_sums[ray, column]
                grad_values[n, column] = weights[n] * grad_sums[ray, column]
            left = transmittances[n] * np.exp(-density[n] * lengths[n])
            grad_density[n] = (gradient * left - behind) * lengths[n]
            behind += gradient * weights[n]


def composite(density: Tensor, values: Tensor, lengths: Tensor, bounds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the weights and sums of `composite`, and the transmittances."""
    transmittances, weights = torch.empty_like(density), torch.empty_like(density)
    sums = density.new_zeros(len(bounds) - 1, values.shape[1])
    run(_composite, density, lengths, bounds, values, transmittances, weights, sums)
    return weights, sums, transmittances


def composite_backward(*tensors: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the gradients of densities and values.

    `tensors` are density, lengths, bounds, values, transmittances, weights, and the gradients of weights and of sums.
    """
    grad_density, grad_values = torch.empty_like(tensors[0]), torch.empty_like(tensors[3])
    run(_composite_backward, *tensors, grad_density, grad_values)
    return grad_density, grad_values
