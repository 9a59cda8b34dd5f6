"""Images whose every pixel is known, and colour profiles written by hand."""

import struct

import numpy as np
from PIL import Image

RED = (220, 30, 30)


def disc(size, centre, radius, color=RED, around=(0, 0, 0)):
    """An antialiased disc [size, size, 4] in uint8: straight alpha, `around` hidden under the transparent pixels."""
    rows, columns = np.mgrid[:size, :size] + 0.5
    alpha = (radius + 0.5 - np.hypot(columns - centre[0], rows - centre[1])).clip(0, 1)
    pixels = np.empty((size, size, 4), dtype=np.uint8)
    pixels[..., :3] = np.where(alpha[..., None] > 0, color, around)
    pixels[..., 3] = (alpha * 255).round()
    return pixels


def composite(pixels, background):
    """The picture without alpha on one colour."""
    alpha = pixels[..., 3:] / 255
    mixed = alpha * pixels[..., :3] + (1 - alpha) * np.array(background)
    return mixed.round().astype(np.uint8)


def write(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


P3 = ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))
"""XYZ of Display P3's red, green and blue, adapted to D50."""


def icc_profile(space="RGB ", primaries=P3, gamma=2.2, black=0.0):
    """A version 2 profile (ICC.1:2001) of three primaries, of greys, or of inks whose black alone is seen.

    `gamma` is that of all channels. `black` is the share of light, with gamma 1, of an RGB of zeros.
    """

    def fixed(*values):
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    if black:
        curve = b"curv\0\0\0\0" + struct.pack(">I2H", 2, round(black * 65535), 65535)
    name = b"wide\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + b"\0" * 78,
        b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1.0, 0.8249),
    }
    if space == "RGB ":
        tags |= {
            key + b"XYZ": b"XYZ \0\0\0\0" + fixed(*xyz) for key, xyz in zip((b"r", b"g", b"b"), primaries, strict=True)
        }
        tags |= {key + b"TRC": curve for key in (b"r", b"g", b"b")}
    elif space == "GRAY":
        tags[b"kTRC"] = curve
    else:  # L* is 100 without black ink and 0 with all of it: a table of two points an ink, from one straight line.
        line = bytes(range(256))
        corners = b"".join(bytes((0 if ink % 2 else 255, 128, 128)) for ink in range(16))
        head = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
        tags[b"A2B0"] = head + line * 4 + corners + line * 3
    offset, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for key, value in tags.items():
        value += b"\0" * (-len(value) % 4)
        table += key + struct.pack(">II", offset + len(body), len(value))
        body += value
    size = 128 + len(table) + len(body)
    kind, numbers = (b"scnr", b"Lab ") if space == "CMYK" else (b"mntr", b"XYZ ")
    head = struct.pack(">I4sI4s4s4s", size, b"none", 0x02400000, kind, space.encode(), numbers)
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + fixed(0.9642, 1.0, 0.8249)
    return head.ljust(128, b"\0") + table + body
