"""A mesh of variable topology: signed values and small offsets on a grid of tetrahedra (Shen et al. 2021, "DMTet").

Marching tetrahedra is differentiable in the values and in the positions.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from hash3d.ranges import expect_range
from hash3d.tensors import first_rows

from .mesh import Mesh, SurfacePoints, fill_rows, grown_box, take
from .optimizer import ParameterGroup, Trainable

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
    vertices: Float[Tensor, "V 3"], values: Float[Tensor, " V"], room: tuple[int, int] | None = None
) -> Mesh:
    """Extract the surface between vertices with values below 0 (inside) and the others.

    The vertices are those of `grid_vertices`, moved or not; values at the grid's border must not be below 0. A vertex
    lies where the value, linear along its edge, is 0 (Shen et al. 2021, section 3.1). The surface is closed, and its
    faces are counter-clockwise from outside. The host waits once for a GPU.

    With `room` for vertices and faces, an even number, it does not wait: the mesh has so many rows, and `counts`.
    Further vertices repeat the others, further faces have no area; where the counts are larger, the rest is missing.
    """
    grid, count = _cells(round(len(values) ** (1 / 3)), values.device), len(values)
    # An edge has the number of its first vertex times 7, plus that of its direction. What wraps around the grid's end
    # lies on the border, outside.
    inside = functional.pad(values < 0, (0, grid.steps[-1]))
    corners = torch.stack([inside[step : step + count] for step in grid.steps], dim=-1)
    crossed = (corners[:, 1:] != corners[:, :1]).flatten()
    number = (corners.float() @ grid.powers).long()
    wanted, counts = grid.used.index_select(0, number).flatten(), None
    if room is None:
        order = crossed.cumsum(0)
        num_edges, num_faces = torch.stack([order[-1], wanted.sum()]).tolist()
        edges = torch.nonzero_static(crossed, size=num_edges)[:, 0]
        rows = torch.nonzero_static(wanted, size=num_faces)[:, 0]
    else:
        edges, order = first_rows(crossed, room[0])
        rows, found = first_rows(wanted, room[1])
        counts = torch.stack([order[-1], found[-1]])
    cell, triangle = rows // 12, rows % 12
    faces = order[7 * cell[:, None] + grid.triangles[number[cell], triangle]] - 1
    if counts is not None:
        edges, faces = fill_rows(edges, faces, counts)
    first = edges // 7
    ends = torch.stack([first, first + grid.reach[edges % 7]])
    (a, b), (start, end) = take(values, ends), take(vertices, ends)
    difference = (a - b).masked_fill(a == b, 1.0)  # No edge is crossed.
    moved = start + (a / difference)[:, None] * (end - start)
    return Mesh(vertices=moved, faces=faces, closed=True, counts=counts)


class _Cells(NamedTuple):
    """What the cells of a grid have in common; the corners of a cell are numbered by the sums of 4 x, 2 y and z.

    `steps` lead from a cell's first corner to each in the list of vertices, `reach` has those of the 7 directions of
    edges. `powers` make the number of a cell, in which bit n is that corner n is inside; `triangles` are the edges that
    carry the corners of its at most 12 triangles, relative to the first corner's, where they are `used`.
    """

    steps: list[int]
    reach: Int[Tensor, "7"]
    powers: Float[Tensor, "8"]
    triangles: Int[Tensor, "256 12 3"]
    used: Bool[Tensor, "256 12"]


@cache
def _cells(side: int, device: torch.device) -> _Cells:
    """Compute them for a grid of `side` vertices along each axis."""
    steps = torch.cartesian_prod(*(torch.tensor([0, step]) for step in (side**2, side, 1))).sum(dim=-1)
    powers = 2 ** torch.arange(8)
    inside = torch.arange(256)[:, None] & powers != 0
    tetrahedra = grid_tetrahedra(1)
    rows = _triangles()[(inside[:, tetrahedra] * powers[:4]).sum(dim=-1)]
    first, last = tetrahedra[:, torch.tensor(TETRAHEDRON_EDGES)].aminmax(dim=-1)
    numbers = 7 * steps[first] + last - first - 1
    triangles = numbers[torch.arange(6)[:, None, None], rows].reshape(256, 12, 3)
    used = (rows[..., 0] >= 0).reshape(256, 12)
    tables = (steps[1:], powers.float(), triangles, used)
    return _Cells(steps.tolist(), *(each.to(device) for each in tables))


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


PointFunction = Callable[[Float[Tensor, "N 3"]], Tensor]
"""From world positions in scene units to one value each, "N" or "N 1", or one colour, "N 3"."""

QUERY_POINTS = 65_536
"""Points of one query of a field."""
BORDER_VALUE = 1e-3
"""Least value at the box's border: no surface leaves the box, so every surface is closed."""
EMPTY_DENSITY = 1e-5
"""Densities up to this do not count in the level "auto"."""
Level = float | Literal["auto", "opaque"]
"""The density at a surface, see `choose_level`."""


@dataclass(frozen=True, kw_only=True)
class DmtetMeshConfig:
    """The grid, its initialisation and learning rates; the defaults are threestudio's Magic123, second stage.

    Args:
        resolution: Cells along each side of the box. 64 give 274,625 vertices, about as many as threestudio's grid 128.
        radius: Half of a side of the box around the origin, in scene units, which the first surface tightens.
        max_offset: Farthest that a vertex moves along each axis, in cells (as in threestudio: 1/128 of the box at 64).
        values_lr: Learning rate of the signed values (0.01 in Magic3D, as for the other two).
        offsets_lr: Learning rate of the offsets, before the hyperbolic tangent.
        colors_lr: Learning rate of the colour field.
        adam_eps: Adam's epsilon.
    """

    resolution: int = 64
    radius: float = 1.0
    max_offset: float = 0.5
    values_lr: float = 1e-3
    offsets_lr: float = 1e-3
    colors_lr: float = 1e-3
    adam_eps: float = 1e-8

    def __post_init__(self) -> None:
        expect_range(self, "resolution", at_least=2)
        expect_range(self, "radius", above=0)
        expect_range(self, "max_offset", at_least=0, at_most=1)

    def build(self, density: PointFunction, color_field: nn.Module, level: Level = "auto") -> "DmtetMesh":
        """Build the surface where `density` falls to a level, which `choose_level` explains.

        The box becomes that of the surface on the whole grid, grown; values are `signed_log_ratio`'s. `color_field`
        maps "N 3" to RGB and is trained too.
        """
        whole = torch.tensor([[-self.radius] * 3, [self.radius] * 3])
        found = evaluate(density, grid_points(self.resolution, whole))
        cube = found.view(3 * [self.resolution + 1])
        level = choose_level(level, cube, 2.0 * self.radius / self.resolution)
        coarse = DmtetMesh(self, whole, signed_log_ratio(level, found), color_field)
        box = grown_box(coarse.mesh(), whole)
        values = signed_log_ratio(level, evaluate(density, grid_points(self.resolution, box)))
        return DmtetMesh(self, box, values, color_field)


class DmtetMesh(Trainable):
    """A trainable surface in `box`, the least and greatest corner in scene units, of V = (resolution + 1)^3 vertices.

    Parameters: `values` "V" (negative inside), `offsets` "V 3" (before tanh), and those of `color_field`.
    """

    box: Tensor
    vertices: Tensor
    least: Tensor

    def __init__(
        self, config: DmtetMeshConfig, box: Float[Tensor, "2 3"], values: Float[Tensor, " V"], field: nn.Module
    ) -> None:
        super().__init__()
        vertices = grid_vertices(config.resolution)
        border = ((vertices == 0.0) | (vertices == 1.0)).any(dim=-1)
        if not bool((values[~border] < 0).any() and (values >= 0).any()):
            raise ValueError(
                f"Expected a field with an inside and an outside, but its values range from {float(values.min()):.3g} "
                f"to {float(values.max()):.3g} at the grid's vertices. Give another threshold, or a larger radius."
            )
        self.config, self.adam_eps = config, config.adam_eps
        self.register_buffer("box", box.clone())
        self.register_buffer("vertices", vertices, persistent=False)
        self.register_buffer("least", torch.where(border, BORDER_VALUE, -torch.inf), persistent=False)
        self.values = nn.Parameter(values.clone())
        self.offsets = nn.Parameter(torch.zeros_like(vertices))
        self.color_field = field

    def mesh(self, room: tuple[int, int] | None = None) -> Mesh:
        """Extract the surface as a closed mesh; empty if nothing is inside. `room` is that of `marching_tetrahedra`."""
        moved = self.vertices + self.config.max_offset / self.config.resolution * self.offsets.tanh()
        vertices = torch.lerp(self.box[0], self.box[1], moved)
        return marching_tetrahedra(vertices, self.values.clamp(min=self.least), room)

    def colors_at(self, points: SurfacePoints) -> Float[Tensor, "N 3"]:
        """Return the field's RGB at the points' positions."""
        colors: Tensor = self.color_field(points.positions)
        return colors

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return one group a parameter, under the parameter's name, and one for the colour field."""
        config, field = self.config, list(self.color_field.parameters())
        return [
            {"name": "values", "params": [self.values], "lr": config.values_lr},
            {"name": "offsets", "params": [self.offsets], "lr": config.offsets_lr},
            {"name": "color_field", "params": field, "lr": config.colors_lr},
        ]


def choose_level(level: Level, densities: Float[Tensor, "X Y Z"], spacing: float) -> float:
    """Return the density at the surface of a grid of densities with `spacing` in scene units.

    "auto" is the mean of the densities above 1e-5 (threestudio 28d9d80, geometry/implicit_volume.py). "opaque" is the
    level whose surface covers best (intersection over union) what the field hides on the grid's lines along the three
    axes: those of opacity 1 - exp(-spacing x sum of densities) over a half of the largest opacity. A surface covers the
    lines that reach its level.
    """
    if level == "auto":
        return float(densities[densities > EMPTY_DENSITY].mean())
    if level != "opaque":
        return level
    sums, highest = (torch.cat([each(axis).flatten() for axis in range(3)]) for each in (densities.sum, densities.amax))
    opacity = 1.0 - (-spacing * sums).exp()
    highest, order = highest.sort(descending=True)
    hidden = (opacity > 0.5 * opacity.max())[order]
    both = hidden.cumsum(0)
    best = int((both / (torch.arange(1, len(both) + 1) + hidden.sum() - both)).argmax())
    return float(highest[best : best + 2].mean())


def signed_log_ratio(level: float, density: Tensor) -> Tensor:
    """Return log(level / density) / 3, cut to [-1, 1]: below 0 inside.

    Densities grow by orders of magnitude across a surface. What is linear in them (threestudio 28d9d80,
    geometry/tetrahedra_sdf_grid.py: `level - density`, cut to [-1, 1]) puts it at the middle or an end of each edge, in
    stairs; their logarithm is about linear there.
    """
    return ((level / density.clamp(min=EMPTY_DENSITY)).log() / 3.0).clamp(-1.0, 1.0)


def grid_points(resolution: int, box: Float[Tensor, "2 3"]) -> Float[Tensor, "V 3"]:
    """Return the world positions of the grid's vertices."""
    return torch.lerp(box[0], box[1], grid_vertices(resolution))


@torch.no_grad()
def evaluate(field: PointFunction, points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
    """Evaluate a field in blocks, without gradients."""
    return torch.cat([field(block).reshape(len(block)).to(points) for block in points.split(QUERY_POINTS)])
