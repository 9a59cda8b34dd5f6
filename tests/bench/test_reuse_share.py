"""The share of reuse that is foreseen is the one that a run has."""

from dataclasses import replace

import pytest
import torch

from hash3d.bench.cases import sample_views
from hash3d.bench.reuse_share import fill, nearest_probability, reuse_share, share_of
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


def test_a_probability_is_found_for_a_share(tiny_recipe, monkeypatch):
    """A full table always has something to give, so that the share is the coin's."""
    monkeypatch.setattr("hash3d.bench.reuse_share.BISECTIONS", 3)  # Enough for eight steps.
    views = draws(tiny_recipe)
    for share in (0.25, 1.0):
        probability = nearest_probability(share, RELEASED, views)
        cache = replace(RELEASED, reuse_probability=probability).build()
        fill(cache, views, torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1))
        assert share_of(cache, views) == pytest.approx(share, abs=1.0 / len(STEPS))


def test_an_empty_table_of_the_released_code_cannot_follow(tiny_recipe):
    assert reuse_share(replace(RELEASED, reuse_probability=1.0), draws(tiny_recipe)) < 1.0
