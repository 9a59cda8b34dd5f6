"""A start without a prior: the largest shape that fits the silhouettes of an object, carved out of a grid.

Laurentini (1994), "The Visual Hull Concept for Silhouette-Based Image Understanding".
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.representations.point_start import PointStart

UNSEEN_WEIGHT = 1e-6
"""Weight of a view from which a point is hidden: it counts only for points that no view sees."""


def grid_points(resolution: int, radius: float) -> Float[Tensor, "R R R 3"]:
    """Centres of the cells of a grid over the cube [-radius, radius]^3, indexed by x, y, z."""
    axis = (torch.arange(resolution) + 0.5) * (2.0 * radius / resolution) - radius
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)


def carve(masks: Bool[Tensor, "V H W"], cameras: Cameras, resolution: int, radius: float) -> Bool[Tensor, "R R R"]:
    """The cells of the grid whose centre is inside all V silhouettes.

    Objects lie wholly inside the pictures: what falls beside a picture or behind a camera is carved away.
    """
    _check(masks, cameras)
    points = grid_points(resolution, radius).reshape(-1, 3)
    inside = torch.ones(len(points), dtype=torch.bool)
    for view, mask in enumerate(masks):
        left = inside.nonzero()[:, 0]
        pixels, _, seen = project(points[left], cameras[view])
        inside[left] = seen & mask.flatten()[pixels]
    return inside.reshape(resolution, resolution, resolution)


def visual_hull(
    images: Float[Tensor, "V H W 3"],
    masks: Bool[Tensor, "V H W"],
    cameras: Cameras,
    *,
    resolution: int = 64,
    radius: float = 0.5,
) -> PointStart:
    """The surface of the carved shape: the centres of its outermost cells, in scene units.

    A point has the mean colour of the pixels on which it is the nearest; one that no view sees, that of all its pixels.

    Raises:
        ValueError: the pictures and cameras do not match, or no cell is inside all silhouettes.
    """
    cells = carve(masks, cameras, resolution, radius)
    if not bool(cells.any()):
        raise ValueError("Expected silhouettes of one object, but they have nothing in common. Check the cameras.")
    points = grid_points(resolution, radius)[_outermost(cells)]
    colors, weights = torch.zeros_like(points), torch.zeros(len(points), 1)
    for view, image in enumerate(images):
        pixels, depths, _ = project(points, cameras[view])
        nearest = _nearest_depths(pixels, depths, cameras[view], cell=2.0 * radius / resolution)
        weight = torch.where(depths <= nearest, 1.0, UNSEEN_WEIGHT)[:, None]
        colors += weight * image.reshape(-1, 3)[pixels]
        weights += weight
    return PointStart(points=points, colors=(colors / weights).clamp(0.0, 1.0))


def project(
    points: Float[Tensor, "N 3"], camera: Cameras
) -> tuple[Int[Tensor, " N"], Float[Tensor, " N"], Bool[Tensor, " N"]]:
    """Where one camera sees points: pixel (row * width + column), depth in scene units, and whether it is in view."""
    local = points @ camera.viewmats[0, :3, :3].T + camera.viewmats[0, :3, 3]
    depths = local[:, 2]
    places = (local @ camera.K[0].T)[:, :2] / depths.clamp(min=1e-6)[:, None]
    columns, rows = places.floor().clamp(-1, max(camera.width, camera.height)).long().unbind(-1)
    seen = (depths > 0.0) & (columns >= 0) & (columns < camera.width) & (rows >= 0) & (rows < camera.height)
    return torch.where(seen, rows * camera.width + columns, 0), depths, seen


def _nearest_depths(
    pixels: Int[Tensor, " N"], depths: Float[Tensor, " N"], camera: Cameras, cell: float
) -> Float[Tensor, " N"]:
    """For each point the depth up to which a point on its pixel is seen.

    Cells of the grid may be larger than pixels and let the far side shine through, so the nearest depth is taken over
    all pixels that a cell covers, and a point may lie two cells behind it.
    """
    buffer = torch.full((camera.height * camera.width,), torch.inf)
    buffer.scatter_reduce_(0, pixels, depths, reduce="amin")
    reach = min(int(cell * camera.K[0, 0, 0] / depths.min()) + 1, camera.width)
    picture = -buffer.reshape(1, 1, camera.height, camera.width)
    nearest = -torch.nn.functional.max_pool2d(picture, 2 * reach + 1, stride=1, padding=reach)
    return nearest.flatten()[pixels] + 2.0 * cell


def _outermost(cells: Bool[Tensor, "R R R"]) -> Bool[Tensor, "R R R"]:
    """The cells of a shape that have a side free."""
    from scipy import ndimage

    return cells & ~torch.from_numpy(ndimage.binary_erosion(cells.numpy()))


def _check(masks: Bool[Tensor, "V H W"], cameras: Cameras) -> None:
    expected = (len(cameras), cameras.height, cameras.width)
    if tuple(masks.shape) != expected:
        raise ValueError(f"Expected masks of shape {expected} to match the cameras, but got {tuple(masks.shape)}.")
