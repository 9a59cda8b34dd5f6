"""Rasterise triangle meshes from cameras, differentiable in shape and colour."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.kernels import FieldBackend, find_kernels, uses_triton
from hash3d.ranges import expect_range
from hash3d.representations.mesh import Edges, Mesh, Surface, SurfacePoints, take
from hash3d.tensors import first_rows, spread_rows, to_device

from . import _torch_raster
from ._torch_raster import Projected, expand
from .base import Render
from .shading import Shading


@dataclass(frozen=True, kw_only=True)
class SurfaceRender(Render):
    """Images of a surface, and how many pixels of all views see it; with `room` on the device."""

    covered: int | Int[Tensor, ""]


RasterRenderer = Callable[..., SurfaceRender]
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


def render_surface(
    surface: Surface,
    cameras: Cameras,
    background: Float[Tensor, "B 3"] | Float[Tensor, "B H W 3"],
    *,
    shading: Shading | None = None,
    config: RasterRendererConfig | None = None,
    room: int | None = None,
) -> SurfaceRender:
    """Render `surface` from `cameras` over one colour or image a view, on the surface's device and in its dtype.

    A pixel has the colour of the nearest face at its centre, seen from either side. `shading` puts light on the
    colours, which are then albedo, with smooth normals. Differentiable in the vertices, by interpolation and
    silhouettes (`hash3d.rendering.raster`), in what the colours depend on, and in `background`.

    With `room` for so many covered pixels no GPU is waited for, as in a CUDA graph. Where more are covered, or the
    mesh has fewer rows than its `counts`, all colours are NaN.
    """
    config = config or RasterRendererConfig()
    shape = (len(cameras), cameras.height, cameras.width, 3)
    if background.shape not in ((len(cameras), 3), shape):
        raise ValueError(
            f"Expected one background colour for each of {len(cameras)} views, shape ({len(cameras)}, 3), or an "
            f"image, shape {shape}, but got {tuple(background.shape)}. Pass background.expand(len(cameras), 3)."
        )
    mesh = surface.mesh()
    projected = project(mesh, cameras, config.near)
    with torch.no_grad():
        seen = find_visible_faces(projected, (cameras.width, cameras.height), config.backend).flatten()
    pixels, places, covered = _covered_pixels(seen, room)
    points, depths = _locate(mesh, projected, seen[pixels], pixels, cameras, config.backend)
    colors = surface.colors_at(points)
    if shading is not None:
        colors = shading(colors, points.positions, points.normals if shading.needs_normals else None, points.views)
    values = torch.cat([colors, depths[:, None], torch.ones_like(depths)[:, None]], dim=-1)
    image = values.new_zeros(len(seen) + 1, 5).index_copy_(0, places, values)[:-1].reshape(*shape[:3], 5)
    if config.antialias:
        nearest = image[..., 3].detach().masked_fill(image[..., 4] <= 0, torch.inf)
        image = antialias(image, nearest, projected, mesh.edges, config.backend)
    color, depth, alpha = image.split([3, 1, 1], dim=-1)
    behind = (background if background.dim() == 4 else background[:, None, None]).to(image)
    color = color + (1.0 - alpha) * behind
    if room is not None:
        color = color.masked_fill(_is_short(mesh, covered, room), torch.nan)
    return SurfaceRender(color=color, alpha=alpha, depth=depth, covered=covered)


def _covered_pixels(
    seen: Int[Tensor, " N"], room: int | None
) -> tuple[Int[Tensor, " P"], Int[Tensor, " P"], int | Int[Tensor, ""]]:
    """Find the pixels that see a face, where their values go among N + 1 rows, and their number.

    With `room` for P, some of them come again, spread over all, in order, and then go to the last row, as do pixels
    where none sees a face.
    """
    if room is None:
        pixels = (seen >= 0).nonzero()[:, 0]
        return pixels, pixels, len(pixels)
    rows, order = first_rows(seen >= 0, room)
    spread, new = spread_rows(order[-1].clamp(max=room), room)
    pixels = rows[spread]
    return pixels, pixels.masked_fill(~new, len(seen)), order[-1]


def _is_short(mesh: Mesh, covered: int | Int[Tensor, ""], room: int) -> Bool[Tensor, ""]:
    """Whether there are fewer rows than pixels, vertices or faces."""
    short = torch.as_tensor(covered) > room
    if mesh.counts is not None:
        short = short | (mesh.counts[0] > len(mesh.vertices)) | (mesh.counts[1] > len(mesh))
    return short


def project(mesh: Mesh, cameras: Cameras, near: float) -> Projected:
    """Project `mesh` to the images of all cameras; vertices closer than the near plane have no place there."""
    like = mesh.vertices
    viewmats, intrinsics = to_device(cameras.viewmats, like), to_device(cameras.K, like)
    local = like @ viewmats[:, :3, :3].mT + viewmats[:, None, :3, 3]
    place, depths = local.split([2, 1], dim=-1)
    behind = ~(depths >= near)
    depths = depths.masked_fill(behind, near)
    focal, centre = intrinsics.diagonal(dim1=1, dim2=2)[:, None, :2], intrinsics[:, None, :2, 2]
    screen = place / depths * focal + centre
    return Projected(screen.masked_fill(behind, torch.nan), depths[..., 0], mesh.faces)


def _locate(
    mesh: Mesh,
    projected: Projected,
    faces: Int[Tensor, " N"],
    pixels: Int[Tensor, " N"],
    cameras: Cameras,
    backend: FieldBackend,
) -> tuple[SurfacePoints, Float[Tensor, " N"]]:
    """Find the points of `faces` that pixels of all views (row-major) see, and their depths."""
    size = (cameras.width, cameras.height)
    if uses_triton(backend, projected.depths):
        from . import _triton_raster

        weights, depths, areas = _triton_raster.locate(projected, faces, pixels, size)
    else:
        weights, depths, areas = _torch_raster.locate(projected, faces, pixels, size)
    views, faces = pixels // (cameras.width * cameras.height), faces.clamp(min=0)
    return SurfacePoints(mesh=mesh, faces=faces, weights=weights, views=views, face_pixels=areas), depths


def find_visible_faces(projected: Projected, size: tuple[int, int], backend: FieldBackend) -> Int[Tensor, "B H W"]:
    """Compute `visible_faces` by the backend that suits the device; `ValueError` if an explicit one cannot run."""
    kernels = find_kernels(backend, "hash3d.rendering", "raster", projected.depths)
    seen: Tensor = (kernels or _torch_raster).visible_faces(projected, size)
    return seen


def antialias(
    image: Float[Tensor, "B H W C"],
    nearest: Float[Tensor, "B H W"],
    projected: Projected,
    edges: Edges,
    backend: FieldBackend = "torch",
) -> Float[Tensor, "B H W C"]:
    """Blend the silhouettes of `image`, differentiable in `image` and in `projected.screen`, and so in the outlines.

    The blending of Laine et al. (2020), "Modular Primitives for High-Performance Differentiable Rendering", section
    3.6: where a silhouette edge passes between two pixel centres, the pixel that it reaches into takes a weight of the
    other, linear in the crossing. But crossings come from the silhouette edges, so none is lost on faces smaller than
    pixels, and horizontal pairs come before vertical ones, so results are means of the image. Edges steeper than 45
    degrees act on horizontal pairs, others on vertical ones: a mask sums to the length of a row inside the outline.

    `nearest` are depths at the pixel centres, infinite where nothing is seen; `edges` are those of the whole mesh.
    """
    if uses_triton(backend, image):
        from . import _triton_antialias

        blended: Tensor = _triton_antialias.antialias(image, nearest, projected, edges.vertices, edges.of_face)
        return blended
    visible, sides = silhouettes(projected, edges)
    view, edge = visible.nonzero(as_tuple=True)
    ends = edges.vertices[edge] + (view * projected.depths.shape[1])[:, None]
    screen, depths = take(projected.screen.flatten(0, 1), ends), projected.depths.detach().flatten()[ends]
    sides = sides[visible]
    steps = (screen[:, 1] - screen[:, 0]).detach().abs()
    steep, flat = (((steps[:, 1] >= steps[:, 0]) == each).nonzero()[:, 0] for each in (True, False))
    image = _blend(image, nearest, view[steep], take(screen, steep), depths[steep], sides[steep])
    # Columns are the rows of the transposed image, where left of an edge becomes right of it.
    turned = take(screen, flat).flip(-1)
    return _blend(image, nearest, view[flat], turned, depths[flat], ~sides[flat], columns=True)


def silhouettes(projected: Projected, edges: Edges) -> tuple[Bool[Tensor, "B E"], Bool[Tensor, "B E"]]:
    """Find the edges with all their faces on one side, and whether that is the right, from first to second vertex."""
    faces, count = projected.faces, len(edges.vertices)
    a, b, c = projected.screen.detach().index_select(1, faces.flatten()).unflatten(1, (-1, 3)).unbind(2)
    (x1, y1), (x2, y2) = (b - a).unbind(-1), (c - a).unbind(-1)
    area = x1 * y2 - x2 * y1
    forward = faces.roll(-1, 1) < faces.roll(1, 1)
    left = (area >= 0)[..., None] != forward
    has = torch.zeros(len(area), 2 * count + 1, dtype=torch.bool, device=faces.device)
    places = (edges.of_face + count * left).masked_fill(area.isnan()[..., None], 2 * count)
    has = has.scatter_(1, places.flatten(1), True)
    return has[:, :count] ^ has[:, count:-1], has[:, :count]


def _blend(
    image: Float[Tensor, "B H W C"],
    nearest: Float[Tensor, "B H W"],
    view: Int[Tensor, " S"],
    screen: Float[Tensor, "S 2 2"],
    depths: Float[Tensor, "S 2"],
    right: Bool[Tensor, " S"],
    columns: bool = False,
) -> Float[Tensor, "B H W C"]:
    """Blend the two pixels around each place where an edge crosses the centre line of a row, or of a column."""
    _, height, width = nearest.shape
    across, down = (height, width) if columns else (width, height)
    step, stride = (width, 1) if columns else (1, width)
    edge, row, place, depth = _crossings(screen, depths, down)
    left = (place.detach() - 0.5).floor().long()
    # The faces lie left of an edge that goes down and has them on its right-hand side, and of one that goes up and has
    # them on its left.
    downward = screen.detach()[edge, 1, 1] > screen.detach()[edge, 0, 1]
    inner_left = downward == right[edge]
    pixel = view[edge] * (height * width) + row * stride + left * step
    inner, outer = pixel + step * ~inner_left, pixel + step * inner_left
    kept = ((left >= 0) & (left < across - 1)).nonzero()[:, 0]
    depth_in, depth_out = nearest.reshape(-1)[inner[kept]], nearest.reshape(-1)[outer[kept]]
    # The edge is seen if the outer pixel lies behind it, and the inner one belongs to it rather than to what is behind.
    kept = kept[(depth_out > depth[kept]) & (2.0 * depth_in < depth[kept] + depth_out)]
    offset = place - 0.5 - left
    reach = torch.where(inner_left, offset, 1.0 - offset)
    kept = kept[_outermost(inner[kept] * 2 + inner_left[kept], reach[kept].detach())]
    inner, outer, weight = inner[kept], outer[kept], (take(reach, kept) - 0.5)[:, None]
    source, target = torch.where(weight[:, 0] > 0, inner, outer), torch.where(weight[:, 0] > 0, outer, inner)
    flat = image.reshape(-1, image.shape[-1])
    return flat.index_add(0, target, weight.abs() * (take(flat, source) - take(flat, target))).reshape(image.shape)


def _crossings(
    screen: Float[Tensor, "S 2 2"], depths: Float[Tensor, "S 2"], height: int
) -> tuple[Int[Tensor, " M"], Int[Tensor, " M"], Float[Tensor, " M"], Float[Tensor, " M"]]:
    """Find the rows whose centre line an edge crosses (with its upper end, not its lower), the columns, the depths."""
    ends = screen[..., 1].detach()
    first = (ends.amin(dim=1) - 0.5).ceil().clamp(0, height).long()
    last = (ends.amax(dim=1) - 0.5).ceil().clamp(0, height).long()
    edge, row = expand(last - first)
    row = first[edge] + row
    (x0, y0), (x1, y1) = (end.unbind(-1) for end in take(screen, edge).unbind(1))
    weight = (row + 0.5 - y0) / (y1 - y0)
    inverse = torch.lerp(1.0 / depths[edge, 0], 1.0 / depths[edge, 1], weight.detach())
    return edge, row, x0 + weight * (x1 - x0), 1.0 / inverse


def _outermost(pairs: Int[Tensor, " M"], reach: Float[Tensor, " M"]) -> Int[Tensor, " K"]:
    """Keep the crossing that reaches farthest out, for each pair of pixels that has one."""
    order = torch.argsort(reach, stable=True)
    order = order[torch.argsort(pairs[order], stable=True)]
    ordered = pairs[order]
    return order[torch.cat([ordered[1:] != ordered[:-1], ordered.new_ones(min(len(order), 1)).bool()])]
