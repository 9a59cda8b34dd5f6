"""GaussianDreamer: a text to Gaussians that start from a rough shape, by SDS with Stable Diffusion.

Full scale: GaussianDreamer 76a38ff with the released Hash3D's gaussiandreamer-sd-hash3d.yaml (cc48922), which starts
from Shap-E: pass its folder, or another shape, as `start`. docs/systems.md lists what is not as there.
At mini scale without a `start` a first stage makes a field: points grow on its surface.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from hash3d.cameras import CameraSamplerConfig
from hash3d.meshing.isosurface import IsosurfaceConfig
from hash3d.recipes.loss_weights import LossWeights
from hash3d.recipes.recipe import Recipe
from hash3d.recipes.stage import Stage, split_steps
from hash3d.rendering.splat import SplatRendererConfig
from hash3d.representations.background import SolidBackgroundConfig
from hash3d.representations.densify import DensifyConfig
from hash3d.representations.gaussians import GaussiansConfig
from hash3d.representations.point_start import GrowthConfig
from hash3d.schedules import constant, ramp

from . import dreamfusion, sds_gs
from .stages import BY_TEXT, MINI_SIZE, VIEW_ORDER, Choices, Scales, is_mini, mini_field, read_start, recipe_at


def supplement() -> Stage:
    """Full scale."""
    falling = ramp((500, 0.98), (501, 0.55))
    return Stage(
        steps=1200,
        cameras=CameraSamplerConfig(
            elevation=(-10.0, 60.0), radius=4.0, fov_y=70.0, radius_range=(1.5, 4.0), fov_y_range=(40.0, 70.0),
            batch_size=4,
        ),
        view_order=VIEW_ORDER,
        size=constant(1024),
        representation=GaussiansConfig(
            radius=1.6, means_lr=(2e-4, 1e-4), lr_steps=30_000, sh0_lr=(0.0125, 0.0125), opacity_lr=0.01
        ),
        densify=DensifyConfig(start=400, stop=800, grad_threshold=2e-4, prune_opacity=0.05),
        renderer=SplatRendererConfig(),
        background=SolidBackgroundConfig(color="black"),
        guidances={"text": replace(BY_TEXT, max_timestep=falling, max_gradient=ramp((0, 1.5), (1000, 2.0)))},
        losses=LossWeights(guidances={"text": constant(1.0)}),
        adam_betas=(0.9, 0.999),
    )  # fmt: skip


def mini(steps: int = 400) -> tuple[Stage, Stage]:
    """The embedded prior on a CPU: a rough field first, as there is no Shap-E."""
    first, second = split_steps(steps, 150, 250)
    rough = replace(
        dreamfusion.mini(first),
        representation=mini_field(first, lr=0.02),
        surface=IsosurfaceConfig(level=3.0, resolution=48),
    )
    return rough, mini_from_start(second)


def mini_from_start(steps: int = 250) -> Stage:
    """The embedded prior on a CPU, from a shape that is given."""
    stage = sds_gs.mini(steps)
    gaussians: Any = stage.representation
    return replace(
        stage,
        representation=replace(gaussians, num_points=1500, means_lr=(2e-3, 2e-4)),
        growth=GrowthConfig(num_candidates=20_000, distance=0.02),
    )


def recipe(*, prompt: str, negative_prompt: str = "", start: Path | None = None, **choices: Unpack[Choices]) -> Recipe:
    """The recipe for a text; `steps` is of all stages, and full-scale schedules do not stretch with it."""
    scales: Scales = {"mini": mini if start is None else mini_from_start, "supplement": supplement}
    shape = read_start(start, prompt, GrowthConfig(), size=MINI_SIZE if is_mini(choices) else 1.6)
    return recipe_at(
        choices, scales, system="gaussiandreamer", prompt=prompt, negative_prompt=negative_prompt, start=shape
    )
