"""DreamFusion: a text to a hash-grid NeRF by SDS with Stable Diffusion.

Full scale: threestudio 28d9d80 with the released Hash3D's dreamfusion-sd_hash3d.yaml (cc48922); the supplement's
numbers are the same. docs/systems.md lists what is not as there.
Mini scale: the embedded prior on a CPU, tuned on its own.
"""

from typing import Unpack

from hash3d.cameras import CameraSamplerConfig
from hash3d.guidance.stable_diffusion import StableDiffusionGuidanceConfig
from hash3d.recipes.loss_weights import LossWeights
from hash3d.recipes.recipe import Recipe
from hash3d.recipes.stage import Stage
from hash3d.rendering.shading import ShadingConfig
from hash3d.rendering.volume import VolumeRendererConfig
from hash3d.representations.background import EnvironmentConfig
from hash3d.representations.encodings import HashGridConfig
from hash3d.representations.nerf import HashGridNerfConfig
from hash3d.representations.occupancy import OccupancyGridConfig
from hash3d.schedules import constant, ramp

from .mini_field import MINI_SURFACE, mini_field
from .stages import TEXT_ELEVATION, Choices, Scales, recipe_at
from .view_orders import TEXT_VIEW_ORDER, VIEW_ORDER

NAME = "dreamfusion"
MINI_STEPS = 300


def supplement() -> Stage:
    """Full scale."""
    return Stage(
        steps=10_000,
        cameras=CameraSamplerConfig(
            elevation=(-10.0, 45.0), radius=2.0, fov_y=70.0, radius_range=(1.5, 2.0), fov_y_range=(40.0, 70.0)
        ),
        view_order=VIEW_ORDER,
        size=constant(64),
        representation=HashGridNerfConfig(encoding=HashGridConfig(start_level=8)),
        renderer=VolumeRendererConfig(),
        occupancy=OccupancyGridConfig(),
        shading=ShadingConfig(),
        background=EnvironmentConfig(),
        guidances={
            "text": StableDiffusionGuidanceConfig(guidance_scale=100.0, scale_from="conditional", shared_timestep=False)
        },
        losses=LossWeights(
            guidances={"text": constant(1.0)}, orientation=ramp((0, 10.0), (5000, 1000.0)), sparsity=constant(1.0)
        ),
    )


def mini(steps: int = MINI_STEPS) -> Stage:
    """The embedded prior on a CPU; every schedule stretches with `steps`."""
    return Stage(
        steps=steps,
        cameras=CameraSamplerConfig(elevation=(-10.0, 60.0), radius=1.5, fov_y=49.1),
        view_order=TEXT_VIEW_ORDER,
        size=ramp((0, 64), (max(1, steps // 2), 96)),
        representation=mini_field(steps),
        surface=MINI_SURFACE,
        renderer=VolumeRendererConfig(samples_per_ray=96),
        occupancy=OccupancyGridConfig(),
        guidances={
            "text": StableDiffusionGuidanceConfig(guidance_scale=10.0, max_timestep=ramp((0, 0.98), (steps, 0.5)))
        },
        losses=LossWeights(guidances={"text": constant(0.1)}, opaque_entropy=constant(1.0)),
    )


SCALES: Scales = {"mini": mini, "supplement": supplement}


def recipe(*, prompt: str, negative_prompt: str = "", **choices: Unpack[Choices]) -> Recipe:
    """The recipe for a text. Full-scale schedules do not stretch with `steps`."""
    return recipe_at(
        choices, SCALES, system=NAME, prompt=prompt, negative_prompt=negative_prompt, reference_elevation=TEXT_ELEVATION
    )
