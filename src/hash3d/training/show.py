"""What anybody sees of a model: pictures on white, without gradients and without light."""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hash3d.cameras import Cameras
from hash3d.diffusion.latent_prior import LatentPrior
from hash3d.export.turntable import RenderViews
from hash3d.recipes.stage import Stage
from hash3d.rendering.base import Render
from hash3d.rendering.raster import render_surface
from hash3d.rendering.splat import SplatRendererConfig, render_gaussians
from hash3d.rendering.volume import VolumeRenderer, VolumeRendererConfig
from hash3d.representations.background import WHITE_AND_BLACK
from hash3d.representations.gaussians import Gaussians
from hash3d.representations.nerf import Nerf
from hash3d.representations.occupancy import OccupancyGrid, OccupancyGridConfig

Show = Callable[[Cameras], Render]
"""Renders cameras on white."""
LATENT_CHANNELS = 4


def is_latent(model: nn.Module) -> bool:
    """Whether a model's pictures are latents."""
    return isinstance(model, Nerf) and model.channels == LATENT_CHANNELS


def show_model(model: nn.Module, stage: Stage, prior: LatentPrior | None = None) -> Show:
    """A function that draws a stage's model; `prior` decodes the pictures of a latent field."""
    renderer = stage.renderer
    if isinstance(model, Nerf):
        assert isinstance(renderer, VolumeRendererConfig)
        return _show_field(model, renderer.build(), stage.occupancy, prior)
    device = next(model.parameters()).device

    @torch.no_grad()
    def show(cameras: Cameras) -> Render:
        white = torch.ones(len(cameras), 3, device=device)
        if isinstance(model, Gaussians):
            config = renderer if isinstance(renderer, SplatRendererConfig) else None
            return render_gaussians(model, cameras, white, config=config)
        return render_surface(model, cameras, white, config=renderer)  # type: ignore[arg-type]

    return show


def _show_field(
    field: Nerf, renderer: VolumeRenderer, cells: OccupancyGridConfig | None, prior: LatentPrior | None
) -> Show:
    """Rays skip the cells that they skip in training, made anew, once."""
    device = next(field.parameters()).device
    occupancy = cells.build(field.radius).to(device) if cells else None
    generator = torch.Generator().manual_seed(0)
    if occupancy is not None:
        for _ in range(4):  # One look at a random point a cell may miss what is thin.
            occupancy.update(field, renderer.config.step_length(field.radius), generator)

    @torch.no_grad()
    def show(cameras: Cameras) -> Render:
        if not is_latent(field):
            return renderer(field, cameras, torch.ones(len(cameras), 3, device=device), occupancy=occupancy)
        if prior is None:
            raise ValueError("Expected a prior to decode the pictures of a latent field, but got none.")
        return decoded(field, renderer, prior, cameras, occupancy=occupancy)

    return show


def decoded(
    field: Nerf, renderer: VolumeRenderer, prior: LatentPrior, cameras: Cameras, *, occupancy: OccupancyGrid | None
) -> Render:
    """Pictures of a latent field: latents over those of a white picture, decoded at the prior's size, and resized."""
    size = prior.image_size
    white = prior.encode(torch.ones(1, 3, size, size, device=prior.device)).float()
    small = replace(cameras, width=white.shape[-1], height=white.shape[-2])
    background = white.permute(0, 2, 3, 1).expand(len(cameras), -1, -1, -1)
    latents = renderer(field, small, background, occupancy=occupancy)
    pictures = prior.decode(latents.color.permute(0, 3, 1, 2)).float() * 0.5 + 0.5
    shape = (cameras.height, cameras.width)
    return Render(
        color=_resize(pictures.clamp(0.0, 1.0).permute(0, 2, 3, 1), shape),
        alpha=_resize(latents.alpha, shape),
        depth=_resize(latents.depth, shape),
    )


def _resize(images: Float[Tensor, "B h w C"], shape: tuple[int, int]) -> Float[Tensor, "B H W C"]:
    return F.interpolate(images.permute(0, 3, 1, 2), shape, mode="bilinear", antialias=True).permute(0, 2, 3, 1)


def white_and_black(channels: int, prior: LatentPrior) -> Float[Tensor, "2 C"]:
    """The two in RGB, or in the latents of a prior: the means of a white and of a black picture's."""
    rgb = torch.tensor(WHITE_AND_BLACK)
    if channels != LATENT_CHANNELS:
        return rgb
    size = prior.image_size
    with torch.no_grad():
        pictures = (rgb * 2.0 - 1.0)[:, :, None, None].expand(-1, -1, size, size)
        return prior.encode(pictures.to(prior.device)).float().mean(dim=(2, 3)).cpu()


def colors(show: Show) -> RenderViews:
    """The colours alone."""
    return lambda cameras: show(cameras).color
