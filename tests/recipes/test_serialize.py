"""Recipes as JSON."""

import dataclasses
import json

import pytest

from hash3d.cache import PRESETS
from hash3d.guidance.targets import ReplayConfig
from hash3d.meshing.isosurface import IsosurfaceConfig
from hash3d.recipes.serialize import difference, find_type, from_plain, to_plain
from hash3d.representations.point_start import GrowthConfig, PointStartConfig
from hash3d.representations.shap_e import ShapEConfig
from hash3d.systems import SYSTEMS, magic3d, sds_gs, zero123_gs


@pytest.mark.parametrize("scale", ["mini", "supplement", "released"])
@pytest.mark.parametrize("preset", [None, *PRESETS])
def test_round_trip_is_the_same_recipe(tmp_path, scale, preset):
    cache = PRESETS[preset] if preset else None
    recipe = zero123_gs.recipe(image=tmp_path / "a.png", prior="mini-zero123", cache=cache, scale=scale)
    assert from_plain(json.loads(json.dumps(to_plain(recipe)))) == recipe


@pytest.mark.parametrize("scale", ["mini", "supplement"])
def test_a_text_s_recipe_round_trips(scale):
    recipe = sds_gs.recipe(prompt="a mug", prior="mini-sd", cache=None, negative_prompt="ugly", scale=scale)
    assert from_plain(json.loads(json.dumps(to_plain(recipe)))) == recipe


@pytest.mark.parametrize("scale", ["mini", "supplement", "released"])
@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_every_system_round_trips(tmp_path, system, scale):
    given = {"image": tmp_path / "a.png", "prompt": "a mug"}
    inputs = {name: given[name] for name in system.inputs}
    recipe = system.recipe(prior=system.embedded, cache=PRESETS["default"], scale=scale, seed=3, **inputs)
    again = from_plain(json.loads(json.dumps(to_plain(recipe))))
    assert again == recipe
    assert difference(again, recipe) is None


@pytest.mark.parametrize("growth", [None, GrowthConfig(distance=0.03)])
def test_starts_and_surfaces_round_trip(tmp_path, growth):
    recipe = sds_gs.recipe(prompt="a mug", prior="mini-sd", cache=None)
    for start in (PointStartConfig(file=tmp_path / "a.ply", growth=growth), ShapEConfig(folder=tmp_path, prompt="a")):
        for surface in (None, IsosurfaceConfig(level="auto", resolution=48), IsosurfaceConfig(level=3.0)):
            changed = dataclasses.replace(recipe, start=start, stage=dataclasses.replace(recipe.stage, surface=surface))
            assert from_plain(json.loads(json.dumps(to_plain(changed)))) == changed


def test_a_difference_in_the_second_stage_is_named():
    recipe = magic3d.recipe(prompt="a mug", prior="mini-sd", cache=None)
    refinement = dataclasses.replace(recipe.refinement, steps=recipe.refinement.steps + 1)
    found = difference(recipe, dataclasses.replace(recipe, refinement=refinement))
    assert found == f"steps: {refinement.steps} against {recipe.refinement.steps}"
    assert difference(recipe, dataclasses.replace(recipe, refinement=None)).startswith(
        "refinement: None against Stage("
    )


def test_difference_names_the_field(tmp_path):
    recipe = zero123_gs.recipe(image=tmp_path, prior="mini-zero123", cache=PRESETS["default"])
    assert difference(recipe, recipe) is None
    other = dataclasses.replace(recipe, cache=dataclasses.replace(recipe.cache, queue_length=5))
    assert difference(recipe, other) == "queue_length: 5 against 3"


def test_unknown_types_and_fields_are_refused():
    with pytest.raises(ValueError, match=r"got the type 'os\.system'"):
        from_plain({"type": "os.system", "command": "true"})
    with pytest.raises(ValueError, match=r"another version of hash3d: .*argument"):
        from_plain({"type": "hash3d.schedules:Schedule", "no_such_field": 1})


@pytest.mark.parametrize("name", [3, None, True, [1]])
def test_names_of_a_mapping_are_text(name):
    plain = to_plain(sds_gs.recipe(prompt="a mug", prior="mini-sd", cache=None))
    plain["stage"]["guidances"]["items"][0][0] = name
    with pytest.raises(ValueError, match="Expected guidances of Stage to be"):
        from_plain(plain)


def test_a_recipe_of_the_first_version_is_refused_by_its_version():
    with pytest.raises(ValueError, match=r"of this version of hash3d, but an earlier one, 0\.1, wrote it\. Run"):
        from_plain({"type": "Recipe", "system": "sds_gs", "prior": "mini-sd"})


@pytest.mark.parametrize("name", ["pathlib:Path", "hash3d.recipes.serialize:re", "hash3d.cameras:Cameras.orbit", "os"])
def test_what_is_no_frozen_dataclass_is_not_taken(name):
    assert find_type(name) is None


def test_a_later_field_is_left_out_at_its_default_so_that_older_digests_stay():
    plain = to_plain(ReplayConfig(every=4))
    assert "together" not in plain
    assert plain["every"] == 4
    assert from_plain(plain) == ReplayConfig(every=4)
    other = ReplayConfig(together=3)
    assert to_plain(other)["together"] == 3
    assert from_plain(to_plain(other)) == other
