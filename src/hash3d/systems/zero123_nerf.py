"""Zero-123 (NeRF): one image to a hash-grid NeRF by SDS with Zero123.

Full scale: the released Hash3D (cc48922, configs/stable-zero123_hash3d.yaml), on threestudio 28d9d80; the supplement
gives guidance scale 3, Adam at 0.01, 1,000 steps and batch 1, as there: the presets `supplement` and `released` are the
same. The reference view is not jittered. Mini scale: the embedded prior on a CPU, tuned on its own.
"""

from pathlib import Path

from hash3d.cache import CacheConfig
from hash3d.cameras import CameraSamplerConfig
from hash3d.export.isosurface import IsosurfaceConfig
from hash3d.guidance.zero123 import Zero123GuidanceConfig
from hash3d.pictures import Framing
from hash3d.rendering.volume import VolumeRendererConfig
from hash3d.representations.encodings import HashGridConfig
from hash3d.representations.nerf import HashGridNerfConfig
from hash3d.representations.occupancy import OccupancyGridConfig
from hash3d.schedules import constant, ramp
from hash3d.systems.stages import stages_at
from hash3d.systems.zero123_gs import DRAWS
from hash3d.training.loss_weights import LossWeights
from hash3d.training.recipe import Recipe
from hash3d.training.stage import Stage

NAME = "zero123_nerf"
MINI_STEPS = 300
MINI_GRID = HashGridConfig(levels=5, log2_entries=14, base_resolution=8, finest_resolution=64)
"""An encoding that two cores can train."""

MINI_SURFACE = IsosurfaceConfig(level=3.0, resolution=64)
"""The exported mesh of such a field: some 20,000 faces, unwrapped in seconds."""


def mini_field(steps: int, lr: float = 0.01) -> HashGridNerfConfig:
    """A field that fits the embedded priors' scenes, and is learnt in a few hundred steps; fewer want a larger `lr`.

    The exponential makes a surface of the fog that the softplus would leave after so few steps, and the blob that
    falls without end leaves the cells around it empty, for rays to skip.
    """
    return HashGridNerfConfig(
        encoding=MINI_GRID,
        radius=0.6,
        density_activation="trunc_exp",
        blob="magic3d",
        blob_scale=4.0,
        blob_std=0.4,
        encoding_lr=lr,
        density_lr=lr,
        color_lr=lr,
        lr_decay=0.1,
        lr_steps=steps,
        adam_eps=1e-8,
    )


def supplement() -> Stage:
    """Full scale."""
    smooth = ramp((100, 7.0), (150, 5.0), (200, 10.0))
    return Stage(
        steps=1000,
        cameras=CameraSamplerConfig(elevation=(-10.0, 80.0), radius=3.8, fov_y=20.0),
        draws=DRAWS,
        size=ramp((0, 64), (200, 128), (300, 256)),
        reference_size=ramp((0, 128), (200, 256)),
        representation=HashGridNerfConfig(radius=2.0, hidden_layers=2, adam_eps=1e-8),
        renderer=VolumeRendererConfig(samples_per_ray=256),
        occupancy=OccupancyGridConfig(),
        guidance=Zero123GuidanceConfig(guidance_scale=3.0, weighting="sqrt"),
        losses=LossWeights(
            guidance=constant(0.1),
            color=ramp((100, 500.0), (400, 1000.0)),
            mask=constant(50.0),
            normal_smoothness=smooth,
            normal_smoothness_3d=smooth,
            orientation=constant(1.0),
            sparsity=constant(0.5),
            opaque_entropy=constant(0.5),
        ),
    )


def mini(steps: int = MINI_STEPS) -> Stage:
    """The embedded prior on a CPU; every schedule stretches with `steps`."""
    return Stage(
        steps=steps,
        cameras=CameraSamplerConfig(elevation=(-10.0, 60.0), radius=1.5, fov_y=49.1),
        draws=DRAWS,
        size=ramp((0, 64), (max(1, steps // 2), 96)),
        reference_size=constant(96),
        representation=mini_field(steps),
        surface=MINI_SURFACE,
        renderer=VolumeRendererConfig(samples_per_ray=96),
        occupancy=OccupancyGridConfig(),
        guidance=Zero123GuidanceConfig(guidance_scale=2.0, min_timestep=constant(0.6), max_timestep=constant(0.98)),
        losses=LossWeights(
            guidance=constant(0.1), color=constant(1000.0), mask=constant(100.0), opaque_entropy=constant(0.5)
        ),
    )


def recipe(
    *,
    image: Path,
    prior: str,
    cache: CacheConfig | None,
    scale: str | None = None,
    steps: int | None = None,
    seed: int = 0,
    elevation: float = 5.0,
    framing: Framing = "auto",
) -> Recipe:
    """The recipe for a picture. Full-scale schedules do not stretch with `steps`."""
    stages = stages_at(scale, prior, steps, mini=mini, supplement=supplement)
    return Recipe.of(
        stages,
        cache=cache,
        system=NAME,
        prior=prior,
        image=image,
        framing=framing,
        reference_elevation=elevation,
        seed=seed,
    )
