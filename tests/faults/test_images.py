"""Odd and damaged image files: refused in one sentence, or read as finite pixels, in little time and memory."""

# ruff: noqa: PT017  (a refusal is one of two good outcomes)

import io
import random
import time

import numpy as np
import pytest
from PIL import Image

from hash3d.pictures import PictureError, read_rgba

MODES = {
    "PNG": ("RGBA", "RGB", "L", "LA", "P", "1", "I;16"), "JPEG": ("RGB", "L", "CMYK"), "WEBP": ("RGB", "RGBA"),
    "BMP": ("RGB", "L", "1"), "GIF": ("P", "L"), "TIFF": ("RGB", "RGBA", "L", "CMYK", "I;16", "F"),
    "TGA": ("RGB", "RGBA"), "PPM": ("RGB", "L"),
}  # fmt: skip
SIDES = (1, 2, 15, 16, 17, 64, 200, 1025, 3000)
SECONDS = 10.0


def draw_file(draw):
    """The bytes of an image of a random format, mode and size, whole or damaged."""
    format = draw.choice(sorted(MODES))
    mode, size = draw.choice(MODES[format]), (draw.choice(SIDES), draw.choice(SIDES))
    pixels = np.random.default_rng(draw.randrange(2**32)).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = draw.randint(0, 9)
    buffer = io.BytesIO()
    image.save(buffer, format, **({"exif": exif.tobytes()} if format in ("JPEG", "PNG", "WEBP") else {}))
    content, kind = bytearray(buffer.getvalue()), draw.random()
    if kind < 0.3:
        del content[draw.randrange(len(content)) :]
    elif kind < 0.7:
        for _ in range(draw.randint(1, 20)):
            reach = len(content) if draw.random() < 0.5 else min(len(content), 200)
            content[draw.randrange(reach)] = draw.randrange(256)
    return bytes(content), (format, mode, size, kind)


def try_many(seeds, path):
    for seed in seeds:
        content, about = draw_file(random.Random(seed))
        path.write_bytes(content)
        start = time.process_time()
        try:
            pixels = read_rgba(path)
        except PictureError as error:
            assert "\n" not in str(error), (seed, about)
        else:
            assert pixels.ndim == 3, (seed, about)
            assert np.isfinite(pixels).all(), (seed, about)
            assert 0.0 <= pixels.min() <= pixels.max() <= 1.0, (seed, about)
            assert max(pixels.shape[:2]) <= 1024, (seed, about)
        assert time.process_time() - start < SECONDS, (seed, about)


@pytest.mark.filterwarnings("ignore")
def test_images(tmp_path):
    try_many(range(25), tmp_path / "image")


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")
def test_many_images(tmp_path, record_property):
    """odd and damaged images."""
    for seed in range(2000):
        record_property("tried", seed + 1)
        try_many([seed], tmp_path / "image")
