"""Zero-123 (GS): one image to Gaussians by SDS with Zero123.

Full scale: threestudio's Gaussian extension (8c2ab7b, configs/gaussian_splatting_zero123.yaml) with the steps of the
released Hash3D (cc48922, gaussian_splatting_zero123_hash3d.yaml). The supplement says guidance scale 3 and batch 1
("as Zero-123 (NeRF)"), the released configuration 5 and 4: presets `supplement` and `released`. docs/systems.md lists
what is not as there. Mini scale: the embedded prior at 128x128 on a CPU, tuned on its own.
"""

from pathlib import Path
from typing import Unpack

from hash3d.cameras import CameraSamplerConfig
from hash3d.guidance.zero123 import Zero123GuidanceConfig
from hash3d.pictures import Framing
from hash3d.recipes.loss_weights import LossWeights
from hash3d.recipes.recipe import Pose, Recipe
from hash3d.recipes.stage import Stage
from hash3d.rendering.splat import SplatRendererConfig
from hash3d.representations.densify import DensifyConfig
from hash3d.representations.gaussians import GaussiansConfig
from hash3d.schedules import constant, ramp

from .stages import Choices, Scales, recipe_at
from .view_orders import VIEW_ORDER

NAME = "zero123_gs"
MINI_STEPS = 300


def supplement(guidance_scale: float = 3.0, batch_size: int = 1) -> Stage:
    """Full scale with the supplement's guidance scale and batch."""
    return Stage(
        steps=1000,
        cameras=CameraSamplerConfig(elevation=(-10.0, 80.0), radius=3.8, fov_y=20.0, batch_size=batch_size),
        view_order=VIEW_ORDER,
        size=constant(256),
        reference_size=ramp((0, 128), (200, 256), (300, 512)),
        representation=GaussiansConfig(opacity=0.05, adam_eps=1e-8, lr_steps=1000),
        densify=DensifyConfig(
            every=100, start=0, grad_threshold=0.01, split_scale=0.02, prune_opacity=0.005, prune_scale=None
        ),
        renderer=SplatRendererConfig(),
        guidances={"image": Zero123GuidanceConfig(guidance_scale=guidance_scale, weighting="sqrt")},
        losses=LossWeights(
            guidances={"image": constant(0.1)}, color=ramp((100, 500.0), (400, 1000.0)), mask=constant(50.0)
        ),
        adam_betas=(0.9, 0.999),
    )


def released() -> Stage:
    """Full scale with the released configuration's guidance scale and batch."""
    return supplement(guidance_scale=5.0, batch_size=4)


def mini(steps: int = MINI_STEPS) -> Stage:
    """The embedded prior on a CPU; every schedule stretches with `steps`."""
    return Stage(
        steps=steps,
        cameras=CameraSamplerConfig(elevation=(-10.0, 60.0), radius=1.5, fov_y=49.1, batch_size=1),
        view_order=VIEW_ORDER,
        size=constant(128),
        reference_size=constant(128),
        representation=GaussiansConfig(
            num_points=3000, radius=0.4, means_lr=(5e-3, 2e-4), sh0_lr=(0.03, 0.003), lr_steps=steps
        ),
        densify=DensifyConfig(
            every=100, start=100, stop=steps - 100, prune_opacity=0.01, prune_scale=0.3, max_points=6000
        ),
        renderer=SplatRendererConfig(),
        guidances={
            "image": Zero123GuidanceConfig(guidance_scale=2.0, min_timestep=constant(0.6), max_timestep=constant(0.98))
        },
        losses=LossWeights(guidances={"image": constant(0.1)}, color=constant(1000.0), mask=constant(100.0)),
    )


SCALES: Scales = {"mini": mini, "supplement": supplement, "released": released}


def recipe(
    *, image: Path, elevation: float = 5.0, framing: Framing = "auto", pose: Pose = "auto", **choices: Unpack[Choices]
) -> Recipe:
    """The recipe for a picture; full-scale schedules do not stretch with `steps`."""
    return recipe_at(
        choices, SCALES, system=NAME, image=image, framing=framing, pose=pose, reference_elevation=elevation
    )
