"""What the systems share at mini scale: the embedded priors on a CPU, with settings tuned on their own."""

from typing import Any

from hash3d.cameras import CameraSamplerConfig
from hash3d.guidance.stable_diffusion import StableDiffusionGuidanceConfig
from hash3d.guidance.zero123 import Zero123GuidanceConfig
from hash3d.meshing.isosurface import IsosurfaceConfig
from hash3d.recipes.stage import Stage
from hash3d.rendering.splat import SplatRendererConfig
from hash3d.rendering.volume import VolumeRendererConfig
from hash3d.representations.encodings import HashGridConfig
from hash3d.representations.gaussians import GaussiansConfig
from hash3d.representations.nerf import HashGridNerfConfig, LatentNerfConfig, NerfConfig
from hash3d.representations.occupancy import OccupancyGridConfig
from hash3d.schedules import constant, ramp

MINI_SIZE = 0.5
"""Of the shape that Gaussians start from: the embedded priors' objects lie in a ball of this radius."""
MINI_GRID = HashGridConfig(levels=5, log2_entries=14, base_resolution=8, finest_resolution=64)
"""An encoding that two cores can train."""
MINI_SURFACE = IsosurfaceConfig(level=3.0, resolution=64)
"""The exported mesh of a mini field: some 20,000 faces, unwrapped in seconds."""
MINI_BY_IMAGE = Zero123GuidanceConfig(guidance_scale=2.0, min_timestep=constant(0.6), max_timestep=constant(0.98))


def mini_by_text(steps: int, **own: Any) -> StableDiffusionGuidanceConfig:
    """Guidance by a text whose noise falls over the steps of the stage; `own` replaces or adds settings."""
    return StableDiffusionGuidanceConfig(
        **{"guidance_scale": 10.0, "max_timestep": ramp((0, 0.98), (steps, 0.5)), **own}
    )


def mini_cameras(highest: float = 60.0) -> CameraSamplerConfig:
    """The views that the embedded priors know, up to an elevation in degrees."""
    return CameraSamplerConfig(elevation=(-10.0, highest), radius=1.5, fov_y=49.1)


def mini_field(
    steps: int, lr: float = 0.01, kind: type[HashGridNerfConfig | LatentNerfConfig] = HashGridNerfConfig
) -> NerfConfig:
    """A field that fits the embedded priors' scenes, and is learnt in a few hundred steps; fewer want a larger `lr`.

    The exponential makes a surface of the fog that the softplus would leave after so few steps, and the blob that
    falls without end leaves the cells around it empty, for rays to skip.
    """
    return kind(
        encoding=MINI_GRID, radius=0.6, density_activation="trunc_exp", blob="magic3d", blob_scale=4.0, blob_std=0.4,
        encoding_lr=lr, density_lr=lr, color_lr=lr, warmup_steps=0, lr_decay=0.1, lr_steps=steps, adam_eps=1e-8,
    )  # fmt: skip


def mini_field_stage(steps: int, **own: Any) -> Stage:
    """A stage of a field, whose images grow after half the steps; `own` replaces or adds settings."""
    shared = {
        "cameras": mini_cameras(),
        "size": ramp((0, 64), (max(1, steps // 2), 96)),
        "representation": mini_field(steps),
        "surface": MINI_SURFACE,
        "renderer": VolumeRendererConfig(samples_per_ray=96),
        "occupancy": OccupancyGridConfig(),
    }
    return Stage(steps=steps, **{**shared, **own})


def mini_splat_stage(steps: int, num_points: int, **own: Any) -> Stage:
    """A stage of Gaussians at 128x128 pixels; `own` replaces or adds settings."""
    gaussians = GaussiansConfig(
        num_points=num_points, radius=0.4, means_lr=(5e-3, 2e-4), sh0_lr=(0.03, 0.003), lr_steps=steps
    )
    shared = {"size": constant(128), "representation": gaussians, "renderer": SplatRendererConfig()}
    return Stage(steps=steps, **{**shared, **own})
