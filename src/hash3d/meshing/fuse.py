"""The surface of Gaussians: depths from all sides, fused in a truncated signed distance (Curless and Levoy 1996).

Where Gaussians are thin their density has holes, though none is seen: the splats behind fill it. Depths have none.
"""

import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.rendering.bake import PointColors, colors_from_views
from hash3d.rendering.splat import render_gaussians
from hash3d.representations.gaussians import GaussianTensors
from hash3d.representations.mesh import Mesh, SurfacePoints

from .isosurface import Density, GaussianField, IsosurfaceConfig, extract_mesh, remove_cavities

VIEWS, SIZE, FOV_Y = 32, 256, 40.0
"""Views all round, the pixels a side of their depths, and the field of view in degrees."""
LAYERS, MIN_ALPHA = 4, 0.9
"""Depths are those of so many of each Gaussian on one another, so that the front hides the back; what is then more
transparent is empty. 0.9 of four layers is about 0.44 of one."""
TRUNCATION = 8.0
"""In samples of the grid: a depth says nothing of what lies deeper behind it. Less keeps the noise of single depths."""
SMOOTHING = 5
"""Pixels a side of a median over the depths."""


@torch.no_grad()
def fused_surface(gaussians: GaussianTensors, resolution: int) -> Mesh:
    """Return the closed surface of Gaussians, on `resolution` samples along their longest side, on the CPU.

    What no view sees is inside. Raises `ValueError` if nothing is opaque.
    """
    box = GaussianField(gaussians).box
    spacing = float((box[1] - box[0]).max()) / (resolution - 1)
    cameras = look_from_all_sides(gaussians, SIZE)
    density = fuse_depths(_render_depths(gaussians, cameras), cameras, TRUNCATION * spacing)
    return remove_cavities(extract_mesh(density, box, IsosurfaceConfig(level=1.0, resolution=resolution)))


def look_from_all_sides(gaussians: GaussianTensors, size: int) -> Cameras:
    """Place cameras evenly on a sphere (a Fibonacci lattice), as far as all Gaussians are in view."""
    radius = float(GaussianField(gaussians).box.abs().amax(dim=0).norm()) / math.sin(math.radians(0.5 * FOV_Y))
    numbers = torch.arange(VIEWS) + 0.5
    elevations = torch.rad2deg(torch.asin(1.0 - 2.0 * numbers / VIEWS))
    azimuths = torch.rad2deg(math.pi * (1.0 + math.sqrt(5.0)) * numbers) % 360.0
    return Cameras.orbit(elevation=elevations, azimuth=azimuths, radius=radius, fov_y=FOV_Y, size=size)


def fuse_depths(depths: Float[Tensor, "B H W"], cameras: Cameras, truncation: float) -> Density:
    """Return 1 minus the mean signed distance, in units of `truncation` and cut to [-1, 1]: 1 on the surface, 2 inside.

    Args:
        depths: along the cameras' z axes, in scene units; infinite where a view sees nothing.
        cameras: where they were taken.
        truncation: in scene units. A view does not count for what it sees farther than this behind a surface.
    """

    def density(points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        summed, count = torch.zeros(2, len(points), device=points.device)
        for view in range(len(cameras)):
            screen, along = (each[0] for each in cameras[view].project(points))
            column, row = screen.floor().long().unbind(-1)
            inside = (column >= 0) & (column < cameras.width) & (row >= 0) & (row < cameras.height)
            seen = depths[view].to(points)[row.clamp(0, cameras.height - 1), column.clamp(0, cameras.width - 1)]
            distances = (torch.where(inside, seen, torch.inf) - along) / truncation
            counts = distances > -1.0
            summed += torch.where(counts, distances.clamp(max=1.0), 0.0)
            count += counts
        return 1.0 - torch.where(count > 0, summed / count.clamp(min=1.0), -1.0)

    return density


def paint_as_seen(gaussians: GaussianTensors, mesh: Mesh, cameras: Cameras) -> PointColors:
    """Colour points of a mesh by renders of Gaussians from `cameras`, and what no view sees by the Gaussians there."""
    field = GaussianField(gaussians)
    renders = [_own_colors(gaussians, cameras[view]) for view in range(len(cameras))]
    from_views = colors_from_views(mesh, cameras, torch.cat(renders).to(mesh.vertices), unseen=math.nan)

    def colors(points: SurfacePoints) -> Float[Tensor, "N 3"]:
        found = from_views(points)
        unseen = found[:, 0].isnan()
        found[unseen] = field.color(points.positions[unseen]).to(found)
        return found

    return colors


def _render_depths(gaussians: GaussianTensors, cameras: Cameras) -> Float[Tensor, "B H W"]:
    layered, depths = replace(gaussians, opacities=1.0 - (1.0 - gaussians.opacities) ** LAYERS), []
    for view in range(len(cameras)):
        render = render_gaussians(layered, cameras[view], torch.zeros(1, 3))
        depth, alpha = render.depth[0, ..., 0].cpu(), render.alpha[0, ..., 0].cpu()
        found = torch.where(alpha > MIN_ALPHA, depth / alpha.clamp(min=MIN_ALPHA), torch.inf)
        depths.append(torch.from_numpy(np.asarray(ndimage.median_filter(found.numpy(), SMOOTHING))))
    return torch.stack(depths)


def _own_colors(gaussians: GaussianTensors, camera: Cameras) -> Float[Tensor, "1 H W 3"]:
    """RGB of what a camera sees, without what shines through from behind at soft outlines."""
    render = render_gaussians(gaussians, camera, torch.zeros(1, 3))
    return (render.color / render.alpha.clamp(min=1e-3)).clamp(0.0, 1.0)
