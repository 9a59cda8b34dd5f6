"""Paired cases of one recipe, and the order of their blocks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from hash3d.bench.measure import (
    OFF_EAGER,
    OFF_FAST,
    OURS,
    REPLAY,
    Case,
    Contestant,
    StepTimes,
    make_ball,
    make_disc,
    plan,
    recipe_of,
    run_blocks,
    steady,
    union_length,
    with_shared_weights,
)
from hash3d.bench.summary import share_reused
from hash3d.cache import RELEASED, DeepCacheConfig
from hash3d.pictures import read_rgba
from hash3d.schedules import Schedule
from hash3d.systems.stages import TOGETHER
from tests.tiny_recipes import OFTEN

from .conftest import PLAN, load


def test_cases_that_distil_see_the_same_cameras_and_noise(results):
    *results, replay = results
    assert [each.case.name for each in results] == [OFF_EAGER, OFF_FAST, OURS]
    assert replay.case.name == REPLAY
    assert len({each.draws for each in results}) == 1
    for each in results:
        assert (len(each.steps), each.blocks) == (PLAN["steps"], (PLAN["block"], PLAN["block"]))
        assert {sum(map(sum, step.passes)) for step in each.steps} == {1}


def test_the_cases_reuse_their_share(results):
    """Four steps open every cell; of those that follow two of eight are full."""
    off, fast, ours, _ = (share_reused(each.steps) for each in results)
    assert (off, fast, ours) == (0.0, 0.0, 0.75)


def test_replay_makes_passes_of_several_views_after_as_many_times_three_steps(results):
    passes = [sum(map(sum, step.passes)) for step in results[-1].steps]
    assert set(passes) <= {0, TOGETHER}
    assert abs(sum(passes) - len(passes) / 3) <= TOGETHER


def test_two_diffusion_models_are_counted_each(tiny):
    recipe = tiny("magic123")
    contestant = Contestant(Case(name=OURS, cache=OFTEN, engine="auto", unreused=OFF_EAGER), recipe, load(recipe))
    contestant.run(2, measured=True)
    contestant.trainer.close()
    assert [[sum(each) for each in step.passes] for step in contestant.result().steps] == [[1, 1], [1, 1]]


def test_steps_that_are_not_measured_still_sample(recipe):
    contestant = Contestant(Case(name=OURS, cache=None, engine="auto", unreused=OFF_EAGER), recipe, load(recipe))
    contestant.run(1, measured=False)
    before = contestant.result()
    contestant.run(1, measured=False)
    contestant.trainer.close()
    assert before.steps == before.blocks == ()
    assert contestant.result().draws != before.draws


def test_what_overlaps_is_counted_once():
    assert union_length([(5.0, 6.0), (0.0, 2.0), (1.0, 3.0), (1.5, 2.0)]) == 4.0


def test_blocks_rotate_and_the_last_is_shorter():
    class Recorder(Contestant):
        def __init__(self, name):
            self.name = name

        def run(self, steps, *, measured):
            ran.append((self.name, steps, measured))

    ran = []
    run_blocks([Recorder("a"), Recorder("b")], 5, 2, measured=True, say=lambda _: None)
    assert ran == [(name, steps, True) for names, steps in (("ab", 2), ("ba", 2), ("ab", 1)) for name in names]


def addresses(module):
    return [tensor.data_ptr() for tensor in module.state_dict().values()]


def test_copies_share_memory_and_no_hooks(prior, inputs):
    copy = with_shared_weights(prior)
    assert addresses(copy) == addresses(prior)
    copy.unet.register_forward_hook(lambda *_: pytest.fail("only the copy has this hook"))
    with torch.no_grad():
        prior.unet(**inputs)


def test_a_copy_that_lays_its_weights_out_anew_leaves_the_others(prior):
    copy = with_shared_weights(prior)
    copy.unet.to(memory_format=torch.channels_last)
    assert prior.unet.conv_in.weight.is_contiguous()
    assert addresses(copy) != addresses(prior)


def test_step_times_keep_the_steps_apart():
    times = StepTimes(torch.device("cpu"))
    for parts in (("render", "render"), ("unet",)):
        times.mark_step()
        for part in parts:
            with times.part(part):
                pass
    times.mark_step()
    (first_ms, first), (second_ms, second) = times.take()
    assert (set(first), set(second)) == ({"render"}, {"unet"})
    assert first["render"] <= first_ms
    assert second["unet"] <= second_ms
    assert times.take() == []


def test_the_cases_differ_in_cache_and_engine_alone(tiny_recipe):
    off, fast, ours, replay = plan(tiny_recipe)
    assert off.engine == "eager"
    assert fast.engine == ours.engine == replay.engine == "auto"
    assert (off.cache, fast.cache, ours.cache) == (None, None, tiny_recipe.cache)
    stage = recipe_of(replay, tiny_recipe).stage
    assert (replay.cache, stage.replay.every) == (None, 3)
    unreplayed = recipe_of(off, tiny_recipe).stage
    assert replace(stage.guidance, min_timestep=unreplayed.guidance.min_timestep) == unreplayed.guidance
    assert replace(stage, replay=None, guidances=unreplayed.guidances) == unreplayed


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
