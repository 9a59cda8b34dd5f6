"""Rasterise triangle meshes from cameras, differentiable in shape and colour."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.kernels import FieldBackend, uses_triton
from hash3d.ranges import expect_range
from hash3d.representations.mesh import Mesh, Surface, SurfacePoints

from ._torch_raster import Projected, barycentric, edge_functions, visible_faces
from .antialias import antialias
from .base import Render
from .shading import Shading

RasterRenderer = Callable[..., Render]
"""`render_surface` with its configuration fixed."""


@dataclass(frozen=True, kw_only=True)
class RasterRendererConfig:
    """Constants of the rasteriser.

    Args:
        near: Faces with a corner closer than this along the camera's z axis (scene units) are left out.
        antialias: Blend pixels across silhouettes. Without it no outline has a gradient.
        backend: What finds the visible faces. auto: Triton's kernel on CUDA if Triton is installed, else torch.
    """

    near: float = 0.01
    antialias: bool = True
    backend: FieldBackend = "auto"

    def __post_init__(self) -> None:
        expect_range(self, "near", above=0)

    def build(self) -> "RasterRenderer":
        """Return `render_surface` with these constants."""
        return partial(render_surface, config=self)


@dataclass(frozen=True)
class _View:
    """What one camera sees: the projected mesh, the pixels (row-major) that see a face, the points and depths there."""

    projected: Projected
    pixels: Int[Tensor, " N"]
    points: SurfacePoints
    depths: Float[Tensor, " N"]


def render_surface(
    surface: Surface,
    cameras: Cameras,
    background: Float[Tensor, "B 3"] | Float[Tensor, "B H W 3"],
    *,
    shading: Shading | None = None,
    config: RasterRendererConfig | None = None,
) -> Render:
    """Render `surface` from `cameras` over one colour or image a view, on the surface's device and in its dtype.

    A pixel has the colour of the nearest face at its centre, seen from either side. `shading` puts light on the
    colours, which are then albedo, with smooth normals. Differentiable in the vertices, by interpolation and
    silhouettes (`hash3d.rendering.antialias`), in what the colours depend on, and in `background`.
    """
    config = config or RasterRendererConfig()
    shape = (len(cameras), cameras.height, cameras.width, 3)
    if background.shape not in ((len(cameras), 3), shape):
        raise ValueError(
            f"Expected one background colour for each of {len(cameras)} views, shape ({len(cameras)}, 3), or an "
            f"image, shape {shape}, but got {tuple(background.shape)}. Pass background.expand(len(cameras), 3)."
        )
    mesh = surface.mesh()
    views = [_see(mesh, cameras, index, config) for index in range(len(cameras))]
    points = SurfacePoints(
        mesh=mesh,
        **{
            name: torch.cat([getattr(view.points, name) for view in views])
            for name in ("faces", "weights", "views", "face_pixels")
        },
    )
    colors = surface.colors_at(points)
    if shading is not None:
        colors = shading(colors, points.positions, points.normals if shading.needs_normals else None, points.views)
    parts = colors.split([len(view.pixels) for view in views])
    size = (cameras.width, cameras.height)
    image = torch.stack([_paint(view, part, size, config) for view, part in zip(views, parts, strict=True)])
    alpha = image[..., 4:]
    behind = (background if background.dim() == 4 else background[:, None, None]).to(image)
    color = image[..., :3] + (1.0 - alpha) * behind
    return Render(color=color, alpha=alpha, depth=image[..., 3:4])


def project(mesh: Mesh, cameras: Cameras, near: float) -> Projected:
    """Project `mesh` to the image of a single camera, and keep the faces that lie wholly behind the near plane."""
    like = mesh.vertices
    viewmat, intrinsic = cameras.viewmats[0].to(like), cameras.K[0].to(like)
    local = like @ viewmat[:3, :3].T + viewmat[:3, 3]
    in_front = local[:, 2] >= near
    depths = torch.where(in_front, local[:, 2], near)
    screen = local[:, :2] / depths[:, None] * intrinsic.diagonal()[:2] + intrinsic[:2, 2]
    rows = in_front[mesh.faces].all(dim=-1).nonzero()[:, 0]
    return Projected(screen, depths, mesh.faces[rows], rows)


def _see(mesh: Mesh, cameras: Cameras, view: int, config: RasterRendererConfig) -> _View:
    """Find the faces that one camera sees, and where each pixel's ray meets its face."""
    projected = project(mesh, cameras[view], config.near)
    size = (cameras.width, cameras.height)
    with torch.no_grad():
        seen = find_visible_faces(projected, size, config.backend).flatten()
    pixels = (seen >= 0).nonzero()[:, 0]
    faces = projected.faces[seen[pixels]]
    corners = projected.screen[faces]
    centres = torch.stack([pixels % cameras.width, pixels // cameras.width], dim=-1).to(corners) + 0.5
    weights, depths = barycentric(corners, projected.depths[faces], centres)
    points = SurfacePoints(
        mesh=mesh,
        faces=projected.rows[seen[pixels]],
        weights=weights,
        views=torch.full_like(pixels, view),
        face_pixels=0.5 * edge_functions(corners.detach()).sum(dim=-1).abs(),
    )
    return _View(projected, pixels, points, depths)


def _paint(
    view: _View, colors: Float[Tensor, "N 3"], size: tuple[int, int], config: RasterRendererConfig
) -> Float[Tensor, "H W 5"]:
    """Return red, green, blue, depth and alpha, 0 where no face covers the pixel."""
    width, height = size
    values = torch.cat([colors, view.depths[:, None], torch.ones_like(view.depths)[:, None]], dim=-1)
    image = values.new_zeros(height * width, 5).index_copy(0, view.pixels, values).reshape(height, width, 5)
    if not config.antialias:
        return image
    nearest = torch.where(image[..., 4] > 0, image[..., 3], torch.inf).detach()
    return antialias(image, nearest, view.projected, view.points.mesh.edges)


def find_visible_faces(projected: Projected, size: tuple[int, int], backend: FieldBackend) -> Int[Tensor, "H W"]:
    """Compute `visible_faces` by the backend that suits the device; `ValueError` if an explicit one cannot run."""
    if uses_triton(backend, projected.depths):
        from ._triton_raster import visible_faces_triton

        return visible_faces_triton(projected, size)
    return visible_faces(projected, size)
