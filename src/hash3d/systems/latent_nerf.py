"""Latent-NeRF: a text to a field of Stable Diffusion's latents, which needs no encoder in training.

Full scale: threestudio 28d9d80 with the released Hash3D's latentnerf-hash3d.yaml (cc48922), preset `released`; the
supplement says that the NeRF is a vanilla one, preset `supplement`. Small shifts of the camera are not done here.
Mini scale: the embedded prior on a CPU, tuned on its own.
"""

import dataclasses

from hash3d.cache import CacheConfig
from hash3d.cameras import CameraSamplerConfig
from hash3d.guidance.stable_diffusion import StableDiffusionGuidanceConfig
from hash3d.rendering.volume import VolumeRendererConfig
from hash3d.representations.background import EnvironmentConfig
from hash3d.representations.encodings import FrequencyConfig
from hash3d.representations.nerf import LatentNerfConfig
from hash3d.representations.occupancy import OccupancyGridConfig
from hash3d.schedules import constant, ramp
from hash3d.systems.sds_gs import SHOWN_ELEVATION, TEXT_DRAWS
from hash3d.systems.stages import stages_at
from hash3d.systems.zero123_gs import DRAWS
from hash3d.systems.zero123_nerf import MINI_GRID, MINI_SURFACE
from hash3d.training.loss_weights import LossWeights
from hash3d.training.recipe import Recipe
from hash3d.training.stage import Stage

NAME = "latent_nerf"
MINI_STEPS = 400
BACKGROUND = EnvironmentConfig(color_activation="none")


def released() -> Stage:
    """Full scale."""
    return Stage(
        steps=10_000,
        cameras=CameraSamplerConfig(
            elevation=(-10.0, 45.0), radius=1.5, fov_y=70.0, radius_range=(1.0, 1.5), fov_y_range=(40.0, 70.0)
        ),
        draws=DRAWS,
        size=ramp((0, 64), (5000, 256)),
        representation=LatentNerfConfig(),
        renderer=VolumeRendererConfig(),
        occupancy=OccupancyGridConfig(),
        background=BACKGROUND,
        guidance=StableDiffusionGuidanceConfig(
            guidance_scale=100.0, scale_from="conditional", shared_timestep=False, rendered="latents"
        ),
        losses=LossWeights(guidance=constant(1.0), sparsity=constant(5e-4)),
    )


def supplement() -> Stage:
    """Full scale with sines and cosines in place of the hash grid."""
    stage = released()
    return dataclasses.replace(stage, representation=LatentNerfConfig(encoding=FrequencyConfig()))


def mini(steps: int = MINI_STEPS) -> Stage:
    """The embedded prior on a CPU; every schedule stretches with `steps`."""
    return Stage(
        steps=steps,
        cameras=CameraSamplerConfig(elevation=(-10.0, 60.0), radius=1.5, fov_y=49.1),
        draws=TEXT_DRAWS,
        size=constant(32),
        representation=LatentNerfConfig(
            encoding=MINI_GRID,
            radius=0.6,
            blob="magic3d",
            blob_scale=4.0,
            blob_std=0.4,
            encoding_lr=0.02,
            density_lr=0.02,
            color_lr=0.02,
            warmup_steps=0,
            lr_steps=steps,
            adam_eps=1e-8,
        ),
        surface=MINI_SURFACE,
        renderer=VolumeRendererConfig(samples_per_ray=96),
        occupancy=OccupancyGridConfig(),
        guidance=StableDiffusionGuidanceConfig(
            guidance_scale=7.5, max_timestep=ramp((0, 0.98), (steps, 0.5)), rendered="latents"
        ),
        losses=LossWeights(guidance=constant(0.1), opaque_entropy=constant(1.0)),
    )


def recipe(
    *,
    prompt: str,
    prior: str,
    cache: CacheConfig | None,
    negative_prompt: str = "",
    scale: str | None = None,
    steps: int | None = None,
    seed: int = 0,
) -> Recipe:
    """The recipe for a text. Full-scale schedules do not stretch with `steps`."""
    stages = stages_at(scale, prior, steps, mini=mini, supplement=supplement, released=released)
    return Recipe.of(
        stages,
        cache=cache,
        system=NAME,
        prior=prior,
        prompt=prompt,
        negative_prompt=negative_prompt,
        reference_elevation=SHOWN_ELEVATION,
        seed=seed,
    )
