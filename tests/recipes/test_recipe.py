"""A recipe's stages, priors and limits."""

import dataclasses

import pytest

from hash3d.cache import GridConfig, Hash3DConfig
from hash3d.recipes.recipe import Recipe
from hash3d.systems import dreamgaussian, sds_gs

TEXT = sds_gs.recipe(prompt="a mug", prior="mini-sd", cache=None)


def test_steps_and_stages_up_to_one(tmp_path):
    recipe = dreamgaussian.recipe(image=tmp_path / "a.png", prior="mini-zero123", cache=None)
    assert [stage.steps for stage in recipe.stages] == [300, 30]
    assert (recipe.steps, recipe.up_to(0).steps, recipe.up_to(1)) == (330, 300, recipe)
    assert recipe.up_to(0).stages == (recipe.stage,)


def test_the_main_prior_is_the_first():
    assert TEXT.prior == "mini-sd"
    assert dataclasses.replace(TEXT, priors={}).prior is None
    with pytest.raises(ValueError, match=r"^Expected priors of the recipe's guidances, but got image\.$"):
        dataclasses.replace(TEXT, priors={"image": "mini-zero123"})


def test_every_stage_visits_the_cells_of_the_cache():
    cache = Hash3DConfig(grid=GridConfig(azimuth=17.0))
    stages = (TEXT.stage, dataclasses.replace(TEXT.stage, steps=7))
    recipe = Recipe.of(stages, system="any", priors=TEXT.priors, cache=cache)
    assert [stage.view_order.grid for stage in recipe.stages] == [cache.grid, cache.grid]
    assert recipe.steps == TEXT.steps + 7


@pytest.mark.parametrize("change", [{"prompt": " "}, {"reference_elevation": 90.1}, {"seed": -1}])
def test_what_makes_no_sense_is_refused(change):
    with pytest.raises(ValueError, match=r"^Expected "):
        dataclasses.replace(TEXT, **change)
