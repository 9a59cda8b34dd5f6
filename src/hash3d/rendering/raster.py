"""Rasterise triangle meshes from cameras, differentiable in shape and colour."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.kernels import FieldBackend, find_kernels
from hash3d.ranges import expect_range
from hash3d.representations.mesh import Edges, Mesh, Surface, SurfacePoints

from . import _torch_raster
from ._torch_raster import Projected, barycentric, edge_functions, expand
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
        backend: What finds the visible faces. auto: a kernel, by numba on a CPU and on CUDA by Triton if it is
            installed; else torch.
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
    silhouettes (`hash3d.rendering.raster`), in what the colours depend on, and in `background`.
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
    kernels = find_kernels(backend, "hash3d.rendering", "raster", projected.depths)
    seen: Tensor = (kernels or _torch_raster).visible_faces(projected, size)
    return seen


def antialias(
    image: Float[Tensor, "H W C"], nearest: Float[Tensor, "H W"], projected: Projected, edges: Edges
) -> Float[Tensor, "H W C"]:
    """Blend the silhouettes of `image`, differentiable in `image` and in `projected.screen`, and so in the outlines.

    The blending of Laine et al. (2020), "Modular Primitives for High-Performance Differentiable Rendering", section
    3.6: where a silhouette edge passes between two pixel centres, the pixel that it reaches into takes a weight of the
    other, linear in the crossing. But crossings come from the silhouette edges, so none is lost on faces smaller than
    pixels, and horizontal pairs come before vertical ones, so results are means of the image. Edges steeper than 45
    degrees act on horizontal pairs, others on vertical ones: a mask sums to the length of a row inside the outline.

    `nearest` are depths at the pixel centres, infinite where nothing is seen; `edges` are those of the whole mesh.
    """
    visible, sides = silhouettes(projected, edges)
    ends = edges.vertices[visible]
    screen, depths, sides = projected.screen[ends], projected.depths[ends].detach(), sides[visible]
    steps = (screen[:, 1] - screen[:, 0]).detach().abs()
    steep = steps[:, 1] >= steps[:, 0]
    image = _blend_rows(image, nearest, screen[steep], depths[steep], sides[steep])
    # Columns are the rows of the transposed image, where left of an edge becomes right of it.
    turned = _blend_rows(image.transpose(0, 1), nearest.T, screen[~steep].flip(-1), depths[~steep], ~sides[~steep])
    return turned.transpose(0, 1)


def silhouettes(projected: Projected, edges: Edges) -> tuple[Bool[Tensor, " E"], Bool[Tensor, " E"]]:
    """Find the edges with all their faces on one side, and whether that is the right, from first to second vertex."""
    faces = projected.faces
    a, b, c = projected.screen.detach()[faces].unbind(1)
    (x1, y1), (x2, y2) = (b - a).unbind(-1), (c - a).unbind(-1)
    clockwise = x1 * y2 - x2 * y1 >= 0
    forward = faces.roll(-1, 1) < faces.roll(1, 1)
    right = (clockwise[:, None] == forward).flatten()
    has = torch.zeros(2, len(edges.vertices), dtype=torch.bool, device=faces.device)
    has[(~right).long(), edges.of_face[projected.rows].flatten()] = True
    return has[0] ^ has[1], has[0]


def _blend_rows(
    image: Float[Tensor, "H W C"],
    nearest: Float[Tensor, "H W"],
    screen: Float[Tensor, "S 2 2"],
    depths: Float[Tensor, "S 2"],
    right: Bool[Tensor, " S"],
) -> Float[Tensor, "H W C"]:
    """Blend the two pixels around each place where an edge crosses the centre line of a row."""
    height, width = nearest.shape
    edge, row, place, depth = _crossings(screen, depths, height)
    left = (place.detach() - 0.5).floor().long()
    # The faces lie left of an edge that goes down and has them on its right-hand side, and of one that goes up and has
    # them on its left.
    downward = screen.detach()[edge, 1, 1] > screen.detach()[edge, 0, 1]
    inner_left = downward == right[edge]
    inner, outer = row * width + left + (~inner_left).long(), row * width + left + inner_left.long()
    kept = ((left >= 0) & (left < width - 1)).nonzero()[:, 0]
    depth_in, depth_out = nearest.reshape(-1)[inner[kept]], nearest.reshape(-1)[outer[kept]]
    # The edge is seen if the outer pixel lies behind it, and the inner one belongs to it rather than to what is behind.
    kept = kept[(depth_out > depth[kept]) & (2.0 * depth_in < depth[kept] + depth_out)]
    offset = place - 0.5 - left
    reach = torch.where(inner_left, offset, 1.0 - offset)
    kept = kept[_outermost(inner[kept] * 2 + inner_left[kept], reach[kept].detach())]
    inner, outer, weight = inner[kept], outer[kept], (reach[kept] - 0.5)[:, None]
    source, target = torch.where(weight[:, 0] > 0, inner, outer), torch.where(weight[:, 0] > 0, outer, inner)
    flat = image.reshape(height * width, -1)
    return flat.index_add(0, target, weight.abs() * (flat[source] - flat[target])).reshape(image.shape)


def _crossings(
    screen: Float[Tensor, "S 2 2"], depths: Float[Tensor, "S 2"], height: int
) -> tuple[Int[Tensor, " M"], Int[Tensor, " M"], Float[Tensor, " M"], Float[Tensor, " M"]]:
    """Find the rows whose centre line an edge crosses (with its upper end, not its lower), the columns, the depths."""
    ends = screen[..., 1].detach()
    first = (ends.amin(dim=1) - 0.5).ceil().clamp(0, height).long()
    last = (ends.amax(dim=1) - 0.5).ceil().clamp(0, height).long()
    edge, row = expand(last - first)
    row = first[edge] + row
    (x0, y0), (x1, y1) = screen[edge, 0].unbind(-1), screen[edge, 1].unbind(-1)
    weight = (row + 0.5 - y0) / (y1 - y0)
    inverse = torch.lerp(1.0 / depths[edge, 0], 1.0 / depths[edge, 1], weight.detach())
    return edge, row, x0 + weight * (x1 - x0), 1.0 / inverse


def _outermost(pairs: Int[Tensor, " M"], reach: Float[Tensor, " M"]) -> Int[Tensor, " K"]:
    """Keep the crossing that reaches farthest out, for each pair of pixels that has one."""
    order = torch.argsort(reach, stable=True)
    order = order[torch.argsort(pairs[order], stable=True)]
    ordered = pairs[order]
    return order[torch.cat([ordered[1:] != ordered[:-1], ordered.new_ones(min(len(order), 1)).bool()])]
