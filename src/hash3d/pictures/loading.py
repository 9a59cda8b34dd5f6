"""A picture file to pixels. The size is checked before anything is decoded, and 100 megapixels fit small memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageFile
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
    rgba = read_rgba(path)
    if rgba[..., 3].min() > 0.95:
        rgba = without_background(rgba, path)
    if not (rgba[..., 3] > 0.5).any():
        raise PictureError(
            f"Expected an object in the picture {path}, but no pixel of it is more than half opaque. "
            f"Check the picture's alpha channel."
        )
    return torch.from_numpy(np.ascontiguousarray(rgba))


def read_rgba(path: Path, max_side: float = MAX_SIDE) -> Pixels:
    """The first frame of a file: straight alpha, upright, at most `max_side` pixels a side, its background kept.

    Raises:
        PictureError: the file is missing, no picture, damaged, too small or too large, or has 16 bits a colour.
    """
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
                return _upright(_reduced(image, max_side), image.getexif().get(0x0112, 1))
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


def _check_header(image: ImageFile.ImageFile, path: Path) -> None:
    """What is known before decoding."""
    width, height = image.size
    if image.mode == "F":
        raise PictureError(f"Expected whole numbers, but {path} holds floating-point ones. Save it with 8 or 16 bits.")
    if image.mode in ("RGB", "RGBA", "CMYK") and _is_deep(image):
        raise PictureError(
            f"Expected 8 bits a colour channel, but {path} has 16, of which 8 would be lost. Save it with 8 bits."
        )
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


def _is_deep(image: ImageFile.ImageFile) -> bool:
    """Whether the file holds more than 8 bits a channel. Pillow tells it in the raw modes alone ("RGB;16B")."""
    raw_modes = [str(tile[3]) for tile in image.tile]
    return any(";16" in raw_mode or "65535" in raw_mode for raw_mode in raw_modes)


def _reduced(image: Image.Image, max_side: float) -> Pixels:
    """The decoded pixels, reduced by area in strips, so that floats of a large picture are never held."""
    image.draft(None, _reduced_size(image, max_side))
    image.load()  # Before the size is asked for: Pillow turns a TIFF upright here.
    width, height = _reduced_size(image, max_side)
    if (width, height) == image.size:
        return _as_floats(image)
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


def _reduced_size(image: Image.Image, max_side: float) -> tuple[int, int]:
    share = min(1.0, max_side / max(image.size))
    width, height = (max(1, round(share * length)) for length in image.size)
    return width, height


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo the camera's rotation (EXIF tag 0x0112: 5 to 8 are transposed, the rest turned or mirrored)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    flips = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}.get(orientation, ())
    return np.flip(pixels, flips) if flips else pixels


def _as_floats(image: Image.Image) -> Pixels:
    """[H, W, 4] in [0, 1] of any mode of Pillow: grey has 8 or 16 bits, colours have 8."""
    if not image.mode.startswith("I"):
        return np.asarray(image.convert("RGBA"), dtype=np.float32) / 255.0
    values = np.asarray(image).astype(np.float32)
    transparent = image.info.get("transparency")
    alpha = np.ones_like(values) if transparent is None else (values != transparent).astype(np.float32)
    grey = (values / 65535.0).clip(0.0, 1.0)
    return np.stack([grey, grey, grey, alpha], axis=-1)
