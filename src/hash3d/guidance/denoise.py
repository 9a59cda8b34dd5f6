"""Guidance by a denoised image: the second stage of DreamGaussian (Tang et al. 2024, https://arxiv.org/abs/2309.16653).

The render is encoded, noised, denoised by a few deterministic steps and decoded; then it is to look like that image.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.cache.stores.last_feature import LastFeature
from hash3d.cameras import Cameras
from hash3d.diffusion.latent_prior import LatentPrior
from hash3d.diffusion.noise import Latents, NoiseSchedule, Timesteps
from hash3d.schedules import Schedule, ramp
from hash3d.tensors import to_device

from .base import GuidanceInputs, GuidanceOutput, Images
from .latent_guidance import LatentGuidance, resize
from .stable_diffusion import StableDiffusionGuidanceConfig
from .zero123 import Zero123GuidanceConfig


@dataclass(frozen=True, kw_only=True)
class DenoiseGuidanceConfig:
    """How far images are noised and in how many steps denoised. Defaults: DreamGaussian 69a3c70, main2.py.

    Args:
        guidance: The guidance that predicts the noise: its scale, how it samples latents and noise. Its weighting,
            timesteps and bound on the gradient serve score distillation alone.
        num_steps: Steps of the whole way from pure noise to an image, of which `strength` leaves the last few.
        strength: Share of the `num_steps` that is left out, over the steps of the run: the larger, the less noise, and
            the closer the image stays to the render. Of 50 steps 0.8 leaves 10, and 0.95 leaves 3.
    """

    guidance: Zero123GuidanceConfig | StableDiffusionGuidanceConfig = field(
        default_factory=lambda: Zero123GuidanceConfig(guidance_scale=5.0)
    )
    num_steps: int = 50
    strength: Schedule = field(default_factory=lambda: ramp((0, 0.8), (50, 0.95)))

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"Expected at least 1 step of denoising, but got {self.num_steps}.")
        for _, share in self.strength.knots:
            if not 0.0 <= share < 1.0:
                raise ValueError(f"Expected a strength of at least 0.0 and less than 1.0, but got {share}.")
        if isinstance(self.guidance, StableDiffusionGuidanceConfig) and self.guidance.rendered != "pictures":
            raise ValueError(
                f"Expected a guidance of rendered pictures, but got {self.guidance.rendered}. Set rendered='pictures'."
            )

    @property
    def shared_timestep(self) -> bool:
        """All views of a batch start at the same timestep."""
        return True

    def timestep_range(self, step: int, num_timesteps: int) -> tuple[int, int]:
        """The timestep at which the denoising starts at a step of the run, twice: lowest and highest are the same.

        Timesteps are 1, 1 + s, 1 + 2 s, ... with the stride s of `stride` (diffusers' "leading" spacing, offset 1).
        """
        steps_left = self.num_steps - int(self.num_steps * self.strength(step))
        start = 1 + (steps_left - 1) * self.stride(num_timesteps)
        return start, start

    def load_prior(self, name: str, device: torch.device, *, pose: str = "auto") -> LatentPrior:
        """Load the diffusion model of `guidance`."""
        return self.guidance.load_prior(name, device, pose=pose)

    def build(self, inputs: GuidanceInputs) -> "DenoiseGuidance":
        """The guidance. Raises `ValueError` for what `guidance` misses."""
        return DenoiseGuidance(self, self.guidance.build(inputs))

    def stride(self, num_timesteps: int) -> int:
        """Timesteps from one step of the denoising to the next. `ValueError` if the model has too few."""
        if self.num_steps >= num_timesteps:
            raise ValueError(f"Expected fewer than {num_timesteps} steps of denoising, but got {self.num_steps}.")
        return num_timesteps // self.num_steps


class DenoiseGuidance:
    """Pulls the render towards what a diffusion model makes of it.

    With `DeepCacheConfig` on the U-Net each image starts with a full pass: no feature goes from one image to the
    next. With `Hash3DConfig` features do, within a cell of views and timesteps.

    Args:
        config: noise and steps.
        guidance: made from `config.guidance`; brings the diffusion model, the condition, the generator and the cache.
    """

    def __init__(self, config: DenoiseGuidanceConfig, guidance: LatentGuidance[Any]) -> None:
        self.config, self.guidance = config, guidance
        self.stride = config.stride(guidance.prior.schedule.num_timesteps)

    def __call__(
        self, image: Images, cameras: Cameras, timesteps: Timesteps, *, step: int | None = None
    ) -> GuidanceOutput:
        """The mean squared error between B images in [0, 1] and the same noised to `timesteps` and denoised.

        The timesteps, all the same, are those of `config.timestep_range`; `step` has no further use.
        """
        start = shared_timestep(timesteps)
        path = self.path(start)
        target = resize(denoise(self.guidance, image, cameras, path), image.shape[1:3])
        loss = (image.float() - target).square().mean()
        return GuidanceOutput(loss=loss, passes=len(image) * len(path), metrics={"timestep": float(start)})

    def path(self, start: int) -> range:
        """The timesteps of the denoising, from `start` down."""
        return range(start, -1, -self.stride)


@torch.no_grad()
def denoise(
    guidance: LatentGuidance[Any],
    image: Images,
    cameras: Cameras,
    path: Sequence[int],
    guidance_scale: float | None = None,
) -> Float[Tensor, "B S S C"]:
    """What a diffusion model makes of images: in [0, 1] at the model's size, or latents where latents are rendered.

    Args:
        guidance: predicts the noise, and says how images become latents and back.
        image: B renders in [0, 1], or latents, of any size.
        cameras: of the renders.
        path: timesteps from the one that the images are noised to down to the last before 0.
        guidance_scale: None is the guidance's own.
    """
    schedule = guidance.prior.schedule
    with guidance.stopwatch.part("encode"):
        latents = guidance.encode(image).float()
    timesteps = torch.full((len(image),), path[0])
    noise = to_device(guidance.draw_noise(len(latents)), latents)
    noisy = schedule.add_noise(latents, noise, timesteps)
    if guidance.cache is not None and isinstance(guidance.cache.store, LastFeature):
        guidance.cache.reset()
    inputs = None
    for now, after in pairwise((*path, 0)):
        timesteps = torch.full((len(image),), now)
        with guidance.stopwatch.part("unet"):
            if inputs is None:
                inputs = guidance.inputs(noisy.to(guidance.prior.dtype), timesteps, cameras)
            else:
                renew(inputs, noisy, now)
            noise_pred = guidance.predict_noise(noisy, timesteps, cameras, guidance_scale, inputs)
        noisy = ddim_step(schedule, noise_pred.float(), noisy, now, now - after)
    with guidance.stopwatch.part("decode"):
        return guidance.decode(noisy)


def renew(inputs: dict[str, Any], noisy: Latents, timestep: int) -> None:
    """Write other noisy latents of the same views, and their timestep, over those in a guidance's `inputs`."""
    inputs["sample"].unflatten(0, (2, -1))[:, :, : noisy.shape[1]] = noisy
    inputs["timestep"].fill_(timestep)


def shared_timestep(timesteps: Timesteps) -> int:
    """The one timestep of all views."""
    values = set(timesteps.tolist())
    if len(values) != 1:
        raise ValueError(f"Expected one timestep for all views, but got {timesteps.tolist()}.")
    return int(values.pop())


def ddim_step(schedule: NoiseSchedule, noise_pred: Latents, noisy: Latents, timestep: int, stride: int) -> Latents:
    """Latents of the timestep t - stride from those of t, without new noise (Song et al. 2021, eq. 12, sigma = 0).

    Below 0 the noise is that of timestep 0, as in Stable Diffusion's scheduler ("set_alpha_to_one": false).
    """
    now, after = (float(schedule.alphas_cumprod[max(each, 0)]) for each in (timestep, timestep - stride))
    scale = math.sqrt(after / now)
    return torch.add(scale * noisy, noise_pred, alpha=math.sqrt(1.0 - after) - scale * math.sqrt(1.0 - now))
