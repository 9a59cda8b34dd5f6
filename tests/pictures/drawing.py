"""Pictures whose every pixel is known."""

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
