"""SDS+GS: a text to Gaussians by SDS with Stable Diffusion.

Full scale: threestudio's Gaussian extension (8c2ab7b, configs/gaussian_splatting_shading.yaml): Gaussians, learning
rates, densification, timesteps, guidance, with the middle of its field of view. Its shading, its learned background and
its smoothness terms are not here. Mini scale: the embedded prior at 128x128 on a CPU, tuned on its own.
"""

import dataclasses

from hash3d.cache import CacheConfig
from hash3d.cameras import CameraSamplerConfig
from hash3d.guidance.stable_diffusion import StableDiffusionGuidanceConfig
from hash3d.rendering.splat import SplatRendererConfig
from hash3d.representations.densify import DensifyConfig
from hash3d.representations.gaussians import GaussiansConfig
from hash3d.schedules import constant, ramp
from hash3d.systems.scale import pick_scale
from hash3d.systems.zero123_gs import DRAWS
from hash3d.training.loss_weights import LossWeights
from hash3d.training.recipe import Recipe
from hash3d.training.stage import Stage, expect_steps, returning_to

NAME = "sds_gs"
MINI_STEPS = 400
SHOWN_ELEVATION = 15.0
"""Degrees from which the result is shown (threestudio's evaluation)."""


def supplement() -> Stage:
    """Full scale."""
    return Stage(
        steps=5000,
        cameras=CameraSamplerConfig(elevation=(-20.0, 90.0), radius=2.5, fov_y=65.0, batch_size=4),
        draws=DRAWS,
        size=constant(512),
        representation=GaussiansConfig(
            num_points=4096, radius=0.8, opacity=0.2, quat_lr=0.005, adam_eps=1e-8, lr_steps=1000
        ),
        densify=DensifyConfig(
            every=300, start=500, grad_threshold=0.01, split_scale=0.02, prune_opacity=0.005, prune_scale=None
        ),
        renderer=SplatRendererConfig(),
        guidance=StableDiffusionGuidanceConfig(
            guidance_scale=100.0,
            scale_from="conditional",
            max_timestep=ramp((2000, 0.98), (2001, 0.5)),
            shared_timestep=False,
        ),
        losses=LossWeights(guidance=constant(0.1)),
        adam_betas=(0.9, 0.999),
    )


def mini(steps: int = MINI_STEPS) -> Stage:
    """The embedded prior on a CPU; every schedule stretches with `steps`."""
    return Stage(
        steps=steps,
        cameras=CameraSamplerConfig(elevation=(-10.0, 75.0), radius=1.5, fov_y=49.1),
        draws=DRAWS,
        size=constant(128),
        representation=GaussiansConfig(
            num_points=4000, radius=0.4, means_lr=(5e-3, 2e-4), sh0_lr=(0.03, 0.003), lr_steps=steps
        ),
        densify=None,
        renderer=SplatRendererConfig(),
        guidance=StableDiffusionGuidanceConfig(guidance_scale=10.0, max_timestep=ramp((0, 0.98), (steps, 0.5))),
        losses=LossWeights(guidance=constant(0.1), opaque=constant(1.0), scale=constant(1.0)),
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
    expect_steps(steps)
    stage = mini(steps or MINI_STEPS) if pick_scale(scale, prior) == "mini" else supplement()
    return Recipe(
        system=NAME,
        prior=prior,
        prompt=prompt,
        negative_prompt=negative_prompt,
        reference_elevation=SHOWN_ELEVATION,
        seed=seed,
        stage=returning_to(dataclasses.replace(stage, steps=steps or stage.steps), cache),
        cache=cache,
    )
