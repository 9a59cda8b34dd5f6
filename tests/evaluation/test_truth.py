"""A small folder of true views, whole and with each of its faults."""

import json
import math

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from hash3d.cameras import Cameras
from hash3d.evaluation.truth import PROTOCOLS, fit_mesh, load_truth, render_view, write_views
from hash3d.representations.mesh_file import read_mesh

VIEWS = [
    {"file": "000.png", "elevation_deg": 0, "azimuth_deg": 10.0},
    {"file": "001.png", "elevation_deg": 30, "azimuth_deg": 100.0},
]
DESCRIPTION = {
    "input": {"file": "input.png", "elevation_deg": 15, "azimuth_deg": 10.0},
    "distance": 1.5,
    "fov_y_deg": 49.1,
    "object_radius": 0.5,
    "size": 16,
    "views": VIEWS,
}


def write(folder, description=DESCRIPTION, size=16):
    pixels = np.zeros((size, size, 4), dtype=np.uint8)
    pixels[4:8, :] = (255, 0, 0, 255)
    pixels[8:12, :] = (0, 0, 255, 51)
    for view in VIEWS:
        Image.fromarray(pixels).save(folder / view["file"])
    (folder / "views.json").write_text(json.dumps(description))
    return folder


def test_a_whole_folder(tmp_path):
    truth = load_truth(write(tmp_path))
    assert (len(truth.cameras), truth.cameras.width, truth.cameras.height) == (2, 16, 16)
    assert truth.cameras.elevation.tolist() == [0, 30]
    assert truth.cameras.azimuth.tolist() == [0, 90], "azimuths count from the input's"
    assert truth.cameras.radius.tolist() == [1.5, 1.5]
    assert truth.cameras.fov_y.tolist() == pytest.approx([49.1, 49.1])
    assert truth.reference_elevation == 15
    assert truth.images.shape == (2, 16, 16, 3)
    assert truth.alpha.shape == (2, 16, 16, 1)
    assert truth.images[0, 0, 0].tolist() == [1, 1, 1]
    assert truth.images[0, 5, 0].tolist() == [1, 0, 0]
    torch.testing.assert_close(truth.images[1, 9, 0], torch.tensor([0.8, 0.8, 1.0]))
    assert truth.alpha[0, 9, 0, 0] == pytest.approx(0.2)


@pytest.mark.parametrize(("fov", "turn", "asked"), [(49.1, 0.79, 1), (0.85, 45.0, 1), (49.1, 1.0, 0), (49.1, 45.5, 0)])
def test_angles_that_look_like_radians_are_asked_about(fov, turn, asked, tmp_path):
    """Fractions of a degree within +-2 pi, or a field of view that no lens has."""
    views = [{"file": "000.png", "elevation_deg": 0, "azimuth_deg": 10.0 + turn * place} for place in range(8)]
    truth = load_truth(write(tmp_path, {**DESCRIPTION, "fov_y_deg": fov, "views": views}))
    assert sum("radians" in note for note in truth.notes) == asked


def test_a_view_with_a_camera_of_another_kind_is_refused(tmp_path):
    views = [VIEWS[0], {**VIEWS[1], "distance": 2.0}]
    with pytest.raises(ValueError, match="distance or fov_y_deg or size of their own"):
        load_truth(write(tmp_path, {**DESCRIPTION, "views": views}))


def test_premultiplied_colours_are_divided_and_told(tmp_path):
    """Edges of a true view that a program has stored darkened."""
    y, x = np.mgrid[:16, :16]
    alpha = np.clip(6.5 - np.hypot(x - 7.5, y - 7.5), 0, 1)[..., None]
    folder = write(tmp_path)
    Image.fromarray((255 * np.dstack([alpha * [0.2, 0.6, 1.0], alpha])).round().astype(np.uint8)).save(
        folder / "000.png"
    )
    with pytest.warns(UserWarning, match="premultiplied"):
        truth = load_truth(folder)
    expected = alpha * [0.2, 0.6, 1.0] + 1 - alpha
    np.testing.assert_allclose(truth.images[0], expected, atol=0.01)


def test_sixteen_bits_of_grey_are_kept(tmp_path):
    folder = write(tmp_path)
    Image.fromarray(np.full((16, 16), 40_000, dtype=np.uint16)).save(folder / "000.png")
    truth = load_truth(folder)
    torch.testing.assert_close(truth.images[0], torch.full((16, 16, 3), 40_000 / 65_535))
    assert truth.has_alpha == (False, True)


def opaque(folder, *, border):
    """Two views: a red square on a border, without an alpha channel."""
    folder = write(folder)
    for number, color in enumerate(border):
        pixels = np.zeros((16, 16, 3), dtype=np.uint8)
        pixels[:] = np.random.default_rng(0).integers(0, 256, (16, 16, 3)) if color is None else color
        pixels[4:12, 4:12] = (255, 0, 0)
        Image.fromarray(pixels).save(folder / VIEWS[number]["file"])
    return load_truth(folder)


def test_opaque_views_keep_a_plain_background(tmp_path):
    truth = opaque(tmp_path, border=((51, 102, 0), (255, 255, 255)))
    assert truth.has_alpha == (False, False)
    torch.testing.assert_close(truth.backgrounds, torch.tensor([[0.2, 0.4, 0.0], [1.0, 1.0, 1.0]]))
    torch.testing.assert_close(truth.images[0, 0, 0], torch.tensor([0.2, 0.4, 0.0]))
    assert len(truth.notes) == 1
    assert truth.notes[0].startswith("2 of 2 true views have no alpha channel (opaque)")


def test_a_background_that_is_not_plain_is_told(tmp_path):
    truth = opaque(tmp_path, border=(None, (0, 0, 0)))
    assert truth.backgrounds.tolist() == [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
    assert truth.notes[1].startswith("1 of them have no plain background")


def test_transparent_views_have_nothing_to_tell(tmp_path):
    truth = load_truth(write(tmp_path))
    assert (truth.has_alpha, truth.notes) == ((True, True), ())
    assert truth.backgrounds.tolist() == [[1.0, 1.0, 1.0]] * 2


def without(name):
    return {key: value for key, value in DESCRIPTION.items() if key != name}


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (without("views"), "lacks 'views'"),
        (without("distance"), "lacks 'distance'"),
        ({**DESCRIPTION, "size": "big"}, "none of the kind"),
        ({**DESCRIPTION, "views": []}, "names none"),
        ({**DESCRIPTION, "views": [{"file": "000.png"}]}, "lacks 'elevation_deg'"),
        ({**DESCRIPTION, "views": [{**VIEWS[0], "file": "none.png"}]}, r"no file .*none\.png"),
        ({**DESCRIPTION, "size": 32}, "32x32 pixels as views.json says, but it has 16x16"),
        ({**DESCRIPTION, "size": math.inf}, "none of the kind"),
        ({**DESCRIPTION, "size": 10**9}, "expected size 1 to 8,192"),
        ({**DESCRIPTION, "distance": math.nan}, "distance above 0"),
        ({**DESCRIPTION, "fov_y_deg": 180}, "fov_y_deg below 180"),
        ({**DESCRIPTION, "views": [{**VIEWS[0], "azimuth_deg": math.inf}]}, "expected size"),
        ({**DESCRIPTION, "views": [{**VIEWS[0], "elevation_deg": 91}]}, "elevation_deg within 90"),
        ([1, 2], r"a readable JSON object in .*views\.json, but got: it holds a list"),
    ],
)
def test_a_malformed_description(description, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load_truth(write(tmp_path, description))


def test_no_folder_no_json_and_garbage(tmp_path):
    for folder in (tmp_path / "missing", tmp_path):
        with pytest.raises(ValueError, match=r"views\.json, but got: there is no such file\.$"):
            load_truth(folder)
    write(tmp_path)
    (tmp_path / "000.png").write_text("hello")
    with pytest.raises(ValueError, match="none that can be read"):
        load_truth(tmp_path)
    (tmp_path / "views.json").write_text("{")
    with pytest.raises(ValueError, match="JSON"):
        load_truth(tmp_path)


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
