"""Estimate from how high above the horizon an image was taken."""

import functools
import warnings
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.model_files import embedded_folder

from .classifier import ImageClassifier, load_classifier
from .framing import Framing, frame_picture
from .loading import load_picture


@torch.no_grad()
def mean_elevations(
    classifier: ImageClassifier, elevations: list[float], images: Float[Tensor, "B 3 H W"]
) -> Float[Tensor, " B"]:
    """The mean over what a classifier of elevations thinks: an object that does not tell (a ball) gets a usual one."""
    (scores,) = classifier.score(images)
    return scores.exp() @ scores.new_tensor(elevations)


def estimate_elevations(images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, " B"]:
    """Elevations in degrees of the cameras that took images, in [-1, 1], of an object on white (`mini-elevation`)."""
    classifier, values = load_classifier(embedded_folder("mini-elevation"), "elevations")
    return mean_elevations(classifier, values["elevations"], images)


def estimate_elevation(path: Path, framing: Framing = "auto") -> float:
    """Elevation of the camera of an image file, in whole degrees. Raises `PictureError` for what is no picture."""
    return _estimate(path, path.stat().st_mtime_ns if path.is_file() else 0, framing)


@functools.lru_cache(maxsize=4096)
def _estimate(path: Path, changed: int, framing: Framing) -> float:
    """The elevation of a file that was last changed then."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The run reads the file again, and tells.
        picture = frame_picture(load_picture(path), 128, framing)
    return float(estimate_elevations(picture.color_on_white.permute(2, 0, 1)[None] * 2 - 1).round())
