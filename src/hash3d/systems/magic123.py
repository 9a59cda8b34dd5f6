"""Magic-123: one image and its description to a NeRF, then to a mesh, by SDS with Zero123 and Stable Diffusion.

Full scale: threestudio 28d9d80 with the released Hash3D's magic123-{coarse,refine}-sd-hash3d.yaml (cc48922). The
supplement weighs Zero123's guidance with 0.1; the released code counts its loss twice, which makes 2.0: presets
`supplement` and `released`. Both models' timesteps of a step are the same share of their ranges, so that one
view order serves both caches. docs/systems.md lists what is not as there.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Unpack

from hash3d.cameras import CameraSamplerConfig
from hash3d.guidance.stable_diffusion import StableDiffusionGuidanceConfig
from hash3d.pictures import Framing
from hash3d.recipes.loss_weights import LossWeights
from hash3d.recipes.recipe import Pose, Recipe
from hash3d.recipes.stage import Stage, split_steps
from hash3d.representations.dmtet import DmtetMeshConfig
from hash3d.representations.encodings import HashGridConfig
from hash3d.representations.nerf import HashGridNerfConfig
from hash3d.schedules import constant

from . import zero123_nerf
from .stages import TWO_PRIOR_VIEW_ORDER, Choices, Scales, mini_field, recipe_at, replace_by_mesh


def supplement(weight: float = 0.1) -> tuple[Stage, Stage]:
    """Full scale; `weight` is that of Zero123's guidance."""
    field = zero123_nerf.supplement()
    by_text = StableDiffusionGuidanceConfig(guidance_scale=101.0, weighting="uniform", max_timestep=constant(0.6))
    field = replace(
        field,
        steps=10_000,
        cameras=CameraSamplerConfig(elevation=(-45.0, 45.0), radius=2.5, fov_y=40.0),
        size=constant(128),
        reference_size=constant(128),
        representation=HashGridNerfConfig(
            encoding=HashGridConfig(start_level=8, start_step=2000, update_steps=300),
            radius=1.0,
            hidden_layers=2,
            density_lr=0.001,
            color_lr=0.001,
            adam_eps=1e-8,
        ),
        guidances={**field.guidances, "text": by_text},
        losses=LossWeights(
            guidances={"image": constant(weight), "text": constant(0.025)},
            color=constant(1000.0),
            mask=constant(0.0),
            mask_entropy=constant(100.0),
            normal_smoothness=constant(1000.0),
        ),
    )
    losses = replace(field.losses, normal_smoothness=constant(0.0), normal_consistency=constant(1000.0))
    return field, replace_by_mesh(field, field.steps, 512, DmtetMeshConfig(radius=1.0), losses)


def mini(steps: int = 310) -> tuple[Stage, Stage]:
    """The embedded priors on a CPU."""
    first, second = split_steps(steps, 250, 60)
    field = zero123_nerf.mini(first)
    by_text = StableDiffusionGuidanceConfig(guidance_scale=10.0, min_timestep=constant(0.2), max_timestep=constant(0.6))
    field = replace(
        field,
        view_order=TWO_PRIOR_VIEW_ORDER,
        representation=mini_field(first, lr=0.02),
        guidances={**field.guidances, "text": by_text},
        losses=replace(field.losses, guidances={**field.losses.guidances, "text": constant(0.005)}),
    )
    mesh = DmtetMeshConfig(resolution=48, radius=0.6, values_lr=2e-3, offsets_lr=2e-3)
    losses = replace(field.losses, opaque_entropy=constant(0.0), normal_consistency=constant(1000.0))
    return field, replace_by_mesh(field, second, 128, mesh, losses)


SCALES: Scales = {"mini": mini, "supplement": supplement, "released": partial(supplement, weight=2.0)}


def recipe(
    *,
    image: Path,
    prompt: str,
    text_prior: str = "mini-sd",
    negative_prompt: str = "",
    elevation: float = 5.0,
    framing: Framing = "auto",
    pose: Pose = "auto",
    **choices: Unpack[Choices],
) -> Recipe:
    """The recipe for an image and its text; `steps` is of both stages, and full-scale schedules keep theirs."""
    return recipe_at(
        choices, SCALES, priors={"text": text_prior}, system="magic123", image=image, prompt=prompt,
        negative_prompt=negative_prompt, framing=framing, pose=pose, reference_elevation=elevation,
    )  # fmt: skip
