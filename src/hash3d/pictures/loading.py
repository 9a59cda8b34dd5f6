"""A picture file to pixels. The size is checked before anything is decoded, and 100 megapixels fit small memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from .arrays import PictureError, Pixels, premultiplied, resized, straight
from .background import without_background

MAX_PIXELS = 200_000_000
MAX_SIDE = 1024
MIN_SIDE = 16
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "TGA")
"""What is opened. Not every format of Pillow: some of them start other programs."""


def load_picture(path: Path) -> Float[Tensor, "H W 4"]:
    """Straight-alpha RGBA in [0, 1], at most 1024 pixels a side (larger pictures are reduced by area).

    An opaque picture loses its background: a plain one by colour, any other by the optional package rembg.

    Raises:
        PictureError: the file is missing, no picture, damaged, too small, too large or empty, or its background is not
            plain and rembg is not installed.
    """
    rgba = _read(path)
    if rgba[..., 3].min() > 0.95:
        rgba = without_background(rgba, path)
    if not (rgba[..., 3] > 0.5).any():
        raise PictureError(
            f"Expected an object in the picture {path}, but no pixel of it is more than half opaque. "
            f"Check the picture's alpha channel."
        )
    return torch.from_numpy(np.ascontiguousarray(rgba))


def _read(path: Path) -> Pixels:
    """[H, W, 4] of the first frame of a file, upright, at most `MAX_SIDE` a side."""
    if path.is_dir():
        raise PictureError(f"Expected a picture, but {path} is a folder. Pass the path of a picture in it.")
    if not path.exists():
        raise PictureError(f"Expected a picture, but there is no file {path}. Check the path.")
    with _pillow_limit_lifted():
        try:
            image = Image.open(path, formats=FORMATS)
        except Exception as error:  # Pillow's decoders raise whatever their format makes them stumble on.
            known = "PNG, JPEG, WebP, BMP, GIF or TIFF"
            raise PictureError(f"Expected a picture ({known}), but {path} is none that can be read.") from error
        with image:
            _check_header(image, path)
            try:
                return _upright(_reduced(image), image.getexif().get(0x0112, 1))
            except Exception as error:
                raise PictureError(
                    f"Expected a whole picture, but {path} is damaged or cut off ({error}). Get it anew."
                ) from error


@contextmanager
def _pillow_limit_lifted() -> Iterator[None]:
    """Pillow warns from 89 megapixels on; our own limit is checked before anything is decoded."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _check_header(image: Image.Image, path: Path) -> None:
    """What is known before decoding."""
    width, height = image.size
    if image.mode == "F":
        raise PictureError(f"Expected whole numbers, but {path} holds floating-point ones. Save it with 8 or 16 bits.")
    if min(width, height) < MIN_SIDE:
        raise PictureError(
            f"Expected a picture of at least {MIN_SIDE} pixels a side, but {path} has {width}x{height}. "
            f"Pass a larger one."
        )
    if width * height > MAX_PIXELS:
        raise PictureError(
            f"Expected a picture of at most {MAX_PIXELS // 1_000_000} megapixels, but {path} has {width}x{height}. "
            f"Reduce it to {MAX_SIDE} pixels a side; more is not used."
        )


def _reduced(image: Image.Image) -> Pixels:
    """The decoded pixels, reduced by area in strips, so that floats of the whole picture are never held."""
    image.draft(None, _reduced_size(image))
    image.load()  # Before the size is asked for: Pillow turns a TIFF upright here.
    width, height = _reduced_size(image)
    step, rows = image.height / height, 16
    strips = []
    for start in range(0, height, rows):
        top, bottom = start * step, min(start + rows, height) * step
        first, last = int(top), min(int(np.ceil(bottom)), image.height)
        strip = premultiplied(_as_floats(image.crop((0, first, image.width, last))))
        box = (0.0, top - first, float(image.width), min(bottom - first, float(last - first)))
        size = (width, min(start + rows, height) - start)
        strips.append(resized(strip, size, box, Image.Resampling.BOX))
    return straight(np.concatenate(strips))


def _reduced_size(image: Image.Image) -> tuple[int, int]:
    share = min(1.0, MAX_SIDE / max(image.size))
    width, height = (max(1, round(share * length)) for length in image.size)
    return width, height


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo the camera's rotation (EXIF tag 0x0112: 5 to 8 are transposed, the rest turned or mirrored)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    flips = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}.get(orientation, ())
    return np.flip(pixels, flips) if flips else pixels


def _as_floats(image: Image.Image) -> Pixels:
    """[H, W, 4] in [0, 1] of any mode of Pillow: 16 bits of grey are kept, colours have 8."""
    if not image.mode.startswith("I"):
        return np.asarray(image.convert("RGBA"), dtype=np.float32) / 255.0
    values = np.asarray(image).astype(np.float32)
    transparent = image.info.get("transparency")
    alpha = np.ones_like(values) if transparent is None else (values != transparent).astype(np.float32)
    grey = (values / 65535.0).clip(0.0, 1.0)
    return np.stack([grey, grey, grey, alpha], axis=-1)
