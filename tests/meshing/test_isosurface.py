"""Surfaces whose area, volume and place are known."""

import math

import pytest
import torch
import trimesh

from hash3d.meshing.isosurface import IsosurfaceConfig, extract_mesh, remove_small_components
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
