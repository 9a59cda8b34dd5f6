"""Colour profiles and gamma of images."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from hash3d.pictures import read_rgba
from tests.pictures.drawing import icc_profile, write


def stored_in(profile, color, mode="RGB"):
    """An image whose pixels show an sRGB colour to whoever heeds the profile."""
    source, target = ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.profileToProfile(Image.new("RGB", (64, 64), color), source, target, outputMode=mode)


@pytest.mark.parametrize("kind", ["png", "jpg", "alpha", "palette", "reduced"])
def test_an_embedded_profile_is_heeded(kind, tmp_path):
    profile, wanted = icc_profile(), (60, 180, 75)
    image = stored_in(profile, wanted)
    if kind == "alpha":
        image.putalpha(200)
    elif kind == "palette":
        image = image.quantize(8)
    elif kind == "reduced":
        image = image.resize((1100, 32))
    path = tmp_path / f"photo.{'jpg' if kind == 'jpg' else 'png'}"
    image.save(path, icc_profile=profile, **({"quality": 95, "subsampling": 0} if kind == "jpg" else {}))
    pixel = read_rgba(path)[8, 8] * 255
    assert np.abs(pixel[:3] - wanted).max() < 3
    assert pixel[3] == pytest.approx(200 if kind == "alpha" else 255, abs=0.01)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_profile_of_greys_is_heeded(bits, tmp_path):
    """Gamma 1: a half of the light is 188 of 255 in sRGB."""
    value = np.full((32, 32), 128 if bits == 8 else 128 * 257, dtype=np.uint8 if bits == 8 else np.uint16)
    path = write(tmp_path / "grey.png", value, icc_profile=icc_profile("GRAY", gamma=1.0))
    np.testing.assert_allclose(read_rgba(path)[4, 4] * 255, [188, 188, 188, 255], atol=1.5)


def test_a_profile_of_greys_is_heeded_beside_alpha(tmp_path):
    value = np.full((32, 32, 2), 128, dtype=np.uint8)
    path = write(tmp_path / "grey.png", value, icc_profile=icc_profile("GRAY", gamma=1.0))
    np.testing.assert_allclose(read_rgba(path)[4, 4] * 255, [188, 188, 188, 128], atol=1.5)


@pytest.mark.parametrize(("red", "interop", "told"), [(64000, "R98", 0), (68000, "R98", 1), (64000, "R03", 1)])
def test_a_wide_gamut_without_a_profile_is_told(red, interop, told, tmp_path, recwarn):
    info, exif = PngImagePlugin.PngInfo(), Image.Exif()
    info.add(b"cHRM", struct.pack(">8I", 31270, 32900, red, 33000, 30000, 60000, 15000, 6000))
    exif[0x8769] = {0xA005: {1: interop}}
    Image.new("RGB", (32, 32)).save(tmp_path / "render.png", pnginfo=info, exif=exif)
    read_rgba(tmp_path / "render.png")
    assert sum("wide gamut" in str(each.message) for each in recwarn) == told


@pytest.mark.parametrize(("primaries", "told"), [(1, 0), (12, 1), (9, 1)])
def test_primaries_of_a_cicp_chunk_are_told(primaries, told, tmp_path, recwarn):
    info = PngImagePlugin.PngInfo()
    info.add(b"cICP", bytes([primaries, 13, 0, 1]))
    Image.new("RGB", (32, 32), "teal").save(tmp_path / "screen.png", pnginfo=info)
    np.testing.assert_allclose(read_rgba(tmp_path / "screen.png")[4, 4] * 255, [0, 128, 128, 255], atol=0.5)
    assert sum("wide gamut" in str(each.message) for each in recwarn) == told


def test_the_darkest_colour_of_a_profile_is_black(tmp_path):
    """Black point compensation: a print or a screen whose black reflects 5 % of the light makes no grey veil."""
    pixels = np.zeros((32, 32, 3), dtype=np.uint8)
    pixels[16:] = 255
    path = write(tmp_path / "print.png", pixels, icc_profile=icc_profile(black=0.05))
    read = read_rgba(path)[..., :3] * 255
    assert read[4].max() <= 1
    assert read[-4].min() >= 254


def test_inks_are_converted_by_their_own_profile(tmp_path):
    """Not by way of RGB, where half of the black ink would be half of the three others. L* 50 is 119 in sRGB."""
    image = Image.new("CMYK", (32, 32), (0, 0, 0, 128))
    image.save(tmp_path / "print.tiff", icc_profile=icc_profile("CMYK"))
    np.testing.assert_allclose(read_rgba(tmp_path / "print.tiff")[4, 4] * 255, [119, 119, 119, 255], atol=2)


@pytest.mark.parametrize("content", [b"junk", icc_profile("GRAY")])
def test_a_profile_that_cannot_be_used_is_told(content, tmp_path):
    path = write(tmp_path / "photo.png", np.full((32, 32, 3), 100, dtype=np.uint8), icc_profile=content)
    with pytest.warns(UserWarning, match="colour profile cannot be used"):
        assert (read_rgba(path)[..., :3] == np.float32(100) / 255).all()


def test_srgb_by_its_own_profile_changes_no_bit(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = write(tmp_path / "photo.png", pixels, icc_profile=profile)
    assert np.array_equal(read_rgba(path)[..., :3], pixels.astype(np.float32) / 255)


def test_a_linear_profile_is_heeded_though_its_name_says_srgb(tmp_path):
    profile = icc_profile(gamma=1.0).replace(b"wide\0", b"sRGB\0")
    path = write(tmp_path / "render.png", np.full((32, 32, 3), 128, dtype=np.uint8), icc_profile=profile)
    np.testing.assert_allclose(read_rgba(path)[4, 4] * 255, [188, 188, 188, 255], atol=1.5)


@pytest.mark.parametrize(("chunks", "wanted"), [
    ({b"gAMA": 100000}, 186), ({b"gAMA": 45455}, 128), ({b"gAMA": 0}, 128), ({b"sRGB": None, b"gAMA": 100000}, 128),
])  # fmt: skip
def test_the_gamma_of_a_png_is_heeded_unless_it_is_srgb(chunks, wanted, tmp_path):
    info = PngImagePlugin.PngInfo()
    for name, value in chunks.items():
        info.add(name, b"\0" if value is None else struct.pack(">I", value))
    Image.new("RGB", (32, 32), (128, 128, 128)).save(tmp_path / "render.png", pnginfo=info)
    np.testing.assert_allclose(read_rgba(tmp_path / "render.png")[4, 4, :3] * 255, wanted, atol=1.0)
