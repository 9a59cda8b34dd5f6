"""True views of an object, to compare with: a folder of RGBA pictures and a `views.json` with their cameras."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.pictures import read_rgba


@dataclass(frozen=True, kw_only=True)
class Truth:
    """N true views and the cameras that saw them."""

    cameras: Cameras
    images: Float[Tensor, "N H W 3"]
    """In [0, 1], on white."""
    alpha: Float[Tensor, "N H W 1"]
    reference_elevation: float
    """Degrees, of the picture that a method is given. Azimuths count from it."""


def load_truth(folder: Path) -> Truth:
    """Read `views.json` and the pictures it names.

    The file holds `size` in pixels, `distance`, `fov_y_deg`, `input` and `views`; a view has `file`, `elevation_deg`
    and `azimuth_deg`.

    Raises:
        ValueError: something is missing or malformed, in one sentence.
    """
    described = _read_views(folder)
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
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected {folder / 'views.json'} to describe cameras, but {_fault(error)}. "
            f"See the documentation of evaluate for its fields."
        ) from error
    if not files:
        raise ValueError(f"Expected {folder / 'views.json'} to name at least one view, but it names none.")
    rgba = torch.stack([_read_view(path, size) for path in files])
    alpha = rgba[..., 3:]
    images = rgba[..., :3] * alpha + (1.0 - alpha)
    return Truth(cameras=cameras, images=images, alpha=alpha, reference_elevation=reference_elevation)


def _read_views(folder: Path) -> Any:
    if not folder.is_dir():
        raise ValueError(f"Expected a folder of true views, but there is no folder {folder}. Check the path.")
    path = folder / "views.json"
    if not path.is_file():
        raise ValueError(f"Expected a folder of true views, but {folder} holds no views.json. Check the path.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"Expected {path} to be a JSON file, but it does not read as one ({error}).") from error


def _fault(error: Exception) -> str:
    return f"it lacks {error}" if isinstance(error, KeyError) else f"a value is none of the kind ({error})"


def _read_view(path: Path, size: int) -> Float[Tensor, "H W 4"]:
    """Straight-alpha RGBA in [0, 1]."""
    if not path.is_file():
        raise ValueError(f"Expected the true view {path}, but there is no such file. Complete the folder.")
    pixels = read_rgba(path, max_side=math.inf)
    if pixels.shape[:2] != (size, size):
        height, width = pixels.shape[:2]
        raise ValueError(
            f"Expected {path} to have {size}x{size} pixels as views.json says, but it has {width}x{height}."
        )
    return torch.from_numpy(pixels.copy())
