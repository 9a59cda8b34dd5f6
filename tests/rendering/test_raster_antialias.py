"""Outlines: their coverage, and the gradient of an image with respect to where they are."""

import pytest
import torch
from scipy.spatial import ConvexHull

from hash3d.cameras import Cameras
from hash3d.rendering.raster import RasterRendererConfig, project, render_surface
from hash3d.representations.mesh import Mesh
from tests.shapes import WHITE, Positions, ball, camera, cube, focal, joined, with_colors


def test_faces_smaller_than_pixels_have_smooth_outlines():
    """Each pixel's alpha is near the share of the disc in it, measured with 32 x 32 points."""
    size, many = 24, 32
    render = render_surface(with_colors(ball(90)), camera(size, 10.0), WHITE)
    places = (torch.arange(size * many) + 0.5) / many - size / 2
    disc = places[:, None] ** 2 + places**2 < (focal(size) * 0.6) ** 2 / (2.5**2 - 0.6**2)
    share = disc.double().reshape(size, many, size, many).mean(dim=(1, 3))
    error = (render.alpha[0, ..., 0] - share).abs()
    assert error.max() < 0.16  # one straight crossing a pixel, where the disc has a curve and two
    assert error.sum() < 0.02 * share.sum()
    plain = render_surface(
        with_colors(ball(90)), camera(size, 10.0), WHITE, config=RasterRendererConfig(antialias=False)
    )
    assert (plain.alpha[0, ..., 0] - share).abs().sum() > 3 * error.sum()


def test_a_cube_seen_from_the_front_has_the_exact_coverage_and_gradient():
    """Its front is a square of side 2 f h / (d - h) pixels; sum(alpha) and the derivative by h are those of the area.

    The square holds the centres of its corners' pixels; where it does not, their small coverage is left out.
    """
    half = torch.tensor(0.287, dtype=torch.float64, requires_grad=True)
    unit = cube(1.0)
    render = render_surface(with_colors(Mesh(vertices=half * unit.vertices, faces=unit.faces)), camera(48, 0, 0), WHITE)
    side = 2 * focal(48) * half / (2.5 - half)
    assert render.alpha.sum().item() == pytest.approx(side.item() ** 2, rel=1e-5)  # float32 cameras
    reach = side.item() / 2
    edges = torch.arange(49, dtype=torch.float64) - 24
    line = (edges[1:].clamp(max=reach) - edges[:-1].clamp(min=-reach)).clamp(min=0)
    torch.testing.assert_close(render.alpha[0, ..., 0], line[:, None] * line, atol=1e-4, rtol=0)
    gradient = torch.autograd.grad(render.alpha.sum(), half, retain_graph=True)[0]
    assert float(gradient) == pytest.approx(float(torch.autograd.grad(side**2, half)[0]), rel=1e-4)


def test_area_and_outline_gradients_are_those_of_the_convex_hull():
    """A turned cube's area is that of the hull of its projected corners, and sum(alpha) has its derivatives."""
    shape, count = cube(0.4), 8
    azimuth = [10.0 + 31.0 * view for view in range(count)]
    views = Cameras.orbit(elevation=25.0, azimuth=azimuth, radius=2.5, fov_y=40.0, size=64)

    def moved(values: torch.Tensor) -> Mesh:
        """The cube scaled, and pushed aside and towards the front."""
        vertices = shape.vertices * values[0] + torch.tensor([1.0, 0.5, 2.0]) * values[1]
        return with_colors(Mesh(vertices=vertices, faces=shape.faces))

    def hulls(values: torch.Tensor) -> torch.Tensor:
        screens = project(moved(values), views, 0.01).screen
        return torch.tensor([ConvexHull(screen.numpy()).volume for screen in screens], dtype=torch.float64)

    values = torch.tensor([1.0, 0.05], dtype=torch.float64, requires_grad=True)
    areas = render_surface(moved(values), views, torch.ones(count, 3)).alpha.sum(dim=(1, 2, 3))
    torch.testing.assert_close(areas.detach(), hulls(values.detach()), rtol=5e-4, atol=0)
    gradients = torch.stack([torch.autograd.grad(area, values, retain_graph=True)[0] for area in areas])
    for place, step in enumerate(1e-4 * torch.eye(2, dtype=torch.float64)):
        expected = (hulls(values.detach() + step) - hulls(values.detach() - step)) / 2e-4
        # An edge may be off by one of the about twenty rows that it crosses.
        assert (gradients[:, place] - expected).abs().max() < 0.04 * expected.abs().max()


def test_a_thing_in_front_has_outlines_and_a_hidden_one_has_none():
    wall, front, behind = cube(0.5), cube(0.16, (0.0, 0.0, 0.8)), cube(0.16, (0.0, 0.0, -0.8))
    scene = joined(wall, front, behind)
    colors = torch.zeros_like(scene.vertices)
    colors[8:16, 0] = 1.0
    colors[16:, 1] = 1.0
    scale = torch.ones(2, dtype=torch.float64, requires_grad=True)
    centres = torch.tensor([[0.0, 0.0, 0.8], [0.0, 0.0, -0.8]]).double()
    moved = [centres[i] + scale[i] * (mesh.vertices - centres[i]) for i, mesh in enumerate((front, behind))]
    mesh = Mesh(vertices=torch.cat([wall.vertices, *moved]), faces=scene.faces, colors=colors)
    render = render_surface(mesh, camera(48, 0, 0), WHITE * 0)
    side = 2 * focal(48) * 0.16 / (2.5 - 0.96)
    assert render.color[..., 0].sum().item() == pytest.approx(side**2, rel=1e-3)
    assert render.color[..., 1].sum().item() == 0
    gradient = torch.autograd.grad(render.color[..., 0].sum(), scale)[0]
    # d(side) / d(scale s) = 2 f 0.16 (2.5 - 0.8) / (2.5 - 0.8 - 0.16 s)^2
    expected = 2 * side * 2 * focal(48) * 0.16 * 1.7 / 1.54**2
    assert float(gradient[0]) == pytest.approx(expected, rel=1e-3)
    assert float(gradient[1]) == 0


def test_a_strip_between_pixel_centres_changes_nothing():
    """No pixel has its colour, so its outlines have none to blend: what is behind stays as it is."""
    wall = cube(0.5)
    columns = torch.tensor([30.6, 30.9, 30.9, 30.6], dtype=torch.float64)
    x, y = (columns - 24) / focal(48) * (2.5 - 0.8), torch.tensor([-0.2, -0.2, 0.2, 0.2]).double()
    strip = torch.stack([x, y, torch.full_like(x, 0.8)], dim=-1)
    both = joined(wall, Mesh(vertices=strip, faces=torch.tensor([[0, 1, 2], [0, 2, 3]])))
    view = camera(48, 0, 0)
    alone, found = (render_surface(Positions(mesh), view, WHITE) for mesh in (wall, both))
    assert torch.equal(found.color, alone.color)
    assert torch.equal(found.depth, alone.depth)


def test_blending_takes_means():
    """Triangles of all sizes through each other: alpha and colours stay in [0, 1], depths between the nearest and 0."""
    generator = torch.Generator().manual_seed(0)
    size = torch.rand(150, 1, 1, generator=generator) ** 3
    vertices = (
        torch.rand(150, 1, 3, generator=generator) - 0.5 + size * (torch.rand(150, 3, 3, generator=generator) - 0.5)
    )
    colors = torch.rand(450, 3, generator=generator)
    mesh = Mesh(vertices=vertices.reshape(-1, 3), faces=torch.arange(450).reshape(-1, 3), colors=colors)
    render = render_surface(mesh, camera(48), torch.rand(1, 3, generator=generator))
    for image, most in ((render.alpha, 1.0), (render.color, 1.0), (render.depth, 3.5)):
        assert image.min() >= -1e-6
        assert image.max() <= most + 1e-6
    assert ((render.alpha > 0.01) & (render.alpha < 0.99)).float().mean() > 0.05
