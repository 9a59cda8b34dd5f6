import copy
import math
import re

import pytest
import torch
from torch import nn

from hash3d.representations.dmtet import (
    DmtetMesh,
    DmtetMeshConfig,
    choose_level,
    evaluate,
    grid_points,
    grid_tetrahedra,
    grid_vertices,
    marching_tetrahedra,
)
from hash3d.representations.mesh import Mesh, SurfacePoints
from tests.shapes import euler_characteristic, sphere, surface, torus, volume

CONFIG = DmtetMeshConfig(resolution=12)


class Ramp(nn.Module):
    """Colours that are the position, times a slope to learn."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(2.0))

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        return self.slope * points


def make(config=CONFIG, sdf=lambda points: points.norm(dim=-1) - 0.5) -> DmtetMesh:
    """The zero level of a function in the whole box, by default of a sphere."""
    box = torch.tensor([[-config.radius] * 3, [config.radius] * 3])
    return DmtetMesh(config, box, evaluate(sdf, grid_points(config.resolution, box)), Ramp())


def closed(mesh) -> bool:
    return bool((torch.bincount(mesh.edges.of_face.flatten()) == 2).all())


def middles(mesh) -> SurfacePoints:
    """The centre of each face."""
    faces = torch.arange(len(mesh))
    weights = torch.full((len(mesh), 3), 1 / 3)
    return SurfacePoints(mesh=mesh, faces=faces, weights=weights, views=faces * 0, face_pixels=torch.ones(len(mesh)))


def test_a_shape_that_leaves_the_box_is_closed_at_its_border():
    mesh = make(sdf=lambda points: points[:, 0] - 0.1).mesh()
    assert closed(mesh)
    assert volume(mesh).item() == pytest.approx(1.1 * 2 * 2, rel=0.04)  # the rim of the cut loses up to a cell
    assert mesh.vertices.abs().max() <= 1.0


def test_the_density_start_is_its_level_set_in_a_tightened_box():
    """100 exp(-|p - c|^2 / (2 s^2)) falls to 25 at |p - c| = s sqrt(2 log 4)."""
    centre, spread = torch.tensor([0.2, -0.1, 0.0]), 0.12

    def density(points: torch.Tensor) -> torch.Tensor:
        return 100 * torch.exp(-(points - centre).square().sum(dim=-1) / (2 * spread**2))

    radius = spread * math.sqrt(2 * math.log(4))
    shape = DmtetMeshConfig(resolution=24).build(density, Ramp(), level=25.0)
    # A tenth of the coarse surface's size is added on each side; that surface lies within a cell of the true one.
    margins = torch.stack([centre - radius - shape.box[0], shape.box[1] - centre - radius])
    assert (margins - 0.2 * radius).abs().max() < 1 / 12
    # The logarithm is a parabola: in a cell, whose diagonal is 0.035, its chord lies within 0.035^2 / (8 radius).
    assert ((shape.mesh().vertices - centre).norm(dim=-1) - radius).abs().max() < 0.001
    assert shape.values.abs().max() <= 1.0

    automatic = DmtetMeshConfig(resolution=24).build(density, Ramp())
    points = torch.cartesian_prod(*[torch.linspace(-1, 1, 25)] * 3)
    found = density(points)
    level = float(found[found > 1e-5].mean())
    expected = spread * math.sqrt(2 * math.log(100 / level))
    assert ((automatic.mesh().vertices - centre).norm(dim=-1) - expected).abs().max() < 0.0015, "larger cells"


@pytest.mark.parametrize("height", [30.0, 300.0, 0.03], ids=["opaque", "more so", "a haze"])
def test_the_opaque_level_covers_what_the_density_hides(height):
    """Along a line at b of h exp(-r^2 / (2 s^2)) the sum is h s sqrt(2 pi) e, and the largest density h e, with
    e = exp(-b^2 / (2 s^2)): the line of opacity a half reaches log(2) / (s sqrt(2 pi)), whatever h is. A haze hides
    where its opacity, about the sum, is over half of the largest: to half of its height."""
    spread, count = 0.12, 41
    axis = torch.linspace(-1.0, 1.0, count, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis, axis).view(count, count, count, 3)
    density = height * (-grid.square().sum(dim=-1) / (2 * spread**2)).exp()
    expected = 0.5 * height if height < 1.0 else math.log(2.0) / (spread * math.sqrt(2 * math.pi))
    found = choose_level("opaque", density, 2.0 / (count - 1))
    ring = spread * math.sqrt(2 * math.log(height / expected))
    slack = 0.05 * ring / spread**2  # the density's relative change over a grid's spacing there
    assert math.log(found / expected) == pytest.approx(0.0, abs=slack)


def test_offsets_are_bounded_by_their_share_of_a_cell():
    shape = make(DmtetMeshConfig(resolution=10, max_offset=0.4))
    start = shape.mesh().vertices.detach()
    with torch.no_grad():
        shape.offsets += torch.tensor([100.0, 0.0, -100.0])
    moved = shape.mesh().vertices - start
    torch.testing.assert_close(moved, torch.tensor([0.08, 0.0, -0.08]).expand_as(moved), atol=1e-6, rtol=0)


def test_a_colour_field_is_asked_at_the_points_and_learns_with_the_shape():
    shape = make()
    points = middles(shape.mesh())
    torch.testing.assert_close(shape.colors_at(points), 2 * points.positions)
    shape.colors_at(points).sum().backward()
    assert shape.color_field.slope.grad is not None
    assert {group["name"] for group in shape.build_optimizer().param_groups} == {"values", "offsets", "color_field"}
    assert len(list(shape.parameters())) == 3


def test_the_optimizer_reaches_a_volume_and_a_colour():
    shape = make(DmtetMeshConfig(resolution=8, values_lr=0.01, offsets_lr=0.01, colors_lr=0.1))
    optimizer = shape.build_optimizer()
    names = {"values": 0.01, "offsets": 0.01, "color_field": 0.1}
    assert {group["name"]: group["lr"] for group in optimizer.param_groups} == names
    for step in range(60):
        shape.update_learning_rate(optimizer, step)
        mesh = shape.mesh()
        points = middles(mesh)
        loss = (volume(mesh) - 0.9).square() + (shape.colors_at(points) - 0.5 * points.positions).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert volume(shape.mesh()).item() == pytest.approx(0.9, abs=0.03)  # from 0.5
    assert shape.color_field.slope.item() == pytest.approx(0.5, abs=0.05)  # from 2
    assert closed(shape.mesh())


def test_a_checkpoint_brings_its_box_and_its_optimizer_goes_on():
    stored = CONFIG.build(lambda points: 50 * (0.5 - points.norm(dim=-1)).clamp(min=0), Ramp(), level=5.0)
    optimizer = stored.build_optimizer()
    volume(stored.mesh()).backward()
    optimizer.step()
    resumed = make()
    resumed.load_state_dict(stored.state_dict())
    resumed_optimizer = resumed.build_optimizer()
    resumed_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for shape, adam in ((stored, optimizer), (resumed, resumed_optimizer)):
        adam.zero_grad()
        volume(shape.mesh()).backward()
        adam.step()
    assert isinstance(resumed, DmtetMesh)
    assert torch.equal(resumed.mesh().vertices, stored.mesh().vertices)


@pytest.mark.parametrize("value", [1.0, -1.0])
def test_a_field_of_one_sign_is_told(value):
    with pytest.raises(ValueError, match="Expected a field with an inside and an outside"):
        make(sdf=lambda points: torch.full((len(points),), value))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"resolution": 1}, "resolution at least 2, but got 1"),
        ({"radius": 0.0}, "radius above 0, but got 0.0"),
        ({"max_offset": 1.5}, "max_offset at least 0 and at most 1, but got 1.5"),
    ],
)
def test_impossible_configurations_are_refused(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        DmtetMeshConfig(**wrong)


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
    vertices = grid_vertices(7).double()
    values = vertices @ normal - offset
    border = ((vertices == 0) | (vertices == 1)).any(dim=-1)
    mesh = marching_tetrahedra(vertices, torch.where(border, values.clamp(min=1e-3), values))
    inner = ((mesh.vertices > 1 / 7) & (mesh.vertices < 6 / 7)).all(dim=-1)  # the border closes the surface
    assert inner.sum() > 20
    torch.testing.assert_close((mesh.vertices @ normal)[inner], torch.full((int(inner.sum()),), offset).double())
    facing = (mesh.face_normals @ normal)[inner[mesh.faces].all(dim=-1) & (mesh.face_areas > 1e-9)]
    assert (facing > 0).all(), "faces look towards positive values"


def test_gradients_are_those_of_finite_differences():
    vertices = 2 * grid_vertices(3).double() - 1
    values = vertices.norm(dim=-1) - 0.8 + 0.1 * torch.rand(64, generator=torch.Generator().manual_seed(0)).double()

    def volume_and_area(values, vertices):
        mesh = marching_tetrahedra(vertices, values)
        return volume(mesh), mesh.vertices.square().sum(), mesh.face_areas.sum()

    assert torch.autograd.gradcheck(volume_and_area, [each.clone().requires_grad_() for each in (values, vertices)])


def test_lowering_a_distance_grows_the_volume_by_the_area():
    vertices = (2 * grid_vertices(24) - 1).double()
    values = sphere(vertices).requires_grad_()
    mesh = marching_tetrahedra(vertices, values)
    volume(mesh).backward()
    assert -values.grad.sum().item() == pytest.approx(mesh.face_areas.sum().item(), rel=0.01)  # |grad s| = 1 to h^2


def test_any_values_give_a_closed_surface_whose_edges_are_known():
    """`Mesh.edges` takes the surface's word that each edge has two faces; without it, it finds the same."""
    generator = torch.Generator().manual_seed(0)
    vertices = grid_vertices(6)
    border = ((vertices == 0) | (vertices == 1)).any(dim=-1)
    values = torch.randn(len(vertices), generator=generator)
    mesh = marching_tetrahedra(vertices, torch.where(border, values.abs(), values))
    assert mesh.closed
    assert len(mesh) > 500
    assert closed(mesh)
    plain = Mesh(vertices=mesh.vertices, faces=mesh.faces)
    assert torch.equal(plain.edges.vertices, mesh.edges.vertices)
    assert torch.equal(plain.edges.of_face, mesh.edges.of_face)
    directed = torch.cat([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    assert len(directed.unique(dim=0)) == len(directed), "faces beside each other look the same way"


def test_one_sign_has_no_surface_and_zeros_count_as_outside():
    assert len(surface(lambda points: points[:, 0] * 0 + 1, 4)) == 0
    assert len(surface(lambda points: points[:, 0] * 0, 4)) == 0
    octahedron = surface(lambda points: points.abs().sum(dim=-1) - 0.5, 8)  # zeros at grid vertices
    assert euler_characteristic(octahedron) == 2
    assert float(volume(octahedron)) == pytest.approx(4 / 3 * 0.5**3), "its sides are planes of the grid"


def test_no_cells_are_refused():
    with pytest.raises(ValueError, match="Expected at least 1 cell"):
        grid_vertices(0)
