import pytest
import torch

from hash3d.representations.mesh import (
    Mesh,
    SurfacePoints,
    sample_surface,
)
from hash3d.scenes.losses import normal_consistency_loss
from tests.shapes import ball, cube, joined, sphere, surface, volume

TETRAHEDRON = Mesh(
    vertices=torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64),
    faces=torch.tensor([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]]),
)


def sheet(size: int) -> Mesh:
    """A flat square of regular triangles' corners."""
    vertices = torch.cartesian_prod(torch.arange(size), torch.arange(size), torch.zeros(1, dtype=torch.int64)).double()
    first = torch.cartesian_prod(torch.arange(size - 1), torch.arange(size - 1)) @ torch.tensor([size, 1])
    faces = torch.cat([first[:, None] + torch.tensor(three) for three in ([0, size, 1], [1, size, size + 1])])
    return Mesh(vertices=vertices, faces=faces)


def test_a_regular_tetrahedron_has_the_known_measures():
    """Edge 2 sqrt(2). Vertex normals point from the centre; the centre of three vertices is -1/3 of the fourth."""
    assert float(volume(TETRAHEDRON)) == pytest.approx(8 / 3)
    assert float(TETRAHEDRON.face_areas.sum()) == pytest.approx(8 * 3**0.5)
    torch.testing.assert_close(TETRAHEDRON.vertex_normals, TETRAHEDRON.vertices / 3**0.5)
    assert float(normal_consistency_loss(TETRAHEDRON)) == pytest.approx(1 + 1 / 3)
    assert TETRAHEDRON.edges.vertices.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    ends = TETRAHEDRON.edges.vertices[TETRAHEDRON.edges.of_face]
    assert (ends != TETRAHEDRON.faces[..., None]).all(), "an edge lies opposite to its corner"


def test_a_plane_is_smooth_and_a_bump_is_not():
    flat = sheet(6)
    assert float(normal_consistency_loss(flat)) == pytest.approx(0, abs=1e-12)
    bumped = flat.vertices.clone()
    bumped[14, 2] = 1.0
    bump = Mesh(vertices=bumped, faces=flat.faces)
    assert normal_consistency_loss(bump) > 0.01


def test_the_measures_gradients_are_those_of_finite_differences():
    shape = surface(sphere, 4)

    def measures(vertices):
        mesh = Mesh(vertices=vertices, faces=shape.faces)
        return normal_consistency_loss(mesh), volume(mesh)

    assert torch.autograd.gradcheck(measures, shape.vertices.clone().requires_grad_())


def test_an_empty_mesh_costs_nothing():
    empty = Mesh(vertices=torch.zeros(0, 3), faces=torch.zeros(0, 3, dtype=torch.int64))
    assert float(normal_consistency_loss(empty)) == float(volume(empty)) == 0.0


def test_points_interpolate_their_corners():
    weights = torch.tensor([[1.0, 0.0, 0.0], [0.25, 0.25, 0.5]]).double()
    zeros = torch.zeros(2, dtype=torch.int64)
    points = SurfacePoints(
        mesh=TETRAHEDRON, faces=torch.tensor([0, 3]), weights=weights, views=zeros, face_pixels=torch.ones(2)
    )
    expected = torch.tensor([[1.0, 1.0, 1.0], [-0.5, 0.0, -0.5 + 0.5]]).double()
    expected[1] = 0.25 * TETRAHEDRON.vertices[1] + 0.25 * TETRAHEDRON.vertices[3] + 0.5 * TETRAHEDRON.vertices[2]
    torch.testing.assert_close(points.positions, expected)
    torch.testing.assert_close(points.normals.norm(dim=-1), torch.ones(2).double())
    torch.testing.assert_close(points.normals[0], TETRAHEDRON.vertices[0] / 3**0.5)
    with pytest.raises(ValueError, match="Expected a mesh with vertex colours"):
        TETRAHEDRON.colors_at(points)


def test_points_on_a_surface_are_uniform_on_a_cube():
    """Each of the 6 sides has a sixth of the points; on a side the two free coordinates are uniform and independent."""
    half, count = 0.3, 24_000
    points = sample_surface(cube(half), count, torch.Generator().manual_seed(0)) / half
    torch.testing.assert_close(points.abs().amax(dim=-1), torch.ones_like(points[:, 0]))
    side = points.abs().argmax(dim=-1)
    for axis in range(3):
        for sign in (-1.0, 1.0):
            chosen = (side == axis) & (points[:, axis] * sign > 0)
            # Four standard deviations of the count of a sixth, and of each mean below.
            assert abs(int(chosen.sum()) - count / 6) < 4 * (count * 5 / 36) ** 0.5
            free = points[chosen][:, [other for other in range(3) if other != axis]]
            limit = 4 / len(free) ** 0.5
            assert free.mean(dim=0).abs().max() < limit * 3**-0.5
            assert (free.square().mean(dim=0) - 1 / 3).abs().max() < limit * (4 / 45) ** 0.5
            assert free.prod(dim=-1).mean().abs() < limit / 3
            # The diagonal between the two triangles of a side is nowhere to be seen: each quarter has a quarter.
            quarters = torch.bincount(2 * (free[:, 0] > 0).long() + (free[:, 1] > 0).long(), minlength=4)
            assert (quarters - len(free) / 4).abs().max() < 4 * (len(free) * 3 / 16) ** 0.5


def test_points_on_a_sphere_have_the_moments_of_a_sphere():
    """Archimedes: each coordinate is uniform in [-r, r], whatever the triangles; x_i x_j has the mean r^2 / 3 or 0."""
    radius, count = 0.6, 20_000
    points = sample_surface(ball(32, radius), count, torch.Generator().manual_seed(1)) / radius
    assert (points.norm(dim=-1) - 1.0).abs().max() < 0.01
    assert points.mean(dim=0).abs().max() < 4 * (1 / 3 / count) ** 0.5
    assert (points.T @ points / count - torch.eye(3) / 3).abs().max() < 0.01
    uniform = torch.linspace(-1.0, 1.0, count, dtype=torch.float64)
    for axis in range(3):
        assert (points[:, axis].sort().values - uniform).abs().max() < 0.04


def test_a_larger_part_of_a_surface_gets_more_points_and_a_seed_repeats_them():
    small, large = cube(0.1, (-1.0, 0.0, 0.0)), cube(0.2, (1.0, 0.0, 0.0))
    first, again = (sample_surface(joined(small, large), 5000, torch.Generator().manual_seed(2)) for _ in range(2))
    assert torch.equal(first, again)
    assert float((first[:, 0] > 0).double().mean()) == pytest.approx(4 / 5, abs=4 * (0.16 / 5000) ** 0.5)
