"""Recipes of the systems made small enough for a test: 32 pixels, a few steps, a coarse model."""

import copy
from dataclasses import replace
from pathlib import Path

from hash3d.cache import CacheConfig, GridConfig, Hash3DConfig
from hash3d.guidance.denoise import DenoiseGuidanceConfig
from hash3d.meshing.isosurface import IsosurfaceConfig
from hash3d.recipes.recipe import Recipe
from hash3d.recipes.stage import Config, Stage
from hash3d.recipes.view_order import ViewOrderConfig
from hash3d.rendering.volume import VolumeRendererConfig
from hash3d.representations.dmtet import DmtetMeshConfig
from hash3d.representations.encodings import HashGridConfig
from hash3d.representations.gaussians import GaussiansConfig
from hash3d.representations.nerf import NerfConfig
from hash3d.representations.occupancy import OccupancyGridConfig
from hash3d.representations.point_start import GrowthConfig
from hash3d.representations.textured_mesh import TexturedMeshConfig
from hash3d.schedules import constant
from hash3d.systems import SYSTEMS
from hash3d.training import guide

LOADED = {}

OFTEN = Hash3DConfig(reuse_probability=0.7, grid=GridConfig(azimuth=90, elevation=90, timestep=500))
"""A cache that often hits."""
GRID = HashGridConfig(
    levels=4, log2_entries=9, base_resolution=4, finest_resolution=16, start_level=2, start_step=1, update_steps=3
)
"""Its levels come one by one, so that a state that forgets them shows."""
SURFACE = IsosurfaceConfig(level="auto", resolution=16)


def tiny_system(
    name: str, *, image: Path, prior: Path, text_prior: Path, cache: CacheConfig | None = OFTEN, steps: int = 4
) -> Recipe:
    """A system's mini recipe with tiny priors and `steps` steps a stage."""
    (system,) = (each for each in SYSTEMS if each.name == name)
    given = {"image": image, "prompt": "a red mug"}
    options = {each: given[each] for each in system.inputs}
    if system.inputs == ("image", "prompt"):
        options["text_prior"] = str(text_prior)
    folder = prior if "image" in options else text_prior
    recipe = system.recipe(prior=str(folder), cache=cache, scale="mini", **options)
    return replace(tiny(recipe, steps), checkpoint_every=3)


def tiny(recipe: Recipe, steps: int | None = None) -> Recipe:
    """The same recipe with `steps` steps a stage, or as many as it has, of 32x32 pixels."""
    first, *rest = (tiny_stage(stage, steps or stage.steps) for stage in recipe.stages)
    return replace(recipe, stage=first, refinement=rest[0] if rest else None)


def tiny_stage(stage: Stage, steps: int) -> Stage:
    """The same stage with `steps` steps of 32x32 pixels."""
    guidances, renderer, order = stage.guidances, stage.renderer, stage.view_order
    if isinstance(stage.guidance, DenoiseGuidanceConfig):
        (name,) = guidances
        guidances = {name: replace(stage.guidance, num_steps=7, strength=constant(0.0))}
    else:
        order = ViewOrderConfig(visits_per_cell=6, active_cells=2, grid=OFTEN.grid)
    if isinstance(renderer, VolumeRendererConfig):
        renderer = replace(renderer, samples_per_ray=16)
    return replace(
        stage,
        steps=steps,
        view_order=order,
        size=constant(32),
        reference_size=constant(32),
        representation=tiny_representation(stage.representation),
        surface=SURFACE,
        growth=GrowthConfig(num_candidates=200, distance=0.1) if stage.growth else None,
        densify=replace(stage.densify, every=2, start=2, stop=100, grad_threshold=1e-9) if stage.densify else None,
        renderer=renderer,
        occupancy=OccupancyGridConfig(resolution=8, update_every=2, warmup_steps=3) if stage.occupancy else None,
        guidances=guidances,
    )


def tiny_representation(config: Config) -> Config:
    """The same kind with few numbers."""
    if isinstance(config, GaussiansConfig):
        return replace(config, num_points=40)
    if isinstance(config, NerfConfig):
        return replace(config, encoding=GRID, hidden_width=8)
    if isinstance(config, DmtetMeshConfig):
        return replace(config, resolution=8)
    assert isinstance(config, TexturedMeshConfig)
    return replace(config, texture_size=64)


def load_priors(recipe, device):
    """Copies of a recipe's priors, each loaded once: that takes most of a run's start."""
    key = (tuple(recipe.priors.items()), device, recipe.pose)
    if key not in LOADED:
        LOADED[key] = guide.load_priors(recipe, device)
    return copy.deepcopy(LOADED[key])
