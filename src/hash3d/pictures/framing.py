"""Place the object as the prior frames it.

The prior sees a bounding sphere of radius 0.5 from distance 1.5 with a vertical field of view of 49.1 degrees, so the
sphere's outline has a radius of tan(asin(0.5 / 1.5)) / tan(49.1 / 2 degrees) = 0.774 of half the image.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from .arrays import Mask, PictureError, Pixels, premultiply, remove_specks, resize

Framing = Literal["auto", "keep", "recentre"]

OUTER_RADIUS = 0.70
"""Where `recentre` puts the outermost pixel of the object, as a share of half the image."""
VISIBLE = 0.1
"""Alpha from which on a pixel counts for the framing: glass and hair do, the haze that matting leaves does not."""
KEPT_RADII = (0.40, 0.80)
KEPT_OFFSET = 0.12
"""An image whose object lies within these shares of half the image is framed already."""


@dataclass(frozen=True, kw_only=True)
class FramedPicture:
    """A square image in the prior's framing. A point p of the image, in pixels, lies at `scale * p + shift`."""

    color_on_white: Float[Tensor, "S S 3"]
    alpha: Float[Tensor, "S S 1"]
    scale: float
    shift: tuple[float, float]
    """(column, row) in framed pixels."""


def frame_picture(picture: Float[Tensor, "H W 4"], size: int, framing: Framing = "auto") -> FramedPicture:
    """Place an image in a square of `size` pixels on white.

    `keep` changes nothing but the size (and pads an oblong picture); `recentre` puts the middle of the object's
    bounding box into the middle, and its outermost pixel at 0.70 of half the image; `auto` keeps a square picture
    whose object is near the middle (0.12) and reaches out to 0.40 to 0.80, else recentres.
    """
    rgba = picture.numpy()
    height, width = rgba.shape[:2]
    if not (rgba[..., 3] > 0.5).any():
        raise PictureError("Expected an object in the picture, but no pixel is more than half opaque.")
    mask = remove_specks(rgba[..., 3] > VISIBLE)
    centre, side = (width / 2, height / 2), float(max(width, height))
    if framing == "recentre" or (framing == "auto" and not _is_framed(mask)):
        centre = _box_centre(mask)
        side = 2.0 * max(_outer_radius(mask, centre), 1.0) / OUTER_RADIUS
    corner = centre[0] - side / 2, centre[1] - side / 2
    framed = torch.from_numpy(_cut_out(premultiply(rgba), corner, side, size))
    color, alpha = framed[..., :3], framed[..., 3:]
    scale = size / side
    shift = (0.0 - scale * corner[0], 0.0 - scale * corner[1])
    return FramedPicture(color_on_white=color + (1.0 - alpha), alpha=alpha, scale=scale, shift=shift)


def _box_centre(mask: Mask) -> tuple[float, float]:
    """Return (column, row) of the middle of the bounding box; the pixel (0, 0) reaches from 0 to 1."""
    rows, columns = np.nonzero(mask)
    return float(columns.min() + columns.max() + 1) / 2, float(rows.min() + rows.max() + 1) / 2


def _outer_radius(mask: Mask, centre: tuple[float, float]) -> float:
    """Return the pixels from `centre` to the centre of the farthest pixel of the mask."""
    rows, columns = np.nonzero(mask)
    return float(np.hypot(columns + 0.5 - centre[0], rows + 0.5 - centre[1]).max())


def _is_framed(mask: Mask) -> bool:
    """Whether an image is square and its object lies in the prior's framing."""
    height, width = mask.shape
    half = width / 2
    middle = _box_centre(mask)
    offset = np.hypot(middle[0] - half, middle[1] - half) / half
    reach = _outer_radius(mask, (half, half)) / half
    return bool(height == width and offset <= KEPT_OFFSET and KEPT_RADII[0] <= reach <= KEPT_RADII[1])


def _cut_out(pixels: Pixels, corner: tuple[float, float], side: float, size: int) -> Pixels:
    """Resample the premultiplied square of `side` pixels, its upper left corner at (column, row), to `size` pixels."""
    height, width = pixels.shape[:2]
    margin = int(np.ceil(max(0.0, -min(corner), corner[0] + side - width, corner[1] + side - height)))
    padded = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)))
    left, top = corner[0] + margin, corner[1] + margin
    square = resize(padded, (size, size), (left, top, left + side, top + side), Image.Resampling.BICUBIC)
    alpha = square[..., 3:].clip(0.0, 1.0)
    color = square[..., :3] * (alpha / np.maximum(square[..., 3:], 1e-6))  # Where alpha overshoots, so do the colours.
    return np.concatenate([color.clip(0.0, alpha), alpha], axis=-1)
