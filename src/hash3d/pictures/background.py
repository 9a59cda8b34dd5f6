"""Remove an opaque image's background: by colour if it is plain, else by the optional package rembg."""

import sys
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage
from skimage.segmentation import random_walker

from .arrays import SPECK, Mask, PictureError, Pixels, keep_touching, remove_specks, resize

Doubles = npt.NDArray[np.float64]
Shade = npt.NDArray[np.float32]
"""[H, W]."""
PLAIN_TOLERANCE, PLAIN_SHARE = 0.08, 0.9
"""A background is plain if this share of the border's pixels differs from a smooth surface by at most the tolerance in
each channel. The border is 2 % of the shorter side wide."""
SMOOTH_RANGE = 0.35
"""Most by which a plain background may fall off, as to the corners of a studio photo."""
FAINT = 0.006
"""A blurred difference from the surface that is seen, if it is also three times the border's noise."""
CLEAR, DARKEST, LEAST_TINT = 0.03, 0.45, 0.012
"""What differs more from the surface, and is no shade of it, is the object: a shade is at least so bright, in shares of
the surface, and its colour differs by less than that tint from the surface's."""
WALK = 1e4
"""`beta` of the random walk: how much an outline hinders it, and a gradient does not."""
HALO = 14
"""Pixels around an object in which a faint difference may be JPEG's."""
OUTLINE = 0.15
"""Slope a pixel of a blurred outline, as a share of its contrast: a step has 0.27 in its middle."""
DOUBTFUL, LEAST_SEEDS = 0.1, 0.1
"""Share of an object's area that may be as faint as background, or be taken away as shadow, without a word; and share
of what is seen that is surely the object's, or all of it is."""
WORKING_SIDE = 512
"""The outline is found at about this size, in whose pixels the lengths above are, and refined at the full one."""
LEAST_OBJECT, MOST_OBJECT = 0.01, 0.95
"""The share of the image that an object may fill."""
EDGE = 3
"""Pixels on either side of the outline that may be a mixture of object and background."""


def remove_background(rgba: Pixels, path: Path) -> Pixels:
    """Make the background of an opaque image transparent; pixels that are transparent already belong to it."""
    removed = _remove_plain_background(rgba, path)
    return _remove_background_by_rembg(rgba, path) if removed is None else removed


def _remove_plain_background(rgba: Pixels, path: Path) -> Pixels | None:
    """Make transparent what looks like the border and is connected to it; None if that makes no sense."""
    (height, width), step = rgba.shape[:2], max(1, round(max(rgba.shape) / WORKING_SIDE))
    small = resize(rgba, (-(-width // step), -(-height // step)), (0, 0, width, height), Image.Resampling.BOX)
    color, solid = small[..., :3], small[..., 3] > 0.5
    reach = max(1, round(0.02 * min(solid.shape)))
    border = solid & (ndimage.distance_transform_edt(np.pad(solid, 1))[1:-1, 1:-1] <= reach)
    surface = _fit_background(color, border)
    spread = float(np.quantile(np.abs(color - surface).max(axis=-1)[border], PLAIN_SHARE))
    if spread > PLAIN_TOLERANCE or np.ptp(surface[border], axis=0).max() > SMOOTH_RANGE:
        return None
    mask, is_doubtful = _find_object(color, surface, solid, border, reach)
    if not LEAST_OBJECT < mask.mean() < MOST_OBJECT:
        return None
    if is_doubtful:
        warnings.warn(
            f"A part of {path} is a shadow or hardly differs from the background: it was told from the object as far "
            f"as possible. Check cutout.png in the run folder, or pass an image with an alpha channel.",
            stacklevel=4,
        )
    whole = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
    return _unmix(rgba[..., :3], whole, EDGE * step)


def _find_object(color: Pixels, surface: Pixels, solid: Mask, border: Mask, reach: int) -> tuple[Mask, bool]:
    """Find the object by a random walk from what is surely its own and what is surely background.

    A walker hardly crosses an outline, but what fades: the object's own shade, or a soft shadow (Grady, "Random walks
    for image segmentation", 2006). Returns the mask, and whether it is doubtful.
    """
    smooth = ndimage.gaussian_filter(color, (1.5, 1.5, 0.0))
    slope = np.hypot(*np.gradient(smooth, axis=(0, 1))).max(axis=-1)
    ratio = _project(smooth, surface)
    tint, distance = (np.abs(smooth - each).max(axis=-1) for each in (ratio[..., None] * surface, surface))
    noise, tint_noise = (float(np.quantile(each[border], PLAIN_SHARE)) for each in (distance, tint))
    is_shade = (ratio > DARKEST) & (ratio < 1.0 + noise) & (tint < max(LEAST_TINT, 4.0 * tint_noise))
    near = keep_touching(solid & (distance < max(FAINT, 3.0 * noise)), border)
    ground = ~solid | (near & (border | (ndimage.distance_transform_edt(near) > reach)))
    clear = ~ground & (distance > max(CLEAR, 6.0 * noise))
    seeds = ndimage.binary_erosion(clear & ~is_shade, iterations=2)
    away = ~ndimage.binary_dilation(seeds, iterations=HALO)
    faint = ndimage.binary_opening(~near & ~ground & away, iterations=3)
    outlined = _keep_outlined(faint, away, np.abs(color - surface).max(axis=-1), slope)
    seeds |= ndimage.binary_erosion(outlined, iterations=3)
    if only_shade := bool(seeds.sum() < LEAST_SEEDS * clear.sum()):
        seeds = ndimage.binary_erosion(clear, iterations=2)
        if not seeds.any():
            return seeds, True
    guide = ndimage.gaussian_filter(color / np.maximum(surface, 0.05), (1.0, 1.0, 0.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of seeds that no walker reaches, and of faster solvers.
        walked = random_walker(guide, np.where(seeds, 1, 2 * ground), beta=WALK, mode="cg_j", channel_axis=-1)
    mask = remove_specks(solid & ~keep_touching(walked != 1, border))
    removed = ndimage.binary_opening(~near & ~ground & ~mask, iterations=3)
    doubt = (away & np.where(mask, distance < CLEAR, removed)).sum()
    return mask, only_shade or bool(doubt > DOUBTFUL * mask.sum())


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


def _keep_outlined(parts: Mask, away: Mask, contrast: Shade, slope: Shade) -> Mask:
    """Keep the components whose rim is as steep as a step of their contrast; shadows and gradients fade."""
    labels, _ = ndimage.label(parts)
    steepest, kept = ndimage.maximum_filter(np.where(away, slope, 0.0), 7), np.zeros_like(parts)
    for number in np.flatnonzero(np.bincount(labels[parts]) >= max(SPECK * parts.sum(), 1)):
        piece = labels == number
        rim = ndimage.binary_dilation(piece, iterations=2) & ~ndimage.binary_erosion(piece, iterations=2) & away
        if rim.any() and np.median(steepest[rim]) > OUTLINE * np.median(contrast[piece]):
            kept |= piece
    return kept


def _project(values: Pixels, axis: Pixels) -> Pixels:
    """Return the multiple [H, W] of `axis` that is nearest to `values`, both [H, W, 3]."""
    return (values * axis).sum(-1) / np.maximum((axis**2).sum(-1), 1e-6)


def _unmix(color: Pixels, mask: Mask, edge: int) -> Pixels:
    """Soften the outline: `edge` pixels from it a pixel is C = a F + (1 - a) B, of object and background.

    F and B are the colours of the nearest pixels beyond. a is the projection of C - B on F - B, and the pixel's own
    colour is F.
    """
    depth = ndimage.distance_transform_edt(np.pad(mask, 1, constant_values=True))[1:-1, 1:-1]
    inner, outer = mask & (depth > edge), ndimage.distance_transform_edt(~mask) > edge
    alpha, own = mask.astype(np.float32), color
    if inner.any() and outer.any():
        away, nearest = ndimage.distance_transform_edt(~inner, return_indices=True)
        beside = ndimage.distance_transform_edt(~outer, return_distances=False, return_indices=True)
        mixed = ~outer & ~inner & (away <= 2 * edge + 2)
        front, back = color[tuple(nearest)], color[tuple(beside)]
        share = _project(color - back, front - back).clip(0.0, 1.0)
        alpha = np.where(mixed, share, alpha).astype(np.float32)
        own = np.where(mixed[..., None], front, color)
    return np.concatenate([own, alpha[..., None]], axis=-1)


def _remove_background_by_rembg(rgba: Pixels, path: Path) -> Pixels:
    """Call the optional package rembg, the only place that does."""
    try:
        from rembg import remove
    except (ImportError, SystemExit) as error:  # Without its runtime rembg leaves the program.
        command = f'{sys.executable} -m pip install "hash3d[rembg]"'
        remedy = f"Cut the object out, or install rembg, which does (it fetches a model at its first use): {command}"
        expected = "Expected a picture with an alpha channel or a plain background"
        raise PictureError(f"{expected}, but {path} has neither. {remedy}") from error
    try:
        image = remove(Image.fromarray((rgba[..., :3] * 255.0).round().astype(np.uint8)))
    except Exception as error:
        problem = f"it failed ({error}). Cut the object out yourself."
        raise PictureError(f"Expected rembg to remove the background of {path}, but {problem}") from error
    return np.asarray(image.convert("RGBA"), dtype=np.float32) / 255.0
