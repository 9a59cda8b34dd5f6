"""Latent-NeRF: a text to a field of Stable Diffusion's latents, which needs no encoder in training.

Full scale: threestudio 28d9d80 with the released Hash3D's latentnerf-hash3d.yaml (cc48922), preset `released`; the
supplement says that the NeRF is a vanilla one, preset `supplement`, here with Stable-DreamFusion's networks.
docs/systems.md lists what is not as there.
"""

from dataclasses import replace

from hash3d.cameras import CameraSamplerConfig
from hash3d.recipes.loss_weights import LossWeights
from hash3d.recipes.stage import Stage
from hash3d.rendering.volume import VolumeRendererConfig
from hash3d.representations.background import EnvironmentConfig
from hash3d.representations.nerf import LatentNerfConfig, VanillaNerfConfig
from hash3d.representations.occupancy import OccupancyGridConfig
from hash3d.schedules import constant, ramp

from .stages import (
    BY_TEXT,
    TEXT_VIEW_ORDER,
    VIEW_ORDER,
    Scales,
    mini_by_text,
    mini_field,
    mini_field_stage,
    text_recipe,
)


def released() -> Stage:
    """Full scale."""
    return Stage(
        steps=10_000,
        cameras=CameraSamplerConfig(
            elevation=(-10.0, 45.0), radius=1.5, fov_y=70.0, radius_range=(1.0, 1.5), fov_y_range=(40.0, 70.0)
        ),
        view_order=VIEW_ORDER,
        size=ramp((0, 64), (5000, 256)),
        representation=LatentNerfConfig(),
        renderer=VolumeRendererConfig(),
        occupancy=OccupancyGridConfig(),
        background=EnvironmentConfig(color_activation="none"),
        guidances={"text": replace(BY_TEXT, rendered="latents")},
        losses=LossWeights(guidances={"text": constant(1.0)}, sparsity=constant(5e-4)),
    )


def supplement() -> Stage:
    """Full scale with sines and cosines in place of the hash grid, and deeper networks that learn more slowly."""
    vanilla = VanillaNerfConfig()
    names = ("encoding", "hidden_layers", "hidden_width", "density_lr", "color_lr")
    field = LatentNerfConfig(**{name: getattr(vanilla, name) for name in names})
    return replace(released(), representation=field)


def mini(steps: int = 400) -> Stage:
    """The embedded prior on a CPU."""
    return mini_field_stage(
        steps,
        view_order=TEXT_VIEW_ORDER,
        size=constant(32),
        pixel_stride=1,
        adam_betas=(0.9, 0.99),  # Latents are no better without momentum.
        representation=mini_field(steps, lr=0.02, kind=LatentNerfConfig),
        guidances={"text": mini_by_text(steps, guidance_scale=7.5, rendered="latents")},
        losses=LossWeights(guidances={"text": constant(0.1)}, opaque_entropy=constant(1.0)),
    )


SCALES: Scales = {"mini": mini, "supplement": supplement, "released": released}
recipe = text_recipe("latent_nerf", SCALES)
