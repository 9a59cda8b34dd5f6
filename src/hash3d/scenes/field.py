"""A field in training."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.diffusion.latent_prior import LatentPrior
from hash3d.guidance.latent_guidance import resize
from hash3d.recipes.stage import Stage
from hash3d.rendering.base import Render
from hash3d.rendering.rays import Steps
from hash3d.rendering.sample_choice import SampleChoice
from hash3d.rendering.shading import Shading
from hash3d.rendering.volume import RaySamples, VolumeRender, VolumeRenderer, VolumeRendererConfig
from hash3d.representations.background import is_mixed
from hash3d.representations.nerf import Nerf, NerfConfig
from hash3d.representations.occupancy import OccupancyGrid
from hash3d.tensors import draw_on

from .base import Behind, Losses, Scene, SceneTools, expect_config
from .losses import normal_image, normal_smoothness_3d_loss, normal_smoothness_loss, orientation_loss, total
from .show import Show, expect_prior, is_latent

NEAR_POINTS = 0.01
"""Standard deviation in scene units of the way from a sample to its neighbour (threestudio 28d9d80)."""


class FieldScene(Scene[Nerf], represents=NerfConfig):
    """A field, its ray marcher and its occupancy grid."""

    own_losses: ClassVar[set[str]] = {"orientation", "normal_smoothness", "normal_smoothness_3d"}
    slow: ClassVar[bool] = True

    def __init__(self, stage: Stage, model: Nerf, **tools: Unpack[SceneTools]) -> None:
        super().__init__(stage, model, **tools)
        self.renderer: VolumeRenderer = expect_config(stage.renderer, VolumeRendererConfig, stage).build()
        self.occupancy = stage.occupancy.build(model.radius).to(self.device) if stage.occupancy else None

    @classmethod
    def show(cls, model: Nerf, stage: Stage, prior: LatentPrior | None = None) -> Show:
        """Rays skip the cells that they skip in training, made anew, once; `prior` decodes the images of latents."""
        renderer = expect_config(stage.renderer, VolumeRendererConfig, stage).build()
        device = next(model.parameters()).device
        occupancy = stage.occupancy.build(model.radius).to(device) if stage.occupancy else None
        generator = torch.Generator().manual_seed(0)
        if occupancy is not None:
            for _ in range(4):  # One look at a random point a cell may miss what is thin.
                occupancy.update(model, renderer.config.step_length(model.radius), generator)
            occupancy.grow()

        @torch.no_grad()
        def show(cameras: Cameras) -> Render:
            if is_latent(model):
                return decode(model, renderer, expect_prior(prior), cameras, occupancy=occupancy)
            return renderer(model, cameras, torch.ones(len(cameras), 3, device=device), occupancy=occupancy)

        return show

    def before_step(self, step: int) -> None:
        """Learning rates, the levels of the encoding, the occupied cells."""
        super().before_step(step)
        self.model.set_step(step)
        if self.occupancy is not None:
            length = self.renderer.config.step_length(self.model.radius)
            self.occupancy.after_step(step, self.model, length, self.generator)

    def render(
        self, cameras: Cameras, background: Behind, *, step: int, shading: Shading | None = None
    ) -> VolumeRender:
        """Render the scene, with gradients, and with normals when a loss wants them."""
        steps, near = self._next_samples()
        view = self.renderer(
            self.model, cameras, background,
            occupancy=self.occupancy, generator=self.generator, shading=shading, steps=steps,
            normals=bool(self.own_losses & self.stage.losses.active(step).keys()),
        )  # fmt: skip
        return view if near is None else replace(view, samples=replace(view.samples, near=near))

    def can_record(self) -> bool:
        """By kernels that wait for nothing, before a background that is always of one kind, with cells to skip.

        Without, memory for the choice of samples would be for all steps of all rays.
        """
        skips = self.occupancy is not None and self.renderer.config.backend in ("auto", "triton")
        return skips and not is_mixed(self.stage.background)

    def recorded_form(self) -> tuple[Any, list[Tensor]]:
        """The levels of the encoding, and the occupied cells."""
        cells = [] if self.occupancy is None else list(self.occupancy.buffers())
        return getattr(self.model.encoding, "active_levels", None), cells

    def sample_choice(self, *, recorded: bool, before_move: Callable[[], None]) -> SampleChoice:
        """That of the steps of rays."""
        return SampleChoice(self.renderer, self.model, self.occupancy, recorded=recorded, before_move=before_move)

    def choose_samples(self, choice: SampleChoice, cameras: list[Cameras], step: int) -> list[int]:
        """Choose steps of rays, and points close to them for a loss, drawn in the order of a plain step."""
        counts = choice(cameras, self.generator)
        if "normal_smoothness_3d" in self.stage.losses.active(step):
            choice.draw_noise(self.generator)
        return counts

    def _next_samples(self) -> tuple[Steps | None, Float[Tensor, "N 3"] | None]:
        """What was chosen ahead for the next render, if anything was."""
        if not self.samples:
            return None, None
        columns = dict(self.samples.pop(0))
        noise, counted = columns.pop("noise", None), columns.pop("counted")
        columns["lengths"] = columns["lengths"] * counted
        steps = Steps(**columns)
        return steps, None if noise is None else steps.points + NEAR_POINTS * noise

    def losses_of(self, views: list[Render]) -> Losses:
        """Those of the normals, over all views."""
        fields = [view for view in views if isinstance(view, VolumeRender)]
        return {
            "orientation": lambda: total(orientation_loss(view.samples, view.alpha) for view in fields),
            "normal_smoothness": lambda: total(
                normal_smoothness_loss(normal_image(view.normal, view.alpha))
                for view in fields
                if view.normal is not None
            ),
            "normal_smoothness_3d": lambda: total(self._smoothness(view.samples) for view in fields),
        }

    def _smoothness(self, samples: RaySamples) -> Float[Tensor, ""]:
        """How much the normals change from the samples to points close by."""
        if samples.normals is None:
            return torch.zeros((), device=self.device)
        near = self._move(samples.points) if samples.near is None else samples.near
        return normal_smoothness_3d_loss(samples.normals, self.model.normals(near), samples.counted)

    def _move(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Random points close to others."""
        return points + NEAR_POINTS * draw_on(points.device, self.generator, torch.randn, *points.shape)

    def sizes(self) -> dict[str, float | Float[Tensor, ""]]:
        """The share of the cells that hold something."""
        return {} if self.occupancy is None else {"occupied": self.occupancy.occupied.float().mean()}

    def helpers(self) -> dict[str, Any]:
        """The occupied cells."""
        return {"occupancy": self.occupancy}


def decode(
    field: Nerf, renderer: VolumeRenderer, prior: LatentPrior, cameras: Cameras, *, occupancy: OccupancyGrid | None
) -> Render:
    """Images of a latent field: latents over those of a white image, decoded at the prior's size, and resized."""
    size = prior.image_size
    white = prior.encode(torch.ones(1, 3, size, size, device=prior.device)).float()
    small = replace(cameras, width=white.shape[-1], height=white.shape[-2])
    background = white.permute(0, 2, 3, 1).expand(len(cameras), -1, -1, -1)
    latents = renderer(field, small, background, occupancy=occupancy)
    images = prior.decode(latents.color.permute(0, 3, 1, 2)).float() * 0.5 + 0.5
    shape = (cameras.height, cameras.width)
    color = images.clamp(0.0, 1.0).permute(0, 2, 3, 1)
    color, alpha, depth = (resize(each, shape) for each in (color, latents.alpha, latents.depth))
    return Render(color=color, alpha=alpha, depth=depth)
