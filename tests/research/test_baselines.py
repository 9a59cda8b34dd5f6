"""The baselines have our share of reuse, and the share that is foreseen is the one that a run has."""

from dataclasses import replace

import pytest
import torch

from hash3d.bench.measure import Contestant, measure
from hash3d.bench.summary import share_reused
from hash3d.cache import RELEASED, DeepCacheConfig, Hash3DConfig
from hash3d.pictures import load_picture
from hash3d.training.guide import load_zero123
from hash3d.training.run import frame_reference
from hash3d.training.trainer import Trainer
from research.benchmarks.baselines import (
    RELEASED_EAGER,
    fill,
    fill_released,
    find_probability,
    plan_baselines,
    reuse_share,
    sample_views,
    share_of,
)
from tests.bench.conftest import PLAN, load, recipe
from tests.tiny_recipes import OFTEN

__all__ = ["recipe"]  # A fixture.

STEPS = range(4, 12)


def draws(recipe):
    return sample_views(recipe, num_timesteps=1000, steps=STEPS)


@pytest.mark.parametrize("cache", [OFTEN, Hash3DConfig(), DeepCacheConfig(interval=3), RELEASED])
def test_the_foreseen_share_is_that_of_a_run(tiny_recipe, cache):
    recipe = replace(tiny_recipe, cache=cache)
    prior = load_zero123(recipe.prior, torch.device("cpu"))
    trainer = Trainer(recipe, {"image": prior}, frame_reference(recipe, prior, load_picture(recipe.image)))
    counts = []
    for _ in range(STEPS.stop):
        counts.append((trainer.cache.statistics.full, trainer.cache.statistics.shallow))
        trainer.step()
    trainer.close()
    statistics = trainer.cache.statistics
    shallow = statistics.shallow - counts[STEPS.start][1]
    assert reuse_share(cache, draws(recipe)) == shallow / len(STEPS)


def test_a_probability_is_the_share_over_what_a_full_table_serves(tiny_recipe):
    views = draws(tiny_recipe)
    filled = replace(RELEASED, reuse_probability=1.0).build()
    fill(filled, views, torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1))
    most = share_of(filled, views)
    assert find_probability(0.5 * most, RELEASED, views) == 0.5
    assert find_probability(1.0, RELEASED, views) == 1.0
    assert find_probability(0.0, RELEASED, views) == 0.0


def test_an_empty_table_of_the_released_code_cannot_follow(tiny_recipe):
    assert reuse_share(replace(RELEASED, reuse_probability=1.0), draws(tiny_recipe)) < 1.0


def test_the_baselines_have_our_share(tiny_recipe):
    views = draws(tiny_recipe)
    share = reuse_share(tiny_recipe.cache, views)
    deepcache, released = plan_baselines(tiny_recipe, views)
    assert [each.engine for each in (deepcache, released)] == ["eager"] * 2
    assert deepcache.cache == DeepCacheConfig(interval=round(1 / (1 - share)), cut=tiny_recipe.cache.cut)
    assert released.cache == replace(RELEASED, reuse_probability=released.cache.reuse_probability)


def test_measured_they_reuse_as_much(recipe):
    """Ours is 0.75 there: four steps open every cell, and of those that follow two of eight are full."""
    views = sample_views(recipe, num_timesteps=1000, steps=range(4, 12))
    *_, deepcache, released = measure(
        recipe, load(recipe), **PLAN, others=plan_baselines(recipe, views),
        prepare=lambda contestant: fill_released(contestant, views),
    )  # fmt: skip
    assert deepcache.case.cache.interval == 4
    # A step more or less.
    assert [share_reused(each.steps) for each in (deepcache, released)] == pytest.approx([0.75] * 2, abs=1.01 / 8)


def test_a_released_cache_is_filled(recipe):
    views = sample_views(recipe, num_timesteps=1000, steps=range(1, 2))
    contestant = Contestant(plan_baselines(recipe, views)[1], recipe, load(recipe))
    assert contestant.case.name == RELEASED_EAGER
    contestant.run(1, measured=False)
    before = len(contestant.trainer.cache.store.places)
    fill_released(contestant, views)
    contestant.trainer.close()
    assert len(contestant.trainer.cache.store.places) > 100 > before
