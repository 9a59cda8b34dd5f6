"""Latent-NeRF: a text to a field of Stable Diffusion's latents, which needs no encoder in training.

Full scale: threestudio 28d9d80 with the released Hash3D's latentnerf-hash3d.yaml (cc48922), preset `released`; the
supplement says that the NeRF is a vanilla one, preset `supplement`, here with Stable-DreamFusion's networks.
docs/systems.md lists what is not as there. Mini scale: the embedded prior on a CPU, tuned on its own.
"""

import dataclasses
from typing import Unpack

from hash3d.cameras import CameraSamplerConfig
from hash3d.guidance.stable_diffusion import StableDiffusionGuidanceConfig
from hash3d.recipes.loss_weights import LossWeights
from hash3d.recipes.recipe import Recipe
from hash3d.recipes.stage import Stage
from hash3d.rendering.volume import VolumeRendererConfig
from hash3d.representations.background import EnvironmentConfig
from hash3d.representations.nerf import LatentNerfConfig, VanillaNerfConfig
from hash3d.representations.occupancy import OccupancyGridConfig
from hash3d.schedules import constant, ramp

from .mini_field import MINI_GRID, MINI_SURFACE
from .stages import TEXT_ELEVATION, Choices, Scales, recipe_at
from .view_orders import TEXT_VIEW_ORDER, VIEW_ORDER

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
        view_order=VIEW_ORDER,
        size=ramp((0, 64), (5000, 256)),
        representation=LatentNerfConfig(),
        renderer=VolumeRendererConfig(),
        occupancy=OccupancyGridConfig(),
        background=BACKGROUND,
        guidances={
            "text": StableDiffusionGuidanceConfig(
                guidance_scale=100.0, scale_from="conditional", shared_timestep=False, rendered="latents"
            )
        },
        losses=LossWeights(guidances={"text": constant(1.0)}, sparsity=constant(5e-4)),
    )


def supplement() -> Stage:
    """Full scale with sines and cosines in place of the hash grid, and deeper networks that learn more slowly."""
    vanilla = VanillaNerfConfig()
    field = LatentNerfConfig(
        encoding=vanilla.encoding,
        hidden_layers=vanilla.hidden_layers,
        hidden_width=vanilla.hidden_width,
        density_lr=vanilla.density_lr,
        color_lr=vanilla.color_lr,
    )
    return dataclasses.replace(released(), representation=field)


def mini(steps: int = MINI_STEPS) -> Stage:
    """The embedded prior on a CPU; every schedule stretches with `steps`."""
    return Stage(
        steps=steps,
        cameras=CameraSamplerConfig(elevation=(-10.0, 60.0), radius=1.5, fov_y=49.1),
        view_order=TEXT_VIEW_ORDER,
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
        guidances={
            "text": StableDiffusionGuidanceConfig(
                guidance_scale=7.5, max_timestep=ramp((0, 0.98), (steps, 0.5)), rendered="latents"
            )
        },
        losses=LossWeights(guidances={"text": constant(0.1)}, opaque_entropy=constant(1.0)),
    )


SCALES: Scales = {"mini": mini, "supplement": supplement, "released": released}


def recipe(*, prompt: str, negative_prompt: str = "", **choices: Unpack[Choices]) -> Recipe:
    """The recipe for a text. Full-scale schedules do not stretch with `steps`."""
    return recipe_at(
        choices, SCALES, system=NAME, prompt=prompt, negative_prompt=negative_prompt, reference_elevation=TEXT_ELEVATION
    )
