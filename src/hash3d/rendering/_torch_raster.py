"""Find the face that each pixel sees, in plain PyTorch: the reference implementation, and the backend on a CPU.

Each face is tried at the pixels of its bounding box, all faces at once. Both sides of a face are visible.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hash3d.representations.mesh import take

BLOCK_ELEMENTS = 4_000_000
"""Most pairs of a face and a pixel of one block."""


class Projected(NamedTuple):
    """A mesh in B views: pixels (column, row) and depths along z of its vertices, and its faces.

    A vertex nearer than the near plane is at NaN; faces with such a corner are seen nowhere.
    """

    screen: Float[Tensor, "B V 2"]
    depths: Float[Tensor, "B V"]
    faces: Int[Tensor, "F 3"]


def locate(
    projected: Projected, faces: Int[Tensor, " N"], pixels: Int[Tensor, " N"], size: tuple[int, int]
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Return for the points of faces that pixels of all views (row-major) see their weights, depths and `face_pixels`.

    Differentiable, but for the last. A pixel that sees no face, -1, has weights of 0 and a depth of 1.
    """
    width, height = size
    view, place = pixels // (width * height), pixels % (width * height)
    rows = projected.faces[faces.clamp(min=0)] + (view * projected.depths.shape[1])[:, None]
    corners, nothing = take(projected.screen.flatten(0, 1), rows), (faces < 0)[:, None]
    corners = corners.masked_fill(nothing[..., None], 0.0)
    centres = torch.stack([place % width, place // width], dim=-1).to(corners) + 0.5
    depths = take(projected.depths.flatten(), rows).masked_fill(nothing, 1.0)
    weights, depths = barycentric(corners, depths, centres)
    return weights, depths, 0.5 * edge_functions(corners.detach()).sum(dim=-1).abs()


def barycentric(
    corners: Float[Tensor, "*N 3 2"], depths: Float[Tensor, "*N 3"], pixels: Float[Tensor, "*N 2"]
) -> tuple[Float[Tensor, "*N 3"], Float[Tensor, "*N"]]:
    """Return the barycentric coordinates on a face of the points that pixels see, and their depths.

    The areas e_i in the image (Pineda 1988) become e_i / z_i over their sum in space (Heckbert and Moreton 1991).
    """
    relative = corners - pixels[..., None, :]
    weights = edge_functions(relative)
    area = weights.sum(dim=-1, keepdim=True)
    inverse = weights / torch.where(area == 0, 1.0, area) / depths
    total = inverse.sum(dim=-1, keepdim=True)
    total = torch.where(total == 0, 1.0, total)
    return inverse / total, 1.0 / total[..., 0]


def visible_faces(projected: Projected, size: tuple[int, int]) -> Int[Tensor, "B H W"]:
    """Return the row of `projected.faces` nearest at each pixel centre, -1 for none; equal depths: the lowest row.

    A pixel centre on an edge belongs to the faces on both sides, whose edge functions differ in the sign alone.
    """
    views = zip(projected.screen, projected.depths, strict=True)
    return torch.stack([_see(screen, depths, projected.faces, size) for screen, depths in views])


def _see(
    screen: Float[Tensor, "V 2"], depths: Float[Tensor, " V"], faces: Int[Tensor, "F 3"], size: tuple[int, int]
) -> Int[Tensor, "H W"]:
    """Compute `visible_faces` of one view."""
    width, height = size
    nearest = torch.full((width * height,), torch.inf, dtype=depths.dtype, device=depths.device)
    face_of = torch.full((width * height,), len(faces), dtype=torch.int64, device=depths.device)
    corners = screen[faces]
    # The first pixel centre at or after the least coordinate, and the first one after the greatest.
    limit = torch.tensor([width, height], device=depths.device)
    first = (corners.amin(dim=1) - 0.5).ceil().clamp(min=0).minimum(limit).long()
    last = (corners.amax(dim=1) + 0.5).floor().clamp(min=0).minimum(limit).long()
    spans = torch.where(corners.isfinite().all(dim=1), (last - first).clamp(min=0), 0)
    counts = spans.prod(dim=-1)
    for rows in _blocks(counts):
        face, pixel, depth = _covered(corners, depths[faces], rows, first, spans, counts, width)
        before = nearest
        nearest = before.scatter_reduce(0, pixel, depth, "amin")
        face_of = torch.where(nearest < before, len(faces), face_of)
        wins = depth == nearest[pixel]
        face_of = face_of.scatter_reduce(0, pixel[wins], face[wins], "amin")
    return torch.where(nearest.isfinite(), face_of, -1).reshape(height, width)


def _blocks(counts: Int[Tensor, " F"]) -> list[Int[Tensor, " M"]]:
    """Split the faces that have pixels to try into groups of about `BLOCK_ELEMENTS` pixels."""
    rows = (counts > 0).nonzero()[:, 0]
    if not len(rows):
        return []
    groups = counts[rows].cumsum(0) // BLOCK_ELEMENTS
    return list(rows.split(torch.unique_consecutive(groups, return_counts=True)[1].tolist()))


def _covered(
    corners: Float[Tensor, "F 3 2"],
    depths: Float[Tensor, "F 3"],
    rows: Int[Tensor, " M"],
    first: Int[Tensor, "F 2"],
    spans: Int[Tensor, "F 2"],
    counts: Int[Tensor, " F"],
    width: int,
) -> tuple[Int[Tensor, " P"], Int[Tensor, " P"], Float[Tensor, " P"]]:
    """Return the faces of `rows`, the pixels whose centres they cover, and the depths there."""
    face, place = expand(counts[rows])
    face = rows[face]
    across = spans[face, 0]
    column, row = first[face, 0] + place % across, first[face, 1] + place // across
    pixels = torch.stack([column, row], dim=-1).to(corners) + 0.5
    areas = edge_functions(corners[face] - pixels[:, None])
    covered = (((areas >= 0).all(dim=-1)) | ((areas <= 0).all(dim=-1))) & (areas.sum(dim=-1) != 0)
    face = face[covered]
    depth = barycentric(corners[face], depths[face], pixels[covered])[1]
    return face, (row * width + column)[covered], depth


def edge_functions(corners: Float[Tensor, "*N 3 2"]) -> Float[Tensor, "*N 3"]:
    """Return twice the signed areas between the origin and two corners; swapping those changes the sign alone."""
    x, y = corners.unbind(-1)
    next_x, next_y, last_x, last_y = x.roll(-1, -1), y.roll(-1, -1), x.roll(1, -1), y.roll(1, -1)
    return next_x * last_y - last_x * next_y


def expand(counts: Int[Tensor, " N"]) -> tuple[Int[Tensor, " M"], Int[Tensor, " M"]]:
    """Repeat item n `counts[n]` times: return the item, and the index among its copies."""
    items = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    starts = counts.cumsum(0) - counts
    return items, torch.arange(len(items), device=counts.device) - starts[items]
