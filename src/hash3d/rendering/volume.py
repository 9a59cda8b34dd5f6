"""Volume rendering of a field of density and colour.

A ray is cut into steps of one length inside the cube, and each step is as dense as one point of it (Max 1995,
"Optical Models for Direct Volume Rendering"; Mildenhall et al. 2020, eq. 3). Samples are culled three
times before the field is queried with gradients: by the cube, by occupancy, and by alpha and transmittance, for which a
pass computes densities alone. `march.py` and `composite.py` hold the two halves, with Triton's kernels beside them.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.kernels import FieldBackend, uses_triton
from hash3d.representations.field import Field
from hash3d.representations.occupancy import OccupancyGrid
from hash3d.transfer import to_device

from .base import Render
from .composite import composite, is_visible
from .march import Rays, Steps, camera_rays, march
from .shading import Shading

BLOCK_STEPS = 2**22
"""Steps of rays handled at once: bounds the memory of sample culling, 50 bytes a step."""
TRITON_BLOCK_STEPS = 2**24
"""The same for the kernels, which keep no step in an empty cell."""


@dataclass(frozen=True, kw_only=True)
class RaySamples:
    """The N samples that made the images, for losses of samples.

    `views` are the indices of the cameras; `points` world positions; `directions` unit vectors from the eye; `weights`
    are T_i alpha_i, which sum to a pixel's alpha; `normals` unit vectors, or None if not asked for.
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
    """Steps behind a transmittance below this are left out. With both at 0 no step is left out, and the pass for
    densities alone is saved."""
    backend: FieldBackend = "auto"
    """auto: Triton's kernels on CUDA if Triton is installed, else torch, the reference implementation."""

    def __post_init__(self) -> None:
        if self.samples_per_ray < 1:
            raise ValueError(f"Expected at least 1 sample a ray, but got {self.samples_per_ray}.")
        if not (0.0 <= self.min_alpha < 1.0 and 0.0 <= self.min_transmittance < 1.0):
            raise ValueError(
                f"Expected min_alpha and min_transmittance in [0, 1), but got {self.min_alpha} and "
                f"{self.min_transmittance}."
            )

    def step_length(self, radius: float) -> float:
        """Return the distance in scene units between two samples in a cube of half side `radius`."""
        return 2.0 * math.sqrt(3.0) * radius / self.samples_per_ray

    def build(self) -> "VolumeRenderer":
        """Build the renderer of this configuration."""
        return VolumeRenderer(self)


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
        """Render `field` over one background a view or a pixel, on the background's device and in its dtype.

        Args:
            field: what is rendered; differentiable in its parameters and in `background`.
            cameras: B views.
            background: one colour a view, or an image a view, in the field's channels.
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
        steps = TRITON_BLOCK_STEPS if uses_triton(self.config.backend, background) else BLOCK_STEPS
        block = max(1, steps // self.config.samples_per_ray)
        parts = [self._render(field, part, occupancy, normals, shading) for part in rays.split(block)]
        pixels = torch.cat([pixel for pixel, _ in parts])
        channels = field.channels
        color, alpha, distance, normal = pixels.split([channels, 1, 1, pixels.shape[1] - channels - 2], dim=-1)
        back = background if background.ndim == 4 else background[:, None, None]
        forward = to_device(cameras.c2w[:, :3, 2], background)[rays.views]
        cosines = (rays.directions * forward).sum(dim=-1, keepdim=True)
        alpha = alpha.reshape(*size, 1)
        return VolumeRender(
            color=color.reshape(*size, channels) + (1.0 - alpha) * back,
            alpha=alpha,
            depth=(distance * cosines).reshape(*size, 1),
            normal=F.normalize(normal, dim=-1).reshape(*size, 3) if normals else None,
            samples=_concatenate([samples for _, samples in parts]),
        )

    def _render(
        self, field: Field, rays: Rays, occupancy: OccupancyGrid | None, normals: bool, shading: Shading | None
    ) -> tuple[Float[Tensor, "R P"], RaySamples]:
        """Return one row a ray (colour on black, alpha, weighted sums of distances and of normals) and the samples."""
        steps = self._cull(field, rays, occupancy)
        lit = shading is not None and shading.needs_normals
        found = field.query(steps.points, normals=normals or lit)
        views = rays.views[steps.rays]
        color = found.color if shading is None else shading(found.color, steps.points, found.normal, views)
        columns = [color, torch.ones_like(found.density)[:, None], steps.distances[:, None]]
        if normals and found.normal is not None:
            columns.append(found.normal)
        values = torch.cat(columns, dim=-1)
        weights, pixels = composite(found.density, values, steps, len(rays), backend=self.config.backend)
        return pixels, RaySamples(
            views=views,
            points=steps.points,
            directions=rays.directions[steps.rays],
            weights=weights,
            normals=found.normal,
        )

    @torch.no_grad()
    def _cull(self, field: Field, rays: Rays, occupancy: OccupancyGrid | None) -> Steps:
        """Return the steps in the cube, in occupied cells, of enough alpha and transmittance."""
        config, backend = self.config, self.config.backend
        steps = march(rays, field.radius, config.step_length(field.radius), occupancy, backend=backend)
        if config.min_alpha == 0.0 and config.min_transmittance == 0.0:
            return steps
        parts = [field.density(points) for points in steps.points.split(BLOCK_STEPS)]
        density = torch.cat(parts) if len(parts) > 1 else parts[0]
        min_alpha = torch.full((), config.min_alpha, dtype=density.dtype, device=density.device)
        if occupancy is not None:
            min_alpha = torch.minimum(min_alpha, occupancy.min_alpha.to(min_alpha))
        return steps[is_visible(density, steps, len(rays), min_alpha, config.min_transmittance, backend=backend)]


def _concatenate(parts: list[RaySamples]) -> RaySamples:
    normals = [part.normals for part in parts if part.normals is not None]
    return RaySamples(
        views=torch.cat([part.views for part in parts]),
        points=torch.cat([part.points for part in parts]),
        directions=torch.cat([part.directions for part in parts]),
        weights=torch.cat([part.weights for part in parts]),
        normals=torch.cat(normals) if normals else None,
    )
