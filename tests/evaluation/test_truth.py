"""A small folder of true views, whole and with each of its faults."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from hash3d.evaluation.truth import load_truth

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
