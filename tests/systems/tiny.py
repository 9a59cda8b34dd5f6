"""Recipes made small enough for a test: the same parts and the same order, a few pixels, points and cells."""

import dataclasses

from hash3d.export.isosurface import IsosurfaceConfig
from hash3d.representations.dmtet import DmtetMeshConfig
from hash3d.representations.encodings import HashGridConfig
from hash3d.representations.gaussians import GaussiansConfig
from hash3d.representations.nerf import NerfConfig
from hash3d.representations.textured_mesh import TexturedMeshConfig
from hash3d.schedules import constant

SURFACE = IsosurfaceConfig(level="auto", resolution=16)
"""One that is there after one step."""
GRID = HashGridConfig(levels=2, log2_entries=6, base_resolution=4, finest_resolution=8)


def tiny(recipe):
    """Views of 32 pixels, fields and surfaces on a tiny grid."""
    stages = [tiny_stage(stage) for stage in recipe.stages]
    refinement = stages[1] if len(stages) > 1 else None
    return dataclasses.replace(recipe, stage=stages[0], refinement=refinement)


def tiny_stage(stage):
    config = stage.representation
    changes = {"size": constant(32), "reference_size": constant(32)}
    if isinstance(config, GaussiansConfig):
        changes["representation"] = dataclasses.replace(config, num_points=60)
    elif isinstance(config, NerfConfig):
        changes["representation"] = dataclasses.replace(config, encoding=GRID)
        changes["renderer"] = dataclasses.replace(stage.renderer, samples_per_ray=24)
        changes["occupancy"] = dataclasses.replace(stage.occupancy, resolution=8)
    elif isinstance(config, TexturedMeshConfig):
        changes["representation"] = dataclasses.replace(config, texture_size=64)
    elif isinstance(config, DmtetMeshConfig):
        changes["representation"] = dataclasses.replace(config, resolution=8)
    changes["surface"] = SURFACE
    if stage.growth is not None:
        changes["growth"] = dataclasses.replace(stage.growth, num_candidates=200)
    return dataclasses.replace(stage, **changes)
