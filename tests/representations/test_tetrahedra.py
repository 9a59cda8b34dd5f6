import math

import pytest
import torch

from hash3d.representations.tetrahedra import grid_tetrahedra, grid_vertices, marching_tetrahedra
from tests.shapes import euler_characteristic, sphere, surface, torus, volume


def test_tetrahedra_fill_the_cube_and_agree_on_their_faces():
    resolution = 3
    a, b, c, d = grid_vertices(resolution)[grid_tetrahedra(resolution)].unbind(1)
    volumes = (torch.linalg.cross(b - a, c - a) * (d - a)).sum(-1) / 6
    torch.testing.assert_close(volumes, torch.full((6 * resolution**3,), 1 / 6 / resolution**3))
    corners = grid_tetrahedra(resolution).sort(dim=-1).values
    triangles = torch.cat([corners[:, list(three)] for three in ((0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3))])
    counts = triangles.unique(dim=0, return_counts=True)[1]
    assert counts.max() == 2
    assert (counts == 1).sum() == 6 * 2 * resolution**2, "two triangles on each square of the cube's sides, no others"


@pytest.mark.parametrize(("shape", "characteristic"), [(sphere, 2), (torus, 0)])
def test_a_closed_shape_gives_a_closed_oriented_surface(shape, characteristic):
    mesh = surface(shape, 16)
    directed = torch.cat([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    assert len(directed.unique(dim=0)) == len(directed), "no edge is passed twice in one direction"
    assert len(directed.sort(dim=-1).values.unique(dim=0)) == len(directed) // 2, "each edge has two faces"
    assert euler_characteristic(mesh) == characteristic


def test_area_and_volume_converge_to_the_closed_form_at_second_order():
    area, inside = 4 * math.pi * 0.6**2, 4 / 3 * math.pi * 0.6**3
    coarse, fine = surface(sphere, 12), surface(sphere, 24)
    errors = [[float(m.face_areas.sum()) / area - 1, float(volume(m)) / inside - 1] for m in (coarse, fine)]
    assert all(-0.05 < error < 0 for error in errors[0]), "positive, so faces look outwards; chords lie inside"
    for rough, good in zip(*errors, strict=True):
        assert 3.8 < rough / good < 4.2

    ring = surface(torus, 32)
    assert float(volume(ring)) == pytest.approx(2 * math.pi**2 * 0.55 * 0.25**2, rel=0.02)  # 4 cells a radius
    assert float(ring.face_areas.sum()) == pytest.approx(4 * math.pi**2 * 0.55 * 0.25, rel=0.02)


def test_linear_functions_have_an_exact_plane():
    normal, offset = torch.tensor([0.3, -0.8, 0.5]).double(), 0.1
    vertices = grid_vertices(5).double()
    mesh = marching_tetrahedra(vertices, vertices @ normal - offset, grid_tetrahedra(5))
    assert len(mesh) > 0
    torch.testing.assert_close(mesh.vertices @ normal, torch.full((len(mesh.vertices),), offset).double())
    facing = (mesh.face_normals @ normal)[mesh.face_areas > 1e-9]
    assert (facing > 0).all(), "faces look towards positive values"


def test_gradients_are_those_of_finite_differences():
    vertices, tetrahedra = 2 * grid_vertices(3).double() - 1, grid_tetrahedra(3)
    values = vertices.norm(dim=-1) - 0.8 + 0.1 * torch.rand(64, generator=torch.Generator().manual_seed(0)).double()

    def volume_and_area(values, vertices):
        mesh = marching_tetrahedra(vertices, values, tetrahedra)
        return volume(mesh), mesh.vertices.square().sum(), mesh.face_areas.sum()

    assert torch.autograd.gradcheck(volume_and_area, [each.clone().requires_grad_() for each in (values, vertices)])


def test_lowering_a_distance_grows_the_volume_by_the_area():
    vertices = (2 * grid_vertices(24) - 1).double()
    values = sphere(vertices).requires_grad_()
    mesh = marching_tetrahedra(vertices, values, grid_tetrahedra(24))
    volume(mesh).backward()
    assert -values.grad.sum().item() == pytest.approx(mesh.face_areas.sum().item(), rel=0.01)  # |grad s| = 1 to h^2


def test_one_sign_has_no_surface_and_zeros_count_as_outside():
    assert len(surface(lambda points: points[:, 0] * 0 + 1, 4)) == 0
    assert len(surface(lambda points: points[:, 0] * 0, 4)) == 0
    octahedron = surface(lambda points: points.abs().sum(dim=-1) - 0.5, 8)  # zeros at grid vertices
    assert euler_characteristic(octahedron) == 2
    assert float(volume(octahedron)) == pytest.approx(4 / 3 * 0.5**3), "its sides are planes of the grid"


def test_no_cells_are_refused():
    with pytest.raises(ValueError, match="Expected at least 1 cell"):
        grid_vertices(0)
