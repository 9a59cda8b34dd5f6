"""The kernels' rasterisers equal the reference implementation: the same face at every pixel, the same blended outlines.

Numba's on a CPU. Triton's on a GPU, or with TRITON_INTERPRET=1 on a CPU:
`TRITON_INTERPRET=1 python -m pytest -m gpu` and this file.
"""

import os
from importlib import import_module

import pytest
import torch

from hash3d.cameras import Cameras
from hash3d.rendering._torch_raster import Projected, locate, visible_faces
from hash3d.rendering.raster import antialias, project
from hash3d.representations.mesh import Mesh
from tests.shapes import ball, cube, joined, surface, torus

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture(params=["numba", pytest.param("triton", marks=pytest.mark.gpu)])
def both(request):
    """The faces that the reference and a kernel see."""
    kernels = import_module(f"hash3d.rendering._{request.param}_raster")
    device = DEVICE if request.param == "triton" else "cpu"

    def see(screen: torch.Tensor, depths: torch.Tensor, faces: torch.Tensor, size: tuple[int, int]):
        projected = Projected(screen[None].to(device), depths[None].to(device), faces.to(device))
        return visible_faces(projected, size)[0], kernels.visible_faces(projected, size)[0]

    return see


def test_triangles_of_all_sizes_some_beyond_the_edges(both):
    generator = torch.Generator().manual_seed(0)
    centres = 50 * torch.rand(60, 1, 2, generator=generator) - 10
    spread = 12 * torch.rand(60, 1, 1, generator=generator) ** 3
    screen = (centres + spread * torch.randn(60, 3, 2, generator=generator)).flatten(0, 1)
    depths = 1.0 + torch.rand(180, generator=generator)
    expected, found = both(screen, depths, torch.arange(180).view(60, 3), (33, 27))
    assert (expected >= 0).float().mean() > 0.2
    assert (expected != found).sum() <= 1  # where two faces cross, a depth's last bit may decide


def test_no_pixel_falls_between_faces_that_share_an_edge_and_the_lowest_row_wins(both):
    """A grid whose edges go through the pixel centres, all at one depth: 4 faces meet there."""
    y, x = torch.meshgrid(torch.arange(6) * 2.0 + 0.5, torch.arange(6) * 2.0 + 0.5, indexing="ij")
    corner = (torch.arange(5)[:, None] * 6 + torch.arange(5)).flatten()
    upper = torch.stack([corner, corner + 1, corner + 6], dim=-1)
    lower = torch.stack([corner + 1, corner + 7, corner + 6], dim=-1)
    expected, found = both(torch.stack([x, y], dim=-1).view(-1, 2), torch.ones(36), torch.cat([upper, lower]), (11, 11))
    assert (expected >= 0).all()
    # Of weights in thirds, say, the sum may miss 1 in its last bit: the depths of two faces may differ by that.
    assert (found >= 0).all()
    assert (expected == found).float().mean() > 0.9


def test_no_faces_are_seen_nowhere(both):
    expected, found = both(torch.zeros(3, 2), torch.ones(3), torch.zeros(0, 3, dtype=torch.int64), (4, 3))
    assert torch.equal(expected, found)


def test_flat_faces_are_not_seen(both):
    screen = torch.tensor([[0.0, 0.0], [8.0, 8.0], [4.0, 4.0]])
    expected, found = both(screen, torch.ones(3), torch.tensor([[0, 1, 2]]), (8, 8))
    assert torch.equal(found, expected)
    assert found.max() == -1


SHAPES = {
    "small faces": surface(torus, 12),
    "large faces, one behind the other": joined(cube(0.4), cube(0.15, (0.2, 0.3, 0.6)), cube(0.2, (0.1, 0.1, -0.7))),
    "some behind the camera": joined(ball(6, 0.5), cube(0.3, (0.4, 0.3, 2.5))),
}


@pytest.mark.gpu
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_points_and_outlines_and_their_gradients_are_the_references(shape):
    """Of two views; every output has random weights, and gradients are those in the vertices and in the image."""
    from hash3d.rendering import _triton_antialias, _triton_raster

    views, size = Cameras.orbit(elevation=[20.0, 5.0], azimuth=[30.0, 0.0], radius=2.5, fov_y=45.0, size=32), (32, 32)
    vertices = shape.vertices.float().to(DEVICE).requires_grad_()
    mesh = Mesh(vertices=vertices, faces=shape.faces.to(DEVICE))
    with torch.no_grad():
        seen = visible_faces(project(mesh, views, 0.01), size).flatten()
    pixels = (seen >= 0).nonzero()[:, 0]
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 32, 32, 5, generator=generator).to(DEVICE).requires_grad_()
    weights = [torch.randn(len(pixels), *more, generator=generator).to(DEVICE) for more in ((3,), ())]
    weights.append(torch.randn(image.shape, generator=generator).to(DEVICE))
    results = []
    for triton in (False, True):
        projected = project(mesh, views, 0.01)
        kernels = _triton_raster.locate if triton else locate
        *points, areas = kernels(projected, seen[pixels], pixels, size)
        nearest = torch.full((len(seen),), torch.inf, device=DEVICE).index_copy(0, pixels, points[1].detach())
        arguments = image, nearest.view(2, 32, 32), projected
        if triton:
            blended = _triton_antialias.antialias(*arguments, mesh.edges.vertices, mesh.edges.of_face)
        else:
            blended = antialias(*arguments, mesh.edges)
        outputs = *points, blended
        total = sum((each * weight).sum() for each, weight in zip(outputs, weights, strict=True))
        results.append([*(each.detach() for each in outputs), areas, *torch.autograd.grad(total, [vertices, image])])
    assert (results[0][2] != image).any(dim=-1).sum() > 30, "outlines are blended"
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("triton", [False, pytest.param(True, marks=pytest.mark.gpu)])
def test_a_pixel_that_sees_no_face_has_no_weights_and_no_gradient(triton):
    """Whatever the first face is: it lies behind the near plane here."""
    from hash3d.rendering import _torch_raster

    kernels = import_module("hash3d.rendering._triton_raster") if triton else _torch_raster
    device = DEVICE if triton else "cpu"
    screen = torch.tensor([[torch.nan, torch.nan], [1.0, 1.0], [5.0, 1.0], [1.0, 5.0]], device=device)[None]
    leaves = [screen.requires_grad_(), torch.full((1, 4), 2.0, device=device, requires_grad=True)]
    projected = Projected(*leaves, torch.tensor([[0, 1, 2], [1, 2, 3]], device=device))
    faces, pixels = torch.tensor([-1, 1], device=device), torch.tensor([0, 18], device=device)
    weights, depths, areas = kernels.locate(projected, faces, pixels, (8, 8))
    assert weights[0].eq(0).all()
    torch.testing.assert_close(weights[1], torch.tensor([0.25, 0.375, 0.375], device=device))
    torch.testing.assert_close(depths, torch.tensor([1.0, 2.0], device=device))
    assert areas[0] == 0
    by_screen, by_depths = torch.autograd.grad(weights[0].sum() + depths[0], leaves)
    assert not by_screen.any()
    assert not by_depths.any()
