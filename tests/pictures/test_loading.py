"""Files of every kind to pixels, and the sentence for each file that is no picture."""

import math
import struct
import sys
import types
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from hash3d.pictures import PictureError, load_picture, read_rgba
from hash3d.pictures.loading import FORMATS, MAX_PIXELS
from tests.pictures.drawing import RED, composite, disc, write


def header_only_png(path, width, height):
    """A PNG whose header promises more than the file holds."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    return path


def test_rgba_is_read_as_it_is(tmp_path):
    pixels = disc(64, (30, 34), 20)
    picture = load_picture(write(tmp_path / "disc.png", pixels))
    seen = torch.from_numpy(pixels).float() / 255
    assert torch.equal(picture[..., 3], seen[..., 3])
    shown = seen[..., 3] > 0
    torch.testing.assert_close(picture[shown], seen[shown], rtol=0, atol=1e-6)


BAD = {
    "missing": lambda folder: folder / "missing.png",
    "folder": lambda folder: folder,
    "text": lambda folder: (folder / "text.png").write_text("hello") and folder / "text.png",
    "empty": lambda folder: (folder / "empty.png").touch() or folder / "empty.png",
    "truncated": lambda folder: truncated(folder / "cut.png"),
    "one pixel": lambda folder: write(folder / "one.png", np.full((1, 1, 4), 255, dtype=np.uint8)),
    "transparent": lambda folder: write(folder / "clear.png", np.zeros((64, 64, 4), dtype=np.uint8)),
    "huge": lambda folder: header_only_png(folder / "huge.png", 20_000, 20_000),
    "long": lambda folder: header_only_png(folder / "long.png", 100, 10_001),
    "whole numbers of 32 bits": lambda folder: write(folder / "deep.tiff", np.zeros((64, 64), dtype=np.int32)),
    "float": lambda folder: write(folder / "float.tiff", np.zeros((64, 64), dtype=np.float32)),
}
MESSAGES = {
    "missing": "there is no file",
    "folder": "is a folder",
    "text": "none that can be read",
    "empty": "none that can be read",
    "truncated": "damaged or cut off",
    "one pixel": "at least 16 pixels a side, but .* has 1x1",
    "transparent": "no pixel of it is more than half opaque",
    "huge": "at most 120 megapixels, but .* has 20000x20000",
    "long": "differ at most 70-fold, but .* has 100x10001",
    "whole numbers of 32 bits": "8 or 16 bits a pixel, but .* has 32",
    "float": "8 or 16 bits a pixel, but .* has 32",
}


def truncated(path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 4), dtype=np.uint8)
    write(path, noise)
    path.write_bytes(path.read_bytes()[:2000])
    return path


@pytest.mark.parametrize("kind", list(BAD))
def test_a_bad_file_gets_one_sentence(kind, tmp_path):
    path = BAD[kind](tmp_path)
    with pytest.raises(PictureError, match=MESSAGES[kind]) as caught:
        load_picture(path)
    message = str(caught.value)
    assert message.startswith("Expected ")
    assert ", but " in message
    assert "\n" not in message
    assert path.name in message


def test_pillows_own_limit_is_left_as_it_was(tmp_path):
    before = Image.MAX_IMAGE_PIXELS
    load_picture(write(tmp_path / "disc.png", disc(32, (16, 16), 10)))
    with pytest.raises(PictureError):
        load_picture(tmp_path)
    assert before == Image.MAX_IMAGE_PIXELS
    assert MAX_PIXELS >= 10_000 * 10_000


def test_all_formats_are_known_to_pillow():
    Image.init()
    assert set(FORMATS) <= set(Image.OPEN)


def test_sixteen_bit_grey_keeps_its_values(tmp_path):
    values = np.full((32, 32), 65535, dtype=np.uint16)
    values[8:24, 8:24] = np.arange(256).reshape(16, 16) * 100 + 7
    picture = load_picture(write(tmp_path / "grey.png", values))
    expected = torch.from_numpy(values[12:20, 12:20].astype(np.float32)) / 65535
    for channel in range(3):
        torch.testing.assert_close(picture[12:20, 12:20, channel], expected)
    assert picture[0, 0, 3] == 0
    assert picture[16, 16, 3] == 1


def deep_png(path, channels):
    """Written by hand, since Pillow writes none: 16 bits, colour type 2 (RGB), 4 (grey and alpha) or 6 (RGBA)."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 32, 32, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = np.full((32, 32, channels), 40_000, dtype=">u2")
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_sixteen_bit_colours_are_refused(channels, tmp_path):
    """Pillow would read the upper 8 bits of each and say nothing."""
    with pytest.raises(PictureError, match=r"Expected 8 bits a colour channel, but .* has 16"):
        load_picture(deep_png(tmp_path / "deep.png", channels))


def test_a_sixteen_bit_ppm_is_refused(tmp_path):
    path = tmp_path / "deep.ppm"
    path.write_bytes(b"P6\n32 32\n65535\n" + np.full((32, 32, 3), 40_000, dtype=">u2").tobytes())
    with pytest.raises(PictureError, match=r"Expected 8 bits a colour channel, but .* has 16"):
        load_picture(path)


def test_pixels_with_their_background_and_at_their_size(tmp_path):
    """Nothing is removed and nothing rounded: the bytes over 255."""
    pixels = np.random.default_rng(0).integers(0, 255, (16, 1100, 4), dtype=np.uint8)
    path = write(tmp_path / "wide.png", pixels)
    assert np.array_equal(read_rgba(path, max_side=math.inf), pixels.astype(np.float32) / 255)
    assert read_rgba(path).shape == (15, 1024, 4)


@pytest.mark.parametrize("kind", ["palette", "palette with transparency", "grey and alpha", "rgb with a colour key"])
def test_other_kinds_of_png(kind, tmp_path):
    path = tmp_path / "picture.png"
    inside = np.zeros((64, 64), dtype=np.uint8)
    inside[16:48, 16:48] = 1
    color = (100, 100, 100) if kind == "grey and alpha" else (200, 40, 80)
    if kind.startswith("palette"):
        image = Image.fromarray(inside, mode="P")
        image.putpalette([255, 255, 255, *color])
        image.save(path, **({"transparency": 0} if "transparency" in kind else {}))
    elif kind == "grey and alpha":
        write(path, np.stack([inside * 100, inside * 255], axis=-1))
    else:
        Image.fromarray(inside[..., None] * np.array(color, dtype=np.uint8)).save(path, transparency=(0, 0, 0))
    picture = load_picture(path)
    assert torch.equal(picture[..., 3] > 0.5, torch.from_numpy(inside) == 1)
    torch.testing.assert_close(picture[32, 32, :3], torch.tensor(color) / 255)


def test_cmyk_jpeg(tmp_path):
    picture = Image.fromarray(composite(disc(64, (32, 32), 20), (255, 255, 255))).convert("CMYK")
    picture.save(tmp_path / "print.jpg", quality=95)
    loaded = load_picture(tmp_path / "print.jpg")
    torch.testing.assert_close(loaded[32, 32, :3], torch.tensor(RED) / 255, rtol=0, atol=0.03)
    assert loaded[2, 2, 3] == 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation, tmp_path):
    pixels = disc(64, (20, 30), 12)
    pixels[:, 40:44] = (0, 255, 0, 255)
    image = Image.fromarray(pixels).crop((0, 0, 64, 48))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as saved:
        upright = np.asarray(ImageOps.exif_transpose(saved))
    loaded = load_picture(tmp_path / "turned.png")
    assert loaded.shape == upright.shape
    assert torch.equal(loaded[..., 3], torch.from_numpy(upright[..., 3].copy()).float() / 255)


def test_large_pictures_are_reduced_by_area(tmp_path):
    """A factor of two: each pixel is the premultiplied mean of four."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 255, (256, 2048, 4), dtype=np.uint8)
    picture = load_picture(write(tmp_path / "large.png", pixels, compress_level=1)).double()
    assert picture.shape == (128, 1024, 4)
    seen = torch.from_numpy(pixels).double() / 255
    seen[..., :3] *= seen[..., 3:]
    mean = seen.unflatten(0, (128, 2)).unflatten(2, (1024, 2)).mean(dim=(1, 3))
    torch.testing.assert_close(picture[..., 3], mean[..., 3], rtol=0, atol=1e-6)
    torch.testing.assert_close(picture[..., :3] * picture[..., 3:], mean[..., :3], rtol=0, atol=1e-6)


def test_a_reduced_disc_stays_pure_where_it_was(tmp_path):
    """1,500 pixels to 1,024, which is no whole factor; the black around the disc is transparent."""
    picture = load_picture(write(tmp_path / "large.png", disc(1500, (600, 750), 300), compress_level=1))
    share = 1024 / 1500
    rows, columns = torch.nonzero(picture[..., 3] > 0.5, as_tuple=True)
    assert abs((columns.float().mean() + 0.5) - 600 * share) < 0.1
    assert abs((rows.float().mean() + 0.5) - 750 * share) < 0.1
    assert abs(picture[..., 3].sum() / (torch.pi * (300.0 * share) ** 2) - 1) < 1e-3
    seen = picture[picture[..., 3] > 0.01]
    torch.testing.assert_close(seen[:, :3], (torch.tensor(RED) / 255).expand(len(seen), 3), rtol=0, atol=1e-4)


def test_many_strips(tmp_path):
    """Black and white, so that the file is written fast."""
    image = Image.new("L", (2_000, 1_250), 255)
    image.paste(0, (500, 250, 1_500, 1_000))
    image.save(tmp_path / "large.png", compress_level=1)
    picture = load_picture(tmp_path / "large.png")
    assert picture.shape == (640, 1024, 4)
    assert abs(picture[..., 3].mean() - 0.3) < 2e-3


def test_premultiplied_edges_are_divided_and_told(tmp_path):
    """A program stored the colours times alpha: the disc's soft edge is dark."""
    truth = disc(64, (32, 32), 20)
    blurred = np.asarray(Image.fromarray(truth[..., 3]).resize((16, 16), Image.Resampling.BOX).resize((64, 64)))
    pixels = np.dstack([np.full((64, 64, 3), RED), blurred]).astype(np.uint8)
    whole = load_picture(write(tmp_path / "straight.png", pixels))
    pixels[..., :3] = (pixels[..., :3] * (blurred[..., None] / 255)).round()
    with pytest.warns(UserWarning, match=r"dark\.png are darkened at its soft edges \(premultiplied\): undone"):
        picture = load_picture(write(tmp_path / "dark.png", pixels))
    soft = picture[..., 3] > 0.2
    torch.testing.assert_close(picture[soft], whole[soft], rtol=0, atol=0.02)


def test_an_object_that_fills_the_image_is_refused(tmp_path, monkeypatch):
    """A background remover that removes nothing."""
    monkeypatch.setitem(sys.modules, "rembg", types.SimpleNamespace(remove=lambda image: image))
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    with pytest.raises(PictureError, match=r"the object fills the picture .*\. Leave a margin\.$"):
        load_picture(write(tmp_path / "full.png", noise))


def test_sixteen_bits_with_white_as_0_are_refused(tmp_path):
    """Pillow hands their numbers on as if black were 0."""
    path = tmp_path / "grey.tif"
    Image.fromarray(np.full((32, 32), 0x4000, dtype=np.uint16)).save(path, tiffinfo={262: 0})
    with pytest.raises(PictureError, match="has white as 0 in 16 bits"):
        read_rgba(path)


def test_a_turned_tiff(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(disc(64, (20, 30), 12)).crop((0, 0, 64, 48))
    image.save(tmp_path / "turned.tiff", exif=exif)
    upright = np.asarray(image.transpose(Image.Transpose.ROTATE_270))
    assert np.array_equal(read_rgba(tmp_path / "turned.tiff"), upright.astype(np.float32) / 255)


@pytest.mark.parametrize(("radius", "told"), [(31, True), (33, False)])
def test_an_object_below_64_pixels_is_told(radius, told, tmp_path):
    path = write(tmp_path / "disc.png", disc(128, (64, 64), radius))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_picture(path)
    assert any("is only 62 pixels large" in str(each.message) for each in caught) == told
