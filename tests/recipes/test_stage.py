"""One stage's settings."""

import dataclasses

import pytest

from hash3d.cache import DeepCacheConfig, GridConfig, Hash3DConfig
from hash3d.recipes.stage import revisit_cells, scale_steps
from hash3d.systems import magic3d, sds_gs


@pytest.mark.parametrize("steps", [0, -1])
def test_a_stage_has_at_least_one_step(steps):
    with pytest.raises(ValueError, match=f"at least 1 step, but got {steps}"):
        dataclasses.replace(sds_gs.mini(), steps=steps)


@pytest.mark.parametrize("steps", [2, 3, 10, 299, 20_000])
def test_scaled_stages_have_the_steps_and_share_them_as_before(steps):
    stages = magic3d.mini()
    scaled = scale_steps(stages, steps)
    assert sum(stage.steps for stage in scaled) == steps
    assert min(stage.steps for stage in scaled) >= 1
    whole = sum(stage.steps for stage in stages)
    assert abs(scaled[0].steps - steps * stages[0].steps / whole) <= 1
    assert [dataclasses.replace(each, steps=1) for each in scaled] == [
        dataclasses.replace(each, steps=1) for each in stages
    ]
    assert scale_steps(stages, None) == stages
    assert [stage.steps for stage in scale_steps(stages[:1], steps)] == [steps]


def test_two_stages_need_two_steps():
    with pytest.raises(ValueError, match=r"^Expected at least a step for each of 2 stages, but got 1\."):
        scale_steps(magic3d.mini(), 1)


def test_a_stage_returns_to_the_cells_of_a_grid_alone():
    stage = sds_gs.mini()
    grid = GridConfig(azimuth=33.0)
    found = revisit_cells(stage, Hash3DConfig(grid=grid))
    assert found.view_order == dataclasses.replace(stage.view_order, grid=grid)
    assert dataclasses.replace(found, view_order=stage.view_order) == stage
    for cache in (None, DeepCacheConfig()):
        assert revisit_cells(stage, cache) == stage
