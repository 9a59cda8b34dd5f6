"""The share of reuse that is foreseen is the one that a run has."""

from dataclasses import replace

import pytest
import torch

from hash3d.bench.cases import plan, sample_views, with_size
from hash3d.bench.reuse_share import fill, nearest_probability, reuse_share, share_of
from hash3d.cache import RELEASED, DeepCacheConfig, Hash3DConfig
from hash3d.pictures import load_picture
from hash3d.training.guide import load_zero123
from hash3d.training.run import frame_reference
from hash3d.training.trainer import Trainer
from tests.tiny_recipes import OFTEN

STEPS = range(4, 12)


def draws(recipe):
    return sample_views(recipe, 0, num_timesteps=1000, steps=STEPS)


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


def test_a_probability_is_found_for_a_share(tiny_recipe):
    """A full table always has something to give, so that the share is the coin's."""
    for share in (0.0, 0.25, 1.0):
        probability = nearest_probability(share, RELEASED, draws(tiny_recipe))
        cache = replace(RELEASED, reuse_probability=probability).build()
        fill(cache, draws(tiny_recipe), torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1))
        assert share_of(cache, draws(tiny_recipe)) == pytest.approx(share, abs=1.0 / len(STEPS))


def test_an_empty_table_of_the_released_code_cannot_follow(tiny_recipe):
    assert reuse_share(replace(RELEASED, reuse_probability=1.0), draws(tiny_recipe)) < 1.0


def test_the_cases_differ_in_cache_and_engine_alone(tiny_recipe):
    off, fast, deepcache, released, ours = plan(tiny_recipe, draws(tiny_recipe), "auto")
    assert (off.engine, fast.engine, deepcache.engine, released.engine, ours.engine) == (
        "eager",
        "auto",
        "eager",
        "eager",
        "auto",
    )
    share = reuse_share(ours.cache, draws(tiny_recipe))
    assert deepcache.cache == DeepCacheConfig(interval=round(1 / (1 - share)), cut=ours.cache.cut)
    assert released.cache == replace(RELEASED, reuse_probability=released.cache.reuse_probability)


def test_a_stage_with_other_views_and_visits(tiny_recipe):
    stage = tiny_recipe.stage
    changed = with_size(stage, 3, 7)
    assert (changed.cameras.batch_size, changed.view_order.visits_per_cell) == (3, 7)
    assert with_size(stage, None, None) == stage
