"""Odd and damaged image files: refused in one sentence, or read as finite pixels, in little time and memory."""

# ruff: noqa: PT017  (a refusal is one of two good outcomes)

import io
import random
import struct
import time
import zlib
from contextlib import contextmanager
from pathlib import Path

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
SECONDS, MEMORY = 10.0, 2**30


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


def draw_large(draw):
    """The bytes of a PNG of up to 400 megapixels of one colour, which compress to little."""
    width = int(10 ** draw.uniform(1, 5))
    height = max(1, min(int(10 ** draw.uniform(1, 5)), 4 * 10**8 // width))
    kind, channels = draw.choice(((0, 1), (2, 3), (4, 2), (6, 4)))
    bits = draw.choice((8, 8, 16) if kind else (1, 8, 16))
    row, packer = b"\0" * (1 + (width * channels * bits + 7) // 8), zlib.compressobj(1)
    if len(row) * height > 10**9:
        height = 10**9 // len(row)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data[: draw.choice((len(data), len(data), len(data) // 2))]), (b"IEND", b""))
    content = b"".join(
        struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part)) for name, part in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + content, ("large PNG", kind, bits, width, height)


@contextmanager
def peak():
    """The most memory that a block holds beyond what was held before, in bytes; Linux counts it."""
    found = []
    Path("/proc/self/clear_refs").write_text("5")
    before = read_status("VmRSS")
    yield found
    found.append(read_status("VmHWM") - before)


def read_status(name):
    (line,) = (each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith(name))
    return 1024 * int(line.split()[1])


def try_many(seeds, path, draw_file=draw_file):
    for seed in seeds:
        content, about = draw_file(random.Random(seed))
        path.write_bytes(content)
        with peak() as memory:
            read_one(path, seed, about)
        assert memory[0] < MEMORY, (seed, about)


def read_one(path, seed, about):
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
    try_many(range(9), tmp_path / "image")


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")
def test_many_large_images(tmp_path, record_property):
    """Images of up to 400 megapixels in little files: within 1 GiB and 10 s each."""
    for seed in range(200):
        record_property("tried", seed + 1)
        try_many([seed], tmp_path / "image", draw_large)


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")
def test_many_images(tmp_path, record_property):
    """Odd and damaged images: within 1 GiB and 10 s each."""
    for seed in range(2000):
        record_property("tried", seed + 1)
        try_many([seed], tmp_path / "image")
