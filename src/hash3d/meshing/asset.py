"""Any finished scene as one textured mesh, for the programs that artists use."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hash3d.export.mesh import BakedMesh
from hash3d.rendering.bake import PointColors, bake
from hash3d.representations.field import Field
from hash3d.representations.gaussians import GaussianTensors, Splats
from hash3d.representations.mesh import Mesh, Surface, SurfacePoints
from hash3d.representations.textured_mesh import TexturedMesh, TexturedMeshConfig

from .density import GaussianField
from .isosurface import Density, IsosurfaceConfig, extract_mesh_or_auto, without_cavities

FIELD_SURFACE = IsosurfaceConfig(level=25.0, resolution=128)
"""The surface of a field, as threestudio has it (28d9d80, models/geometry/base.py and models/isosurface.py)."""
GAUSSIANS_SURFACE = IsosurfaceConfig(level=1.0, resolution=96)
"""The surface of Gaussians: DreamGaussian's level (69a3c70), which has a resolution of 128."""
POINTS_AT_ONCE = 65_536
"""Most texels that are painted at once."""

ColorField = Callable[[Float[Tensor, "N 3"]], Float[Tensor, "N 3"]]
"""RGB in [0, 1] at positions in scene units."""
Asset = Field | Splats | GaussianTensors | Surface
"""A scene that has a shape and colours."""
Painter = Callable[[Mesh], PointColors]
"""From a mesh to the colours of its points, as of pictures by `hash3d.rendering.bake.colors_from_views`."""


@dataclass(frozen=True)
class _Volume:
    """A density and colours inside a box, and the surface to take by default."""

    density: Density
    color: ColorField
    box: Float[Tensor, "2 3"]
    surface: IsosurfaceConfig


def bake_asset(
    scene: Asset,
    surface: IsosurfaceConfig | None = None,
    texture_size: int = 1024,
    *,
    paint: Painter | None = None,
) -> BakedMesh:
    """`scene` as a mesh with a texture of `texture_size` texels a side, on the CPU.

    A `TexturedMesh` keeps its texture; any other scene is unwrapped, and each texel takes the scene's colour there.

    Args:
        scene: on any device.
        surface: which surface of a field or of Gaussians; None takes `FIELD_SURFACE` or `GAUSSIANS_SURFACE`. A faint
            scene gives an asset too: if its density never reaches the level, the level is "auto", with a warning.
        texture_size: texels a side, a multiple of 16.
        paint: gives other colours than the scene's own. A field of latents needs it.

    Raises:
        ValueError: there is nothing to see, a density is not finite, or a field without `paint` has no RGB.
    """
    if isinstance(scene, TexturedMesh) and paint is None:
        return cut_open(scene)
    with torch.no_grad():
        mesh, colors = _mesh_and_colors(scene, surface, paint)
        textured = TexturedMeshConfig(texture_size=texture_size).build(mesh)
        bake(textured, _in_parts(mesh, colors))
    return cut_open(textured)


def _mesh_and_colors(scene: Asset, surface: IsosurfaceConfig | None, paint: Painter | None) -> tuple[Mesh, PointColors]:
    if isinstance(scene, Surface):
        mesh = scene.mesh()
        return mesh, paint(mesh) if paint else scene.colors_at
    volume = _volume(scene, painted=paint is not None)
    mesh = without_cavities(extract_mesh_or_auto(volume.density, volume.box, surface or volume.surface))
    return mesh, paint(mesh) if paint else lambda points: volume.color(points.positions)


def _volume(scene: Field | Splats | GaussianTensors, *, painted: bool) -> _Volume:
    """What is sampled: Gaussians where they reach, a field in its cube, where its parameters are."""
    if isinstance(scene, Splats | GaussianTensors):
        gaussians = GaussianField(scene if isinstance(scene, GaussianTensors) else scene.gaussians())
        return _Volume(gaussians.density, gaussians.color, gaussians.box, GAUSSIANS_SURFACE)
    if scene.channels != 3 and not painted:
        raise ValueError(
            f"Expected a field of RGB colours, but it has {scene.channels} channels. Give bake_asset a painter."
        )
    device = next(scene.parameters()).device if isinstance(scene, nn.Module) else torch.device("cpu")
    box = scene.radius * torch.tensor([[-1.0] * 3, [1.0] * 3], device=device)
    return _Volume(scene.density, lambda points: scene.query(points.to(device)).color, box, FIELD_SURFACE)


def _in_parts(mesh: Mesh, colors: PointColors) -> PointColors:
    """The same colours, asked for as points of `mesh`, with the memory that POINTS_AT_ONCE points take."""

    def in_parts(points: SurfacePoints) -> Float[Tensor, "N 3"]:
        own = replace(points, mesh=mesh)
        parts = torch.arange(len(points.faces), device=points.faces.device).split(POINTS_AT_ONCE)
        return torch.cat([colors(_chosen(own, rows)).to(points.weights) for rows in parts])

    return in_parts


def _chosen(points: SurfacePoints, rows: Int[Tensor, " K"]) -> SurfacePoints:
    return SurfacePoints(
        mesh=points.mesh,
        faces=points.faces[rows],
        weights=points.weights[rows],
        views=points.views[rows],
        face_pixels=points.face_pixels[rows],
    )


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
