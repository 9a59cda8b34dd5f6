"""True views of an object, to compare with: a folder of images and a `views.json` with their cameras."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.files import read_json
from hash3d.pictures import read_rgba
from hash3d.pictures.background import PLAIN_SHARE, PLAIN_TOLERANCE
from hash3d.pictures.loading import straighten

LARGEST_SIDE = 8192
"""Pixels a side of the largest true view."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """N true views and the cameras that saw them."""

    cameras: Cameras
    images: Float[Tensor, "N H W 3"]
    """In [0, 1]: on white, or as it is if a view has no alpha channel."""
    alpha: Float[Tensor, "N H W 1"]
    has_alpha: tuple[bool, ...]
    """Whether any pixel of a view is transparent: else its silhouette is unknown."""
    backgrounds: Float[Tensor, "N 3"]
    """The colour behind the object: white, or an opaque view's plain border."""
    notes: tuple[str, ...] = ()
    """What the views do not tell, in a sentence each."""
    reference_elevation: float
    """Degrees of the image that a method is given. Azimuths count from it."""


def load_truth(folder: Path) -> Truth:
    """Read `views.json` and the images it names.

    The file holds `size` in pixels, `distance`, `fov_y_deg`, `input` and `views`; a view has `file`, `elevation_deg`
    and `azimuth_deg`.

    Raises:
        ValueError: something is missing or malformed, in one sentence.
    """
    described = read_json(folder / "views.json")
    try:
        size, views = int(described["size"]), list(described["views"])
        cameras = Cameras.orbit(
            elevation=[float(view["elevation_deg"]) for view in views],
            azimuth=[float(view["azimuth_deg"]) - float(described["input"]["azimuth_deg"]) for view in views],
            radius=float(described["distance"]),
            fov_y=float(described["fov_y_deg"]),
            size=size,
        )
        reference_elevation = float(described["input"]["elevation_deg"])
        files = [folder / view["file"] for view in views]
        _check_ranges(cameras)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected {folder / 'views.json'} to describe cameras, but {_fault(error)}. "
            f"See the documentation of evaluate for its fields."
        ) from error
    if not files:
        raise ValueError(f"Expected {folder / 'views.json'} to name at least one view, but it names none.")
    rgba = torch.stack([_read_view(path, size) for path in files])
    alpha = rgba[..., 3:]
    has_alpha = tuple(bool((each < 1.0).any()) for each in alpha)
    colors = [None if known else plain_border(view[..., :3]) for known, view in zip(has_alpha, rgba, strict=True)]
    white = torch.ones(3)
    return Truth(
        cameras=cameras,
        images=rgba[..., :3] * alpha + (1.0 - alpha),
        alpha=alpha,
        has_alpha=has_alpha,
        backgrounds=torch.stack([white if color is None else color for color in colors]),
        notes=describe_opaque(has_alpha, [color is not None for color in colors]) + describe_angles(cameras),
        reference_elevation=reference_elevation,
    )


def plain_border(image: Float[Tensor, "H W 3"]) -> Float[Tensor, " 3"] | None:
    """Return the median colour of the outermost pixels if they are alike, as for an input image; else None."""
    border = torch.cat([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])
    color = border.quantile(0.5, dim=0)
    spread = (border - color).abs().amax(dim=1).quantile(PLAIN_SHARE)
    return color if spread <= PLAIN_TOLERANCE else None


def describe_opaque(has_alpha: Sequence[bool], plain: Sequence[bool]) -> tuple[str, ...]:
    """Say what is unknown of views without an alpha channel."""
    opaque = has_alpha.count(False)
    if opaque == 0:
        return ()
    notes = [f"{opaque} of {len(has_alpha)} true views have no alpha channel (opaque), so that they have no IoU."]
    if cluttered := opaque - sum(plain):
        notes.append(
            f"{cluttered} of them have no plain background either: their PSNR and SSIM count it, against white."
        )
    return tuple(notes)


def describe_angles(cameras: Cameras) -> tuple[str, ...]:
    """Ask about angles that look like radians."""
    angles, azimuths = torch.cat([cameras.elevation, cameras.azimuth]), cameras.azimuth
    few = bool(angles.abs().max() <= 2.0 * math.pi and azimuths.max() - azimuths.min() > 1.0 and (angles % 1.0).any())
    if few or bool(cameras.fov_y.max() < 2.0):
        return (
            "All angles of views.json lie within +-2 pi, or its field of view does: are they radians? It has degrees.",
        )
    return ()


def _check_ranges(cameras: Cameras) -> None:
    """Raise `ValueError` for cameras that no lens has."""
    lenses = (cameras.radius > 0.0) & cameras.radius.isfinite() & (cameras.fov_y > 0.0) & (cameras.fov_y < 180.0)
    angles = (cameras.elevation.abs() <= 90.0) & cameras.azimuth.isfinite()
    if not (1 <= cameras.width <= LARGEST_SIDE and bool((lenses & angles).all())):
        limits = f"size 1 to {LARGEST_SIDE:,}, distance above 0, fov_y_deg below 180, elevation_deg within 90"
        raise ValueError(f"expected {limits}")


def _fault(error: Exception) -> str:
    return f"it lacks {error}" if isinstance(error, KeyError) else f"a value is none of the kind ({error})"


def _read_view(path: Path, size: int) -> Float[Tensor, "H W 4"]:
    """Straight-alpha RGBA in [0, 1]."""
    pixels = straighten(read_rgba(path, max_side=math.inf), path)
    if pixels.shape[:2] != (size, size):
        height, width = pixels.shape[:2]
        raise ValueError(
            f"Expected {path} to have {size}x{size} pixels as views.json says, but it has {width}x{height}."
        )
    return torch.from_numpy(pixels.copy())
