"""Masks, and resampling of premultiplied colours, where what transparent pixels hide never bleeds into an edge."""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

Pixels = npt.NDArray[np.float32]
"""[H, W, 4] in [0, 1]."""
Mask = npt.NDArray[np.bool_]
"""[H, W]."""

SPECK = 0.01
"""Components of a mask under this share of its largest component are dirt."""


class PictureError(ValueError):
    """An image that cannot be used, and what to do about it, in one sentence."""


def remove_specks(mask: Mask) -> Mask:
    """Keep the 8-connected components of a mask that are not dirt beside its largest."""
    labels, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    areas = np.bincount(labels[mask], minlength=1)
    return mask & (areas >= SPECK * areas.max())[labels]


def keep_touching(mask: Mask, seeds: Mask) -> Mask:
    """Keep the 4-connected components of a mask that hold a seed."""
    labels, _ = ndimage.label(mask)
    return mask & np.isin(labels, np.unique(labels[mask & seeds]))


def resize(pixels: Pixels, size: tuple[int, int], box: tuple[float, float, float, float], kind: Any) -> Pixels:
    """Resample the part `box` (left, top, right, bottom) to `size` (columns, rows), a channel at a time."""
    channels = [Image.fromarray(pixels[..., channel]).resize(size, kind, box=box) for channel in range(4)]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


def premultiply(rgba: Pixels) -> Pixels:
    """Multiply colours by alpha."""
    return np.concatenate([rgba[..., :3] * rgba[..., 3:], rgba[..., 3:]], axis=-1)


def unpremultiply(premultiplied: Pixels) -> Pixels:
    """Divide colours by alpha; black where nothing is visible."""
    alpha = premultiplied[..., 3:]
    color = premultiplied[..., :3] / np.maximum(alpha, 1e-6)
    return np.concatenate([color.clip(0.0, 1.0), alpha], axis=-1)
