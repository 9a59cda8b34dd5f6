"""Read an image file. Its size is checked before anything is decoded, and what is decoded takes less than 1 GiB."""

import re
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageFile
from scipy import ndimage
from torch import Tensor

from .arrays import PictureError, Pixels, premultiply, resize, unpremultiply
from .background import remove_background
from .profiles import find_conversion

MAX_PIXELS, MAX_SIDE, MIN_SIDE, MAX_ASPECT = 120_000_000, 1024, 16, 70
STRIP_PIXELS = 2_000_000
"""Pixels of an image that are floats at once while it is reduced."""
CUT_OUT = 0.05
"""An alpha channel cuts an object out if it hides this share of the image: rounded corners or a stray pixel do not."""
DETAILED = 64
"""Pixels of an object's longer side, below which it is told that details are missing."""
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "TGA")
"""What is opened. Not every format of Pillow: some of them start other programs."""
PICTURES = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}
"""Endings of names by which the pictures of a folder are found."""
_TO_RGBA = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK")
"""Modes that Pillow turns into RGBA in one step."""


def load_picture(path: Path) -> Float[Tensor, "H W 4"]:
    """Load straight-alpha RGBA in [0, 1], at most MAX_SIDE pixels a side (larger images are reduced by area).

    An opaque image loses its background: a plain one by colour, any other by the optional package rembg. An alpha
    channel that hides less than 5 % of it counts as none, with a warning. Raises `PictureError` if the file is missing,
    no picture, damaged, too small, too large or empty, or its background is not plain and rembg is not installed.
    """
    rgba = read_rgba(path)
    if _is_cut_out(rgba):
        rgba = straighten(rgba, path)
    else:
        if (hidden := float((rgba[..., 3] < 0.5).mean())) > 0.0:
            warnings.warn(f"The alpha channel of {path} hides only {hidden:.1%} of it: it was ignored.", stacklevel=2)
        rgba = remove_background(rgba, path)
        if not _is_cut_out(rgba):
            problem = f"the object fills the picture {path}. Leave a margin."
            raise PictureError(f"Expected an object in front of a background, but {problem}")
        mask = rgba[..., 3] > 0.5
        if mask[[0, -1]].any() or mask[:, [0, -1]].any():
            advice = "What lies beyond will be missing. Pass an image with a margin."
            warnings.warn(f"The object touches the border of {path}. {advice}", stacklevel=2)
    rows, columns = np.nonzero(rgba[..., 3] > 0.5)
    if not len(rows):
        problem = "no pixel of it is more than half opaque. Check the picture's alpha channel."
        raise PictureError(f"Expected an object in the picture {path}, but {problem}")
    if (side := max(np.ptp(rows), np.ptp(columns)) + 1) < DETAILED:
        advice = f"Expect few details, and more of a larger image: {DETAILED} or more."
        warnings.warn(f"The object in {path} is only {side} pixels large. {advice}", stacklevel=2)
    return torch.from_numpy(np.ascontiguousarray(rgba))


def read_rgba(path: Path, max_side: float = MAX_SIDE) -> Pixels:
    """Read the first frame of a file: sRGB, straight alpha, upright, at most `max_side` pixels a side.

    Raises `PictureError` if the file is missing, no picture, damaged, too small or too large, or has 16 bits a colour.
    """
    if path.is_dir():
        raise PictureError(f"Expected a picture, but {path} is a folder. Pass the path of a picture in it.")
    if not path.is_file():
        raise PictureError(f"Expected a picture, but there is no file {path}. Check the path.")
    with ExitStack() as stack:
        # Pillow's own limit is lifted: ours is checked before anything is decoded.
        stack.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
        Image.MAX_IMAGE_PIXELS = None
        try:  # A file, not its name: Pillow 13 maps a raw TIFF by name, and turns it wrongly.
            file = stack.enter_context(path.open("rb"))
            found = re.search(rb"\0\0\0\x04cICP(.{4})", file.peek(), re.DOTALL)  # A PNG's, which Pillow leaves out.
            image = stack.enter_context(Image.open(file, formats=FORMATS))
            image.info["cicp"] = found and found[1]
        except Exception as error:  # Pillow's decoders raise whatever their format makes them stumble on.
            known = "PNG, JPEG, WebP, BMP, GIF or TIFF"
            raise PictureError(f"Expected a picture ({known}), but {path} is none that can be read.") from error
        _check_header(image, path)
        try:
            return _turn_upright(_decode(image, max_side), image.getexif().get(0x0112, 1))
        except Exception as error:
            problem = f"{path} is damaged or cut off ({error}). Get it anew."
            raise PictureError(f"Expected a whole picture, but {problem}") from error


def _is_cut_out(rgba: Pixels) -> bool:
    return bool((rgba[..., 3] < 0.5).mean() >= CUT_OUT)


def straighten(rgba: Pixels, path: Path) -> Pixels:
    """Divide the colours of soft edges by alpha if a program has stored them premultiplied, against the formats' rules.

    Then no colour exceeds its alpha, and divided, the colours are nearer to those of the opaque pixels beside them.
    """
    alpha = rgba[..., 3]
    soft, opaque = (alpha > 0.1) & (alpha < 0.9), alpha > 0.98
    if soft.sum() < 20 or not opaque.any() or (rgba[soft, :3] > rgba[soft, 3:] + 2.0 / 255.0).any():
        return rgba
    _, nearest = ndimage.distance_transform_edt(~opaque, return_indices=True)
    beside, divided = rgba[tuple(nearest)][soft, :3], unpremultiply(rgba)
    error = np.abs(rgba[soft, :3] - beside).mean()
    if np.abs(divided[soft, :3] - beside).mean() > 0.5 * error or error < 0.02:
        return rgba
    warnings.warn(f"The colours of {path} are darkened at its soft edges (premultiplied): undone.", stacklevel=3)
    return divided


def _check_header(image: ImageFile.ImageFile, path: Path) -> None:
    """Refuse what the header tells before decoding."""
    width, height = image.size
    short, long, size = min(width, height), max(width, height), f"{path} has {width}x{height}"
    raw_modes = "".join(str(tile[3]) for tile in image.tile)  # Pillow tells the bits in these alone ("RGB;16B").
    is_deep = image.mode in ("RGB", "RGBA", "CMYK") and (";16" in raw_modes or "65535" in raw_modes)
    if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
        problem = f"8 or 16 bits a pixel, but {path} has 32. Save it with 8 or 16 bits."
    elif is_deep:
        problem = f"8 bits a colour channel, but {path} has 16, of which 8 would be lost. Save it with 8 bits."
    elif image.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(262) == 0:
        problem = f"black as 0, but {path} has white as 0 in 16 bits. Save it as PNG."
    elif short < MIN_SIDE:
        problem = f"a picture of at least {MIN_SIDE} pixels a side, but {size}. Pass a larger one."
    elif long > MAX_ASPECT * short:
        problem = f"sides that differ at most {MAX_ASPECT}-fold, but {size} pixels. Crop it."
    elif width * height > MAX_PIXELS:
        limit = f"a picture of at most {MAX_PIXELS // 1_000_000} megapixels"
        problem = f"{limit}, but {size}. Reduce it to {MAX_SIDE} pixels a side; more is not used."
    else:
        return
    raise PictureError(f"Expected {problem}")


def _decode(image: Image.Image, max_side: float) -> Pixels:
    """Decode the pixels and reduce them by area in strips, so that floats of a large image are never held."""
    image.draft(None, _choose_size(image, max_side))
    image.load()  # Before the size is asked for: Pillow turns a TIFF upright here.
    width, height = _choose_size(image, max_side)
    to_srgb = find_conversion(image)
    if (width, height) == image.size:
        return _as_floats(image, to_srgb)
    step = image.height / height
    rows = max(1, int(STRIP_PIXELS / (image.width * step)))
    strips = []
    for start in range(0, height, rows):
        top, bottom = start * step, min(start + rows, height) * step
        first, last = int(top), min(int(np.ceil(bottom)), image.height)
        strip = premultiply(_as_floats(image.crop((0, first, image.width, last)), to_srgb))
        box = (0.0, top - first, float(image.width), min(bottom - first, float(last - first)))
        size = (width, min(start + rows, height) - start)
        strips.append(resize(strip, size, box, Image.Resampling.BOX))
    return unpremultiply(np.concatenate(strips))


def _choose_size(image: Image.Image, max_side: float) -> tuple[int, int]:
    share = min(1.0, max_side / max(image.size))
    width, height = (max(1, round(share * length)) for length in image.size)
    return width, height


def _turn_upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo the camera's rotation (EXIF tag 0x0112: 5 to 8 are transposed, the rest turned or mirrored)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    flips = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}.get(orientation, ())
    return np.flip(pixels, flips) if flips else pixels


def _as_floats(image: Image.Image, to_srgb: Callable[[Image.Image], Any] | None) -> Pixels:
    """Return [H, W, 4] in [0, 1] of any mode of Pillow: grey has 8 or 16 bits, colours have 8."""
    if not image.mode.startswith("I"):
        rgba = image.convert("RGBA") if image.mode in _TO_RGBA else image.convert("RGB").convert("RGBA")
        pixels = np.asarray(rgba, dtype=np.float32) / 255.0
        if to_srgb is not None:
            source = image if image.mode == "CMYK" else rgba
            pixels[..., :3] = np.asarray(to_srgb(source), dtype=np.float32) / 255.0
        return pixels
    values = np.asarray(image).astype(np.float32)
    transparent = image.info.get("transparency")
    alpha = np.ones_like(values) if transparent is None else (values != transparent).astype(np.float32)
    grey = (values / 65535.0).clip(0.0, 1.0)
    if to_srgb is not None:
        ramp = np.asarray(to_srgb(Image.fromarray(np.arange(256, dtype=np.uint8)[None])))[0, :, 1] / 255.0
        grey = np.interp(grey, np.linspace(0.0, 1.0, 256), ramp).astype(np.float32)
    return np.stack([grey, grey, grey, alpha], axis=-1)
