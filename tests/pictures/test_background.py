"""A plain background disappears; any other one needs the optional package."""

import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image

from hash3d.pictures import PictureError, load_picture
from tests.pictures.drawing import RED, composite, disc, write

BACKGROUNDS = {"white": (255, 255, 255), "blue": (30, 60, 200), "black": (0, 0, 0)}


@pytest.mark.parametrize("background", list(BACKGROUNDS))
def test_the_disc_comes_back_with_its_soft_edge_and_pure_colour(background, tmp_path):
    truth = disc(128, (60, 70), 40)
    picture = load_picture(write(tmp_path / "flat.png", composite(truth, BACKGROUNDS[background])))
    alpha = torch.from_numpy(truth[..., 3].copy()).float() / 255
    # Coverage below the tolerance cannot be told from background; everywhere else alpha is known to 8-bit rounding.
    assert (picture[..., 3] - alpha).abs().max() < 0.15
    assert ((picture[..., 3] - alpha).abs() > 0.02).float().mean() < 0.005
    shown = picture[picture[..., 3] > 0][:, :3]
    torch.testing.assert_close(shown, (torch.tensor(RED) / 255).expand_as(shown), rtol=0, atol=1e-6)


def test_a_noisy_background_and_an_object_that_touches_the_border(tmp_path):
    pixels = composite(disc(128, (64, 100), 35), (200, 200, 190)).astype(np.int64)
    pixels += np.random.default_rng(0).integers(-6, 7, pixels.shape)
    picture = load_picture(write(tmp_path / "noisy.png", pixels.clip(0, 255).astype(np.uint8)))
    expected = torch.from_numpy(disc(128, (64, 100), 35)[..., 3] > 127)
    assert ((picture[..., 3] > 0.5) == expected).float().mean() > 0.995


def test_the_background_s_colour_inside_the_object_stays(tmp_path):
    pixels = composite(disc(128, (64, 64), 40), (255, 255, 255))
    pixels[54:74, 54:74] = 255
    picture = load_picture(write(tmp_path / "window.png", pixels))
    assert picture[64, 64].tolist() == [1, 1, 1, 1]


def no_background(kind):
    if kind == "all one colour":
        return np.full((64, 64, 3), 200, dtype=np.uint8)
    if kind == "gradient":
        return np.tile(np.linspace(0, 255, 64, dtype=np.uint8)[:, None, None], (1, 64, 3))
    if kind == "framed photo":
        pixels = np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)
        pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:] = 255, 255, 255, 255
        return pixels
    return np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)


KINDS = ["all one colour", "gradient", "framed photo", "noise"]


@pytest.mark.parametrize("kind", KINDS)
def test_without_rembg_the_extra_is_named(kind, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rembg", None)
    with pytest.raises(PictureError, match=r"plain background, but .* pip install hash3d\[rembg\]"):
        load_picture(write(tmp_path / "photo.png", no_background(kind)))


def test_with_rembg_its_alpha_is_taken(tmp_path, monkeypatch):
    def remove(image):
        assert image.mode == "RGB"
        return Image.fromarray(disc(64, (32, 32), 20))

    monkeypatch.setitem(sys.modules, "rembg", types.SimpleNamespace(remove=remove))
    picture = load_picture(write(tmp_path / "photo.png", no_background("noise")))
    assert torch.equal(picture[..., 3], torch.from_numpy(disc(64, (32, 32), 20)[..., 3].copy()) / 255)


def test_a_failure_of_rembg_is_one_sentence(tmp_path, monkeypatch):
    def remove(image):
        raise OSError("no weights")

    monkeypatch.setitem(sys.modules, "rembg", types.SimpleNamespace(remove=remove))
    with pytest.raises(PictureError, match=r"failed \(no weights\)"):
        load_picture(write(tmp_path / "photo.png", no_background("noise")))


def test_an_opaque_alpha_channel_counts_as_none(tmp_path):
    pixels = composite(disc(64, (32, 32), 20), (255, 255, 255))
    opaque = np.concatenate([pixels, np.full((64, 64, 1), 255, dtype=np.uint8)], axis=-1)
    assert load_picture(write(tmp_path / "opaque.png", opaque))[0, 0, 3] == 0


def test_a_calm_background_gives_nothing_of_a_similar_object_away(tmp_path):
    """The object differs by 0.05, which in a noisy background would be background."""
    truth = disc(128, (64, 64), 40, color=(190, 190, 190))
    picture = load_picture(write(tmp_path / "grey.png", composite(truth, (203, 203, 203))))
    assert ((picture[..., 3] > 0.5) == torch.from_numpy(truth[..., 3] > 127)).float().mean() > 0.99
