"""A texture for a mesh, painted by a field of colours, and a textured surface as files hold it.

As in threestudio 28d9d80 (models/exporters/mesh_exporter.py), each texel takes the field's colour at its place on the
surface, so the texture is as fine as the field.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.export.mesh import BakedMesh
from hash3d.rendering.bake import bake
from hash3d.representations.mesh import Mesh, SurfacePoints
from hash3d.representations.textured_mesh import TexturedMesh, TexturedMeshConfig

ColorField = Callable[[Float[Tensor, "N 3"]], Float[Tensor, "N 3"]]
"""RGB in [0, 1] at positions in scene units."""
POINTS_AT_ONCE = 32_768
"""Most positions in one call of a colour field."""


def bake_texture(mesh: Mesh, color: ColorField, size: int = 1024) -> BakedMesh:
    """`mesh` with a texture of `size` x `size` texels, painted by `color`, which gets positions on the CPU."""

    def colors(points: SurfacePoints) -> Float[Tensor, "N 3"]:
        chunks = points.positions.split(POINTS_AT_ONCE)
        return torch.cat([color(chunk).float().cpu() for chunk in chunks]).clamp(0.0, 1.0)

    surface = TexturedMeshConfig(texture_size=size).build(mesh)
    bake(surface, colors)
    return cut_open(surface)


@torch.no_grad()
def cut_open(surface: TexturedMesh) -> BakedMesh:
    """A textured surface with a vertex for each of its texture coordinates, as files want it, on the CPU."""
    mesh = surface.mesh()
    sources = mesh.faces.new_zeros(len(surface.uv))
    sources[surface.uv_faces.flatten()] = mesh.faces.flatten()
    return BakedMesh(
        vertices=mesh.vertices[sources].cpu(),
        faces=surface.uv_faces.cpu(),
        normals=mesh.vertex_normals[sources].cpu(),
        uv=surface.uv.cpu(),
        texture=surface.texture.cpu(),
    )
