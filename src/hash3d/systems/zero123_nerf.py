"""Zero-123 (NeRF): one image to a hash-grid NeRF by SDS with Zero123.

Full scale: the released Hash3D (cc48922, configs/stable-zero123_hash3d.yaml), on threestudio 28d9d80; the supplement
gives guidance scale 3, Adam at 0.01, 1,000 steps and batch 1, as there: the presets `supplement` and `released` are the
same. docs/systems.md lists what is not as there.
"""

from hash3d.cameras import CameraSamplerConfig
from hash3d.guidance.zero123 import Zero123GuidanceConfig
from hash3d.recipes.loss_weights import LossWeights
from hash3d.recipes.stage import Stage
from hash3d.rendering.volume import VolumeRendererConfig
from hash3d.representations.nerf import HashGridNerfConfig
from hash3d.representations.occupancy import OccupancyGridConfig
from hash3d.schedules import constant, ramp

from .stages import MINI_BY_IMAGE, VIEW_ORDER, Scales, image_recipe, mini_field_stage


def supplement() -> Stage:
    """Full scale."""
    smooth = ramp((100, 7.0), (150, 5.0), (200, 10.0))
    return Stage(
        steps=1000,
        cameras=CameraSamplerConfig(elevation=(-10.0, 80.0), radius=3.8, fov_y=20.0),
        view_order=VIEW_ORDER,
        size=ramp((0, 64), (200, 128), (300, 256)),
        reference_size=ramp((0, 128), (200, 256)),
        representation=HashGridNerfConfig(radius=2.0, hidden_layers=2, adam_eps=1e-8),
        renderer=VolumeRendererConfig(samples_per_ray=256),
        occupancy=OccupancyGridConfig(),
        guidances={"image": Zero123GuidanceConfig(guidance_scale=3.0, weighting="sqrt")},
        losses=LossWeights(
            guidances={"image": constant(0.1)},
            color=ramp((100, 500.0), (400, 1000.0)),
            mask=constant(50.0),
            normal_smoothness=smooth,
            normal_smoothness_3d=smooth,
            orientation=constant(1.0),
            sparsity=constant(0.5),
            opaque_entropy=constant(0.5),
        ),
    )


def mini(steps: int = 300) -> Stage:
    """The embedded prior on a CPU."""
    return mini_field_stage(
        steps,
        view_order=VIEW_ORDER,
        reference_size=constant(96),
        guidances={"image": MINI_BY_IMAGE},
        losses=LossWeights(
            guidances={"image": constant(0.1)},
            color=constant(1000.0),
            mask=constant(100.0),
            opaque_entropy=constant(0.5),
        ),
    )


SCALES: Scales = {"mini": mini, "supplement": supplement}
recipe = image_recipe("zero123_nerf", SCALES)
