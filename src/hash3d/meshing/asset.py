"""Bake any finished scene into one textured mesh, for the programs that artists use."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from hash3d.export.mesh import BakedMesh
from hash3d.kernels import import_extra
from hash3d.rendering.bake import PointColors, bake
from hash3d.representations.gaussians import GaussianTensors, Splats
from hash3d.representations.mesh import Mesh, Surface, SurfacePoints
from hash3d.representations.nerf import Field
from hash3d.representations.textured_mesh import TexturedMesh, TexturedMeshConfig

from .fuse import fused_surface, look_from_all_sides, paint_as_seen
from .isosurface import GaussianField, IsosurfaceConfig, extract_mesh_or_auto, remove_cavities

FIELD_SURFACE = IsosurfaceConfig(level=25.0, resolution=128)
"""The surface of a field, as threestudio has it (28d9d80, models/geometry/base.py and models/isosurface.py)."""
GAUSSIANS_SURFACE = IsosurfaceConfig(level=1.0, resolution=96)
"""The surface of Gaussians' density: DreamGaussian's level (69a3c70); its resolution is 128."""
POINTS_AT_ONCE = 65_536
"""Most texels that are painted at once."""

Asset = Field | Splats | Surface
"""A scene that has a shape and colours."""
Painter = Callable[[Mesh], PointColors]
"""Returns the colours of a mesh's points, for instance by `hash3d.rendering.bake.colors_from_views`."""


def bake_asset(
    scene: Asset,
    surface: IsosurfaceConfig | None = None,
    texture_size: int = 1024,
    *,
    paint: Painter | None = None,
    max_faces: int | None = None,
) -> BakedMesh:
    """Extract, unwrap and texture the mesh of a scene on any device; the result is on the CPU.

    Args:
        scene: gives the shape, and the colours unless `paint` does. A `TexturedMesh` keeps its texture.
        surface: which surface of a field or of Gaussians' density. None takes `FIELD_SURFACE`, and of Gaussians the
            surface that their depths agree on (`hash3d.meshing.fuse`). If the density never reaches the level, the
            level is "auto", with a warning.
        texture_size: texels a side, a multiple of 16.
        paint: gives other colours than the scene's own. A field of latents needs it, and so does a mesh with a texture
            whose faces get fewer.
        max_faces: see `limit_faces`; None keeps all.

    Raises:
        ValueError: there is nothing to see, a density is not finite, or a field without `paint` has no RGB.
    """
    if isinstance(scene, TexturedMesh) and paint is None:
        return cut_open(scene)
    with torch.no_grad():
        mesh, colors = _mesh_and_colors(scene, surface, paint, texture_size // 2, max_faces)
        textured = TexturedMeshConfig(texture_size=texture_size).build(mesh)
        bake(textured, _split_calls(mesh, colors))
    return cut_open(textured)


def _mesh_and_colors(
    scene: Asset, surface: IsosurfaceConfig | None, paint: Painter | None, size: int, max_faces: int | None
) -> tuple[Mesh, PointColors]:
    """Extract the surface of Gaussians where they reach, of a field in its cube and on its device.

    Gaussians are painted with renders of `size` pixels a side.
    """
    if isinstance(scene, Surface):
        mesh = limit_faces(scene.mesh(), max_faces)
        return mesh, paint(mesh) if paint else scene.colors_at
    if isinstance(scene, Splats):
        gaussians = scene.gaussians()
        mesh = limit_faces(_gaussians_mesh(gaussians, surface), max_faces)
        return mesh, (paint or partial(paint_as_seen, gaussians, cameras=look_from_all_sides(gaussians, size)))(mesh)
    if scene.channels != 3 and paint is None:
        got = f"{scene.channels} channels. Give bake_asset a painter."
        raise ValueError(f"Expected a field of RGB colours, but it has {got}")
    device = next(scene.parameters()).device if isinstance(scene, nn.Module) else torch.device("cpu")
    box = scene.radius * torch.tensor([[-1.0] * 3, [1.0] * 3], device=device)
    mesh = remove_cavities(extract_mesh_or_auto(scene.density, box, surface or FIELD_SURFACE))
    mesh = limit_faces(mesh, max_faces)
    return mesh, paint(mesh) if paint else lambda points: scene.query(points.positions.to(device)).color


def _gaussians_mesh(gaussians: GaussianTensors, surface: IsosurfaceConfig | None) -> Mesh:
    """Fuse the depths, unless a surface of the density is asked for; so too where nothing is opaque enough."""
    if surface is None:
        with suppress(ValueError):
            return fused_surface(gaussians, GAUSSIANS_SURFACE.resolution)
    field = GaussianField(gaussians)
    return remove_cavities(extract_mesh_or_auto(field.density, field.box, surface or GAUSSIANS_SURFACE))


def _split_calls(mesh: Mesh, colors: PointColors) -> PointColors:
    """Wrap `colors` to be called for at most POINTS_AT_ONCE points at once, as points of `mesh`."""

    def call_in_chunks(points: SurfacePoints) -> Float[Tensor, "N 3"]:
        columns = {name: getattr(points, name) for name in ("faces", "weights", "views", "face_pixels")}
        chunks = torch.arange(len(points.faces), device=points.faces.device).split(POINTS_AT_ONCE)
        parts = (SurfacePoints(mesh=mesh, **{name: columns[name][rows] for name in columns}) for rows in chunks)
        return torch.cat([colors(part).to(points.weights) for part in parts])

    return call_in_chunks


@torch.no_grad()
def cut_open(surface: TexturedMesh) -> BakedMesh:
    """Split vertices along the seams, one for each texture coordinate, as files want it. The result is on the CPU."""
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


FEWEST = 4
"""A tetrahedron's faces."""


def limit_faces(mesh: Mesh, max_faces: int | None) -> Mesh:
    """Return a mesh of at most `max_faces` faces, on the mesh's device; the mesh itself where it has no more.

    By quadric edge collapse (Garland and Heckbert 1997), of the package fast-simplification.

    Raises `ValueError` for fewer than a tetrahedron's, and where it cannot be simplified so far; `ImportError` without
    the package.
    """
    if max_faces is None or len(mesh.faces) <= max_faces:
        return mesh
    if max_faces < FEWEST:
        raise ValueError(f"Expected at least {FEWEST} faces, but got {max_faces}.")
    simplify = import_extra("fast_simplification", "simplify", "fewer faces").simplify
    points = mesh.vertices.detach().cpu().numpy().astype(np.float32)
    vertices, faces = simplify(points, mesh.faces.cpu().numpy().astype(np.int32), target_count=max_faces)
    corners = np.sort(faces, axis=1)  # Collapsed faces, and two on one another, have no normal.
    _, which, counts = np.unique(corners, axis=0, return_inverse=True, return_counts=True)
    faces = faces[(counts[which.ravel()] == 1) & (corners[:, :2] != corners[:, 1:]).all(axis=1)]
    used, places = np.unique(faces, return_inverse=True)
    vertices, faces = vertices[used], places.reshape(-1, 3)
    if not 0 < len(faces) <= max_faces:
        raise ValueError(f"Expected to keep {max_faces} faces, but {len(faces)} are left. Ask for more.")
    device = mesh.vertices.device
    return Mesh(vertices=torch.from_numpy(vertices).to(device), faces=torch.from_numpy(faces).long().to(device))
