"""What an image's numbers mean: its colour profile or gamma, and the map to sRGB."""

import warnings
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageCms

PROBE = np.stack(np.meshgrid(*[np.arange(0, 256, 51, dtype=np.uint8)] * 3), axis=-1).reshape(1, -1, 3)
"""Colours by which a profile is known as sRGB; a name may say so of a linear one."""


def find_conversion(image: Image.Image) -> Callable[[Image.Image], Any] | None:
    """Return the map of the image's embedded colour profile, or gamma, to sRGB; None if it has none, or sRGB's."""
    content = image.info.get("icc_profile")
    if not content:
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
