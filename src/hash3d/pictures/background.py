"""An opaque picture's background: removed by colour if it is plain, else by the optional package rembg."""

from pathlib import Path

import numpy as np
from PIL import Image

from .arrays import Mask, PictureError, Pixels, without_specks

PLAIN_TOLERANCE = 0.08
PLAIN_SHARE = 0.9
"""A background is plain if this share of the border's pixels differs from their median by at most the tolerance in
each channel. The border is 2 % of the shorter side wide."""
LEAST_TOLERANCE = 0.03
"""What counts as background is at most twice as far from the median as that share, plus this: a background without
noise gives nothing of a similar object away."""
EDGE = 2
"""Pixels in from the background that may be a mixture of object and background."""


def without_background(rgba: Pixels, path: Path) -> Pixels:
    """An opaque picture with its background made transparent."""
    removed = _without_plain_background(rgba)
    if removed is None:
        removed = _without_background_by_rembg(rgba, path)
    return removed


def _without_plain_background(rgba: Pixels) -> Pixels | None:
    """Make transparent what has the border's colour and is connected to the border; None if that makes no sense."""
    from scipy import ndimage

    color = rgba[..., :3]
    width = max(1, round(0.02 * min(color.shape[:2])))
    border = np.ones(color.shape[:2], dtype=bool)
    border[width:-width, width:-width] = False
    background = np.median(color[border], axis=0)
    distance = np.abs(color - background).max(axis=-1)
    spread = float(np.quantile(distance[border], PLAIN_SHARE))
    if spread > PLAIN_TOLERANCE:
        return None
    alike = distance <= min(PLAIN_TOLERANCE, LEAST_TOLERANCE + 2.0 * spread)
    pieces, _ = ndimage.label(alike)
    outside = alike & np.isin(pieces, np.unique(pieces[border]))
    mask = without_specks(~outside)
    if not 0.001 < mask.mean() < 0.95:
        return None
    return _unmixed(color, mask, background.astype(np.float32))


def _unmixed(color: Pixels, mask: Mask, background: Pixels) -> Pixels:
    """Soft edges: a pixel near the background is C = a F + (1 - a) B, with F the colour of the nearest inner pixel.

    The background B is known, so a is the projection of C - B on F - B, and the pixel's own colour is F.
    """
    from scipy import ndimage

    depth = ndimage.distance_transform_edt(np.pad(mask, 1, constant_values=True))[1:-1, 1:-1]
    inner = mask & (depth > EDGE)
    alpha, own = mask.astype(np.float32), color
    if inner.any():
        away, (rows, columns) = ndimage.distance_transform_edt(~inner, return_indices=True)
        edge = mask & ~inner & (away <= EDGE + 2)
        nearest = color[rows, columns]
        span = nearest - background
        share = ((color - background) * span).sum(-1) / np.maximum((span**2).sum(-1), 1e-6)
        alpha = np.where(edge, share.clip(0.0, 1.0), alpha).astype(np.float32)
        own = np.where(edge[..., None], nearest, color)
    return np.concatenate([own, alpha[..., None]], axis=-1)


def _without_background_by_rembg(rgba: Pixels, path: Path) -> Pixels:
    """The only place that uses the optional package rembg."""
    try:
        from rembg import remove
    except (ImportError, SystemExit) as error:  # Without its runtime rembg leaves the program.
        raise PictureError(
            f"Expected a picture with an alpha channel or a plain background, but {path} has neither. "
            f"Cut the object out, or install the background remover: pip install hash3d[rembg]."
        ) from error
    try:
        image = remove(Image.fromarray((rgba[..., :3] * 255.0).round().astype(np.uint8)))
    except Exception as error:
        raise PictureError(
            f"Expected rembg to remove the background of {path}, but it failed ({error}). Cut the object out yourself."
        ) from error
    return np.asarray(image.convert("RGBA"), dtype=np.float32) / 255.0
