"""A plain background disappears; any other one needs the optional package."""

import sys
import types
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from hash3d.pictures import PictureError, load_picture
from hash3d.pictures.background import _fit_background
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
    path = write(tmp_path / "noisy.png", pixels.clip(0, 255).astype(np.uint8))
    with pytest.warns(UserWarning, match=r"The object touches the border of .*noisy\.png\. What lies beyond"):
        picture = load_picture(path)
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


@pytest.mark.parametrize("kind", ["all one colour", "gradient", "framed photo", "noise"])
def test_without_rembg_the_extra_is_named(kind, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rembg", None)
    with pytest.raises(PictureError, match=r"plain background, but .* -m pip install \"hash3d\[rembg\]\""):
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


def test_dirt_goes_with_the_background(tmp_path):
    """A spot of less than a hundredth of the object is none of it."""
    pixels = composite(disc(128, (64, 64), 40, color=(90, 90, 90)), (255, 255, 255))
    pixels[8:11, 8:11] = 90
    assert load_picture(write(tmp_path / "dirt.png", pixels))[..., 3][:16, :16].max() == 0


def test_what_is_thin_keeps_its_own_colour(tmp_path):
    """A stick of 2 pixels has no inner pixel; the object's, farther away, say nothing of it."""
    pixels = composite(disc(128, (64, 64), 30), (255, 255, 255))
    pixels[63:65, 94:118] = (0, 120, 0)
    stick = load_picture(write(tmp_path / "stick.png", pixels))[63:65, 104:116]
    torch.testing.assert_close(stick, torch.tensor([0, 120 / 255, 0, 1]).expand_as(stick), rtol=0, atol=1e-6)


def test_at_the_image_s_border_nothing_is_softened(tmp_path):
    """The object goes on beyond it: a pale stripe there is its own, and no mixture."""
    pixels = composite(disc(128, (64, 110), 25), (255, 255, 255))
    pixels[126:, 52:76] = (255, 128, 128)
    path = write(tmp_path / "stripe.png", pixels)
    with pytest.warns(UserWarning, match="touches the border"):
        stripe = load_picture(path)[126:, 56:72]
    torch.testing.assert_close(stripe, torch.tensor([255, 128, 128, 255]).expand_as(stripe) / 255, rtol=0, atol=1e-6)


def test_what_fills_the_image_is_no_object(tmp_path, monkeypatch):
    """The frame of one pixel is the background of less than a twentieth."""
    monkeypatch.setitem(sys.modules, "rembg", None)
    pixels = np.full((64, 640, 3), 255, dtype=np.uint8)
    pixels[1:-1, 1:-1] = RED
    with pytest.raises(PictureError, match="plain background, but"):
        load_picture(write(tmp_path / "full.png", pixels))


@pytest.fixture(autouse=True)
def no_doubt():
    """A doubt is an error where a test does not expect it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="The object in .* is only")
        yield


def overlap(picture, truth):
    """Intersection over union of the object and a mask "H W"."""
    found = (picture[..., 3] > 0.5).numpy()
    return (found & truth).sum() / (found | truth).sum()


BALL = disc(256, (128, 128), 64)
ROWS, COLUMNS = (np.mgrid[:256, :256] + 0.5) / 128 - 1
FALLS = {
    "vignette": 1 - 0.1 * (ROWS**2 + COLUMNS**2),
    "steep vignette": 1 - 0.08 * (ROWS**2 + COLUMNS**2) ** 2,
    "lamp on the left": 1 - 0.1 * ((COLUMNS + 0.5) ** 2 + (ROWS + 0.7) ** 2) / 2,
    "gradient": 1 - 0.12 * (ROWS + 1),
    "horizon": 0.8 + 0.2 / (1 + np.exp(-ROWS * 6)),
}


@pytest.mark.parametrize(("shadow", "least"), [(0.0, 0.99), (0.4, 0.6)])
def test_white_on_white(shadow, least, tmp_path):
    """A white ball with a dark eye, above as bright as the ground; a shadow that goes over into it is kept with it."""
    truth, eye = disc(256, (128, 128), 78)[..., 3:] / 255, (np.hypot(ROWS, COLUMNS + 0.3) < 0.1)[..., None]
    body = np.where(eye, 0.3, np.clip(1.0 - 0.25 * (ROWS[..., None] + 0.35), 0.0, 0.99) * np.array([0.985, 0.98, 1]))
    shade = shadow * gaussian_filter(((ROWS - 0.55) ** 2 / 0.02 + COLUMNS**2 / 0.3 < 1).astype(float), 10)[..., None]
    pixels = truth * body + (1 - truth) * 0.97 * (1 - shade)
    pixels += np.random.default_rng(0).normal(0, 0.004, pixels.shape)
    path = write(tmp_path / "white.png", (pixels.clip(0, 1) * 255).round().astype(np.uint8))
    with pytest.warns(UserWarning, match="is a shadow or hardly differs"):
        assert overlap(load_picture(path), truth[..., 0] > 0.5) > least


@pytest.mark.parametrize("ending", ["png", "jpg"])
@pytest.mark.parametrize("fall", list(FALLS))
def test_a_background_that_falls_off(fall, ending, tmp_path):
    pixels = composite(BALL, (255, 255, 255)) * FALLS[fall][..., None]
    picture = load_picture(write(tmp_path / f"photo.{ending}", pixels.astype(np.uint8)))
    assert overlap(picture, BALL[..., 3] > 127) > 0.95


@pytest.mark.parametrize("seed", range(3))
def test_under_an_object_the_background_has_no_colour_that_is_not_seen_beside_it(seed):
    """A quartic that is fitted to a thin frame of noise bends where nothing holds it."""
    noise = np.random.default_rng(seed).uniform(0.77, 0.83, (128, 128, 1))
    color, border, seen = np.repeat(noise, 3, axis=-1).astype(np.float32), *np.ones((2, 128, 128), dtype=bool)
    color[6:-6, 6:-6], seen[6:-6, 6:-6], border[3:-3, 3:-3] = 0.2, False, False
    surface = _fit_background(color, border)
    assert surface[seen].min() == surface.min()
    assert surface[seen].max() == surface.max()


def test_a_background_that_falls_off_too_far_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rembg", None)
    pixels = composite(BALL, (255, 255, 255)) * (0.5 - 0.4 * ROWS)[..., None]
    with pytest.raises(PictureError, match="has neither"):
        load_picture(write(tmp_path / "photo.png", pixels.astype(np.uint8)))


def pale(color, ground=255, body=None):
    """A nearly white disc with dark eyes, and a body of another colour below, on white."""
    pixels = composite(disc(256, (128, 128), 78, color=(color,) * 3), (ground,) * 3)
    for left in (95, 145):
        pixels[100:115, left : left + 15] = 20
    if body is not None:
        below = (ROWS > 0) & (np.hypot(ROWS, COLUMNS) < 78 / 128)
        pixels[below] = body
    return pixels


@pytest.mark.parametrize(
    ("color", "ground", "body"), [(250, 255, None), (5, 0, None), (200, 205, None), (250, 255, (30, 60, 200))]
)
def test_an_object_of_nearly_the_backgrounds_colour_is_kept_and_doubted(color, ground, body, tmp_path):
    path = write(tmp_path / "pale.png", pale(color, ground, body))
    with pytest.warns(UserWarning, match=r"pale\.png is a shadow or hardly differs from the background"):
        picture = load_picture(path)
    assert overlap(picture, disc(256, (128, 128), 78)[..., 3] > 127) > 0.97


@pytest.mark.parametrize("color", [245, 235, 220])
def test_the_pale_half_of_a_colourful_object_is_no_shadow(color, tmp_path):
    picture = load_picture(write(tmp_path / "pale.png", pale(color, body=(30, 60, 200))))
    assert overlap(picture, disc(256, (128, 128), 78)[..., 3] > 127) > 0.97


def test_an_object_that_cannot_be_told_from_the_background_is_refused(tmp_path, monkeypatch):
    """Two eyes alone are not the object."""
    monkeypatch.setitem(sys.modules, "rembg", None)
    with pytest.raises(PictureError, match="has neither"):
        load_picture(write(tmp_path / "pale.png", pale(254)))


@pytest.mark.parametrize("ground", [(255, 255, 255), (150, 180, 230)])
@pytest.mark.parametrize(("strength", "blur"), [(0.3, 15), (0.15, 35)])
def test_a_soft_shadow_goes_and_is_told(strength, blur, ground, tmp_path):
    shadow = gaussian_filter(((ROWS - 0.4) ** 2 / 0.05 + COLUMNS**2 / 0.4 < 1).astype(float), blur)
    alpha = BALL[..., 3:] / 255
    pixels = alpha * BALL[..., :3] + (1 - alpha) * np.array(ground) * (1 - strength * shadow[..., None])
    path = write(tmp_path / "shadow.png", pixels.round().astype(np.uint8))
    with pytest.warns(UserWarning, match="is a shadow or hardly differs"):
        picture = load_picture(path)
    assert overlap(picture, BALL[..., 3] > 127) > 0.95


@pytest.mark.parametrize(("tone", "ground", "least"), [(0.55, 0.7, 0.95), (0.75, 0.9, 0.95), (0.75, 0.7, 0.7)])
def test_the_shadow_of_a_grey_object_goes_unless_its_own_shade_would(tone, ground, least, tmp_path):
    """A matt ball lit from above. In the last case a part of it looks like the ground, and the shadow stays."""
    down, right = np.mgrid[-1:1:320j, -1:1:320j]
    toward = np.sqrt(np.clip(1 - 4 * (down**2 + right**2), 0, 1))
    shade = tone * (0.35 + 0.65 * np.clip(-1.2 * down - 0.6 * right + 0.75 * toward, 0, 1))
    alpha = ((0.5 - np.hypot(down, right)) * 160 + 0.5).clip(0, 1)
    shadow = 0.4 * gaussian_filter(((down - 0.5) ** 2 / 0.02 + right**2 / 0.3 < 1).astype(float), 10)
    grey = alpha * shade + (1 - alpha) * ground * (1 - shadow)
    path = write(tmp_path / "ball.png", (grey.clip(0, 1) * 255).round().astype(np.uint8))
    with pytest.warns(UserWarning, match="is a shadow or hardly differs"):
        picture = load_picture(path)
    assert overlap(picture, alpha > 0.5) > least


def with_clear(kind):
    """The ball on white, opaque but for a few pixels."""
    pixels = np.dstack([composite(BALL, (255, 255, 255)), np.full((256, 256), 255, dtype=np.uint8)])
    if kind == "stray pixel":
        pixels[0, 0] = (255, 255, 255, 0)
    elif kind == "pixel in the object":
        pixels[128, 128, 3] = 0
    elif kind == "frame":
        pixels[:2, :, 3] = pixels[-2:, :, 3] = pixels[:, :2, 3] = pixels[:, -2:, 3] = 0
        pixels[:2, :, :3] = 0
    else:
        corner = np.hypot(*(np.maximum(np.abs(each) - 0.8, 0) for each in (ROWS, COLUMNS)))
        pixels[..., 3] = (255 * ((0.2 - corner) * 128 + 0.5).clip(0, 1)).round()
    return pixels


@pytest.mark.parametrize("radius", [6, 125])
def test_an_object_that_is_a_speck_or_all_of_the_image_is_none(radius, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rembg", None)
    pixels = np.full((256, 256, 3), 255, dtype=np.uint8)
    pixels[128 - radius : 128 + radius, 128 - radius : 128 + radius] = RED
    with pytest.raises(PictureError, match="has neither"):
        load_picture(write(tmp_path / "square.png", pixels))


@pytest.mark.parametrize("kind", ["stray pixel", "pixel in the object", "frame", "rounded corners"])
def test_a_few_clear_pixels_cut_nothing_out(kind, tmp_path):
    path = write(tmp_path / "opaque.png", with_clear(kind))
    with pytest.warns(UserWarning, match=r"opaque\.png hides only .*%.* it was ignored"):
        picture = load_picture(path)
    assert overlap(picture, BALL[..., 3] > 127) > 0.97


def test_an_evenly_translucent_image_is_opaque(tmp_path):
    pixels = with_clear("stray pixel")
    pixels[..., 3] = 230
    assert overlap(load_picture(write(tmp_path / "veil.png", pixels)), BALL[..., 3] > 127) > 0.97
