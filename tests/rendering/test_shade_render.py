"""Normals from depth, on planes and spheres whose normals are known, and light on splats."""

import math

import pytest
import torch
import torch.nn.functional as F

from hash3d.cameras import Cameras
from hash3d.rendering.base import Render
from hash3d.rendering.shading import Shading, depth_normals, shade_render, surface_points
from hash3d.rendering.splat import render_gaussians
from hash3d.representations.gaussians import GaussianTensors

VIEWS = Cameras.orbit(elevation=[0.0, 35.0], azimuth=[0.0, 130.0], radius=2.0, fov_y=40.0, size=24)
LIGHTS = torch.tensor([[1.0, 1.0, 2.0], [0.5, 2.0, -1.0]])
RADIUS = 0.5


def rays(cameras: Cameras) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Eyes, directions and depth along z a unit of distance."""
    eyes, directions = (each.double() for each in cameras.rays())
    cosines = (directions * cameras.c2w[:, None, None, :3, 2].double()).sum(dim=-1, keepdim=True)
    return eyes, directions, cosines


def plane(cameras: Cameras, normal: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """Depth, weighted by alpha, of the plane through the origin."""
    eyes, directions, cosines = rays(cameras)
    distances = -(eyes @ normal) / (directions @ normal)
    return alpha * distances[..., None] * cosines


def sphere(cameras: Cameras) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Depth, alpha and the points of the opaque sphere around the origin."""
    eyes, directions, cosines = rays(cameras)
    middle = -(eyes * directions).sum(dim=-1, keepdim=True)
    half_chord = RADIUS**2 - eyes.square().sum(dim=-1, keepdim=True) + middle**2
    alpha = (half_chord > 0).double()
    distances = alpha * (middle - half_chord.clamp(min=0.0).sqrt())
    return distances * cosines, alpha, alpha * (eyes + distances * directions)


def splat_sphere(count: int = 3000, radius: float = RADIUS) -> GaussianTensors:
    """Flat opaque Gaussians on a sphere, in a spiral of even density; red grows with height."""
    turns = torch.arange(count) * math.pi * (3.0 - math.sqrt(5.0))
    height = 1.0 - (2.0 * torch.arange(count) + 1.0) / count
    ring = (1.0 - height**2).sqrt()
    directions = torch.stack([ring * turns.cos(), height, ring * turns.sin()], dim=-1)
    # The shortest turn of the z axis to the direction: (1 + z . d, z x d).
    x, y, z = directions.unbind(-1)
    spacing = radius * math.sqrt(4.0 * math.pi / count)
    return GaussianTensors(
        means=radius * directions,
        quats=torch.stack([1.0 + z, -y, x, torch.zeros(count)], dim=-1),
        scales=spacing * torch.tensor([0.7, 0.7, 0.05]).repeat(count, 1),
        opacities=torch.full((count,), 0.95),
        colors=torch.stack([0.5 + 0.4 * height, torch.full((count,), 0.3), torch.full((count,), 0.6)], dim=-1),
    )


def light(kind="lambertian", **strengths) -> Shading:
    return Shading(kind=kind, lights=LIGHTS, **strengths)


def test_points_lie_on_the_surface_whatever_alpha_is():
    depth, alpha, expected = sphere(VIEWS)
    alpha = alpha * torch.linspace(0.1, 1.0, 24, dtype=torch.float64)[:, None]
    found = surface_points(alpha * depth, alpha, VIEWS)
    shown = (alpha > 0).expand_as(found)
    # Cameras are float32.
    torch.testing.assert_close(found[shown], expected[shown], atol=1e-6, rtol=0)
    assert torch.equal(found[~shown], VIEWS.eyes[:, None, None].expand_as(found).double()[~shown])


def test_a_plane_has_its_normal_up_to_its_rim_and_the_image_s():
    normal = F.normalize(torch.tensor([0.3, 0.5, 0.6], dtype=torch.float64), dim=0)
    rows, columns = torch.meshgrid(torch.arange(24), torch.arange(24), indexing="ij")
    alpha = ((rows - 8) ** 2 + (columns - 14) ** 2 < 11**2)[None, :, :, None].expand(1, -1, -1, -1)
    alpha = alpha * torch.linspace(0.01, 1.0, 24, dtype=torch.float64)[:, None]
    view = VIEWS[0]
    found = depth_normals(plane(view, normal, alpha), alpha, view)
    shown = alpha[..., 0] > 0
    assert shown[0, 0].any()
    torch.testing.assert_close(found[shown], normal.expand(int(shown.sum()), 3), atol=1e-5, rtol=0)
    assert not found[~shown].any()


def test_the_normals_of_a_sphere_point_from_its_centre():
    depth, alpha, points = sphere(VIEWS)
    found = depth_normals(depth, alpha, VIEWS)
    inside = alpha[..., 0] > 0
    cosines = (found * points / RADIUS).sum(dim=-1)[inside]
    # Near the outline a pixel spans a large part of the sphere.
    assert cosines.median() > 0.9999
    assert cosines.min() > 0.8


def test_normals_are_unit_vectors_that_face_the_camera_whatever_the_depths():
    generator = torch.Generator().manual_seed(0)
    alpha = torch.rand(2, 24, 24, 1, generator=generator).round()
    depth = (alpha * (0.5 + torch.rand(2, 24, 24, 1, generator=generator))).requires_grad_()
    found = depth_normals(depth, alpha, VIEWS)
    found[..., 0].sum().backward()
    # Two pixels are 0.03 apart at the distance 0.5, so a normal turns by at most 1 / 0.03 a unit of depth, about.
    assert depth.grad.abs().max() < 200.0
    found = found.detach()
    lengths = found.norm(dim=-1)
    some = lengths > 0
    torch.testing.assert_close(lengths[some], torch.ones_like(lengths[some]))
    assert ((found * VIEWS.rays()[1]).sum(dim=-1)[some] < 0).all()
    # A quarter of the pixels has no neighbour in its row, a quarter none in its column.
    assert some.sum() / alpha.sum() == pytest.approx(0.75**2, abs=0.08)


def test_splats_on_a_sphere_have_its_normals():
    view = Cameras.orbit(elevation=20.0, azimuth=60.0, radius=2.0, fov_y=40.0, size=64)
    render = render_gaussians(splat_sphere(), view, torch.zeros(1, 3))
    found = depth_normals(render.depth, render.alpha, view).double()
    _, alpha, points = sphere(view)
    core = (points @ view.eyes[0].double() > 0.4 * RADIUS * 2.0) & (alpha[..., 0] > 0)
    cosines = (found * points / RADIUS).sum(dim=-1)[core]
    assert core.sum() > 600
    assert cosines.median() > 0.98
    assert cosines.min() > 0.8


def test_gradients_of_normals_are_those_of_differences_and_stop_where_alpha_is_low():
    view = Cameras.orbit(elevation=20.0, azimuth=60.0, radius=2.0, fov_y=40.0, size=4)
    generator = torch.Generator().manual_seed(0)
    alpha = (0.2 + 0.7 * torch.rand(1, 4, 4, 1, generator=generator)).double().requires_grad_()
    depth = (1.0 + 0.2 * torch.rand(1, 4, 4, 1, generator=generator)).double().requires_grad_()
    torch.autograd.gradcheck(lambda depth, alpha: depth_normals(depth, alpha, view), (depth, alpha))
    # Pixels without a normal of their own, for they have no neighbour in their row, are neighbours in their column.
    holes = torch.tensor([[0, 1, 0, 1], [1, 1, 0, 0], [0, 1, 1, 1], [1, 0, 0, 1]]).double()[None, :, :, None]
    torch.autograd.gradcheck(lambda depth: depth_normals(depth, holes, view), depth)
    kept = alpha.detach().flatten().argmax()
    limit = float(alpha.detach().flatten().sort().values[-2])
    found = depth_normals(depth, alpha, view, min_alpha=limit)
    torch.testing.assert_close(found, depth_normals(depth, alpha, view))
    of_all = torch.autograd.grad(found[..., 0].sum(), depth, retain_graph=True)[0]
    of_one = torch.autograd.grad(found.reshape(-1, 3)[kept, 0], depth)[0]
    torch.testing.assert_close(of_all, of_one)
    assert of_one.abs().sum() > 0


def test_light_falls_on_a_sphere_by_lambert_s_law():
    depth, alpha, points = sphere(VIEWS)
    albedo = torch.tensor([0.8, 0.5, 0.2], dtype=torch.float64)
    shade = light(ambient=0.2, diffuse=0.7)
    black = Render(color=0.5 * alpha * albedo, alpha=0.5 * alpha, depth=0.5 * depth)
    found = shade_render(black, VIEWS, LIGHTS, shade)
    normals, shown = points / RADIUS, alpha[..., 0] > 0
    to_light = F.normalize(LIGHTS[:, None, None].double() - points, dim=-1)
    lit = (0.2 + 0.7 * (normals * to_light).sum(dim=-1, keepdim=True).clamp(min=0.0)) * albedo
    behind = LIGHTS[:, None, None].expand(-1, 24, 24, -1).double()
    errors = (found.color - (0.5 * lit + 0.5 * behind)).abs()[shown]
    # The sphere is 16 pixels wide; the largest errors are on its outline.
    assert errors.median() < 2e-3
    assert errors.max() < 0.2
    assert torch.equal(found.color[~shown], behind[~shown])
    assert torch.equal(found.depth, 0.5 * depth)


def test_without_light_a_render_over_black_becomes_one_over_any_background():
    scene = splat_sphere(300)
    black = render_gaussians(scene, VIEWS, torch.zeros(2, 3))
    colors = torch.tensor([[0.9, 0.1, 0.4], [0.2, 0.7, 0.3]])
    expected = render_gaussians(scene, VIEWS, colors)
    found = shade_render(black, VIEWS, colors, light("albedo"))
    torch.testing.assert_close(found.color, expected.color, atol=1e-6, rtol=0)
    image = torch.rand(2, 24, 24, 3, generator=torch.Generator().manual_seed(0))
    over_image = shade_render(black, VIEWS, image, light("albedo"))
    torch.testing.assert_close(over_image.color, black.color + (1 - black.alpha) * image, atol=1e-6, rtol=0)


def test_each_kind_of_light_shows_what_it_should():
    black = render_gaussians(splat_sphere(300), VIEWS, torch.zeros(2, 3))
    full = shade_render(black, VIEWS, torch.zeros(2, 3), light(ambient=1.0, diffuse=0.0))
    torch.testing.assert_close(full.color, black.color, atol=1e-6, rtol=0)
    white = shade_render(black, VIEWS, torch.zeros(2, 3), light("textureless"))
    assert torch.equal(white.color[..., :1].expand_as(white.color), white.color)
    assert white.color.std() > 0.1


def test_light_trains_shape_and_colour_with_finite_gradients():
    scene = splat_sphere(300)
    leaves = [scene.means, scene.colors, scene.opacities, scene.scales]
    for leaf in leaves:
        leaf.requires_grad_()
    background = torch.zeros(2, 3, requires_grad=True)
    black = render_gaussians(scene, VIEWS, torch.zeros(2, 3))
    shade_render(black, VIEWS, background, light()).color.square().sum().backward()
    for leaf in (*leaves, background):
        assert leaf.grad.isfinite().all()
        assert leaf.grad.abs().sum() > 0
    # With white surfaces the shape is all that light shows.
    means = scene.means.detach().requires_grad_()
    moved = GaussianTensors(**{**vars(scene), "means": means})
    black = render_gaussians(moved, VIEWS, torch.zeros(2, 3))
    lit = shade_render(
        Render(color=black.color, alpha=black.alpha.detach(), depth=black.depth), VIEWS, LIGHTS, light("textureless")
    )
    lit.color.square().sum().backward()
    assert means.grad.abs().sum() > 0
