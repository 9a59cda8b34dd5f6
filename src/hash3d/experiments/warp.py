"""Moving a stored feature map to another camera by the scene's depth."""

import dataclasses

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.rendering.base import Render

MIN_ALPHA = 0.05
"""A pixel that stops less light than this has no surface; it counts as far away as the object's centre."""


def warp_grid(render: Render, cameras: Cameras, stored: Cameras, size: tuple[int, int]) -> Float[Tensor, "B h w 2"]:
    """Where the surface in each pixel of `cameras` lies in the pictures of `stored`, as `grid_sample` wants it.

    Args:
        render: of the B views of `cameras`, of any resolution; its depth is alpha-weighted.
        cameras: the views to fill.
        stored: the views that there are feature maps of.
        size: height and width h, w of the feature maps.

    What the stored view does not see is not known to be hidden: the grid then leads to whatever lies in front of it.
    """
    depth, alpha = (
        F.adaptive_avg_pool2d(image.permute(0, 3, 1, 2).float(), size)[:, 0] for image in (render.depth, render.alpha)
    )
    centre = cameras.radius.to(depth)[:, None, None].expand_as(depth)
    depth = torch.where(alpha > MIN_ALPHA, depth / alpha.clamp(min=MIN_ALPHA), centre)
    height, width = size
    here, there = (dataclasses.replace(each, height=height, width=width) for each in (cameras, stored))
    rows, columns = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    v, u = torch.meshgrid(rows, columns, indexing="ij")
    pixels = torch.stack([u, v, torch.ones_like(u)], dim=-1).to(depth)
    rays = torch.einsum("bij,hwj->bhwi", torch.linalg.inv(here.K).to(depth), pixels)
    to_stored = (there.viewmats @ here.c2w).to(depth)
    points = torch.einsum("bij,bhwj->bhwi", to_stored[:, :3, :3], rays * depth[..., None])
    seen = torch.einsum("bij,bhwj->bhwi", there.K.to(depth), points + to_stored[:, None, None, :3, 3])
    places = seen[..., :2] / seen[..., 2:].clamp(min=1e-6)
    return 2.0 * places / torch.tensor([width, height]).to(places) - 1.0


def warp(features: Float[Tensor, "B C h w"], grid: Float[Tensor, "B h w 2"]) -> Float[Tensor, "B C h w"]:
    """Feature maps taken from where the grid leads, bilinear; beyond the border its values go on."""
    moved = F.grid_sample(features.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return moved.to(features)
