"""GaussianDreamer: a text to Gaussians that start from a rough shape, by SDS with Stable Diffusion.

Full scale: GaussianDreamer 76a38ff with the released Hash3D's gaussiandreamer-sd-hash3d.yaml (cc48922), which starts
from Shap-E: pass its folder, or another shape, as `start`. The supplement's learning rate of 0.001 stands in that file,
but its code does not read it. The sparsity of the depth is not here.
Mini scale: the embedded prior on a CPU. Without a `start` a short first stage makes a field, and points grow
around its surface.
"""

import dataclasses
from pathlib import Path

from hash3d.cache import CacheConfig
from hash3d.cameras import CameraSamplerConfig
from hash3d.export.isosurface import IsosurfaceConfig
from hash3d.guidance.stable_diffusion import StableDiffusionGuidanceConfig
from hash3d.rendering.splat import SplatRendererConfig
from hash3d.representations.background import SolidBackgroundConfig
from hash3d.representations.densify import DensifyConfig
from hash3d.representations.gaussians import GaussiansConfig
from hash3d.representations.point_start import GrowthConfig
from hash3d.schedules import constant, ramp
from hash3d.systems import dreamfusion, sds_gs
from hash3d.systems.scale import pick_scale
from hash3d.systems.starts import read_start
from hash3d.systems.zero123_gs import DRAWS
from hash3d.systems.zero123_nerf import mini_field
from hash3d.training.loss_weights import LossWeights
from hash3d.training.recipe import Recipe
from hash3d.training.stage import Stage, expect_steps, returning_to

NAME = "gaussiandreamer"
MINI_STEPS = 400
"""150 for the rough field, if it is needed, 250 for the Gaussians."""


def supplement() -> Stage:
    """Full scale."""
    return Stage(
        steps=1200,
        cameras=CameraSamplerConfig(
            elevation=(-10.0, 60.0),
            radius=4.0,
            fov_y=70.0,
            radius_range=(1.5, 4.0),
            fov_y_range=(40.0, 70.0),
            batch_size=4,
        ),
        draws=DRAWS,
        size=constant(1024),
        representation=GaussiansConfig(
            radius=1.6, means_lr=(2e-4, 1e-4), lr_steps=30_000, sh0_lr=(0.0125, 0.0125), opacity_lr=0.01
        ),
        densify=DensifyConfig(start=400, stop=800, grad_threshold=2e-4, prune_opacity=0.05),
        renderer=SplatRendererConfig(),
        background=SolidBackgroundConfig(color="black"),
        guidance=StableDiffusionGuidanceConfig(
            guidance_scale=100.0,
            scale_from="conditional",
            max_timestep=ramp((500, 0.98), (501, 0.55)),
            shared_timestep=False,
            max_gradient=ramp((0, 1.5), (1000, 2.0)),
        ),
        losses=LossWeights(guidance=constant(1.0)),
        adam_betas=(0.9, 0.999),
    )


def mini(steps: int) -> Stage:
    """The embedded prior on a CPU; every schedule stretches with `steps`."""
    stage = sds_gs.mini(steps)
    assert isinstance(stage.representation, GaussiansConfig)
    return dataclasses.replace(
        stage,
        representation=dataclasses.replace(stage.representation, num_points=1500, means_lr=(2e-3, 2e-4)),
        surface=IsosurfaceConfig(level=3.0, resolution=48),
        growth=GrowthConfig(num_candidates=20_000, distance=0.02),
    )


def recipe(
    *,
    prompt: str,
    prior: str,
    cache: CacheConfig | None,
    negative_prompt: str = "",
    start: Path | None = None,
    scale: str | None = None,
    steps: int | None = None,
    seed: int = 0,
) -> Recipe:
    """The recipe for a text. Full-scale schedules do not stretch with `steps`."""
    expect_steps(steps)
    chosen = read_start(start, prompt, GrowthConfig())
    stages: tuple[Stage, ...]
    if pick_scale(scale, prior) != "mini":
        stage = supplement()
        stages = (dataclasses.replace(stage, steps=steps or stage.steps),)
    elif chosen is not None:
        stages = (mini(steps or MINI_STEPS),)
    else:
        rough = dreamfusion.mini(max(1, round((steps or MINI_STEPS) * 150 / MINI_STEPS)))
        rough = dataclasses.replace(rough, representation=mini_field(rough.steps, lr=0.02))
        stages = (rough, mini(max(1, (steps or MINI_STEPS) - rough.steps)))
    stages = tuple(returning_to(stage, cache) for stage in stages)
    return Recipe(
        system=NAME,
        prior=prior,
        prompt=prompt,
        negative_prompt=negative_prompt,
        reference_elevation=sds_gs.SHOWN_ELEVATION,
        start=chosen,
        seed=seed,
        stage=stages[0],
        refinement=stages[1] if len(stages) > 1 else None,
        cache=cache,
    )
