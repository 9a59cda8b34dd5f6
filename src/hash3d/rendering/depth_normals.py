"""Shade splats with normals from differences of the depth map, for scenes without normals of their own.

As threestudio's Gaussian extension (gsstudio/renderer/rasterizer/diff_gaussian_rasterizer_shading.py), but depths are
divided by alpha, and differences are between pixels that show something.
"""

import dataclasses

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.transfer import to_device

from .base import Render
from .shading import Shading


def surface_points(
    depth: Float[Tensor, "B H W 1"], alpha: Float[Tensor, "B H W 1"], cameras: Cameras
) -> Float[Tensor, "B H W 3"]:
    """Return the world positions that the pixels show, from a `Render`'s depth and alpha; the eye where alpha is 0."""
    eyes, directions = (rays.to(depth) for rays in cameras.rays(depth.device))
    forward = to_device(cameras.c2w[:, None, None, :3, 2], depth)
    distances = depth / _one_where_empty(alpha)
    return eyes + distances * directions / (directions * forward).sum(dim=-1, keepdim=True)


def depth_normals(
    depth: Float[Tensor, "B H W 1"], alpha: Float[Tensor, "B H W 1"], cameras: Cameras, *, min_alpha: float = 0.0
) -> Float[Tensor, "B H W 3"]:
    """Return unit normals in world axes, towards the camera, of what the pixels show.

    Cross products of central differences of `surface_points`; a pixel stands in for a neighbour that shows nothing.
    Zero where alpha is 0 or a row or column has no neighbour. Differentiable where alpha is above `min_alpha`.
    """
    points, shown = surface_points(depth, alpha, cameras), alpha > 0
    right, down = _differences(points, shown, dim=2), _differences(points, shown, dim=1)
    toward = torch.cross(down, right, dim=-1)
    # The gradient of a zero vector's direction has no bound, so those have none.
    found = shown & (toward != 0).any(dim=-1, keepdim=True)
    normals = F.normalize(toward, dim=-1, eps=1e-20).masked_fill(~found, 0.0)
    return torch.where(alpha > min_alpha, normals, normals.detach())


def shade_render(
    render: Render, cameras: Cameras, background: Float[Tensor, "B 3"] | Float[Tensor, "B H W 3"], shading: Shading
) -> Render:
    """Shade `render`, made over black, and composite it on `background`: one colour or image a view.

    Differentiable in the colours (over black albedo times alpha), the alpha, the depth and the background.
    """
    points = surface_points(render.depth, render.alpha, cameras).flatten(0, 2)
    normals = depth_normals(render.depth, render.alpha, cameras).flatten(0, 2) if shading.needs_normals else None
    albedo = render.color / _one_where_empty(render.alpha)
    views = torch.arange(len(cameras), device=points.device).repeat_interleave(cameras.height * cameras.width)
    lit = shading(albedo.flatten(0, 2), points, normals, views).view_as(albedo)
    behind = (background if background.dim() == 4 else background[:, None, None]).to(lit)
    return dataclasses.replace(render, color=render.alpha * lit + (1.0 - render.alpha) * behind)


def _one_where_empty(alpha: Float[Tensor, "B H W 1"]) -> Float[Tensor, "B H W 1"]:
    """Replace alpha 0 by 1, to divide by it. `torch.where` with a number would make the host wait for the GPU."""
    return alpha.masked_fill(~(alpha > 0), 1.0)


def _differences(
    points: Float[Tensor, "B H W 3"], shown: Bool[Tensor, "B H W 1"], dim: int
) -> Float[Tensor, "B H W 3"]:
    """Subtract the last pixel's point from the next one's along a dimension; the pixel's own for one not shown."""

    def neighbour(shift: int) -> Float[Tensor, "B H W 3"]:
        there = shown.roll(shift, dim)
        there.select(dim, 0 if shift > 0 else -1).fill_(False)
        return torch.where(there, points.roll(shift, dim), points)

    return neighbour(-1) - neighbour(1)
