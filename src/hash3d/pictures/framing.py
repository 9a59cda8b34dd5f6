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

from .arrays import PictureError, Pixels, premultiply, remove_specks, resize

Framing = Literal["auto", "keep", "recentre"]

OUTER_RADIUS, KEPT_RADII, KEPT_OFFSET = 0.70, (0.40, 0.80), 0.12
"""Shares of half the image."""
CHECK = 16
"""Pixels of a square of a checkerboard."""
VISIBLE = 0.1
"""A pixel of a larger alpha counts for the framing: glass and hair do, the haze that matting leaves does not."""


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

    `keep` changes the size alone (and pads an oblong image); `recentre` puts the middle of the object's bounding box
    into the middle, and its outermost pixel at OUTER_RADIUS; `auto` keeps a square image whose object is near the
    middle (KEPT_OFFSET) and reaches out to KEPT_RADII, else recentres.
    """
    rgba = picture.numpy()
    height, width = rgba.shape[:2]
    if not (rgba[..., 3] > 0.5).any():
        raise PictureError("Expected an object in the picture, but no pixel is more than half opaque.")
    # The centres (column, row) of the object's pixels; the pixel (0, 0) reaches from 0 to 1.
    points = np.argwhere(remove_specks(rgba[..., 3] > VISIBLE))[:, ::-1] + 0.5
    middle, side = np.array([width, height]) / 2, float(max(width, height))
    box_middle = (points.min(axis=0) + points.max(axis=0)) / 2
    offset, reach = np.hypot(*(box_middle - middle)) / middle[0], _find_reach(points, middle) / middle[0]
    is_framed = width == height and offset <= KEPT_OFFSET and KEPT_RADII[0] <= reach <= KEPT_RADII[1]
    if framing == "recentre" or (framing == "auto" and not is_framed):
        middle, side = box_middle, 2.0 * max(_find_reach(points, box_middle), 1.0) / OUTER_RADIUS
    left, top = (middle - side / 2).tolist()
    framed = torch.from_numpy(_cut_out(premultiply(rgba), (left, top), side, size))
    color, alpha = framed[..., :3], framed[..., 3:]
    scale = size / side
    shift = (0.0 - scale * left, 0.0 - scale * top)
    return FramedPicture(color_on_white=color + (1.0 - alpha), alpha=alpha, scale=scale, shift=shift)


def show_cutout(picture: Float[Tensor, "H W 4"]) -> Float[Tensor, "H W 3"]:
    """Lay an image over a checkerboard, on which a shadow that was left and a part that was lost are seen."""
    rows, columns = (torch.arange(length) // CHECK for length in picture.shape[:2])
    ground = 0.55 + 0.2 * ((rows[:, None] + columns) % 2)[..., None]
    return picture[..., 3:] * picture[..., :3] + (1.0 - picture[..., 3:]) * ground


def _find_reach(points: Float[np.ndarray, "N 2"], middle: Float[np.ndarray, " 2"]) -> float:
    """Return the distance in pixels from `middle` to the farthest point."""
    return float(np.hypot(*(points - middle).T).max())


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
