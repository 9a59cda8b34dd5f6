"""DreamFusion: a text to a hash-grid NeRF by SDS with Stable Diffusion.

Full scale: threestudio 28d9d80 with the released Hash3D's dreamfusion-sd_hash3d.yaml (cc48922); the supplement's
numbers are the same. docs/systems.md lists what is not as there.
"""

from hash3d.cameras import CameraSamplerConfig
from hash3d.recipes.loss_weights import LossWeights
from hash3d.recipes.stage import Stage
from hash3d.rendering.shading import ShadingConfig
from hash3d.rendering.volume import VolumeRendererConfig
from hash3d.representations.background import EnvironmentConfig
from hash3d.representations.encodings import HashGridConfig
from hash3d.representations.nerf import HashGridNerfConfig
from hash3d.representations.occupancy import OccupancyGridConfig
from hash3d.schedules import constant, ramp

from .stages import BY_TEXT, TEXT_VIEW_ORDER, VIEW_ORDER, Scales, mini_by_text, mini_field_stage, text_recipe


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
        guidances={"text": BY_TEXT},
        losses=LossWeights(
            guidances={"text": constant(1.0)}, orientation=ramp((0, 10.0), (5000, 1000.0)), sparsity=constant(1.0)
        ),
    )


def mini(steps: int = 300) -> Stage:
    """The embedded prior on a CPU."""
    return mini_field_stage(
        steps,
        view_order=TEXT_VIEW_ORDER,
        guidances={"text": mini_by_text(steps)},
        losses=LossWeights(guidances={"text": constant(0.1)}, opaque_entropy=constant(1.0)),
    )


SCALES: Scales = {"mini": mini, "supplement": supplement}
recipe = text_recipe("dreamfusion", SCALES)
