"""What an image's numbers mean: its colour profile or gamma, and the map to sRGB."""

import warnings
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms

PROBE = np.stack(np.meshgrid(*[np.arange(0, 256, 51, dtype=np.uint8)] * 3), axis=-1).reshape(1, -1, 3)
"""Colours by which a profile is known as sRGB; a name may say so of a linear one."""

SRGB = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
"""Chromaticities (x, y) of white, red, green and blue (IEC 61966-2-1)."""


def find_conversion(image: Image.Image) -> Callable[[Image.Image], Any] | None:
    """Return the map of the image's embedded colour profile, or gamma, to sRGB; None if it has none, or sRGB's."""
    content = image.info.get("icc_profile")
    if not content:
        primaries, exif = image.info.get("chromaticity", SRGB), image.getexif()
        is_wide = "srgb" not in image.info and np.abs(np.subtract(primaries, SRGB)).max() > 0.02
        coded, interop = image.info.get("cicp") or b"\1", ""
        with suppress(KeyError):  # Raised by Pillow 12.3 where there is no EXIF.
            interop = exif.get_ifd(ExifTags.IFD.Interop).get(1, "")
        if is_wide or interop == "R03" or coded[0] > 2:
            warnings.warn("The image has a wide gamut, but no colour profile: it is read as sRGB.", stacklevel=2)
        exponent = 1.0 / (2.2 * (image.info.get("gamma") or 1.0 / 2.2))
        ramp = [round(255.0 * (value / 255.0) ** exponent) for value in range(256)] * 3
        is_srgb = "srgb" in image.info or abs(exponent - 1.0) < 0.05
        return None if is_srgb else lambda strip: strip.convert("RGB").point(ramp)
    mode = {"CMYK": "CMYK", "L": "L", "LA": "L", "1": "L"}.get(image.mode, "L" if image.mode[0] == "I" else "RGB")
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(content))
        transform = ImageCms.buildTransform(
            profile, ImageCms.createProfile("sRGB"), mode, "RGB", flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        )  # fmt: skip
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        warnings.warn(f"The image's colour profile cannot be used ({error}): it is read as sRGB.", stacklevel=2)
        return None

    def convert(strip: Image.Image) -> Any:
        return ImageCms.applyTransform(strip if strip.mode == mode else strip.convert(mode), transform)

    probe = Image.fromarray(PROBE).convert(mode)
    is_srgb = mode == "RGB" and np.abs(np.asarray(convert(probe), int) - PROBE).max() <= 1
    return None if is_srgb else convert
