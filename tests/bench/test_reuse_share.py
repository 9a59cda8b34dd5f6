"""The share of reuse that is foreseen is the one that a run has."""

from dataclasses import replace

import pytest
import torch

from hash3d.bench.cases import sample_views
from hash3d.bench.reuse_share import fill, find_probability, reuse_share, share_of
from hash3d.cache import RELEASED, DeepCacheConfig, Hash3DConfig
from hash3d.pictures import load_picture
from hash3d.training.guide import load_zero123
from hash3d.training.run import frame_reference
from hash3d.training.trainer import Trainer
from tests.tiny_recipes import OFTEN

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
