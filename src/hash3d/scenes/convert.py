"""What a second stage starts from: the result of the first as another representation."""

import dataclasses
import math

import torch
from torch import nn

from hash3d.cameras import Cameras, CameraSamplerConfig
from hash3d.meshing.fuse import paint_as_seen
from hash3d.meshing.isosurface import Density, GaussianField, IsosurfaceConfig, extract_mesh, remove_cavities
from hash3d.recipes.stage import Stage
from hash3d.rendering.bake import bake
from hash3d.representations.gaussians import GaussianTensors
from hash3d.representations.mesh import Mesh
from hash3d.representations.nerf import Nerf
from hash3d.representations.textured_mesh import TexturedMesh, TexturedMeshConfig


def no_way(previous: nn.Module, stage: Stage) -> ValueError:
    """The error of a second stage that cannot start from the first one's model."""
    kinds = type(previous).__name__, type(stage.representation).__name__
    return ValueError(f"Expected a way from {kinds[0]} to {kinds[1]}, but there is none.")


@torch.no_grad()
def textured_mesh(
    gaussians: GaussianTensors,
    config: TexturedMeshConfig,
    surface: IsosurfaceConfig,
    *,
    camera: CameraSamplerConfig,
    max_faces: int = 50_000,
) -> TexturedMesh:
    """The surface of Gaussians, painted with their renders, on their device (DreamGaussian 69a3c70, main.py).

    A texel that no view sees has the colour of the Gaussians there.

    Args:
        gaussians: what the first stage made, without gradients.
        config: texture size and learning rates.
        surface: level and resolution; DreamGaussian takes the level 1.0.
        camera: the first stage's, for the distance and the field of view of the 26 renders. They have half as many
            pixels a side as the texture has texels.
        max_faces: with more the resolution is lowered.
    """
    mesh = outer_surface(GaussianField(gaussians), surface, max_faces)
    mesh = Mesh(vertices=mesh.vertices.to(gaussians.means), faces=mesh.faces.to(gaussians.means.device))
    textured = config.build(mesh)
    bake(textured, paint_as_seen(gaussians, mesh, views_around(camera, config.texture_size // 2)))
    return textured


def views_around(camera: CameraSamplerConfig, size: int) -> Cameras:
    """26 cameras: eight azimuths at each of the elevations 0, -45 and 45 degrees, and straight from below and above."""
    elevations = [0.0] * 8 + [-45.0] * 8 + [45.0] * 8 + [-90.0, 90.0]
    azimuths = [45.0 * turn for turn in range(8)] * 3 + [0.0, 0.0]
    return Cameras.orbit(elevation=elevations, azimuth=azimuths, radius=camera.radius, fov_y=camera.fov_y, size=size)


def outer_surface(field: GaussianField, config: IsosurfaceConfig, max_faces: int) -> Mesh:
    """The closed surface of Gaussians without what lies inside it, of at most `max_faces` faces, on the CPU."""
    mesh = remove_cavities(extract_mesh(field.density, field.box, config))
    while len(mesh) > max_faces:
        # Faces grow with the square of the resolution; a little less, so that once is enough.
        resolution = int(0.97 * config.resolution * math.sqrt(max_faces / len(mesh)))
        config = dataclasses.replace(config, resolution=resolution)
        mesh = remove_cavities(extract_mesh(field.density, field.box, config))
    return mesh


def density_at(field: Nerf) -> Density:
    """A field's density at positions on the CPU."""
    device = next(field.parameters()).device
    return lambda points: field.density(points.to(device)).cpu()
