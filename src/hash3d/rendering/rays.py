"""Rays through a field's cube: the samples at which the field is queried, and their composition to pixels."""

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.kernels import FieldBackend, find_kernels, require_last_derivative, uses_triton
from hash3d.representations.occupancy import OccupancyGrid
from hash3d.tensors import draw_on


@dataclass(frozen=True)
class Rays:
    """R rays: indices of their cameras, origins, unit directions, and where in a step its sample lies, in [0, 1]."""

    views: Int[Tensor, " R"]
    origins: Float[Tensor, "R 3"]
    directions: Float[Tensor, "R 3"]
    shifts: Float[Tensor, " R"]

    def __len__(self) -> int:
        return len(self.views)

    def split(self, count: int) -> "list[Rays]":
        """Split into blocks of `count` rays; the last may be smaller."""
        columns = (self.views, self.origins, self.directions, self.shifts)
        return [Rays(*block) for block in zip(*(column.split(count) for column in columns), strict=True)]


@dataclass(frozen=True)
class Steps:
    """N steps, sorted by ray and from near to far: ray, distance of the sample along the ray, length, sample."""

    rays: Int[Tensor, " N"]
    distances: Float[Tensor, " N"]
    lengths: Float[Tensor, " N"]
    points: Float[Tensor, "N 3"]

    def __len__(self) -> int:
        return len(self.rays)

    def __getitem__(self, rows: Int[Tensor, " K"]) -> "Steps":
        return Steps(self.rays[rows], self.distances[rows], self.lengths[rows], self.points[rows])

    def bounds(self, num_rays: int) -> Int[Tensor, " bounds"]:
        """The steps of ray r are those from bounds[r] to before bounds[r + 1]."""
        return torch.searchsorted(self.rays, torch.arange(num_rays + 1, device=self.rays.device))


def camera_rays(cameras: Cameras, like: Tensor, generator: torch.Generator | None) -> Rays:
    """The rays of all pixels, view by view and row by row, on the device and in the dtype of `like`."""
    origins, directions = (each.reshape(-1, 3).to(like) for each in cameras.rays(like.device))
    views = torch.arange(len(cameras), device=like.device).repeat_interleave(cameras.height * cameras.width)
    if generator is None:
        return Rays(views, origins, directions, torch.full_like(origins[:, 0], 0.5))
    shifts = draw_on(like.device, generator, torch.rand, len(views))
    return Rays(views, origins, directions, shifts.to(like))


def march(
    rays: Rays, radius: float, length: float, occupancy: OccupancyGrid | None = None, *, backend: FieldBackend = "auto"
) -> Steps:
    """Return the steps of the rays inside the cube [-radius, radius]^3, without those that `occupancy` culls.

    The last step of a ray ends at the cube's face. Slabs: Kay and Kajiya (1986), "Ray Tracing Complex Scenes".
    """
    if kernels := find_kernels(backend, "hash3d.rendering", "rays", rays.origins):
        steps: Steps = kernels.march(rays, radius, length, occupancy)
        return steps
    # A direction of 0 gives infinite crossings of the right sign, or NaN on the face itself, which counts as outside.
    crossings = torch.stack([-radius - rays.origins, radius - rays.origins]) / rays.directions
    near = crossings.amin(dim=0).amax(dim=-1).clamp(min=0.0)
    far = crossings.amax(dim=0).amin(dim=-1)
    longest = float((far - near).nan_to_num(0.0).amax().clamp(min=0.0)) if len(near) else 0.0
    numbers = torch.arange(math.ceil(longest / length), dtype=near.dtype, device=near.device)
    starts = near[:, None] + length * numbers
    lengths = (far[:, None] - starts).clamp(max=length)
    ray, step = (lengths > 0.0).nonzero(as_tuple=True)
    lengths = lengths[ray, step]
    distances = starts[ray, step] + rays.shifts[ray] * lengths
    points = rays.origins[ray] + distances[:, None] * rays.directions[ray]
    steps = Steps(ray, distances, lengths, points)
    return steps if occupancy is None else steps[occupancy.contains(points).nonzero()[:, 0]]


def march_within(
    rays: Rays,
    radius: float,
    length: float,
    capacity: int,
    occupancy: OccupancyGrid | None = None,
    *,
    backend: FieldBackend = "auto",
) -> tuple[Steps, Int[Tensor, " bounds"]]:
    """Return `march` in a fixed number of rows, and `Steps.bounds`, of which the last is the number of steps.

    The host does not wait for Triton's kernels. Rows after the last step are of the last ray, at the origin and 0 long.
    If there are more steps than rows, the last ones are missing.
    """
    if uses_triton(backend, rays.origins):
        from . import _triton_rays

        found: tuple[Steps, Tensor] = _triton_rays.march_within(rays, radius, length, capacity, occupancy)
        return found
    steps = march(rays, radius, length, occupancy, backend=backend)
    zeros = (steps.points.new_zeros(capacity, *shape) for shape in ((), (), (3,)))
    blank = Steps(steps.rays.new_full((capacity,), len(rays) - 1), *zeros)
    for column, values in zip(vars(blank).values(), vars(steps).values(), strict=True):
        column[: len(steps)] = values[:capacity]
    return blank, steps.bounds(len(rays))


def transmittance_and_alphas(
    density: Float[Tensor, " N"], steps: Steps, num_rays: int
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Return T_i = exp(-sum_{j < i} density_j length_j) and alpha_i = 1 - exp(-density_i length_i) of each sample."""
    thickness = density * steps.lengths
    counts = torch.bincount(steps.rays, minlength=num_rays)
    width = int(counts.max()) + 1
    rank = torch.arange(len(density), device=density.device) - (counts.cumsum(0) - counts)[steps.rays]
    # One row a ray, moved right by one, so that a running sum ends before the step itself.
    slots = steps.rays * width + rank
    before = density.new_zeros(num_rays * width).index_put((slots + 1,), thickness)
    before = before.view(num_rays, width).cumsum(dim=-1).view(-1)[slots]
    return torch.exp(-before), -torch.expm1(-thickness)


def is_visible(
    density: Float[Tensor, " N"],
    steps: Steps,
    num_rays: int,
    min_alpha: Float[Tensor, ""],
    min_transmittance: float,
    *,
    bounds: Int[Tensor, " bounds"] | None = None,
    backend: FieldBackend = "auto",
) -> Bool[Tensor, " N"]:
    """Whether a sample has an alpha of at least `min_alpha` behind a transmittance of at least `min_transmittance`.

    `bounds` are those of the steps, if they are known; what lies after the last is not looked at.
    """
    if kernels := find_kernels(backend, "hash3d.rendering", "rays", density, steps.lengths):
        density = density.contiguous()
        bounds = steps.bounds(num_rays) if bounds is None else bounds
        transmittance = kernels.composite(density, density[:, None], steps.lengths, bounds)[2]
        alphas = -torch.expm1(-density * steps.lengths)
    else:
        transmittance, alphas = transmittance_and_alphas(density, steps, num_rays)
    return (alphas >= min_alpha) & (transmittance >= min_transmittance)


def composite(
    density: Float[Tensor, " N"],
    values: Float[Tensor, "N P"],
    steps: Steps,
    num_rays: int,
    *,
    backend: FieldBackend = "auto",
) -> tuple[Float[Tensor, " N"], Float[Tensor, "R P"]]:
    """Return samples' weights T_i alpha_i, which sum to a ray's alpha, and rays' weighted sums of `values`.

    Differentiable in `density` and `values`: in PyTorch any number of times, by the kernels once.
    """
    if kernels := find_kernels(backend, "hash3d.rendering", "rays", density, values, steps.lengths):
        result: tuple[Tensor, Tensor] = _Composite.apply(  # type: ignore[no-untyped-call]
            kernels, density.contiguous(), values.contiguous(), steps.lengths, steps.bounds(num_rays)
        )
        return result
    transmittance, alphas = transmittance_and_alphas(density, steps, num_rays)
    weights = transmittance * alphas
    return weights, sum_along_rays(weights[:, None] * values, steps.rays, num_rays)


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, kernels: ModuleType, density: Tensor, values: Tensor, lengths: Tensor, bounds: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.kernels = kernels
        weights, sums, transmittances = kernels.composite(density, values, lengths, bounds)
        ctx.save_for_backward(density, lengths, bounds, values, transmittances, weights)
        return weights, sums

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        require_last_derivative("the light along rays")
        grads = (grad.contiguous() for grad in grad_outputs)
        return None, *ctx.kernels.composite_backward(*ctx.saved_tensors, *grads), None, None


def sum_along_rays(values: Float[Tensor, "N P"], rays: Int[Tensor, " N"], num_rays: int) -> Float[Tensor, "R P"]:
    """Sum over the samples of each ray, column by column: PyTorch adds numbers much faster than short rows."""
    return torch.stack([values.new_zeros(num_rays).index_add(0, rays, column) for column in values.unbind(-1)], dim=-1)
