"""Numbers out of range are named, wherever they are in a recipe."""

import math
from dataclasses import replace

import pytest

from hash3d.recipes.limits import RANGES, check_numbers
from hash3d.schedules import constant, ramp


@pytest.mark.parametrize("name", sorted(RANGES))
def test_both_ends_of_each_range_are_in_it(name):
    low, high = RANGES[name]
    for value in (low, high):
        check_numbers({name: value})
    for value in (math.nextafter(low, -math.inf), math.nextafter(high, math.inf), math.nan, math.inf):
        with pytest.raises(ValueError, match=f"^Expected {name} between"):
            check_numbers({name: value})


def test_schedules_are_held_to_the_range_of_their_field(tiny_recipe):
    stage = replace(tiny_recipe.stage, size=ramp((0, 64), (10, 1e5)))
    with pytest.raises(ValueError, match="Expected size between 1 and 4,096, but got 100000"):
        replace(tiny_recipe, stage=stage)
    weights = replace(tiny_recipe.stage.losses, color=constant(math.nan))
    with pytest.raises(ValueError, match="Expected color between"):
        replace(tiny_recipe, stage=replace(tiny_recipe.stage, losses=weights))


def test_texts_are_short(tiny_text_recipe):
    replace(tiny_text_recipe, negative_prompt="x" * 2000)
    with pytest.raises(ValueError, match="Expected negative_prompt of at most 2000 characters, but got 2,001"):
        replace(tiny_text_recipe, negative_prompt="x" * 2001)
