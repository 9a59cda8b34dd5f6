"""The cases, and the recipes that they run."""

from dataclasses import replace

import numpy as np
import pytest
import trimesh

from hash3d.bench.cases import OFF_EAGER, Case, make_ball, make_disc, plan, recipe_of, steady
from hash3d.cache import RELEASED, DeepCacheConfig
from hash3d.pictures import read_rgba
from hash3d.schedules import Schedule


def test_the_cases_differ_in_cache_and_engine_alone(tiny_recipe):
    off, fast, ours, replay = plan(tiny_recipe)
    assert off.engine == "eager"
    assert fast.engine == ours.engine == replay.engine == "auto"
    assert (off.cache, fast.cache, ours.cache) == (None, None, tiny_recipe.cache)
    stage = recipe_of(replay, tiny_recipe).stage
    assert (replay.cache, stage.replay.every) == (None, 3)
    assert replace(stage, replay=None) == recipe_of(off, tiny_recipe).stage


def test_a_case_has_its_cache_in_place_of_the_recipe_s(tiny_recipe):
    stage = replace(tiny_recipe.stage, cache=DeepCacheConfig())
    recipe = recipe_of(
        Case(name=OFF_EAGER, cache=RELEASED, engine="eager", unreused=OFF_EAGER), replace(tiny_recipe, stage=stage)
    )
    assert (recipe.cache, recipe.stage) == (RELEASED, tiny_recipe.stage)


def test_steady_images_have_the_last_size(tiny_recipe):
    sizes = Schedule(knots=((0.0, 32.0), (0.5, 64.0)))
    stage = steady(replace(tiny_recipe.stage, size=sizes, reference_size=sizes))
    assert {stage.size(progress) for progress in (0.0, 0.4, 1.0)} == {64.0}
    assert stage.reference_size == stage.size


def test_a_disc_of_three_fifths_the_width(tmp_path):
    alpha = read_rgba(make_disc(tmp_path))[..., 3]
    # Of a circle's area, up to half a pixel of its rim.
    assert alpha.mean() == pytest.approx(np.pi * 0.3**2, rel=0.02)


def test_a_unit_ball_coloured_by_its_positions(tmp_path):
    ball = trimesh.load(make_ball(tmp_path))
    assert np.allclose(np.linalg.norm(ball.vertices, axis=1), 1.0, atol=1e-5)
    # Eight bits, cut off.
    assert np.abs(ball.visual.vertex_colors[:, :3] / 255 - (0.5 + 0.5 * ball.vertices)).max() < 1.01 / 255
