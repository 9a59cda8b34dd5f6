"""Zero-123 (GS): one image to Gaussians by SDS with Zero123.

Full scale: threestudio's Gaussian extension (8c2ab7b, configs/gaussian_splatting_zero123.yaml) with the steps of the
released Hash3D (cc48922, gaussian_splatting_zero123_hash3d.yaml). The supplement says guidance scale 3 and batch 1
("as Zero-123 (NeRF)"), the released configuration 5 and 4: presets `supplement` and `released`. docs/systems.md lists
what is not as there.
"""

from functools import partial

from hash3d.cameras import CameraSamplerConfig
from hash3d.guidance.zero123 import Zero123GuidanceConfig
from hash3d.recipes.loss_weights import LossWeights
from hash3d.recipes.stage import Stage
from hash3d.rendering.splat import SplatRendererConfig
from hash3d.representations.densify import DensifyConfig
from hash3d.representations.gaussians import GaussiansConfig
from hash3d.schedules import constant, ramp

from .stages import MINI_BY_IMAGE, VIEW_ORDER, Scales, image_recipe, mini_cameras, mini_splat_stage


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


def mini(steps: int = 300) -> Stage:
    """The embedded prior on a CPU."""
    return mini_splat_stage(
        steps,
        num_points=3000,
        cameras=mini_cameras(),
        view_order=VIEW_ORDER,
        reference_size=constant(128),
        densify=DensifyConfig(
            every=100, start=100, stop=steps - 100, prune_opacity=0.01, prune_scale=0.3, max_points=6000
        ),
        guidances={"image": MINI_BY_IMAGE},
        losses=LossWeights(guidances={"image": constant(0.1)}, color=constant(1000.0), mask=constant(100.0)),
    )


SCALES: Scales = {
    "mini": mini,
    "supplement": supplement,
    "released": partial(supplement, guidance_scale=5.0, batch_size=4),
}
recipe = image_recipe("zero123_gs", SCALES)
