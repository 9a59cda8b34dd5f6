"""Remove an opaque image's background: by colour if it is plain, else by the optional package rembg."""

import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from .arrays import SPECK, Mask, PictureError, Pixels, keep_touching, remove_specks

Doubles = npt.NDArray[np.float64]
PLAIN_TOLERANCE, PLAIN_SHARE = 0.08, 0.9
"""A background is plain if this share of the border's pixels differs from a smooth surface by at most the tolerance in
each channel. The border is 2 % of the shorter side wide."""
SMOOTH_RANGE = 0.35
"""Most by which a plain background may fall off, as to the corners of a studio photo."""
LEAST_TOLERANCE = 0.03
"""Background is at most twice as far from the surface as that share, plus this."""
FAINT = 0.006
"""A blurred difference from the surface that is seen, if it is also four times the border's noise."""
HALO = 10
"""Pixels around an object in which a faint difference may be JPEG's."""
OUTLINE = 0.15
"""Slope a pixel of a blurred outline, as a share of its contrast: a step has 0.27 in its middle."""
STEEP = 0.015
"""Slope a pixel that a soft shadow stays under."""
COLORFUL = 0.1
"""Median difference of an object's channels from which on its shadow is told from it by colour alone."""
LOST_SOLIDITY = 0.05
"""A grey object without its shadow fills about as much of its convex hull as with it; much more is lost where its own
shade is taken for the shadow."""
LEAST_OBJECT, MOST_OBJECT = 0.01, 0.95
"""The share of the image that an object may fill."""
EDGE = 2
"""Pixels in from the background that may be a mixture of object and background."""


def remove_background(rgba: Pixels, path: Path) -> Pixels:
    """Make the background of an opaque image transparent; pixels that are transparent already belong to it."""
    removed = _remove_plain_background(rgba, path)
    return _remove_background_by_rembg(rgba, path) if removed is None else removed


def _remove_plain_background(rgba: Pixels, path: Path) -> Pixels | None:
    """Make transparent what looks like the border and is connected to it; None if that makes no sense."""
    color, solid = rgba[..., :3], rgba[..., 3] > 0.5
    width = max(1, round(0.02 * min(solid.shape)))
    border = solid & (ndimage.distance_transform_edt(np.pad(solid, 1))[1:-1, 1:-1] <= width)
    surface = _fit_background(color, border)
    distance = np.abs(color - surface).max(axis=-1)
    spread = float(np.quantile(distance[border], PLAIN_SHARE))
    if spread > PLAIN_TOLERANCE or np.ptp(surface[border], axis=0).max() > SMOOTH_RANGE:
        return None
    similar = solid & (distance <= min(PLAIN_TOLERANCE, LEAST_TOLERANCE + 2.0 * spread))
    mask = remove_specks(solid & ~keep_touching(similar, border))
    faint, outlined = _find_faint_parts(color - surface, mask, border)
    shadow = _find_shadow(color, surface, mask)
    rest = remove_specks(mask & ~shadow)
    is_doubtful = (faint | shadow).sum() > 0.1 * mask.sum()
    if rest.any() and (_is_colorful(color[rest]) or _solidity(rest) > _solidity(mask) - LOST_SOLIDITY):
        mask = rest
    if is_doubtful:
        mask = mask | outlined
        warnings.warn(
            f"A part of {path} is a shadow or hardly differs from the background: it was told from the object as far "
            f"as possible. Check input.png in the run folder, or pass an image with an alpha channel.",
            stacklevel=4,
        )
    return _unmix(color, mask, surface) if LEAST_OBJECT < mask.mean() < MOST_OBJECT else None


def _fit_background(color: Pixels, border: Mask) -> Pixels:
    """Fit a polynomial in the position, of degree 2 then 4, to the border and to what agrees with it farther in.

    The fit is iteratively reweighted least squares with Cauchy's weights: an object hardly moves it.
    """
    step = max(1, max(border.shape) // 160)
    rows, columns = (np.linspace(-1.0, 1.0, length) for length in border.shape)
    colors, ring = color[::step, ::step].astype(np.float64), border[::step, ::step]
    if not ring.any():
        return np.broadcast_to(np.median(color[border], axis=0), color.shape).astype(np.float32)
    weights = ring.astype(np.float64)
    for degree in (2, 2, 2, 4, 4, 4, 4):
        terms, root = _make_terms(rows[::step], columns[::step], degree), np.sqrt(weights)[..., None]
        fit = np.linalg.lstsq((root * terms).reshape(ring.size, -1), (root * colors).reshape(-1, 3), rcond=1e-6)[0]
        surface = terms @ fit
        distance = np.abs(colors - surface).max(axis=-1)
        scale = max(float(np.median(distance[ring])), 1.0 / 255.0)
        fitted = ring | keep_touching(distance < PLAIN_TOLERANCE, ring)
        weights = np.where(fitted, 1.0 / (1.0 + (distance / scale) ** 2) ** 2, 0.0)
    low, high = surface[fitted].min(axis=0), surface[fitted].max(axis=0)
    return np.clip(_make_terms(rows, columns, degree) @ fit, low, high).astype(np.float32)


def _make_terms(rows: Doubles, columns: Doubles, degree: int) -> Doubles:
    """Return the monomials [H, W, T] of two coordinates up to a total degree."""
    powers = [(down, right) for down in range(degree + 1) for right in range(degree + 1 - down)]
    return np.stack([np.outer(rows**down, columns**right) for down, right in powers], axis=-1)


def _find_faint_parts(difference: Pixels, mask: Mask, border: Mask) -> tuple[Mask, Mask]:
    """Find what hardly differs from the background, not only near the mask, and its parts with a sharp outline."""
    smooth, slope = _smooth_and_slope(difference)
    visible = np.abs(smooth).max(axis=-1)
    seen = visible > max(FAINT, 4.0 * float(np.quantile(visible[border], PLAIN_SHARE)))
    far = ndimage.distance_transform_edt(~mask) > HALO if mask.any() else np.ones_like(mask)
    core = ndimage.binary_opening(seen & far, iterations=3)
    parts = keep_touching(seen & ~mask & ndimage.binary_dilation(core, iterations=HALO + 3), core)
    outlined = _keep_outlined(parts, far, difference, slope)
    return parts, ndimage.binary_fill_holes(outlined | mask) & ~mask if outlined.any() else outlined


def _find_shadow(color: Pixels, surface: Pixels, mask: Mask) -> Mask:
    """Find the parts of a mask that are a darker background, reached from outside without crossing an outline."""
    ratio = _project(color, surface)
    tinted = np.abs(color - ratio[..., None] * surface).max(axis=-1) > 0.5 * LEAST_TOLERANCE
    _, slope = _smooth_and_slope(color)
    gradual = (ratio > 0.5) & (ratio < 1.0) & ~tinted & (slope < STEEP)
    shadow = mask & keep_touching(ndimage.binary_opening(~mask | gradual, iterations=2) | ~mask, ~mask)
    if shadow.sum() < 0.02 * mask.sum():
        return np.zeros_like(mask)
    away = ndimage.distance_transform_edt(~(mask & ~shadow)) > HALO
    return shadow & ~_keep_outlined(shadow, away, color - surface, slope)


def _is_colorful(colors: Pixels) -> bool:
    return bool(np.median(np.ptp(colors, axis=-1)) > COLORFUL)


def _solidity(mask: Mask) -> float:
    """Return the share of its convex hull that a mask fills."""
    from skimage.morphology import convex_hull_image

    return float(mask.sum() / convex_hull_image(mask).sum())


def _keep_outlined(parts: Mask, rims: Mask, difference: Pixels, slope: Pixels) -> Mask:
    """Keep the components whose rim is as steep as a step of their contrast; shadows and gradients fade."""
    labels, _ = ndimage.label(parts)
    kept = np.zeros_like(parts)
    for number in np.flatnonzero(np.bincount(labels[parts]) >= max(SPECK * parts.sum(), 1)):
        piece = labels == number
        rim = ndimage.binary_dilation(piece, iterations=2) & ~ndimage.binary_erosion(piece, iterations=2) & rims
        contrast = float(np.median(np.abs(difference[piece]).max(axis=-1)))
        if rim.any() and np.median(slope[rim]) > OUTLINE * contrast:
            kept |= piece
    return kept


def _smooth_and_slope(values: Pixels) -> tuple[Pixels, Pixels]:
    """Return values blurred by 1.5 pixels, and the steepest channel's slope a pixel."""
    smooth = ndimage.gaussian_filter(values, (1.5, 1.5, 0.0))
    return smooth, np.hypot(*np.gradient(smooth, axis=(0, 1))).max(axis=-1)


def _project(values: Pixels, axis: Pixels) -> Pixels:
    """Return the multiple [H, W] of `axis` that is nearest to `values`, both [H, W, 3]."""
    return (values * axis).sum(-1) / np.maximum((axis**2).sum(-1), 1e-6)


def _unmix(color: Pixels, mask: Mask, background: Pixels) -> Pixels:
    """Soften edges: a pixel near the background is C = a F + (1 - a) B, with F the colour of the nearest inner pixel.

    The background B is known, so a is the projection of C - B on F - B, and the pixel's own colour is F.
    """
    depth = ndimage.distance_transform_edt(np.pad(mask, 1, constant_values=True))[1:-1, 1:-1]
    inner = mask & (depth > EDGE)
    alpha, own = mask.astype(np.float32), color
    if inner.any():
        away, (rows, columns) = ndimage.distance_transform_edt(~inner, return_indices=True)
        edge = mask & ~inner & (away <= EDGE + 2)
        nearest = color[rows, columns]
        share = _project(color - background, nearest - background).clip(0.0, 1.0)
        alpha = np.where(edge, share, alpha).astype(np.float32)
        own = np.where(edge[..., None], nearest, color)
    return np.concatenate([own, alpha[..., None]], axis=-1)


def _remove_background_by_rembg(rgba: Pixels, path: Path) -> Pixels:
    """Call the optional package rembg, the only place that does."""
    try:
        from rembg import remove
    except (ImportError, SystemExit) as error:  # Without its runtime rembg leaves the program.
        remedy = "Cut the object out, or install the background remover: pip install hash3d[rembg]."
        expected = "Expected a picture with an alpha channel or a plain background"
        raise PictureError(f"{expected}, but {path} has neither. {remedy}") from error
    try:
        image = remove(Image.fromarray((rgba[..., :3] * 255.0).round().astype(np.uint8)))
    except Exception as error:
        problem = f"it failed ({error}). Cut the object out yourself."
        raise PictureError(f"Expected rembg to remove the background of {path}, but {problem}") from error
    return np.asarray(image.convert("RGBA"), dtype=np.float32) / 255.0
