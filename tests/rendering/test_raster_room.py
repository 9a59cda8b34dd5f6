"""A render with room is the render without: pixels that come again count once. Where room is missing it says so."""

import dataclasses

import pytest
import torch

from hash3d.cameras import Cameras
from hash3d.rendering.raster import RasterRendererConfig, render_surface
from hash3d.rendering.shading import Shading
from hash3d.representations.dmtet import grid_vertices, marching_tetrahedra
from tests.shapes import Positions, sphere, torus

SIZE = 24
VIEWS = Cameras.orbit(elevation=[20.0, 5.0], azimuth=[30.0, 0.0], radius=[2.5, 4.0], fov_y=45.0, size=SIZE)
INSIDE = Cameras.orbit(elevation=0.0, azimuth=0.0, radius=0.01, fov_y=45.0, size=SIZE)
"""Looks away from whatever is behind it."""
NAMES = ("color", "alpha", "depth")


class Lit(Positions):
    """Colours that bend with the positions: gradients of all coordinates differ."""

    def colors_at(self, points):
        return points.positions.square() + 0.3 * points.positions.roll(1, -1)


def draw(function, cameras, *, mesh_room=None, room=None, backend="auto", antialias=True, kind="lambertian"):
    """A render of a zero level, and the gradients of a random sum in values, vertices and background."""
    generator = torch.Generator().manual_seed(0)
    vertices = 2 * grid_vertices(10) - 1
    leaves = [function(vertices), vertices, torch.rand(len(cameras), 3, generator=generator)]
    leaves = [each.clone().requires_grad_() for each in leaves]
    mesh = marching_tetrahedra(leaves[1], leaves[0], mesh_room)
    shading = Shading(kind=kind, lights=torch.randn(len(cameras), 3, generator=generator))
    config = RasterRendererConfig(backend=backend, antialias=antialias)
    render = render_surface(Lit(mesh), cameras, leaves[2], shading=shading, config=config, room=room)
    images = [getattr(render, name) for name in NAMES]
    total = sum((each * torch.randn(each.shape, generator=generator)).sum() for each in images)
    return mesh, render, torch.autograd.grad(total, leaves)


def compare(found, expected):
    for name in NAMES:
        torch.testing.assert_close(getattr(found[1], name), getattr(expected[1], name))
    assert int(found[1].covered) == expected[1].covered
    for each, gradient in zip(found[2], expected[2], strict=True):
        torch.testing.assert_close(each, gradient, rtol=1e-4, atol=1e-4 * float(gradient.abs().max()))


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("more", [0, 1, 37, 10**6])
@pytest.mark.parametrize("function", [sphere, torus])
def test_images_and_gradients_are_those_without_room(function, more, backend):
    expected = draw(function, VIEWS, backend=backend)
    mesh, render, _ = expected
    assert 100 < render.covered < 2 * SIZE**2
    room = min(render.covered + more, 2 * SIZE**2)
    mesh_room = len(mesh.vertices) + more % 1000, len(mesh) + 2 * (more % 1000)
    compare(draw(function, VIEWS, mesh_room=mesh_room, room=room, backend=backend), expected)


@pytest.mark.parametrize("kind", ["albedo", "textureless"])
def test_without_outlines_and_in_other_light_too(kind):
    expected = draw(torus, VIEWS, antialias=False, kind=kind) if kind == "albedo" else draw(torus, VIEWS, kind=kind)
    found = draw(torus, VIEWS, mesh_room=(1000, 2000), room=900, antialias=kind != "albedo", kind=kind)
    compare(found, expected)


def nothing(points):
    return points[:, 0] * 0.0 + 1.0


def behind(points):
    """A ball behind the camera and beside it."""
    return (points - torch.tensor([0.0, 0.0, 0.6])).norm(dim=-1) - 0.3


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("function", [nothing, behind])
def test_a_view_that_sees_nothing_is_its_background_and_leaves_no_gradient(function, backend):
    _, render, gradients = draw(function, INSIDE, mesh_room=(1000, 2000), room=50, backend=backend)
    assert int(render.covered) == 0
    compare((None, render, gradients), draw(function, INSIDE, backend=backend))
    assert not gradients[0].any()
    assert gradients[2].any()


@pytest.mark.parametrize("which", ["vertices", "faces", "pixels"])
def test_colours_are_not_finite_where_one_row_is_missing(which):
    """And alpha, of which there are logarithms, is."""
    mesh, render, _ = draw(torus, VIEWS)
    rooms = {"vertices": len(mesh.vertices), "faces": len(mesh), "pixels": render.covered}
    rooms[which] -= 2 if which == "faces" else 1
    _, short, _ = draw(torus, VIEWS, mesh_room=(rooms["vertices"], rooms["faces"]), room=rooms["pixels"])
    assert short.color.isnan().all()
    assert ((short.alpha >= 0) & (short.alpha <= 1)).all()


def test_a_mesh_of_which_all_is_missing_is_told_too():
    _, short, _ = draw(torus, VIEWS, mesh_room=(2, 2), room=2 * SIZE**2)
    assert short.color.isnan().all()


def test_an_image_that_is_covered_whole_needs_no_more_rows_than_it_has():
    near = dataclasses.replace(VIEWS, fov_y=torch.full((2,), 5.0))
    expected = draw(sphere, near)
    assert expected[1].covered == 2 * SIZE**2
    compare(draw(sphere, near, mesh_room=(2000, 4000), room=2 * SIZE**2), expected)
