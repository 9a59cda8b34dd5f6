"""The surface that depths agree on: exact for exact depths, and closed where the density of Gaussians has holes."""

import math

import pytest
import torch

from hash3d.cameras import Cameras
from hash3d.meshing import fuse
from hash3d.meshing.fuse import fuse_depths, fused_surface, paint_as_seen
from hash3d.meshing.isosurface import GaussianField, IsosurfaceConfig, extract_mesh, remove_cavities
from hash3d.rendering.raster import RasterRendererConfig, render_surface
from hash3d.representations.gaussians import GaussianTensors
from hash3d.representations.mesh import Mesh, SurfacePoints
from tests.shapes import ball, euler_characteristic

CAMERAS = Cameras.orbit(
    elevation=[0.0] * 6 + [60.0, -60.0] * 3,
    azimuth=[60.0 * turn for turn in range(12)],
    radius=2.0,
    fov_y=40.0,
    size=96,
)


def thin_in_front(count: int = 3000) -> GaussianTensors:
    """A shell of radius 0.35 (a Fibonacci lattice), opaque but for a patch in front, which the back shines through."""
    numbers = torch.arange(count) + 0.5
    height, turn = 1 - 2 * numbers / count, math.pi * (1 + math.sqrt(5)) * numbers
    ring = (1 - height**2).sqrt()
    means = 0.35 * torch.stack([ring * turn.sin(), height, ring * turn.cos()], dim=-1)
    return GaussianTensors(
        means=means,
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
        scales=torch.full((count, 3), 0.015),
        opacities=torch.where(means[:, 2] > 0.28, 0.25, 0.95),
        colors=torch.where(means[:, 2:] > 0, torch.tensor([0.9, 0.1, 0.1]), torch.tensor([0.1, 0.1, 0.9])),
    )


def test_exact_depths_give_the_surface_they_were_taken_of():
    """Between the centres of pixels a depth is taken from the nearest: half a pixel is 0.008 here."""
    mesh = ball(24)
    grey = Mesh(vertices=mesh.vertices, faces=mesh.faces, colors=torch.full_like(mesh.vertices, 0.5))
    render = render_surface(grey, CAMERAS, torch.zeros(12, 3), config=RasterRendererConfig(antialias=False))
    depths = torch.where(render.alpha > 0, render.depth, torch.inf)[..., 0]
    box = mesh.vertices.abs().max() * torch.tensor([[-1.2] * 3, [1.2] * 3])
    found = extract_mesh(fuse_depths(depths, CAMERAS, 0.1), box, IsosurfaceConfig(level=1.0, resolution=40))
    assert euler_characteristic(found) == 2
    assert (found.vertices.norm(dim=-1) - mesh.vertices.norm(dim=-1).mean()).abs().mean() < 0.008


def test_what_no_view_sees_is_inside_and_what_one_sees_through_is_not():
    density = fuse_depths(torch.full((12, 96, 96), 1.5), CAMERAS, 0.1)
    behind = density(torch.tensor([[0.0, 0.0, 0.0]]))
    assert behind.item() == 2.0
    assert fuse_depths(torch.full((12, 96, 96), torch.inf), CAMERAS, 0.1)(torch.zeros(1, 3)).item() == 0.0
    assert density(torch.tensor([[0.0, 0.0, 1.9]])).item() == 0.0  # Before the surface, in every view that counts.


def test_thin_gaussians_leave_no_hole(monkeypatch):
    monkeypatch.setattr(fuse, "VIEWS", 16)
    monkeypatch.setattr(fuse, "SIZE", 128)
    gaussians = thin_in_front()
    field = GaussianField(gaussians)
    by_density = remove_cavities(extract_mesh(field.density, field.box, IsosurfaceConfig(level=1.0, resolution=32)))
    fused = fused_surface(gaussians, 32)
    assert euler_characteristic(by_density) != 2 or by_density.vertices[:, 2].max() < 0.31, "the front is open"
    assert euler_characteristic(fused) == 2
    assert fused.vertices[:, 2].max() > 0.33
    assert fused.vertices.norm(dim=-1).mean() == pytest.approx(0.36, abs=0.02)


def test_it_is_painted_as_it_is_seen():
    gaussians, mesh = thin_in_front(), ball(8, 0.36, torch.float32)
    count = len(mesh)
    points = SurfacePoints(
        mesh=mesh, faces=torch.arange(count), weights=torch.full((count, 3), 1 / 3),
        views=torch.zeros(count, dtype=torch.long), face_pixels=torch.ones(count),
    )  # fmt: skip
    found = paint_as_seen(gaussians, mesh, CAMERAS)(points)
    back = points.positions[:, 2] < -0.1
    torch.testing.assert_close(found[back], torch.tensor([0.1, 0.1, 0.9]).expand(int(back.sum()), 3), atol=0.02, rtol=0)
