"""A field in training."""

from typing import Any, ClassVar, Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.recipes.stage import Stage
from hash3d.rendering.base import Render
from hash3d.rendering.shading import Shading
from hash3d.rendering.volume import RaySamples, VolumeRender, VolumeRenderer, VolumeRendererConfig
from hash3d.representations.nerf import Nerf
from hash3d.transfer import to_device

from .base import Losses, Scene, SceneTools, total
from .losses import normal_picture, normal_smoothness_3d_loss, normal_smoothness_loss, orientation_loss

NEAR_POINTS = 0.01
"""Standard deviation in scene units of the way from a sample to its neighbour (threestudio 28d9d80)."""


class FieldScene(Scene[Nerf]):
    """A field, its ray marcher and its occupancy grid."""

    own_losses: ClassVar[set[str]] = {"orientation", "normal_smoothness", "normal_smoothness_3d"}

    def __init__(self, stage: Stage, model: Nerf, **tools: Unpack[SceneTools]) -> None:
        super().__init__(stage, model, **tools)
        assert isinstance(stage.renderer, VolumeRendererConfig)
        self.renderer: VolumeRenderer = stage.renderer.build()
        self.occupancy = stage.occupancy.build(model.radius).to(self.device) if stage.occupancy else None

    def before_step(self, step: int) -> None:
        """Learning rates, the levels of the encoding, the occupied cells."""
        super().before_step(step)
        self.model.set_step(step)
        if self.occupancy is not None:
            length = self.renderer.config.step_length(self.model.radius)
            self.occupancy.after_step(step, self.model, length, self.generator)

    def draw(
        self,
        cameras: Cameras,
        background: Float[Tensor, "B C"] | Float[Tensor, "B H W C"],
        *,
        step: int,
        shading: Shading | None = None,
    ) -> VolumeRender:
        """Pictures of the scene, with gradients, and with normals when a loss wants them."""
        return self.renderer(
            self.model, cameras, background,
            occupancy=self.occupancy, generator=self.generator, shading=shading,
            normals=bool(self.own_losses & self.stage.losses.active(step).keys()),
        )  # fmt: skip

    def losses_of(self, views: list[Render]) -> Losses:
        """Those of the normals, over all views."""
        fields = [view for view in views if isinstance(view, VolumeRender)]
        return {
            "orientation": lambda: total(orientation_loss(view.samples, view.alpha) for view in fields),
            "normal_smoothness": lambda: total(
                normal_smoothness_loss(normal_picture(view.normal, view.alpha))
                for view in fields
                if view.normal is not None
            ),
            "normal_smoothness_3d": lambda: total(self._smoothness(view.samples) for view in fields),
        }

    def _smoothness(self, samples: RaySamples) -> Float[Tensor, ""]:
        """How much the normals change from the samples to points close by."""
        if samples.normals is None or len(samples.points) == 0:
            return torch.zeros((), device=self.device)
        draws = torch.randn(samples.points.shape, generator=self.generator)
        shifts = NEAR_POINTS * to_device(draws, samples.points)
        return normal_smoothness_3d_loss(samples.normals, self.model.normals(samples.points + shifts))

    def sizes(self) -> dict[str, float | Float[Tensor, ""]]:
        """The share of the cells that hold something."""
        return {} if self.occupancy is None else {"occupied": self.occupancy.occupied.float().mean()}

    def state_dict(self) -> dict[str, Any]:
        """With the occupied cells."""
        return {**super().state_dict(), "occupancy": self.occupancy.state_dict() if self.occupancy else None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as if the run had not stopped."""
        super().load_state_dict(state)
        if self.occupancy is not None:
            self.occupancy.load_state_dict(state["occupancy"])
