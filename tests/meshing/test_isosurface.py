"""Surfaces whose area, volume and place are known."""

import math

import pytest
import torch
import trimesh

from hash3d.meshing import isosurface
from hash3d.meshing.isosurface import (
    MIN_OPACITY,
    NEGLIGIBLE,
    GaussianField,
    IsosurfaceConfig,
    extract_mesh,
    remove_small_components,
)
from hash3d.rendering._torch_splat import rotation_matrices
from hash3d.representations.gaussians import GaussianTensors
from hash3d.representations.mesh import Mesh

CUBE = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])


def ball(center, radius):
    """Density 1 at the ball's surface, larger inside."""
    return lambda points: torch.exp(5.0 * (radius - (points - torch.tensor(center)).norm(dim=-1)))


def extract(density, box=CUBE, **settings):
    return extract_mesh(density, box, IsosurfaceConfig(**{"level": 1.0, "resolution": 48, **settings}))


def as_trimesh(mesh: Mesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(mesh.vertices.numpy(), mesh.faces.numpy(), process=False)


def test_a_ball_has_its_area_and_volume_and_is_closed_and_turned_outward():
    mesh = extract(ball((0.1, -0.2, 0.3), 0.6))
    found = as_trimesh(mesh)
    assert found.is_watertight
    assert found.is_winding_consistent
    # Chords of the second pass's samples, 1.4 / 47 apart, are short of the ball by about 0.03^2 / (8 0.6).
    assert found.volume == pytest.approx(4 / 3 * math.pi * 0.6**3, rel=2e-3)
    assert found.area == pytest.approx(4 * math.pi * 0.6**2, rel=2e-3)
    assert float(mesh.face_areas.sum()) == pytest.approx(found.area, rel=1e-5)
    distances = (mesh.vertices - torch.tensor([0.1, -0.2, 0.3])).norm(dim=-1)
    # A straight line between samples 0.03 apart is off an exponential of rate 5 by up to 0.03^2 5 / 8.
    torch.testing.assert_close(distances, torch.full_like(distances, 0.6), atol=6e-4, rtol=0)


def test_a_cube_has_its_area_and_volume():
    found = as_trimesh(extract(lambda points: 2.0 - points.abs().amax(dim=-1) / 0.4))
    # Exact on the sides; the edges, cut over one sample of 0.02, lose a share of about 0.02 / 0.8.
    assert found.volume == pytest.approx(0.8**3, rel=5e-3)
    assert found.area == pytest.approx(6 * 0.8**2, rel=2e-2)


def test_each_axis_keeps_its_place_in_a_box_of_unequal_sides():
    center, axes = torch.tensor([0.2, -0.5, 1.0]), torch.tensor([0.1, 0.3, 0.6])
    box = torch.stack([center - axes - torch.tensor([0.5, 0.1, 0.2]), center + axes + 0.3])
    mesh = extract(lambda points: 2.0 - ((points - center) / axes).norm(dim=-1), box)
    # Within a sample of the finer grid, 1.44 / 47.
    torch.testing.assert_close(mesh.vertices.amin(dim=0), center - axes, atol=0.01, rtol=0)
    torch.testing.assert_close(mesh.vertices.amax(dim=0), center + axes, atol=0.01, rtol=0)


def test_the_second_pass_sees_what_is_small_in_the_box():
    found = as_trimesh(extract(ball((0.5, 0.5, 0.5), 0.08), resolution=24))
    # One pass has samples 0.087 apart, more than the ball's radius.
    assert found.volume == pytest.approx(4 / 3 * math.pi * 0.08**3, rel=0.02)


def test_only_components_under_the_share_go():
    def density(points):
        return ball((-0.3, 0.0, 0.0), 0.5)(points) * (points[:, 0] < 0.3) + ball((0.7, 0.0, 0.0), 0.1)(points) * (
            points[:, 0] > 0.5
        )

    assert as_trimesh(extract(density, min_component=0.0)).body_count == 2
    # The faces are in the ratio of the areas, 25 to 1.
    assert as_trimesh(extract(density, min_component=0.02)).body_count == 2
    kept = extract(density, min_component=0.08)
    assert as_trimesh(kept).body_count == 1
    assert kept.vertices[:, 0].max() < 0.3
    assert kept.faces.unique().tolist() == list(range(len(kept.vertices)))


def test_faces_follow_the_vertices_that_are_kept():
    large = trimesh.creation.icosphere(subdivisions=2)
    both = trimesh.util.concatenate([trimesh.creation.box().apply_translation([5, 0, 0]), large])
    vertices = torch.tensor(both.vertices, dtype=torch.float32)
    mesh = Mesh(vertices=vertices, faces=torch.tensor(both.faces))
    kept = remove_small_components(mesh, 0.5)
    expected = torch.tensor(large.vertices, dtype=torch.float32)[torch.tensor(large.faces)]
    assert torch.equal(kept.vertices[kept.faces], expected)


def test_many_components_of_one_size_are_all_kept():
    """Each is as large as the largest, however small a part of the whole."""
    boxes = [trimesh.creation.box().apply_translation([3 * place, 0, 0]) for place in range(5)]
    row = trimesh.util.concatenate(boxes)
    mesh = Mesh(vertices=torch.tensor(row.vertices, dtype=torch.float32), faces=torch.tensor(row.faces))
    assert len(remove_small_components(mesh, 0.5)) == len(mesh)


def test_a_surface_that_leaves_the_box_is_closed():
    found = as_trimesh(extract(ball((0.0, 0.0, 0.0), 3.0), resolution=12))
    assert found.is_watertight
    assert 8.0 <= found.volume <= (2.0 + 4.0 / 11) ** 3


def test_the_automatic_level_is_the_mean_of_what_is_not_nothing():
    # 9 in half of the grid, 1 in a quarter, as good as nothing in a quarter.
    def density(points):
        return torch.where(points[:, 0] < 0, 9.0, torch.where(points[:, 1] < 0, 1.0, 9e-6))

    found = extract(density, level="auto", resolution=20).vertices
    expected = extract(density, level=(2 * 9.0 + 1.0) / 3, resolution=20).vertices
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert (found - extract(density, level=7.0, resolution=20).vertices).abs().max() > 0.005


def test_the_density_is_asked_in_neighbourhoods_and_each_sample_once_a_pass():
    calls = []

    def density(points):
        calls.append(points)
        return ball((0.0, 0.0, 0.0), 0.9)(points)

    extract(density, resolution=17)
    cubes = calls[0][:512]
    assert (cubes.amax(dim=0) - cubes.amin(dim=0)).max() == pytest.approx(7 * 2.0 / 16)
    assert len(torch.cat(calls[: len(calls) // 2]).round(decimals=4).unique(dim=0)) == 17**3


@pytest.mark.parametrize(
    ("density", "message"),
    [
        (lambda points: torch.full((len(points),), 0.5), "above 1 somewhere in the box, but the largest is 0.5"),
        (lambda points: points[:, 0] / 0.0, "finite"),
    ],
)
def test_nothing_there_is_told_in_a_sentence(density, message):
    with pytest.raises(ValueError, match=message):
        extract(density, resolution=8)


def test_nothing_there_for_the_automatic_level():
    with pytest.raises(
        ValueError, match=r"^Expected a density above 0 in the box, but the largest is 0\. Train longer\.$"
    ):
        extract(lambda points: torch.zeros(len(points)), level="auto", resolution=8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"level": 0.0}, r"^Expected a level above 0 or 'auto', but got 0\.0\."),
        ({"resolution": 1}, r"^Expected resolution at least 2, but got 1\.$"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        IsosurfaceConfig(**settings)


def test_a_box_without_inside():
    with pytest.raises(ValueError, match="lower and upper corner"):
        extract(ball((0.0, 0.0, 0.0), 0.5), CUBE.flip(0))


def cloud(count: int, seed: int = 0) -> GaussianTensors:
    generator = torch.Generator().manual_seed(seed)
    return GaussianTensors(
        means=torch.rand(count, 3, generator=generator) - 0.5,
        quats=torch.randn(count, 4, generator=generator),
        scales=0.01 + 0.1 * torch.rand(count, 3, generator=generator),
        opacities=torch.rand(count, generator=generator),
        colors=torch.rand(count, 3, generator=generator),
    )


def one(opacity=0.9, scales=(0.1, 0.1, 0.1), quat=(1.0, 0.0, 0.0, 0.0), mean=(0.0, 0.0, 0.0)) -> GaussianTensors:
    return GaussianTensors(
        means=torch.tensor([mean]),
        quats=torch.tensor([quat]),
        scales=torch.tensor([scales]),
        opacities=torch.tensor([opacity]),
        colors=torch.tensor([[0.2, 0.4, 0.8]]),
    )


def written_out(gaussians: GaussianTensors, points: torch.Tensor) -> torch.Tensor:
    """What each Gaussian adds at each point, "N M", from its covariance in float64."""
    axes = rotation_matrices(gaussians.quats.double()) * gaussians.scales.double()[:, None]
    inverse = torch.linalg.inv(axes @ axes.transpose(1, 2))
    offsets = points.double()[:, None] - gaussians.means.double()
    squared = torch.einsum("nmi,mij,nmj->nm", offsets, inverse, offsets)
    opacities = gaussians.opacities.double()
    return torch.where(opacities > MIN_OPACITY, opacities * torch.exp(-0.5 * squared), 0.0)


@pytest.mark.parametrize("together", [1, 4])
def test_the_density_is_the_sum_of_all_gaussians(together, monkeypatch):
    """However many chunks are computed together, and though their weights are split again."""
    monkeypatch.setitem(isosurface.CHUNKS_TOGETHER, "cpu", together)
    monkeypatch.setattr(isosurface, "MOST_WEIGHTS", 2**18)
    gaussians, generator = cloud(300), torch.Generator().manual_seed(1)
    field = GaussianField(gaussians)
    points = 1.4 * torch.rand(3000, 3, generator=generator) - 0.7
    expected = written_out(gaussians, points).sum(dim=-1)
    # Scattered points reach all Gaussians; what is left is float32 at d^2 of tens.
    torch.testing.assert_close(field.density(points).double(), expected, atol=1e-4, rtol=1e-5)
    together = 0.05 * points
    near = written_out(gaussians, together)
    missing = near.sum(dim=-1) - field.density(together)
    assert (missing < (near < NEGLIGIBLE).sum(dim=-1) * NEGLIGIBLE + 1e-4).all()
    assert (missing > -1e-4).all()


def test_the_box_is_where_a_turned_gaussian_adds_a_thousandth():
    """On the ellipsoid d^2 = 2 ln(opacity / NEGLIGIBLE), whose extent along an axis is d times its deviation there."""
    gaussians = one(scales=(0.3, 0.1, 0.02), quat=(0.8, 0.3, -0.2, 0.5), mean=(0.1, 0.2, -0.3))
    axes = rotation_matrices(gaussians.quats)[0] * gaussians.scales[0]
    extent = math.sqrt(2 * math.log(0.9 / NEGLIGIBLE)) * (axes @ axes.T).diagonal().sqrt()
    expected = gaussians.means + torch.stack([-extent, extent])
    torch.testing.assert_close(GaussianField(gaussians).box, expected)


def test_thin_gaussians_far_from_the_origin_keep_their_shape():
    gaussians = one(scales=(1e-3, 0.1, 0.1), mean=(3.0, -2.0, 1.0))
    points = gaussians.means + torch.linspace(-3e-3, 3e-3, 50)[:, None] * torch.tensor([1.0, 0.0, 0.0])
    expected = written_out(gaussians, points).sum(dim=-1)
    # Positions of about 3 in float32 are right to 1e-7, which is 2e-4 of the Gaussian's width.
    torch.testing.assert_close(GaussianField(gaussians).density(points).double(), expected, atol=1e-3, rtol=0)


def test_the_surface_of_one_gaussian_is_its_ellipsoid():
    half = math.sqrt(0.5)
    gaussians = one(scales=(0.05, 0.1, 0.2), quat=(half, 0.0, 0.0, half))  # a quarter turn about z: x goes to y
    field = GaussianField(gaussians)
    mesh = extract_mesh(field.density, field.box, IsosurfaceConfig(level=0.3, resolution=40))
    axes = torch.tensor([0.1, 0.05, 0.2]) * math.sqrt(2 * math.log(0.9 / 0.3))
    torch.testing.assert_close(mesh.vertices.amax(dim=0), axes, rtol=0.01, atol=0)
    volume = trimesh.Trimesh(mesh.vertices.numpy(), mesh.faces.numpy()).volume
    assert volume == pytest.approx(4 / 3 * math.pi * axes.prod().item(), rel=0.01)


def test_the_box_ends_where_the_last_gaussian_is_negligible():
    field = GaussianField(one(opacity=0.5, scales=(0.05, 0.1, 0.2)))
    for axis in range(3):
        edge = torch.zeros(1, 3)
        edge[0, axis] = field.box[1, axis]
        assert written_out(one(opacity=0.5, scales=(0.05, 0.1, 0.2)), edge).item() == pytest.approx(
            NEGLIGIBLE, rel=1e-3
        )
    assert torch.equal(field.box[0], -field.box[1])


def test_the_colour_is_the_weighted_mean_and_beyond_all_reach_the_nearest():
    gaussians = cloud(200)
    points = torch.rand(400, 3, generator=torch.Generator().manual_seed(2)) - 0.5
    weights = written_out(gaussians, points)
    expected = weights @ gaussians.colors.double() / weights.sum(dim=-1, keepdim=True)
    torch.testing.assert_close(GaussianField(gaussians).color(points).double(), expected, atol=1e-3, rtol=0)
    far = torch.tensor([[9.0, 0.0, 0.0], [0.0, -9.0, 0.0]])
    kept = gaussians.opacities > MIN_OPACITY
    nearest = torch.cdist(far, gaussians.means[kept]).argmin(dim=-1)
    torch.testing.assert_close(GaussianField(gaussians).color(far), gaussians.colors[kept][nearest])


def test_no_gradient_and_no_points():
    gaussians = cloud(5)
    gaussians.means.requires_grad_()
    field = GaussianField(gaussians)
    assert not field.density(torch.zeros(2, 3)).requires_grad
    assert field.density(torch.zeros(0, 3)).shape == (0,)
    assert field.color(torch.zeros(0, 3)).shape == (0, 3)


def test_faint_gaussians_do_not_count():
    with pytest.raises(ValueError, match="none has"):
        GaussianField(one(opacity=MIN_OPACITY))
