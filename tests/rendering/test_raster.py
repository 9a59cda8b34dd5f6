import math

import pytest
import torch

from hash3d.cameras import Cameras
from hash3d.rendering.raster import RasterRendererConfig, render_surface
from hash3d.rendering.shading import Shading
from hash3d.rendering.splat import render_gaussians
from hash3d.representations.gaussians import GaussianTensors
from hash3d.representations.mesh import Mesh
from tests.shapes import WHITE, Positions, ball, camera, cube, focal, joined, surface, torus, with_colors


def cast_rays(mesh: Mesh, cameras: Cameras) -> tuple[torch.Tensor, torch.Tensor]:
    """Nearest hit of each pixel's ray (Moeller and Trumbore 1997): distance "P" (infinite for none) and point "P 3"."""
    origins, directions = (rays[0].reshape(-1, 3).double() for rays in cameras.rays())
    a, b, c = mesh.vertices[mesh.faces].unbind(1)
    first, second = b - a, c - a
    p = torch.linalg.cross(directions[:, None], second[None])
    determinant = (p * first).sum(-1)
    offset = (origins[:, None] - a) / determinant[..., None]
    u = (offset * p).sum(-1)
    q = torch.linalg.cross(offset, first[None])
    v = (directions[:, None] * q).sum(-1)
    distance = torch.where((u >= 0) & (v >= 0) & (u + v <= 1), (second * q).sum(-1), torch.inf).amin(dim=1)
    return distance, origins + distance[:, None] * directions


@pytest.mark.parametrize("shape", [surface(torus, 10), cube(), ball(7)])
def test_depth_and_attributes_are_those_of_ray_casting(shape):
    view = camera()
    render = render_surface(Positions(shape), view, WHITE, config=RasterRendererConfig(antialias=False))
    distance, points = cast_rays(shape, view)
    hit = distance.isfinite()
    assert torch.equal(render.alpha.flatten() > 0, hit)
    forward = view.c2w[0, :3, 2].double()
    depth = (points - view.eyes[0].double()) @ forward
    # Float32 camera matrices against float32 rays.
    torch.testing.assert_close(render.depth.flatten()[hit], depth[hit], atol=1e-5, rtol=0)
    torch.testing.assert_close(render.color.reshape(-1, 3)[hit], points[hit], atol=1e-5, rtol=0)
    assert (render.color.reshape(-1, 3)[~hit] == 1).all()


@pytest.mark.parametrize("elevation", [0.0, 35.0, 90.0])
def test_a_sphere_has_the_area_and_depth_of_perspective(elevation):
    """The cone around a sphere of radius r at distance d meets the image in a disc of radius f r / sqrt(d^2 - r^2)."""
    shape = with_colors(ball(60))
    render = render_surface(shape, camera(64, elevation), WHITE)
    area = math.pi * (focal(64) * 0.6) ** 2 / (2.5**2 - 0.6**2)
    assert float(render.alpha.sum()) == pytest.approx(area, rel=0.003)  # the polygon lacks 0.1 %
    assert float(render.depth[0, 32, 32]) == pytest.approx(2.5 - 0.6, abs=0.002)


@pytest.mark.parametrize("shape", [surface(torus, 6), joined(cube(0.3), cube(0.15, (0.2, 0.3, 0.5)))])
def test_gradients_are_those_of_finite_differences(shape):
    """Of every channel under random weights: interpolation, depth and silhouettes, in random directions of all inputs.

    The image is smooth but where a pixel changes its face, which steps of 1e-6 leave out.
    """
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(24, 24, 5, generator=generator, dtype=torch.float64)
    inputs = [shape.vertices, torch.rand(shape.vertices.shape, generator=generator).double(), WHITE.double() * 0.3]

    def total(vertices, colors, background):
        mesh = Mesh(vertices=vertices, faces=shape.faces, colors=colors)
        render = render_surface(mesh, camera(24), background)
        return (torch.cat([render.color, render.alpha, render.depth], dim=-1)[0] * weights).sum()

    leaves = [each.clone().requires_grad_() for each in inputs]
    gradients = torch.autograd.grad(total(*leaves), leaves)
    for place, gradient in enumerate(gradients):
        for _ in range(4):
            direction = torch.randn(gradient.shape, generator=generator, dtype=torch.float64)
            sides = []
            for step in (1e-6, -1e-6):
                moved = [each + step * direction if i == place else each for i, each in enumerate(inputs)]
                sides.append(float(total(*moved)))
            expected = float((gradient * direction).sum())
            assert (sides[0] - sides[1]) / 2e-6 == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_faces_that_share_vertices_leave_no_holes():
    """A sheet that covers the image, with corners and edges on pixel centres and anywhere else, in float32."""
    generator = torch.Generator().manual_seed(0)
    grid = torch.cartesian_prod(torch.arange(-20, 21), torch.arange(-20, 21)).float()
    first = torch.cartesian_prod(torch.arange(40), torch.arange(40)) @ torch.tensor([41, 1])
    faces = torch.cat([first[:, None] + torch.tensor(three) for three in ([0, 41, 1], [1, 41, 42])])
    for trial in range(12):
        jitter = torch.rand(grid.shape, generator=generator) - 0.5 if trial else torch.zeros_like(grid)
        flat = (grid + 0.8 * jitter) * 2.5 / focal(32)
        vertices = torch.cat([flat, torch.zeros(len(flat), 1)], dim=-1)
        render = render_surface(with_colors(Mesh(vertices=vertices, faces=faces)), camera(32, 0, 0), WHITE)
        assert (render.alpha == 1).all()


@pytest.mark.parametrize(("elevation", "azimuth"), [(0.0, 0.0), (30.0, 40.0), (-50.0, 200.0), (90.0, 10.0)])
def test_a_small_thing_lands_where_the_splats_put_it(elevation, azimuth):
    view = camera(48, elevation, azimuth)
    for place in [(0.0, 0.0, 0.0), (0.3, -0.2, 0.4), (-0.35, 0.3, 0.1)]:
        splat = GaussianTensors(
            means=torch.tensor([place]),
            quats=torch.tensor([[1.0, 0, 0, 0]]),
            scales=torch.full((1, 3), 0.005),
            opacities=torch.ones(1),
            colors=torch.zeros(1, 3),
        )
        small = ball(8, 0.04, torch.float32)
        moved = with_colors(Mesh(vertices=small.vertices + torch.tensor(place), faces=small.faces))
        splats, mesh = render_gaussians(splat, view, WHITE), render_surface(moved, view, WHITE)
        centres = []
        for alpha in (splats.alpha[0, ..., 0], mesh.alpha[0, ..., 0]):
            rows, columns = torch.meshgrid(torch.arange(48) + 0.5, torch.arange(48) + 0.5, indexing="ij")
            centres.append(torch.stack([(alpha * columns).sum(), (alpha * rows).sum()]) / alpha.sum())
        assert (centres[0] - centres[1]).abs().max() < 0.15  # pixels; the ball is 2 to 3 pixels wide
        column, row = centres[1].long().tolist()
        depths = [render.depth[0, row, column] / render.alpha[0, row, column] for render in (splats, mesh)]
        assert float(depths[1]) == pytest.approx(float(depths[0]), abs=0.041)  # the ball's radius


def test_views_of_a_batch_are_those_of_single_cameras():
    views = Cameras.orbit(elevation=[0.0, 40.0], azimuth=[10.0, 120.0], radius=2.5, fov_y=40.0, size=24)
    shape, background = Positions(surface(torus, 8)), torch.rand(2, 3)
    both = render_surface(shape, views, background)
    for index in range(2):
        single = render_surface(shape, views[index], background[index : index + 1])
        for name in ("color", "alpha", "depth"):
            assert torch.equal(getattr(both, name)[index], getattr(single, name)[0])


def test_an_image_may_be_the_background():
    image = torch.rand(1, 24, 24, 3)
    render = render_surface(with_colors(cube(), (0.0, 0.0, 0.0)), camera(24), image)
    torch.testing.assert_close(render.color, (1 - render.alpha) * image.double())


def test_light_falls_on_smooth_normals():
    """A light at the eye on a white ball: the middle faces it and gets all, the outline hardly any."""
    view = camera(48, 0.0, 0.0)
    shading = Shading(kind="lambertian", lights=view.eyes, ambient=0.1, diffuse=0.9)
    lit = render_surface(with_colors(ball(40, dtype=torch.float32)), view, WHITE, shading=shading)
    assert float(lit.color[0, 24, 24, 0]) == pytest.approx(1.0, abs=1e-3)
    # The normal of a point at depth z and offset x from the axis is (x, 2.5 - z) / 0.6.
    x, depth = (34.5 - 24) / focal(48) * lit.depth[0, 24, 34, 0], lit.depth[0, 24, 34, 0]
    normal = torch.tensor([x, 2.5 - depth]) / 0.6
    to_light = torch.tensor([-x, depth])
    cosine = float(normal @ to_light / to_light.norm())
    assert float(lit.color[0, 24, 34, 0]) == pytest.approx(0.1 + 0.9 * cosine, abs=0.01)


def test_nothing_and_things_behind_the_camera_leave_the_background():
    empty = Mesh(vertices=torch.zeros(0, 3), faces=torch.zeros(0, 3, dtype=torch.int64), colors=torch.zeros(0, 3))
    eye = camera().eyes[0]
    around = ball(6, 0.2, torch.float32)
    behind = with_colors(Mesh(vertices=around.vertices + 1.5 * eye, faces=around.faces))
    passing = with_colors(Mesh(vertices=5 * around.vertices + eye, faces=around.faces))
    for mesh in (empty, behind):
        render = render_surface(mesh, camera(), WHITE * 0.25)
        assert (render.color == 0.25).all()
        assert float(render.alpha.sum()) == float(render.depth.sum()) == 0.0
    render = render_surface(passing, camera(), WHITE)
    assert render.color.isfinite().all()
    assert render.depth.max() <= 1.01, "the far half of the ball around the eye"


def test_mistakes_are_told():
    with pytest.raises(ValueError, match="Expected one background colour for each of 1 views"):
        render_surface(with_colors(cube()), camera(), torch.ones(3, 3))
    with pytest.raises(ValueError, match="needs float32 on cuda"):
        render_surface(with_colors(cube()), camera(), WHITE, config=RasterRendererConfig(backend="triton"))
    with pytest.raises(ValueError, match="near"):
        RasterRendererConfig(near=0.0)


def test_fitting_an_outline_moves_a_ball_to_its_place():
    """Gradient descent on alpha alone: through nothing but silhouettes."""
    shape = ball(12)
    view = camera(32, 0.0, 0.0)
    goal = torch.tensor([0.2, -0.15, 0.0]).double()

    def alpha(shift: torch.Tensor) -> torch.Tensor:
        return render_surface(with_colors(Mesh(vertices=shape.vertices + shift, faces=shape.faces)), view, WHITE).alpha

    target = alpha(goal)
    shift = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([shift], lr=0.03)
    for _ in range(40):
        optimizer.zero_grad()
        (alpha(shift) - target).square().sum().backward()
        optimizer.step()
    assert (shift - goal)[:2].abs().max() < 0.01  # a pixel is 0.05 wide there
