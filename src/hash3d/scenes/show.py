"""What anybody sees of a model: images on white, without gradients and without light."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hash3d.cameras import Cameras
from hash3d.diffusion.latent_prior import LatentPrior
from hash3d.export.turntable import RenderViews
from hash3d.rendering.base import Render
from hash3d.representations.background import WHITE_AND_BLACK

Show = Callable[[Cameras], Render]
"""Renders cameras on white."""
LATENT_CHANNELS = 4


def is_latent(model: nn.Module) -> bool:
    """Whether a model's images are latents."""
    return getattr(model, "channels", 3) == LATENT_CHANNELS


def white_and_black(channels: int, prior: LatentPrior | None) -> Float[Tensor, "2 C"]:
    """The two in RGB, or in the latents of a prior: the means of a white and of a black image's."""
    rgb = torch.tensor(WHITE_AND_BLACK)
    if channels != LATENT_CHANNELS:
        return rgb
    prior = expect_prior(prior)
    size = prior.image_size
    with torch.no_grad():
        images = (rgb * 2.0 - 1.0)[:, :, None, None].expand(-1, -1, size, size)
        return prior.encode(images.to(prior.device)).float().mean(dim=(2, 3)).cpu()


def expect_prior(prior: LatentPrior | None) -> LatentPrior:
    """Raise `ValueError` without the diffusion model that encodes and decodes latents."""
    if prior is None:
        raise ValueError("Expected a prior to decode the images of a latent field, but got none.")
    return prior


def colors(show: Show) -> RenderViews:
    """The colours alone."""
    return lambda cameras: show(cameras).color


def shape(seen: Render, cameras: Cameras) -> Float[Tensor, "B H W 3"]:
    """The shape alone, grey and lit from the camera's upper left: colours without light hide craters and bumps.

    Normals are of the surface that depth / alpha gives, averaged over 5x5 pixels.
    """
    summed, alpha = (F.avg_pool2d(each.movedim(-1, 1), 5, 1, 2).movedim(1, -1) for each in (seen.depth, seen.alpha))
    origins, rays = cameras.rays(seen.depth.device)
    right, down, forward = cameras.c2w[:, None, None, :3, :3].to(rays).unbind(-1)
    points = origins + rays / (rays * forward).sum(-1, keepdim=True) * summed / alpha.clamp(min=1e-3)
    normals = F.normalize(torch.linalg.cross(*torch.gradient(points, dim=(1, 2))), dim=-1)
    light = F.normalize(-forward - 0.5 * down - 0.5 * right, dim=-1)
    shade = 0.2 + 0.75 * (normals * light).sum(-1, keepdim=True).clamp(min=0.0)
    return (1.0 - seen.alpha * (1.0 - shade)).expand_as(seen.color)
