"""Tetrahedra that fill a box, and marching tetrahedra, differentiable in values and positions (Shen et al. 2021)."""

import itertools
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .mesh import Mesh

TETRAHEDRON_EDGES = tuple(itertools.combinations(range(4), 2))
"""The six edges of a tetrahedron as pairs of its corners."""


def grid_vertices(resolution: int) -> Float[Tensor, "V 3"]:
    """Return the corners of `resolution` cells a side over the unit cube; the last axis runs fastest."""
    if resolution < 1:
        raise ValueError(f"Expected at least 1 cell a side, but got {resolution}. Give a higher resolution.")
    axis = torch.linspace(0.0, 1.0, resolution + 1)
    return torch.cartesian_prod(axis, axis, axis)


def grid_tetrahedra(resolution: int) -> Int[Tensor, "T 4"]:
    """Return six tetrahedra a cell as rows of `grid_vertices`, positively oriented: (b - a) x (c - a) . (d - a) > 0.

    Each has the corners of a path along the axes, in one of six orders, from the cell's first to its last (Freudenthal
    1942; Kuhn 1960): the cuts of two neighbours agree on their common face.
    """
    strides = torch.tensor([(resolution + 1) ** 2, resolution + 1, 1])
    first = (torch.cartesian_prod(*[torch.arange(resolution)] * 3) * strides).sum(dim=-1)
    paths = []
    for order in itertools.permutations(range(3)):
        path = torch.cat([torch.zeros(1, dtype=torch.int64), strides[list(order)].cumsum(0)])
        even = order in ((0, 1, 2), (1, 2, 0), (2, 0, 1))
        paths.append(path if even else path[[0, 2, 1, 3]])
    return (first[:, None, None] + torch.stack(paths)).reshape(-1, 4)


def marching_tetrahedra(
    vertices: Float[Tensor, "V 3"], values: Float[Tensor, " V"], tetrahedra: Int[Tensor, "T 4"]
) -> Mesh:
    """Extract the surface between vertices with values below 0 (inside) and the others.

    A vertex lies where the value, linear along its edge, is 0 (Shen et al. 2021, section 3.1). Faces are
    counter-clockwise from outside, and closed if no face at the grid's border has both signs.
    """
    inside = values < 0
    number = (inside[tetrahedra] * torch.tensor([1, 2, 4, 8], device=values.device)).sum(dim=-1)
    crossed = (number > 0) & (number < 15)
    corners = tetrahedra[crossed]
    table = _triangles().to(values.device)[number[crossed]]
    tetrahedron, triangle = (table[..., 0] >= 0).nonzero(as_tuple=True)
    ends = torch.tensor(TETRAHEDRON_EDGES, device=values.device)[table[tetrahedron, triangle]]
    ends = corners[tetrahedron].gather(1, ends.flatten(1)).reshape(-1, 2)
    count = vertices.shape[0]
    keys, faces = torch.unique(ends.amin(dim=-1) * count + ends.amax(dim=-1), return_inverse=True)
    a, b = keys // count, keys % count
    weight = (values[a] / (values[a] - values[b]))[:, None]
    return Mesh(vertices=vertices[a] + weight * (vertices[b] - vertices[a]), faces=faces.reshape(-1, 3))


@cache
def _triangles() -> Int[Tensor, "16 2 3"]:
    """Return the edges of a tetrahedron that carry the corners of the surface's triangles; -1 for no triangle.

    The row is the sum of 2^corner over the corners inside. Triangles face from the corners inside to those outside.
    """
    corners = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    table = torch.full((16, 2, 3), -1)
    for row in range(1, 15):
        inside = [corner for corner in range(4) if row >> corner & 1]
        outside = [corner for corner in range(4) if corner not in inside]
        ring = list(itertools.product(inside, outside))
        if len(ring) == 4:
            ring[2], ring[3] = ring[3], ring[2]
        middles = torch.stack([corners[list(pair)].mean(dim=0) for pair in ring])
        normal = torch.linalg.cross(middles[1] - middles[0], middles[2] - middles[0])
        if normal @ (corners[outside].mean(dim=0) - corners[inside].mean(dim=0)) < 0:
            ring.reverse()
        edges = [TETRAHEDRON_EDGES.index((min(pair), max(pair))) for pair in ring]
        for triangle in range(len(ring) - 2):
            table[row, triangle] = torch.tensor([edges[0], edges[triangle + 1], edges[triangle + 2]])
    return table
