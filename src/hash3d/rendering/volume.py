"""Volume rendering of a field of density and colour.

A ray is cut into equal steps inside the cube, each as dense as one point of it (Max 1995, "Optical Models for Direct
Volume Rendering"; Mildenhall et al. 2020, eq. 3). Samples are culled three times before the field is queried with
gradients: by the cube, by occupancy, and by alpha and transmittance.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.kernels import FieldBackend, uses_triton
from hash3d.ranges import expect_range
from hash3d.representations.nerf import Field, Nerf
from hash3d.representations.occupancy import OccupancyGrid
from hash3d.tensors import to_device

from .base import Render
from .rays import Rays, Steps, camera_rays, composite, is_visible, march
from .shading import Shading

BLOCK_STEPS = 2**22
"""Steps of rays handled at once: bounds the memory of sample culling, 50 bytes a step."""
TRITON_BLOCK_STEPS = 2**25
"""The same for the kernels, which keep no step in an empty cell: two views of 256 pixels at 256 steps a ray."""


@dataclass(frozen=True, kw_only=True)
class RaySamples:
    """The N samples that made the images, for losses: camera, world position, unit direction from the eye of each.

    `weights` are T_i alpha_i, which sum to a pixel's alpha; `normals` unit vectors, or None if not asked for. `counted`
    says which of them count where all weigh the same; None: all. `near` are points close by that were drawn ahead.
    """

    views: Int[Tensor, " N"]
    points: Float[Tensor, "N 3"]
    directions: Float[Tensor, "N 3"]
    weights: Float[Tensor, " N"]
    normals: Float[Tensor, "N 3"] | None
    counted: Bool[Tensor, " N"] | None = None
    near: Float[Tensor, "N 3"] | None = None


@dataclass(frozen=True, kw_only=True)
class VolumeRender(Render):
    """Images of B views of a field, `color` in its channels.

    `normal` is the unit weighted sum of normals in world axes, zero where there is nothing, None if not asked for.
    """

    color: Float[Tensor, "B H W C"]
    normal: Float[Tensor, "B H W 3"] | None
    samples: RaySamples


@dataclass(frozen=True, kw_only=True)
class VolumeRendererConfig:
    """Constants of the ray marcher; the defaults are threestudio's (28d9d80, renderers/nerf_volume_renderer.py).

    Args:
        samples_per_ray: Steps along the cube's diagonal. A step is 2 sqrt(3) radius / samples_per_ray scene units long.
        min_alpha: Fainter steps are left out, and learn nothing; an occupancy grid's `min_alpha` counts if less.
        min_transmittance: Steps behind a transmittance below this are left out. With both at 0 no step is left out, and
            the pass for densities alone is saved.
        backend: auto: kernels, by numba on a CPU and on CUDA by Triton if it is installed; else torch, the reference
            implementation.
    """

    samples_per_ray: int = 512
    min_alpha: float = 0.01
    min_transmittance: float = 1e-4
    backend: FieldBackend = "auto"

    def __post_init__(self) -> None:
        expect_range(self, "samples_per_ray", at_least=1)
        expect_range(self, "min_alpha min_transmittance", at_least=0, below=1)

    @property
    def culls(self) -> bool:
        """Whether steps are left out by what their densities make of them."""
        return self.min_alpha > 0.0 or self.min_transmittance > 0.0

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
        steps: Steps | None = None,
    ) -> VolumeRender:
        """Render `field` over one colour or image a view, on the background's device and in its dtype.

        Differentiable in the field's parameters and in `background`. `occupancy` has the cells to skip. With a
        `generator` (on the CPU) the samples of a ray are shifted together by a uniform share of a step, as training
        needs; without, a sample is the middle of its step. `shading` puts light on the colours, which are then albedo.
        With `steps`, which `SampleChoice` has chosen, nothing is culled, and no GPU is waited for; those of length 0
        count for nothing.
        """
        size = (len(cameras), cameras.height, cameras.width)
        if background.shape not in ((size[0], field.channels), (*size, field.channels)):
            raise ValueError(
                f"Expected a background of shape {(size[0], field.channels)} or {(*size, field.channels)}, but got "
                f"{tuple(background.shape)}. Pass one colour a view in the field's {field.channels} channels."
            )
        rays = camera_rays(cameras, background, generator if steps is None else None)
        wanted = normals or (shading is not None and shading.needs_normals)
        cull = partial(self._cull, field, occupancy=occupancy, keep=not wanted)
        blocks = ((part, *cull(part)) for part in self._split(rays)) if steps is None else [(rays, steps, {})]
        parts = [self._render(field, *block, normals, wanted, shading) for block in blocks]
        samples = _concatenate([samples for _, samples in parts])
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
            samples=samples if steps is None else replace(samples, counted=steps.lengths > 0.0),
        )

    def is_seen(
        self,
        density: Float[Tensor, " N"],
        steps: Steps,
        num_rays: int,
        occupancy: OccupancyGrid | None,
        bounds: Int[Tensor, " bounds"] | None = None,
    ) -> Bool[Tensor, " N"]:
        """Whether samples have enough alpha and transmittance to be rendered."""
        config = self.config
        min_alpha = torch.full((), config.min_alpha, dtype=density.dtype, device=density.device)
        if occupancy is not None:
            min_alpha = torch.minimum(min_alpha, occupancy.min_alpha.to(min_alpha))
        return is_visible(
            density, steps, num_rays, min_alpha, config.min_transmittance, bounds=bounds, backend=config.backend
        )

    def _split(self, rays: Rays) -> list[Rays]:
        """Return blocks of rays that are handled at once."""
        steps = TRITON_BLOCK_STEPS if uses_triton(self.config.backend, rays.origins) else BLOCK_STEPS
        return rays.split(max(1, steps // self.config.samples_per_ray))

    def _render(
        self,
        field: Field,
        rays: Rays,
        steps: Steps,
        known: dict[str, Any],
        normals: bool,
        wanted: bool,
        shading: Shading | None,
    ) -> tuple[Float[Tensor, "R P"], RaySamples]:
        """Return one row a ray (colour on black, alpha, weighted sums of distances and of normals) and the samples."""
        found = field.query(steps.points, normals=wanted, **known)
        views = rays.views[steps.rays]
        color = found.color if shading is None else shading(found.color, steps.points, found.normal, views)
        columns = [color, torch.ones_like(found.density)[:, None], steps.distances[:, None]]
        if normals and found.normal is not None:
            columns.append(found.normal)
        values = torch.cat(columns, dim=-1)
        weights, pixels = composite(found.density, values, steps, len(rays), backend=self.config.backend)
        directions = rays.directions[steps.rays]
        return pixels, RaySamples(
            views=views, points=steps.points, directions=directions, weights=weights, normals=found.normal
        )

    @torch.no_grad()
    def _cull(
        self, field: Field, rays: Rays, *, occupancy: OccupancyGrid | None, keep: bool
    ) -> tuple[Steps, dict[str, Any]]:
        """Return the steps in the cube, in occupied cells, of enough alpha and transmittance, and a query's `known`.

        That is empty unless `keep`: normals have no use for it.
        """
        config, backend = self.config, self.config.backend
        steps = march(rays, field.radius, config.step_length(field.radius), occupancy, backend=backend)
        if not config.culls:
            return steps, {}
        kept: list[Tensor] = []
        if keep and isinstance(field, Nerf) and len(steps) <= BLOCK_STEPS:
            density, kept = field.look(steps.points)
        else:
            density = torch.cat([field.density(points) for points in steps.points.split(BLOCK_STEPS)])
        rows = self.is_seen(density, steps, len(rays), occupancy).nonzero()[:, 0]
        return steps[rows], {"known": [each.T.index_select(1, rows).T for each in kept]} if kept else {}


def _concatenate(parts: list[RaySamples]) -> RaySamples:
    columns: dict[str, Any] = {name: [vars(part)[name] for part in parts] for name in vars(parts[0])}
    for name, column in columns.items():
        columns[name] = None if column[0] is None else torch.cat(column)
    return RaySamples(**columns)
