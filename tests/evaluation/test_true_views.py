"""True views of meshes: the unit frame, the cameras, the light, and the file that describes them."""

import math

import pytest
import torch
import trimesh

from hash3d.cameras import Cameras
from hash3d.evaluation.true_views import PROTOCOLS, fit_mesh, render_view, write_views
from hash3d.evaluation.truth import load_truth
from hash3d.representations.mesh_file import read_mesh


def write_ball(path, scale=1.0, shift=(0.0, 0.0, 0.0)):
    """A ball that is red where x is positive, and blue where it is not."""
    ball = trimesh.creation.icosphere(subdivisions=3)
    ball.visual.face_colors = [[255, 0, 0] if x > 0 else [0, 0, 255] for x in ball.triangles_center[:, 0]]
    ball.apply_scale(scale)
    ball.apply_translation(shift)
    ball.export(path)
    return read_mesh(path)


@pytest.fixture(scope="module")
def ball(tmp_path_factory):
    return write_ball(tmp_path_factory.mktemp("ball") / "ball.ply")


@pytest.fixture(scope="module")
def views(ball, tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    write_views(folder, ball, "ring16", azimuth=90.0, size=24)
    return load_truth(folder)


def test_an_object_fills_its_sphere_or_its_cube(ball, tmp_path):
    """Wherever the file has it, and however large."""
    moved = write_ball(tmp_path / "moved.ply", scale=250.0, shift=(1e4, -300.0, 7.0))
    for fit in ("sphere", "cube"):
        torch.testing.assert_close(fit_mesh(moved, fit).vertices, fit_mesh(ball, fit).vertices, atol=1e-4, rtol=0)
    trimesh.creation.box((2, 1, 1)).export(tmp_path / "box.ply")
    box = read_mesh(tmp_path / "box.ply")
    assert fit_mesh(box, "sphere").vertices.norm(dim=-1).tolist() == pytest.approx([0.5] * 8)
    assert fit_mesh(box, "cube").vertices.abs().amax(dim=0).tolist() == pytest.approx([0.5, 0.25, 0.25])


def test_views_are_described_as_evaluate_reads_them(views):
    """Azimuths count from the input's, at 90 degrees."""
    assert views.cameras.elevation.tolist() == [0.0, 30.0] * 8
    torch.testing.assert_close(views.cameras.azimuth, 22.5 * torch.arange(16.0))
    assert (views.reference_elevation, views.cameras.radius[0].item(), views.cameras.width) == (15.0, 1.5, 24)
    assert views.notes == ()


def test_a_ball_covers_what_its_silhouette_does(views):
    """Radius 0.5 at distance 1.5: tan(asin(1/3)) of half the image's tan(49.1 / 2 degrees)."""
    radius = math.tan(math.asin(1 / 3)) / math.tan(math.radians(49.1 / 2))
    torch.testing.assert_close(
        views.alpha.mean(dim=(1, 2, 3)), torch.full((16,), math.pi * radius**2 / 4), atol=0.01, rtol=0
    )


def test_cameras_see_the_sides_that_they_should(views):
    """At azimuth 90 the red side, at 270 the blue one, at 0 and 180 red on the right and on the left."""
    front, right, back, left = (views.images[index, 12] for index in (0, 4, 8, 12))
    assert (front[12, 0] > 0.9, front[12, 2] < 0.1) == (True, True)
    assert (back[12, 2] > 0.9, back[12, 0] < 0.1) == (True, True)
    assert (right[6, 0] > 0.5, right[18, 2] > 0.5) == (True, True)
    assert (left[6, 2] > 0.5, left[18, 0] > 0.5) == (True, True)


def test_a_tilted_plane_has_the_light_of_its_cosine(tmp_path):
    """Seen from 60 degrees above its edge a horizontal plane has |n . v| = sin 60; grey is 0.5."""
    trimesh.Trimesh([[-1, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]], [[0, 2, 1], [0, 3, 2]]).export(
        tmp_path / "plane.obj"
    )
    plane = read_mesh(tmp_path / "plane.obj")
    camera = Cameras.orbit(elevation=60.0, azimuth=0.0, radius=1e3, fov_y=0.06, size=16)
    for ambient in (0.6, 1.0):
        image = render_view(plane, fit_mesh(plane, "sphere"), camera, ambient)
        grey = plane.colors(torch.zeros(1).long(), torch.full((1, 3), 1 / 3))[0]
        expected = grey * (ambient + (1.0 - ambient) * math.sin(math.radians(60.0)))
        torch.testing.assert_close(image[8, 8, :3], expected, atol=2e-3, rtol=0)


def test_one_place_is_no_object(tmp_path):
    (tmp_path / "flat.obj").write_text("v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n")
    with pytest.raises(ValueError, match="vertices that differ"):
        fit_mesh(read_mesh(tmp_path / "flat.obj"), "sphere")


def test_the_protocols_are_those_of_their_sources():
    assert PROTOCOLS["zero123-gso"].elevations == (30.0,) * 16
    assert {(each.distance, each.fov_y, each.size) for each in PROTOCOLS.values()} == {(1.5, 49.1, 256)}
