"""A ball of Gaussians as a mesh with a texture."""

import dataclasses
import math

import pytest
import torch

from hash3d.cameras import Cameras, CameraSamplerConfig
from hash3d.evaluation.metrics import psnr
from hash3d.meshing.isosurface import GaussianField, IsosurfaceConfig, remove_cavities
from hash3d.rendering.bake import texel_points
from hash3d.rendering.raster import render_surface
from hash3d.rendering.splat import render_gaussians
from hash3d.representations.gaussians import GaussianTensors
from hash3d.representations.mesh import Mesh
from hash3d.representations.textured_mesh import TexturedMesh, TexturedMeshConfig
from hash3d.scenes.convert import outer_surface, textured_mesh, views_around
from tests.shapes import ball, cube, joined, volume

CAMERA = CameraSamplerConfig(radius=2.0, fov_y=40.0)
SURFACE = IsosurfaceConfig(level=1.0, resolution=32)
RADIUS, SPREAD = 0.5, 0.03


def colour(points: torch.Tensor) -> torch.Tensor:
    return 0.5 + 0.35 * torch.sin(5 * points + torch.tensor([0.0, 1.0, 2.0]))


def shell(count: int = 3000) -> GaussianTensors:
    """Small round Gaussians spread evenly over a sphere (a Fibonacci lattice), as training from outside leaves them."""
    numbers = torch.arange(count) + 0.5
    height, turn = 1 - 2 * numbers / count, math.pi * (1 + math.sqrt(5)) * numbers
    ring = (1 - height**2).sqrt()
    means = RADIUS * torch.stack([ring * turn.sin(), height, ring * turn.cos()], dim=-1)
    return GaussianTensors(
        means=means,
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
        scales=torch.full((count, 3), SPREAD),
        opacities=torch.full((count,), 0.95),
        colors=colour(means),
    )


def outer_radius(gaussians: GaussianTensors) -> float:
    """Where the density of an even shell falls to 1: the peaks' density over the sphere, seen as a plane.

    n Gaussians of unit area add n a 2 pi s^2 exp(-h^2 / 2 s^2) at the height h above it.
    """
    per_area = len(gaussians) / (4 * math.pi * RADIUS**2)
    peak = per_area * 0.95 * 2 * math.pi * SPREAD**2
    return RADIUS + SPREAD * math.sqrt(2 * math.log(peak))


@pytest.fixture(scope="module")
def textured() -> TexturedMesh:
    return textured_mesh(shell(), TexturedMeshConfig(texture_size=256), SURFACE, camera=CAMERA)


def test_the_surface_is_a_closed_sphere_without_its_inner_side(textured):
    mesh = textured.mesh()
    _, uses = mesh.edges.of_face.unique(return_counts=True)
    assert (uses == 2).all(), "each edge has two faces"
    assert len(mesh.vertices) - len(mesh.edges.vertices) + len(mesh) == 2, "one sphere: Euler's characteristic"
    radii = mesh.vertices.norm(dim=-1)
    # The grid's cells are 0.04 wide, and the density is bell-shaped across them.
    assert radii.mean() == pytest.approx(outer_radius(shell()), abs=0.002)
    assert radii.std() < 0.003
    assert volume(mesh) > 0


def test_it_looks_like_the_gaussians_from_views_that_did_not_paint_it(textured):
    cameras = Cameras.orbit(elevation=[20.0, -25.0, 70.0], azimuth=[20.0, 160.0, -100.0], radius=2, fov_y=40, size=96)
    white = torch.ones(3, 3)
    expected = render_gaussians(shell(), cameras, white)
    found = render_surface(textured, cameras, white)
    inside = (expected.alpha > 0.99) & (found.alpha == 1)
    assert inside.float().mean() > 0.2
    error = ((found.color - expected.color) * inside).square().sum() / (3 * inside.sum())
    assert -10 * torch.log10(error) > 38
    for pair in zip(found.color, expected.color, strict=True):
        assert psnr(*pair) > 22, "the outline of splats is soft"


def test_what_no_view_sees_has_the_gaussians_colour():
    """A red ball inside the sphere."""
    outer, red = shell(), torch.tensor([0.9, 0.1, 0.1])
    inner = dataclasses.replace(
        outer, means=0.4 * outer.means, scales=0.5 * outer.scales, colors=red.expand_as(outer.colors)
    )
    names = [field.name for field in dataclasses.fields(GaussianTensors)]
    both = {name: torch.cat([getattr(outer, name), getattr(inner, name)]) for name in names}
    textured = textured_mesh(GaussianTensors(**both), TexturedMeshConfig(texture_size=256), SURFACE, camera=CAMERA)
    points, texels = texel_points(textured)
    colors = textured.texture.detach().reshape(-1, 3)[texels]
    hidden = points.positions.norm(dim=-1) < 0.3
    assert hidden.sum() > 1000
    torch.testing.assert_close(colors[hidden], red.expand_as(colors[hidden]), atol=0.01, rtol=0)
    below = RADIUS / outer_radius(outer) * points.positions[~hidden]
    assert (colors[~hidden] - colour(below)).abs().mean() < 0.006


def test_the_cap_on_faces():
    field = GaussianField(shell())
    free = outer_surface(field, SURFACE, max_faces=10**6)
    capped = outer_surface(field, SURFACE, max_faces=int(0.7 * len(free)))
    assert 0.5 * len(free) < len(capped) <= 0.7 * len(free)
    assert volume(capped) == pytest.approx(volume(free).item(), rel=0.02)
    with pytest.raises(ValueError, match="resolution at least 2"):
        outer_surface(field, SURFACE, max_faces=1)


def test_a_cavity_is_a_piece_of_negative_volume():
    inside_out = cube(0.2)
    inside_out = Mesh(vertices=inside_out.vertices, faces=inside_out.faces.flip(-1))
    beside = cube(0.1, (1.0, 0.0, 0.0))
    kept = remove_cavities(joined(ball(8), inside_out, beside))
    expected = joined(ball(8), beside)
    assert torch.equal(kept.vertices[kept.faces], expected.vertices[expected.faces])
    assert len(kept.vertices) == len(expected.vertices)


def test_the_views_are_dreamgaussian_s():
    cameras = views_around(CAMERA, 64)
    assert len(cameras) == 26
    assert sorted(set(cameras.elevation.tolist())) == [-90, -45, 0, 45, 90]
    distances = torch.cdist(cameras.eyes, cameras.eyes) + 10 * torch.eye(26)
    assert distances.min() > 1, "no two views are the same"
    torch.testing.assert_close(cameras.eyes.norm(dim=-1), torch.full((26,), 2.0))
    assert (cameras.fov_y == 40).all()
