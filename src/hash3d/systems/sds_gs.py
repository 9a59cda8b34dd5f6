"""SDS+GS: a text to Gaussians by SDS with Stable Diffusion.

Full scale: threestudio's Gaussian extension (8c2ab7b, configs/gaussian_splatting_shading.yaml) with the released
Hash3D's gaussian_splatting_shading_hash3d.yaml (cc48922). There the points fill a ball; the supplement lets them start
from Shap-E: pass its folder as `start`. It also says that all else is DreamFusion's, which 5,000 steps of four views of
512 pixels are not: both presets follow the code. docs/systems.md lists what is not as there.
"""

from dataclasses import replace
from pathlib import Path
from typing import Unpack

from hash3d.cameras import CameraSamplerConfig
from hash3d.recipes.loss_weights import LossWeights
from hash3d.recipes.recipe import Recipe
from hash3d.recipes.stage import Stage
from hash3d.rendering.shading import ShadingConfig
from hash3d.rendering.splat import SplatRendererConfig
from hash3d.representations.background import EnvironmentConfig
from hash3d.representations.densify import DensifyConfig
from hash3d.representations.gaussians import GaussiansConfig
from hash3d.schedules import constant, ramp

from .stages import (
    BY_TEXT,
    MINI_SIZE,
    TEXT_VIEW_ORDER,
    VIEW_ORDER,
    Choices,
    Scales,
    is_mini,
    mini_by_text,
    mini_cameras,
    mini_splat_stage,
    read_start,
    recipe_at,
)


def supplement() -> Stage:
    """Full scale."""
    return Stage(
        steps=5000,
        cameras=CameraSamplerConfig(
            elevation=(-20.0, 90.0), radius=2.5, fov_y=70.0, fov_y_range=(60.0, 70.0), batch_size=4
        ),
        view_order=VIEW_ORDER,
        size=constant(512),
        representation=GaussiansConfig(
            num_points=4096, radius=0.8, opacity=0.2, quat_lr=0.005, adam_eps=1e-8, lr_steps=1000
        ),
        densify=DensifyConfig(
            every=300, start=500, grad_threshold=0.01, split_scale=0.02, prune_opacity=0.005, prune_scale=None
        ),
        renderer=SplatRendererConfig(),
        guidances={"text": replace(BY_TEXT, max_timestep=ramp((2000, 0.98), (2001, 0.5)))},
        shading=ShadingConfig(albedo_until=2000, textureless_share=0.0, soft=True),
        background=EnvironmentConfig(solid_share=0.8),
        losses=LossWeights(
            guidances={"text": constant(0.1)},
            position=constant(1.0),
            opacity=constant(1e-4),
            scale_sum=constant(1e-4),
            total_variation=constant(1.0),
            shape_variation=constant(1.0),
        ),
        adam_betas=(0.9, 0.999),
    )


def mini(steps: int = 400) -> Stage:
    """The embedded prior on a CPU."""
    return mini_splat_stage(
        steps,
        num_points=4000,
        cameras=mini_cameras(highest=75.0),
        view_order=TEXT_VIEW_ORDER,
        guidances={"text": mini_by_text(steps)},
        losses=LossWeights(guidances={"text": constant(0.1)}, opaque=constant(1.0), scale=constant(1.0)),
    )


SCALES: Scales = {"mini": mini, "supplement": supplement}


def recipe(*, prompt: str, negative_prompt: str = "", start: Path | None = None, **choices: Unpack[Choices]) -> Recipe:
    """The recipe for a text. Full-scale schedules do not stretch with `steps`."""
    shape = read_start(start, prompt, None, size=MINI_SIZE if is_mini(choices) else 1.0)
    return recipe_at(choices, SCALES, system="sds_gs", prompt=prompt, negative_prompt=negative_prompt, start=shape)
