"""What recipe files share: scales, steps, and the released code's cache."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from hash3d.cache import RELEASED, Hash3DConfig
from hash3d.recipes.loss_weights import LossWeights
from hash3d.representations.dmtet import DmtetMeshConfig
from hash3d.representations.nerf import HashGridNerfConfig, LatentNerfConfig
from hash3d.representations.point_start import PointStartConfig
from hash3d.representations.shap_e import ShapEConfig
from hash3d.schedules import constant
from hash3d.systems import FULL_SCALE_VISITS, dreamfusion, released_cache, zero123_nerf
from hash3d.systems.stages import (
    MINI_GRID,
    NOISIEST,
    is_mini,
    mini_by_text,
    mini_cameras,
    mini_field,
    mini_field_stage,
    mini_splat_stage,
    read_start,
    recipe_at,
    replace_by_mesh,
)


def choices(**given):
    return {"prior": "mini-sd", "cache": Hash3DConfig(), **given}


@pytest.mark.parametrize(
    ("given", "mini"),
    [({}, True), ({"prior": "a/folder"}, False), ({"scale": "supplement"}, False),
     ({"prior": "a/folder", "scale": "mini"}, True)],
)  # fmt: skip
def test_the_scale_decides_and_else_the_prior(given, mini):
    assert is_mini(choices(**given)) is mini


def test_full_scale_returns_less_often_and_keeps_its_schedules():
    short, whole = (
        recipe_at(choices(scale="supplement", steps=steps), dreamfusion.SCALES, system="dreamfusion", prompt="a mug")
        for steps in (100, None)
    )
    assert whole.stage.view_order.visits_per_cell == FULL_SCALE_VISITS
    assert replace(short.stage, steps=whole.stage.steps) == whole.stage
    assert short.stage.steps == 100


def test_an_unknown_scale_is_refused():
    with pytest.raises(ValueError, match="Expected --scale to be mini, supplement or released, but got 'huge'"):
        recipe_at(choices(scale="huge"), dreamfusion.SCALES, system="dreamfusion", prompt="a mug")


def test_a_start_is_a_folder_of_shap_e_a_file_or_nothing(tmp_path):
    assert read_start(None, "a mug", None, size=1.0) is None
    assert isinstance(read_start(tmp_path, "a mug", None, size=1.0), ShapEConfig)
    assert read_start(tmp_path / "a.ply", "a mug", None, size=0.7) == PointStartConfig(
        file=tmp_path / "a.ply", radius=0.7
    )


def test_a_mesh_takes_the_place_of_a_field_with_its_guidances():
    field = dreamfusion.mini()
    stage = replace_by_mesh(field, 7, 128, DmtetMeshConfig(resolution=8), field.losses)
    assert (stage.steps, stage.size(0), stage.reference_size(0), stage.occupancy) == (7, 128, 128, None)
    assert stage.guidances == field.guidances


def test_the_released_code_looks_more_often_in_two_systems():
    assert released_cache("zero123_gs") == RELEASED
    assert released_cache("gaussiandreamer").reuse_probability == 0.3
    assert (released_cache("dreamgaussian").reuse_probability, released_cache("dreamgaussian").grid.radius) == (
        0.5,
        20.0,
    )


OWN = {"guidances": {"text": mini_by_text(10)}, "losses": LossWeights(guidances={"text": constant(1.0)})}


def test_a_field_is_one_of_colours_or_of_latents_with_the_same_settings():
    colors, latents = mini_field(100, lr=0.02), mini_field(100, lr=0.02, kind=LatentNerfConfig)
    assert (type(colors), type(latents)) == (HashGridNerfConfig, LatentNerfConfig)
    assert (colors.channels, latents.channels) == (3, 4)
    for name in ("encoding", "radius", "blob", "blob_scale", "encoding_lr", "lr_decay", "lr_steps", "warmup_steps"):
        assert getattr(colors, name) == getattr(latents, name), name
    assert colors.encoding == MINI_GRID


def test_schedules_stretch_with_the_steps():
    assert [mini_by_text(steps).max_timestep(steps) for steps in (10, 400)] == [0.5, 0.5]
    assert mini_field_stage(40, **OWN).size(20) == 96
    assert mini_splat_stage(40, num_points=10, cameras=mini_cameras(), **OWN).representation.lr_steps == 40


def test_settings_of_one_s_own_replace_the_shared_ones():
    assert mini_by_text(10, guidance_scale=7.5).guidance_scale == 7.5
    assert mini_field_stage(40, **OWN, size=constant(32)).size(0) == 32
    assert mini_cameras(highest=75.0).elevation == (-10.0, 75.0)


@pytest.mark.parametrize("scale", ["mini", "supplement"])
def test_targets_by_an_image_start_from_the_noisiest_timesteps_all_along(scale):
    recipe = partial(zero123_nerf.recipe, image=Path("cup.png"), prior="mini-zero123", cache=None, scale=scale)
    plain, replayed = recipe().stage.guidance, recipe(replay_every=3).stage.guidance
    for step in (0, 100, 150, 900):
        assert replayed.max_timestep(step) == plain.max_timestep(step)
        assert replayed.min_timestep(step) == pytest.approx(NOISIEST * plain.max_timestep(step))
