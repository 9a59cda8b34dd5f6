"""The reference image of a run, and the view that must look like it."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from hash3d.cameras import Cameras, CameraSamplerConfig, Lattice
from hash3d.pictures import FramedPicture
from hash3d.rendering.base import Render
from hash3d.scenes.base import Losses
from hash3d.scenes.losses import color_loss, mask_entropy_loss, mask_loss
from hash3d.tensors import to_device


class Reference:
    """The reference image on a device, at any size.

    Args:
        picture: the image in the prior's framing, at least as large as the largest reference view.
        elevation: degrees above the horizon from which it was taken; its azimuth is 0.
        cameras: distance and field of view, as the random views have them.
        device: where the renders are.
    """

    def __init__(
        self, picture: FramedPicture, *, elevation: float, cameras: CameraSamplerConfig, device: torch.device
    ) -> None:
        self.elevation, self.cameras = elevation, cameras
        self._color = picture.color_on_white.permute(2, 0, 1)[None].to(device)
        self._alpha = picture.alpha.permute(2, 0, 1)[None].to(device)
        self._pixels = Lattice()
        self._views: dict[int, tuple[Cameras, Float[Tensor, "1 S S 3"], Float[Tensor, "1 S S 1"]]] = {}

    @property
    def radius(self) -> float:
        """Distance of its camera in scene units."""
        return self.cameras.radius

    def on_white(self, size: int) -> Float[Tensor, "1 3 S S"]:
        """The image on white, in [0, 1]."""
        return F.interpolate(self._color, (size, size), mode="area")

    def camera(self, size: int, pixels: Lattice | None = None) -> Cameras:
        """The camera that it was taken with, of `size` pixels or of some of these."""
        self._pixels = pixels or Lattice()
        return self._pixels.cameras(self._view(size)[0])

    def losses(self, view: Render) -> Losses:
        """How far a square render of the last `camera` on white is from the image, without weights."""
        _, *seen = self._view(view.color.shape[1] * self._pixels.stride)
        color, alpha = map(self._pixels.images, seen)
        return {
            "color": lambda: color_loss(view.color, color),
            "mask": lambda: mask_loss(view.alpha, alpha),
            "mask_entropy": lambda: mask_entropy_loss(view.alpha, alpha),
        }

    def _view(self, size: int) -> tuple[Cameras, Float[Tensor, "1 S S 3"], Float[Tensor, "1 S S 1"]]:
        """Camera, colours on white and alpha at a size; a run has few sizes, and keeps each that it has seen."""
        if size not in self._views:
            config = self.cameras
            camera = Cameras.orbit(
                elevation=self.elevation, azimuth=0.0, radius=config.radius, fov_y=config.fov_y, size=size
            )
            matrices = (to_device(each, self._color.device) for each in (camera.viewmats, camera.K, camera.c2w))
            camera = camera.with_matrices(*matrices)
            alpha = F.interpolate(self._alpha, (size, size), mode="area").permute(0, 2, 3, 1)
            self._views[size] = camera, self.on_white(size).permute(0, 2, 3, 1), alpha
        return self._views[size]
