"""Bake the texture of a mesh from a function of the surface's points, or from images of the surface."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from hash3d.cameras import Cameras
from hash3d.representations.mesh import Mesh, SurfacePoints
from hash3d.representations.textured_mesh import TexturedMesh

from ._torch_raster import Projected, locate
from .raster import RasterRendererConfig, find_visible_faces, render_surface

MIN_COSINE, DEPTH_TOLERANCE = 0.5, 0.02
"""The first is that of DreamGaussian 69a3c70, which takes the first view; the second is in scene units."""
PointColors = Callable[[SurfacePoints], Float[Tensor, "N 3"]]
"""RGB in [0, 1] of points on a mesh; the `colors_at` of any surface is one."""


@torch.no_grad()
def bake(surface: TexturedMesh, colors: PointColors) -> None:
    """Set the texture of `surface` to `colors` at the centres of its texels; empty ones copy the nearest."""
    points, texels = texel_points(surface)
    size = len(surface.texture_logits)
    texture = points.weights.new_zeros(size * size, 3).index_copy(0, texels, colors(points).to(points.weights))
    covered = torch.zeros(size * size, dtype=torch.bool, device=texels.device)
    covered[texels] = True
    surface.set_texture(fill(texture.reshape(size, size, 3), covered.reshape(size, size)))


@torch.no_grad()
def texel_points(surface: TexturedMesh) -> tuple[SurfacePoints, Int[Tensor, " N"]]:
    """Return the surface's points at the centres of the texels that a face covers, and those texels (row-major)."""
    mesh, size = surface.mesh(), len(surface.texture_logits)
    depths = torch.ones_like(surface.uv[:, 0])
    u, v = surface.uv.unbind(-1)
    projected = Projected((torch.stack([u, 1.0 - v], dim=-1) * size)[None], depths[None], surface.uv_faces)
    seen = find_visible_faces(projected, (size, size), "auto").flatten()
    texels = (seen >= 0).nonzero()[:, 0]
    weights = locate(projected, seen[texels], texels, (size, size))[0]
    areas = surface.texel_areas()[seen[texels]]
    points = SurfacePoints(
        mesh=mesh, faces=seen[texels], weights=weights, views=torch.zeros_like(texels), face_pixels=areas
    )
    return points, texels


def fill(texture: Float[Tensor, "T T 3"], covered: Bool[Tensor, "T T"]) -> Float[Tensor, "T T 3"]:
    """Set each texel that is not covered to the nearest one that is."""
    rows, columns = ndimage.distance_transform_edt(~covered.cpu().numpy(), return_distances=False, return_indices=True)
    return texture[torch.from_numpy(rows).long(), torch.from_numpy(columns).long()]


def sample_image(image: Float[Tensor, "H W C"], pixels: Float[Tensor, "N 2"]) -> Float[Tensor, "N C"]:
    """Sample `image` at `pixels` (column, row), linear between the centres of pixels."""
    size = torch.tensor([image.shape[1], image.shape[0]]).to(pixels)
    grid = (2.0 * pixels / size - 1.0)[None, None]
    found = functional.grid_sample(image.permute(2, 0, 1)[None], grid, padding_mode="border", align_corners=False)
    return found[0, :, 0].T


def colors_from_views(
    mesh: Mesh,
    cameras: Cameras,
    images: Float[Tensor, "B H W 3"],
    *,
    unseen: float = 0.5,
) -> PointColors:
    """Colour points of `mesh` from `images` taken by `cameras`: a mean over views, weighted by cosine; or `unseen`.

    A view counts if it meets the surface at a cosine above `MIN_COSINE` and sees nothing more than `DEPTH_TOLERANCE`
    before the point.
    """
    config = RasterRendererConfig(antialias=False)
    blank = Mesh(vertices=mesh.vertices.detach(), faces=mesh.faces, colors=torch.zeros_like(mesh.vertices))
    render = render_surface(blank, cameras, images.new_zeros(len(cameras), 3), config=config)
    depths = torch.where(render.alpha > 0, render.depth, torch.inf)[..., 0]

    def colors(points: SurfacePoints) -> Float[Tensor, "N 3"]:
        positions, normals = points.positions, points.normals
        total = torch.zeros_like(positions[:, :1])
        summed = torch.zeros_like(positions)
        for view in range(len(cameras)):
            cosines = (functional.normalize(cameras.eyes[view].to(positions) - positions, dim=-1) * normals).sum(dim=-1)
            screen, along = (each[0] for each in cameras[view].project(positions))
            column, row = screen.floor().long().unbind(-1)
            values = sample_image(images[view].to(positions), screen)
            inside = (column >= 0) & (column < cameras.width) & (row >= 0) & (row < cameras.height)
            column, row = column.clamp(0, cameras.width - 1), row.clamp(0, cameras.height - 1)
            seen = inside & (cosines > MIN_COSINE) & (along < depths[view, row, column] + DEPTH_TOLERANCE)
            weights = torch.where(seen, cosines, 0.0)[:, None]
            summed = summed + weights * values
            total = total + weights
        return torch.where(total > 0, summed / total.clamp(min=1e-12), unseen)

    return colors
