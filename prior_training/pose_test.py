"""Whether a prior heeds the pose: its loss with the right pose, and with the azimuth a little off."""

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.diffusion.zero123 import Zero123Prior

from .novel_views import NovelViews

TIMESTEP = 800
TURN = 15.0
"""Degrees of azimuth."""


@torch.no_grad()
def velocity_losses(
    prior: Zero123Prior, views: NovelViews, truth: Float[Tensor, "V 3 S S"], seed: int
) -> Float[Tensor, " V"]:
    """Mean squared error of the predicted velocity at `TIMESTEP`, for each true view with its own noise.

    From eps = sqrt(abar_t) v + sqrt(1 - abar_t) z_t: the error of the velocity is that of the noise over sqrt(abar_t).
    """
    latents = prior.encode(truth.to(prior.device))
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed)).to(latents)
    timesteps = torch.full((len(views),), TIMESTEP)
    noisy = prior.schedule.add_noise(latents, noise, timesteps)
    condition = prior.condition(views.inputs.to(prior.device))
    inputs = prior.make_inputs(noisy, timesteps, condition, views.pose(prior.pose_variant).to(noisy))
    predicted = prior.schedule.to_noise(prior.unet(**inputs).sample, noisy, timesteps)
    signal, _ = prior.schedule.coefficients(timesteps, latents)
    return ((predicted - noise) / signal).square().mean((1, 2, 3)).float().cpu()


def pose_test(
    prior: Zero123Prior, views: NovelViews, truth: Float[Tensor, "V 3 S S"], batch_size: int, seed: int = 0
) -> dict[str, float]:
    """The mean loss of the right pose, of the pose `TURN` degrees off with the same noise, and their ratio."""

    def loss(asked: NovelViews) -> float:
        parts = zip(asked.split(batch_size), truth.split(batch_size), strict=True)
        losses = [velocity_losses(prior, part, target, seed + row) for row, (part, target) in enumerate(parts)]
        return float(torch.cat(losses).mean())

    right, wrong = loss(views), loss(views.turned(TURN))
    return {"loss": right, "loss_15_degrees_off": wrong, "ratio": wrong / right}
