"""The cameras with which a run's asset is seen in the frame of its input image, for comparison with true views.

A run optimises what its own cameras see: distance r and field of view f of its recipe, on an input image that framing
has scaled and moved. A true view has its own distance D and field of view F, on the image as it was. With image
coordinates in half images from the middle, framing maps a point n of the input image to m = k n + d, and the asset
shows m in the run's camera. So the reference view shows the asset at n = (m - d) / k: in the run's camera with the
focal length times k^-1, and with its principal point at -d / k.

In every other view the object stays where it is in space. The middle of the framed image lies on the ray through
-d / k; at depth D that is t = D tan(F / 2) (-d / k) along the reference camera's right and down axes. A camera that
sees t at depth z and at image point n_t shows the asset at n = n_t + m D / (k z).
"""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.pictures import frame_picture, load_picture
from hash3d.recipes.recipe import Recipe

from .truth import Truth

FRAMED_SIZE = 256
"""Pixels of the framed image from which the mapping is read; any size gives the same."""


@dataclass(frozen=True, kw_only=True)
class ShiftedCameras(Cameras):
    """Orbit cameras whose principal point is not the middle of the image."""

    principal: Float[Tensor, "B 2"]
    """(x, y) of the principal point from the middle, in half images."""

    @cached_property
    def K(self) -> Float[Tensor, "B 3 3"]:  # noqa: N802
        """Intrinsics in pixels."""
        matrices = super().K.clone()
        matrices[:, :2, 2] += self.principal * torch.tensor([0.5 * self.width, 0.5 * self.height])
        return matrices


@dataclass(frozen=True, kw_only=True)
class ReferenceFrame:
    """How a run sees its asset."""

    radius: float
    """Distance of its cameras."""
    fov_y: float
    """Their vertical field of view in degrees."""
    zoom: float = 1.0
    """The framed image is the input image, scaled by this (k)."""
    offset: tuple[float, float] = (0.0, 0.0)
    """(x, y) of the input image's middle in the framed image, in half images (d)."""

    def cameras(self, truth: Truth) -> ShiftedCameras:
        """Cameras that show the asset where, and as large as, the true views would."""
        views, (x, y) = truth.cameras, (-value / self.zoom for value in self.offset)
        reference = Cameras.orbit(
            elevation=truth.reference_elevation, azimuth=0.0, radius=views.radius[0], fov_y=views.fov_y[0], size=1
        )
        half = float(views.radius[0] * torch.tan(0.5 * torch.deg2rad(views.fov_y[0])))
        centre = half * (x * reference.c2w[0, :3, 0] + y * reference.c2w[0, :3, 1])
        pixels, depth = views.project(centre[None])
        middle = torch.tensor([0.5 * views.width, 0.5 * views.height])
        scale = views.radius / (self.zoom * depth[:, 0])
        tangent = math.tan(0.5 * math.radians(self.fov_y)) / scale
        return ShiftedCameras(
            elevation=views.elevation, azimuth=views.azimuth, radius=torch.full_like(views.radius, self.radius),
            fov_y=torch.rad2deg(2.0 * torch.atan(tangent)), width=views.width, height=views.height,
            principal=pixels[:, 0] / middle - 1.0,
        )  # fmt: skip


def find_reference_frame(recipe: Recipe, image: Path | None) -> ReferenceFrame:
    """Return the frame of a run on an input image; without one, as from a text, only the cameras differ.

    An oblong image counts as padded to a square, as framing pads it.
    """
    cameras = recipe.stages[-1].cameras
    if image is None:
        return ReferenceFrame(radius=cameras.radius, fov_y=cameras.fov_y)
    picture = load_picture(image)
    framed = frame_picture(picture, FRAMED_SIZE, recipe.framing)
    height, width = picture.shape[:2]
    x, y = (
        2.0 * (framed.scale * length / 2.0 + shift) / FRAMED_SIZE - 1.0
        for length, shift in zip((width, height), framed.shift, strict=True)
    )
    zoom = framed.scale * max(width, height) / FRAMED_SIZE
    return ReferenceFrame(radius=cameras.radius, fov_y=cameras.fov_y, zoom=zoom, offset=(x, y))
