"""Paired cases of one recipe, and the order of their blocks."""

import pytest
import torch

from hash3d.bench.cases import OFF_EAGER, OFF_FAST, OURS, REPLAY, Case
from hash3d.bench.measure import Contestant, StepTimes, run_blocks, union_length, with_shared_weights
from hash3d.bench.summary import share_reused
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


def test_replay_makes_a_pass_every_third_step(results):
    passes = [sum(map(sum, step.passes)) for step in results[-1].steps]
    assert set(passes) == {0, 1}
    assert abs(sum(passes) - len(passes) / 3) < 1


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
