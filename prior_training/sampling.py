"""Pictures by deterministic DDIM steps with classifier-free guidance, from either kind of prior."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.diffusion.latent_prior import LatentPrior
from hash3d.diffusion.stable_diffusion import StableDiffusionPrior
from hash3d.diffusion.zero123 import Zero123Prior


@torch.no_grad()
def sample_views(
    prior: Zero123Prior,
    images: Float[Tensor, "B 3 S S"],
    pose: Float[Tensor, "B 4"],
    *,
    guidance_scale: float = 2.0,
    num_steps: int = 40,
    seed: int = 0,
) -> Float[Tensor, "B 3 S S"]:
    """One view of each picture at its pose; pictures lie in [-1, 1]."""
    condition = prior.condition(images)

    def inputs(noisy: Tensor, timesteps: Tensor) -> dict[str, Any]:
        return prior.make_guided_inputs(noisy, timesteps, condition, pose.to(noisy))

    return _ddim(prior, inputs, len(images), guidance_scale, num_steps, seed)


@torch.no_grad()
def sample_pictures(
    prior: StableDiffusionPrior,
    prompts: list[str],
    *,
    guidance_scale: float = 3.0,
    num_steps: int = 40,
    seed: int = 0,
) -> Float[Tensor, "B 3 S S"]:
    """One picture of each prompt, in [-1, 1]."""
    conditional, unconditional = prior.embed(prompts), prior.embed([""] * len(prompts))

    def inputs(noisy: Tensor, timesteps: Tensor) -> dict[str, Any]:
        return prior.make_guided_inputs(noisy, timesteps, conditional, unconditional)

    return _ddim(prior, inputs, len(prompts), guidance_scale, num_steps, seed)


def _ddim(
    prior: LatentPrior,
    inputs: Callable[[Tensor, Tensor], dict[str, Any]],
    count: int,
    guidance_scale: float,
    num_steps: int,
    seed: int,
) -> Float[Tensor, "B 3 S S"]:
    """Song et al. 2021, eq. 12, with sigma = 0. `inputs` gives the U-Net's arguments of the guidance pair.

    The latents stay in single precision, whatever the prior's.
    """
    side = prior.unet.config.sample_size
    latents = torch.randn(count, 4, side, side, generator=torch.Generator().manual_seed(seed)).to(prior.device)
    steps = torch.linspace(prior.schedule.num_timesteps - 1, 0, num_steps + 1).long()
    for now, after in zip(steps[:-1].tolist(), steps[1:].tolist(), strict=True):
        timesteps = torch.full((count,), now)
        prediction = prior.unet(**inputs(latents.to(prior.dtype), timesteps)).sample.to(latents)
        predicted = prior.schedule.to_noise(prediction, torch.cat([latents] * 2), torch.cat([timesteps] * 2))
        conditional, unconditional = predicted.chunk(2)
        guided = unconditional + guidance_scale * (conditional - unconditional)
        clean = prior.schedule.to_latents(guided, latents, timesteps)
        latents = prior.schedule.add_noise(clean, guided, torch.full((count,), after))
    return prior.decode(clean).clamp(-1, 1)
