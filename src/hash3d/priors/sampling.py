"""Novel views by deterministic DDIM steps with classifier-free guidance."""

import torch
from jaxtyping import Float
from torch import Tensor

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
    """One view of each picture at its pose; pictures lie in [-1, 1]. Song et al. 2021, eq. 12, with sigma = 0."""
    condition = prior.condition(images)
    count, side = len(images), prior.unet.config.sample_size
    noise = torch.randn(count, 4, side, side, generator=torch.Generator().manual_seed(seed))
    latents = noise.to(images)
    steps = torch.linspace(prior.schedule.num_timesteps - 1, 0, num_steps + 1).long()
    for now, after in zip(steps[:-1].tolist(), steps[1:].tolist(), strict=True):
        timesteps = torch.full((count,), now)
        inputs = prior.guided_inputs(latents, timesteps, condition, pose.to(latents))
        predicted = prior.schedule.to_noise(
            prior.unet(**inputs).sample.to(latents), torch.cat([latents] * 2), torch.cat([timesteps] * 2)
        )
        conditional, unconditional = predicted.chunk(2)
        guided = unconditional + guidance_scale * (conditional - unconditional)
        clean = prior.schedule.to_latents(guided, latents, timesteps)
        latents = prior.schedule.add_noise(clean, guided, torch.full((count,), after))
    return prior.decode(clean).clamp(-1, 1)
