"""Antialias silhouettes, which gives an image a gradient with respect to its outlines.

The blending of Laine et al. (2020), "Modular Primitives for High-Performance Differentiable Rendering", section 3.6:
where a silhouette edge passes between two pixel centres, the pixel that it reaches into takes a weight of the other,
linear in the crossing. But crossings come from the silhouette edges, so none is lost on faces smaller than pixels, and
horizontal pairs come before vertical ones, so results are means of the image. Edges steeper than 45 degrees act on
horizontal pairs, others on vertical ones: a mask sums to the length of a row inside the outline.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hash3d.representations.mesh import Edges

from ._torch_raster import Projected, expand


def antialias(
    image: Float[Tensor, "H W C"], nearest: Float[Tensor, "H W"], projected: Projected, edges: Edges
) -> Float[Tensor, "H W C"]:
    """Blend the silhouettes of `image`, differentiable in `image` and in `projected.screen`.

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
    of_face = edges.of_face[projected.rows].flatten()
    has[0, of_face[right]] = True
    has[1, of_face[~right]] = True
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
