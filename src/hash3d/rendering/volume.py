"""Volume rendering: a field of density and colour and cameras in, images out, in plain PyTorch on any device.

A ray is cut into steps of one length inside the cube, and each step is as dense as one point of it (Max 1995,
"Optical Models for Direct Volume Rendering"; Mildenhall et al. 2020, eq. 3). Three sieves come before the field is
asked with gradients: the cube, the cells of the occupancy grid, and a pass for densities alone that finds what is seen.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.rendering.base import Render
from hash3d.rendering.shading import Shading
from hash3d.representations.field import Field
from hash3d.representations.occupancy import OccupancyGrid

BLOCK_STEPS = 2**22
"""Steps of rays handled at once: bounds the memory of the sieves, 50 bytes a step."""


@dataclass(frozen=True, kw_only=True)
class RaySamples:
    """The N samples that made the images, for losses of samples.

    `views` are the numbers of the cameras; `points` world positions; `directions` unit vectors from the eye; `weights`
    the shares of the pixel's light, which sum to a pixel's alpha; `normals` unit vectors, or None if not asked for.
    """

    views: Int[Tensor, " N"]
    points: Float[Tensor, "N 3"]
    directions: Float[Tensor, "N 3"]
    weights: Float[Tensor, " N"]
    normals: Float[Tensor, "N 3"] | None


@dataclass(frozen=True, kw_only=True)
class VolumeRender(Render):
    """Images of B views of a field.

    `color` has the field's channels; `normal` is the unit vector along the weighted sum of the normals, in world axes,
    zero where there is nothing, or None if not asked for.
    """

    color: Float[Tensor, "B H W C"]
    normal: Float[Tensor, "B H W 3"] | None
    samples: RaySamples


@dataclass(frozen=True, kw_only=True)
class VolumeRendererConfig:
    """Constants of the ray marcher; the defaults are threestudio's (28d9d80, renderers/nerf_volume_renderer.py)."""

    samples_per_ray: int = 512
    """Steps along the cube's diagonal. A step is 2 sqrt(3) radius / samples_per_ray scene units long."""
    min_alpha: float = 0.01
    """Steps fainter than this are left out, and learn nothing; an occupancy grid's `min_alpha` counts if it is less."""
    min_transmittance: float = 1e-4
    """Steps that less than this share of the light reaches are left out. With both at 0 no step is left out, and the
    pass for densities alone is saved."""

    def __post_init__(self) -> None:
        if self.samples_per_ray < 1:
            raise ValueError(f"Expected at least 1 sample a ray, but got {self.samples_per_ray}.")
        if not (0.0 <= self.min_alpha < 1.0 and 0.0 <= self.min_transmittance < 1.0):
            raise ValueError(
                f"Expected min_alpha and min_transmittance in [0, 1), but got {self.min_alpha} and "
                f"{self.min_transmittance}."
            )

    def step_length(self, radius: float) -> float:
        """Distance in scene units between two samples in a cube of half side `radius`."""
        return 2.0 * math.sqrt(3.0) * radius / self.samples_per_ray

    def build(self) -> "VolumeRenderer":
        """The renderer of this configuration."""
        return VolumeRenderer(self)


@dataclass(frozen=True)
class _Rays:
    """R rays: numbers of their cameras, origins, unit directions, and where in a step its sample lies, in [0, 1]."""

    views: Int[Tensor, " R"]
    origins: Float[Tensor, "R 3"]
    directions: Float[Tensor, "R 3"]
    shifts: Float[Tensor, " R"]

    def split(self, count: int) -> "list[_Rays]":
        columns = (self.views, self.origins, self.directions, self.shifts)
        return [_Rays(*block) for block in zip(*(column.split(count) for column in columns), strict=True)]


@dataclass(frozen=True)
class _Steps:
    """N steps, sorted by ray and from near to far: ray, distance of the sample along the ray, length, sample."""

    rays: Int[Tensor, " N"]
    distances: Float[Tensor, " N"]
    lengths: Float[Tensor, " N"]
    points: Float[Tensor, "N 3"]

    def __getitem__(self, chosen: Bool[Tensor, " N"]) -> "_Steps":
        return _Steps(self.rays[chosen], self.distances[chosen], self.lengths[chosen], self.points[chosen])


class VolumeRenderer:
    """Renders fields."""

    def __init__(self, config: VolumeRendererConfig) -> None:
        self.config = config

    def __call__(
        self,
        field: Field,
        cameras: Cameras,
        background: Float[Tensor, "B C"] | Float[Tensor, "B H W C"],
        *,
        occupancy: OccupancyGrid | None = None,
        generator: torch.Generator | None = None,
        normals: bool = False,
        shading: Shading | None = None,
    ) -> VolumeRender:
        """Images of `field` over one background a view or a pixel, on the background's device and in its dtype.

        Args:
            field: what is seen; differentiable in its parameters and in `background`.
            cameras: B views.
            background: one colour a view, or a picture a view, in the field's channels.
            occupancy: cells to skip; None skips none.
            generator: on the CPU. With it the samples of a ray are shifted together by a uniform share of a step, as
                training needs; without, a sample is the middle of its step.
            normals: whether to return normals.
            shading: light on the colours, which are then albedo; None shows them as they are.
        """
        size = (len(cameras), cameras.height, cameras.width)
        if background.shape not in ((size[0], field.channels), (*size, field.channels)):
            raise ValueError(
                f"Expected a background of shape {(size[0], field.channels)} or {(*size, field.channels)}, but got "
                f"{tuple(background.shape)}. Pass one colour a view in the field's {field.channels} channels."
            )
        rays = camera_rays(cameras, background, generator)
        block = max(1, BLOCK_STEPS // self.config.samples_per_ray)
        parts = [self._render(field, part, occupancy, normals, shading) for part in rays.split(block)]
        pixels = torch.cat([pixel for pixel, _ in parts])
        channels = field.channels
        color, alpha, distance, normal = pixels.split([channels, 1, 1, pixels.shape[1] - channels - 2], dim=-1)
        back = background if background.ndim == 4 else background[:, None, None]
        forward = cameras.c2w[:, :3, 2].to(background)[rays.views]
        cosines = (rays.directions * forward).sum(dim=-1, keepdim=True)
        alpha = alpha.reshape(*size, 1)
        return VolumeRender(
            color=color.reshape(*size, channels) + (1.0 - alpha) * back,
            alpha=alpha,
            depth=(distance * cosines).reshape(*size, 1),
            normal=F.normalize(normal, dim=-1).reshape(*size, 3) if normals else None,
            samples=_joined([samples for _, samples in parts]),
        )

    def _render(
        self, field: Field, rays: _Rays, occupancy: OccupancyGrid | None, normals: bool, shading: Shading | None
    ) -> tuple[Float[Tensor, "R P"], RaySamples]:
        """One row a ray (colour on black, alpha, weighted sums of distances and of normals) and the samples."""
        steps = self._seen_steps(field, rays, occupancy)
        lit = shading is not None and shading.needs_normals
        found = field.query(steps.points, normals=normals or lit)
        views = rays.views[steps.rays]
        color = found.color if shading is None else shading(found.color, steps.points, found.normal, views)
        transmittance, alphas = light_and_alphas(found.density, steps, len(rays.views))
        weights = transmittance * alphas
        columns = [color, torch.ones_like(weights)[:, None], steps.distances[:, None]]
        if normals and found.normal is not None:
            columns.append(found.normal)
        pixels = sum_along_rays(weights[:, None] * torch.cat(columns, dim=-1), steps.rays, len(rays.views))
        return pixels, RaySamples(
            views=views,
            points=steps.points,
            directions=rays.directions[steps.rays],
            weights=weights,
            normals=found.normal,
        )

    @torch.no_grad()
    def _seen_steps(self, field: Field, rays: _Rays, occupancy: OccupancyGrid | None) -> _Steps:
        """The steps in the cube, in occupied cells, not too faint and not behind too much."""
        config = self.config
        steps = march(rays, field.radius, config.step_length(field.radius))
        if occupancy is not None:
            steps = steps[occupancy.contains(steps.points)]
        if config.min_alpha == 0.0 and config.min_transmittance == 0.0:
            return steps
        transmittance, alphas = light_and_alphas(field.density(steps.points), steps, len(rays.views))
        min_alpha = config.min_alpha if occupancy is None else min(config.min_alpha, occupancy.min_alpha)
        return steps[(alphas >= min_alpha) & (transmittance >= config.min_transmittance)]


def camera_rays(cameras: Cameras, like: Tensor, generator: torch.Generator | None) -> _Rays:
    """The rays of all pixels, view by view and row by row, on the device and in the dtype of `like`."""
    origins, directions = (each.reshape(-1, 3).to(like) for each in cameras.rays())
    views = torch.arange(len(cameras), device=like.device).repeat_interleave(cameras.height * cameras.width)
    count = len(views)
    shifts = torch.full((count,), 0.5) if generator is None else torch.rand(count, generator=generator)
    return _Rays(views, origins, directions, shifts.to(like))


def march(rays: _Rays, radius: float, length: float) -> _Steps:
    """All steps of the rays inside the cube [-radius, radius]^3; the last of a ray ends at the cube's face.

    Where a ray meets the cube: the slabs of Kay and Kajiya (1986), "Ray Tracing Complex Scenes".
    """
    # A direction of 0 gives infinite crossings of the right sign, or NaN on the face itself, which counts as outside.
    crossings = torch.stack([-radius - rays.origins, radius - rays.origins]) / rays.directions
    near = crossings.amin(dim=0).amax(dim=-1).clamp(min=0.0)
    far = crossings.amax(dim=0).amin(dim=-1)
    longest = float((far - near).nan_to_num(0.0).amax().clamp(min=0.0)) if len(near) else 0.0
    numbers = torch.arange(math.ceil(longest / length), device=near.device)
    starts = near[:, None] + length * numbers
    lengths = (far[:, None] - starts).clamp(max=length)
    ray, step = (lengths > 0.0).nonzero(as_tuple=True)
    lengths = lengths[ray, step]
    distances = starts[ray, step] + rays.shifts[ray] * lengths
    points = rays.origins[ray] + distances[:, None] * rays.directions[ray]
    return _Steps(ray, distances, lengths, points)


def light_and_alphas(
    density: Float[Tensor, " N"], steps: _Steps, num_rays: int
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """The share of light that reaches each step, and the share of that which it stops.

    alpha_i = 1 - exp(-density_i length_i), T_i = exp(-sum_{j < i} density_j length_j) (Mildenhall et al. 2020, eq. 3).
    """
    thickness = density * steps.lengths
    counts = torch.bincount(steps.rays, minlength=num_rays)
    width = int(counts.max()) + 1
    rank = torch.arange(len(density), device=density.device) - (counts.cumsum(0) - counts)[steps.rays]
    # One row a ray, moved right by one, so that a running sum ends before the step itself.
    slots = steps.rays * width + rank
    before = density.new_zeros(num_rays * width).index_put((slots + 1,), thickness)
    before = before.view(num_rays, width).cumsum(dim=-1).view(-1)[slots]
    return torch.exp(-before), -torch.expm1(-thickness)


def sum_along_rays(values: Float[Tensor, "N P"], rays: Int[Tensor, " N"], num_rays: int) -> Float[Tensor, "R P"]:
    """Sums over the steps of each ray, column by column: PyTorch adds single numbers much faster than short rows."""
    return torch.stack([values.new_zeros(num_rays).index_add(0, rays, column) for column in values.unbind(-1)], dim=-1)


def _joined(parts: list[RaySamples]) -> RaySamples:
    normals = [part.normals for part in parts if part.normals is not None]
    return RaySamples(
        views=torch.cat([part.views for part in parts]),
        points=torch.cat([part.points for part in parts]),
        directions=torch.cat([part.directions for part in parts]),
        weights=torch.cat([part.weights for part in parts]),
        normals=torch.cat(normals) if normals else None,
    )
