"""What a case runs on and counts."""

import pytest

from hash3d.bench.cases import DEEPCACHE, OFF_EAGER, OURS, RELEASED_EAGER, Case, sample_views
from hash3d.bench.contestant import Contestant, Step, install
from hash3d.bench.deepcache import record_inputs
from hash3d.cache import RELEASED, DeepCacheConfig
from tests.tiny_models import tiny_stable_diffusion
from tests.tiny_recipes import OFTEN

from .conftest import load


def test_a_step_sums_its_u_nets():
    step = Step(ms=1.0, parts={}, passes=((2, 1), (3, 0)))
    assert (step.full, step.shallow) == (5, 1)


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


def test_the_package_takes_the_place_of_the_cache(recipe):
    models, cache = load(recipe), DeepCacheConfig(interval=2)
    off = Contestant(Case(name=OFF_EAGER, cache=None, engine="eager", unreused=OFF_EAGER), recipe, models)
    with record_inputs(off.priors[0].unet) as inputs:
        off.run(1, measured=False)
    off.trainer.close()
    case = Case(name=DEEPCACHE, cache=cache, engine="eager", unreused=OFF_EAGER, package=True)
    contestant = Contestant(case, recipe, models, [inputs])
    contestant.run(3, measured=True)
    contestant.trainer.close()
    assert contestant.result().note == "the package DeepCache 0.1.1"
    assert [step.passes for step in contestant.result().steps] == [((1, 0),), ((0, 1),), ((1, 0),)]
    assert contestant.trainer.cache is None


def test_a_released_cache_is_filled(recipe):
    case = Case(name=RELEASED_EAGER, cache=RELEASED, engine="eager", unreused=OFF_EAGER, filled=True)
    contestant = Contestant(case, recipe, load(recipe))
    contestant.run(1, measured=False)
    before = len(contestant.trainer.cache.store.places)
    contestant.fill(sample_views(recipe, num_timesteps=1000, steps=range(1, 2)))
    contestant.trainer.close()
    assert len(contestant.trainer.cache.store.places) > 100 > before


def test_a_package_whose_passes_differ_is_refused(monkeypatch):
    monkeypatch.setattr("hash3d.bench.contestant.works", lambda *_: False)
    case = Case(name=DEEPCACHE, cache=DeepCacheConfig(interval=2), engine="eager", unreused=OFF_EAGER, package=True)
    with pytest.raises(ValueError, match="the package's shallow pass differs from its full one of the same input"):
        install(case, [tiny_stable_diffusion()], [{}])
