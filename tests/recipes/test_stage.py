"""One stage's settings."""

import dataclasses
import itertools

import pytest

from hash3d.cache import DeepCacheConfig, GridConfig, Hash3DConfig
from hash3d.recipes.stage import returning_to, scaled_steps
from hash3d.rendering.raster import RasterRendererConfig
from hash3d.rendering.splat import SplatRendererConfig
from hash3d.rendering.volume import VolumeRendererConfig
from hash3d.representations.dmtet import DmtetMeshConfig
from hash3d.representations.gaussians import GaussiansConfig
from hash3d.representations.nerf import HashGridNerfConfig, LatentNerfConfig, VanillaNerfConfig
from hash3d.representations.textured_mesh import TexturedMeshConfig
from hash3d.systems import magic3d, sds_gs

FIELDS = (HashGridNerfConfig(), VanillaNerfConfig(), LatentNerfConfig())
DRAWN_BY = {
    SplatRendererConfig(): (GaussiansConfig(),),
    VolumeRendererConfig(): FIELDS,
    RasterRendererConfig(): (DmtetMeshConfig(), TexturedMeshConfig()),
}


@pytest.mark.parametrize("renderer", DRAWN_BY, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("representation", itertools.chain(*DRAWN_BY.values()), ids=lambda each: type(each).__name__)
def test_a_representation_has_its_renderer_and_no_other(renderer, representation):
    def build():
        return dataclasses.replace(sds_gs.mini(), representation=representation, renderer=renderer)

    if representation in DRAWN_BY[renderer]:
        assert build().renderer == renderer
        return
    message = f"Expected a .* for a {type(representation).__name__}, but got a {type(renderer).__name__}."
    with pytest.raises(ValueError, match=f"^{message}$"):
        build()


@pytest.mark.parametrize("steps", [0, -1])
def test_a_stage_has_at_least_one_step(steps):
    with pytest.raises(ValueError, match=f"at least 1 step, but got {steps}"):
        dataclasses.replace(sds_gs.mini(), steps=steps)


@pytest.mark.parametrize("steps", [2, 3, 10, 299, 20_000])
def test_scaled_stages_have_the_steps_and_share_them_as_before(steps):
    stages = magic3d.mini()
    scaled = scaled_steps(stages, steps)
    assert sum(stage.steps for stage in scaled) == steps
    assert min(stage.steps for stage in scaled) >= 1
    whole = sum(stage.steps for stage in stages)
    assert abs(scaled[0].steps - steps * stages[0].steps / whole) <= 1
    assert [dataclasses.replace(each, steps=1) for each in scaled] == [
        dataclasses.replace(each, steps=1) for each in stages
    ]
    assert scaled_steps(stages, None) == stages
    assert [stage.steps for stage in scaled_steps(stages[:1], steps)] == [steps]


def test_two_stages_need_two_steps():
    with pytest.raises(ValueError, match=r"^Expected at least a step for each of 2 stages, but got 1\."):
        scaled_steps(magic3d.mini(), 1)


def test_a_stage_returns_to_the_cells_of_a_grid_alone():
    stage = sds_gs.mini()
    grid = GridConfig(azimuth=33.0)
    found = returning_to(stage, Hash3DConfig(grid=grid))
    assert found.draws == dataclasses.replace(stage.draws, cells=grid)
    assert dataclasses.replace(found, draws=stage.draws) == stage
    for cache in (None, DeepCacheConfig()):
        assert returning_to(stage, cache) == stage
