"""Magic3D: a text to a hash-grid NeRF, then to a mesh, by SDS with Stable Diffusion.

Full scale: threestudio 28d9d80 with the released Hash3D's magic3d-{coarse,refine}-sd-hash3d.yaml (cc48922); its second
stage has 5,000 steps, the supplement's 10,000: presets `released` and `supplement`. docs/systems.md lists what is not
as there.
"""

from dataclasses import replace
from functools import partial

from hash3d.guidance.stable_diffusion import StableDiffusionGuidanceConfig
from hash3d.meshing.isosurface import IsosurfaceConfig
from hash3d.recipes.loss_weights import LossWeights
from hash3d.recipes.stage import Stage, split_steps
from hash3d.rendering.raster import RasterRendererConfig
from hash3d.rendering.shading import ShadingConfig
from hash3d.representations.background import EnvironmentConfig
from hash3d.representations.dmtet import DmtetMeshConfig
from hash3d.representations.nerf import HashGridNerfConfig
from hash3d.schedules import constant

from . import dreamfusion
from .stages import BY_TEXT, TEXT_VIEW_ORDER, VIEW_ORDER, Scales, text_recipe


def supplement(mesh_steps: int = 10_000) -> tuple[Stage, Stage]:
    """Full scale."""
    coarse = dreamfusion.supplement()
    field = replace(
        coarse,
        representation=HashGridNerfConfig(),
        surface=IsosurfaceConfig(level="auto"),
        shading=ShadingConfig(soft=True, light="magic3d"),
        guidances={"text": replace(BY_TEXT, weighting="uniform")},
    )
    mesh = Stage(
        steps=mesh_steps,
        cameras=replace(coarse.cameras, fov_y=45.0, fov_y_range=(30.0, 45.0)),
        view_order=VIEW_ORDER,
        size=constant(512),
        representation=DmtetMeshConfig(radius=2.0, values_lr=0.01, offsets_lr=0.01, colors_lr=0.01, adam_eps=1e-15),
        renderer=RasterRendererConfig(),
        shading=ShadingConfig(albedo_until=0, soft=True, light="magic3d"),
        background=EnvironmentConfig(lr=0.01),
        guidances={"text": replace(BY_TEXT, max_timestep=constant(0.5))},
        losses=LossWeights(guidances={"text": constant(1.0)}, normal_consistency=constant(10_000.0)),
    )
    return field, mesh


def mini(steps: int = 400) -> tuple[Stage, Stage]:
    """The embedded prior on a CPU."""
    field_steps, mesh_steps = split_steps(steps, 300, 100)
    field = dreamfusion.mini(field_steps)
    mesh = Stage(
        steps=mesh_steps,
        cameras=field.cameras,
        view_order=TEXT_VIEW_ORDER,
        size=constant(128),
        representation=DmtetMeshConfig(resolution=48, radius=0.6, values_lr=1e-2, offsets_lr=1e-2),
        renderer=RasterRendererConfig(),
        guidances={"text": StableDiffusionGuidanceConfig(guidance_scale=10.0, max_timestep=constant(0.6))},
        losses=LossWeights(guidances={"text": constant(0.1)}, normal_consistency=constant(1000.0)),
    )
    return field, mesh


SCALES: Scales = {"mini": mini, "supplement": supplement, "released": partial(supplement, mesh_steps=5000)}
recipe = text_recipe("magic3d", SCALES)
