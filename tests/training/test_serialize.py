"""Recipes as JSON."""

import dataclasses
import json

import pytest

from hash3d.cache import PRESETS
from hash3d.guidance.perp_neg import PerpNegConfig
from hash3d.systems import sds_gs, zero123_gs
from hash3d.training.serialize import difference, from_plain, to_plain


@pytest.mark.parametrize("scale", ["mini", "supplement", "released"])
@pytest.mark.parametrize("preset", [None, *PRESETS])
def test_round_trip_is_the_same_recipe(tmp_path, scale, preset):
    cache = PRESETS[preset] if preset else None
    recipe = zero123_gs.recipe(image=tmp_path / "a.png", prior="mini-zero123", cache=cache, scale=scale)
    assert from_plain(json.loads(json.dumps(to_plain(recipe)))) == recipe


@pytest.mark.parametrize("scale", ["mini", "supplement"])
def test_a_text_s_recipe_round_trips(scale):
    recipe = sds_gs.recipe(prompt="a mug", prior="mini-sd", cache=None, negative_prompt="ugly", scale=scale)
    guidance = dataclasses.replace(recipe.stage.guidance, perp_neg=PerpNegConfig())
    recipe = dataclasses.replace(recipe, stage=dataclasses.replace(recipe.stage, guidance=guidance))
    assert from_plain(json.loads(json.dumps(to_plain(recipe)))) == recipe


def test_difference_names_the_field(tmp_path):
    recipe = zero123_gs.recipe(image=tmp_path, prior="mini-zero123", cache=PRESETS["default"])
    assert difference(recipe, recipe) is None
    other = dataclasses.replace(recipe, cache=dataclasses.replace(recipe.cache, queue_length=5))
    assert difference(recipe, other) == "queue_length: 5 against 3"


def test_unknown_types_and_fields_are_refused():
    with pytest.raises(ValueError, match=r"got the type 'os\.system'"):
        from_plain({"type": "os.system", "command": "true"})
    with pytest.raises(ValueError, match="another version"):
        from_plain({"type": "Schedule", "no_such_field": 1})
