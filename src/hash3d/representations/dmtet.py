"""A mesh of variable topology: signed values and small offsets on a grid of tetrahedra (Shen et al. 2021, "DMTet")."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hash3d.ranges import expect_range

from .mesh import Mesh, SurfacePoints, grown_box
from .optimizer import ParameterGroup, Trainable
from .tetrahedra import grid_tetrahedra, grid_vertices, marching_tetrahedra

PointFunction = Callable[[Float[Tensor, "N 3"]], Tensor]
"""From world positions in scene units to one value each, "N" or "N 1", or one colour, "N 3"."""

QUERY_POINTS = 65_536
"""Points of one query of a field."""
BORDER_VALUE = 1e-3
"""Least value at the box's border: no surface leaves the box, so every surface is closed."""
EMPTY_DENSITY = 1e-5
"""Densities up to this do not count in the automatic threshold (threestudio 28d9d80, geometry/implicit_volume.py)."""


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

    def build(self, density: PointFunction, color_field: nn.Module, threshold: float | None = None) -> "DmtetMesh":
        """Build the surface where `density` falls to `threshold`; None takes the mean of the densities above 1e-5.

        The box becomes that of the surface on the whole grid, grown; values are `threshold - density`, cut to [-1, 1]
        (threestudio 28d9d80, geometry/tetrahedra_sdf_grid.py). `color_field` maps "N 3" to RGB and is trained too.
        """
        whole = torch.tensor([[-self.radius] * 3, [self.radius] * 3])
        found = evaluate(density, grid_points(self.resolution, whole))
        if threshold is None:
            threshold = float(found[found > EMPTY_DENSITY].mean())
        box = grown_box(DmtetMesh(self, whole, threshold - found, color_field).mesh(), whole)
        values = (threshold - evaluate(density, grid_points(self.resolution, box))).clamp(-1.0, 1.0)
        return DmtetMesh(self, box, values, color_field)


class DmtetMesh(Trainable):
    """A trainable surface in `box`, the least and greatest corner in scene units, of V = (resolution + 1)^3 vertices.

    Parameters: `values` "V" (negative inside), `offsets` "V 3" (before tanh), and those of `color_field`.
    """

    box: Tensor
    vertices: Tensor
    tetrahedra: Tensor
    border: Tensor

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
        self.register_buffer("tetrahedra", grid_tetrahedra(config.resolution), persistent=False)
        self.register_buffer("border", border, persistent=False)
        self.values = nn.Parameter(values.clone())
        self.offsets = nn.Parameter(torch.zeros_like(vertices))
        self.color_field = field

    def mesh(self) -> Mesh:
        """Extract the surface as a closed mesh; empty if nothing is inside."""
        moved = self.vertices + self.config.max_offset / self.config.resolution * self.offsets.tanh()
        vertices = torch.lerp(self.box[0], self.box[1], moved)
        values = torch.where(self.border, self.values.clamp(min=BORDER_VALUE), self.values)
        return marching_tetrahedra(vertices, values, self.tetrahedra)

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


def grid_points(resolution: int, box: Float[Tensor, "2 3"]) -> Float[Tensor, "V 3"]:
    """Return the world positions of the grid's vertices."""
    return torch.lerp(box[0], box[1], grid_vertices(resolution))


@torch.no_grad()
def evaluate(field: PointFunction, points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
    """Evaluate a field in blocks, without gradients."""
    return torch.cat([field(block).reshape(len(block)).to(points) for block in points.split(QUERY_POINTS)])
