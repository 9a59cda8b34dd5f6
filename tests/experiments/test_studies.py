"""Every study builds, and asks what it says."""

from pathlib import Path

import pytest
import torch

from hash3d.diffusion.loading import embedded_folder
from hash3d.diffusion.partial_unet import PartialUNet
from hash3d.diffusion.zero123 import Zero123Prior
from hash3d.experiments.studies import MINI_CUTS, STUDIES, TABLE_SHARE
from hash3d.experiments.study import Variant
from hash3d.training.serialize import from_plain, to_plain

IMAGE = Path("cup.png")


@pytest.mark.parametrize("name", STUDIES)
def test_variants_build_their_recipes(name):
    study = STUDIES[name]
    recipes = [variant.recipe(image=IMAGE, seed=3) for variant in study.variants]
    assert study.name == name
    assert recipes[0].cache is None, "all is compared with no cache"
    assert len({variant.name for variant in study.variants}) == len(recipes)
    assert len({str(to_plain(recipe)) for recipe in recipes}) == len(recipes), "no two variants are one"
    for recipe in recipes:
        assert from_plain(to_plain(recipe)) == recipe
        assert recipe.stage == recipes[0].stage, "same cameras and noise: the variants differ in the cache alone"
        if recipe.cache:
            recipe.cache.build()


def test_the_key_s_stages_are_compared_at_one_probability_under_independent_draws():
    recipes = {variant.name: variant.recipe(image=IMAGE) for variant in STUDIES["key_hashing"].variants}
    assert {recipe.stage.draws.dwell for recipe in recipes.values()} == {1}
    chances = {name: recipe.cache.reuse_probability for name, recipe in recipes.items() if recipe.cache}
    assert chances.pop("without key hashing, as rarely") < 0.2
    assert len(set(chances.values())) == 1


def test_the_second_pool_looks_as_often_as_the_table_finds():
    """300 steps of the recipe's own draws, without a U-Net. 0.03: over one standard error of 300 coins at 0.18."""
    recipe = next(v for v in STUDIES["key_hashing"].variants if v.name == "whole method").recipe(image=IMAGE)
    stage, cache, generator = recipe.stage, recipe.cache.build(), torch.Generator().manual_seed(0)
    draws, latents, features = stage.draws.build(stage.cameras.build()), torch.zeros(1, 4, 2, 2), torch.zeros(1, 1, 2)
    for step in range(stage.steps):
        cameras, timesteps = draws.next(128, *stage.guidance.timestep_range(step, 1000), generator)
        place = {name: getattr(cameras, name) for name in ("elevation", "azimuth", "radius")}
        with cache.view(**place, timestep=timesteps):
            keys = cache.keys(timesteps)
            if cache.lookup(keys, latents)[0] is None:
                cache.insert(keys, [0], latents, features)
    assert abs(cache.statistics.reuse_share - TABLE_SHARE) < 0.03


def test_cells_share_one_probability():
    caches = [variant.cache for variant in STUDIES["cells"].variants[1:]]
    assert len({cache.reuse_probability for cache in caches}) == 1
    assert [len(cache.other_grids) for cache in caches] == [0, 0, 0, 2]
    assert [cache.grid.azimuth for cache in caches[:3]] == [10.0, 20.0, 30.0]


def test_all_cuts_of_the_embedded_prior_are_there():
    unet = Zero123Prior.load(embedded_folder("mini-zero123")).unet
    assert PartialUNet(unet).num_cuts == MINI_CUTS
    assert [variant.cache.cut for variant in STUDIES["reuse_layer"].variants[1:]] == list(range(MINI_CUTS))


def test_a_share_of_the_steps():
    """Schedules stretch: half the steps end at the same timesteps."""
    whole, half = (Variant(name="x", steps_share=share).recipe(image=IMAGE, steps=200) for share in (1.0, 0.5))
    assert (whole.stage.steps, half.stage.steps) == (200, 100)
    assert whole.stage.guidance.max_timestep(200) == half.stage.guidance.max_timestep(100)


def test_the_seed_is_the_cache_s_too():
    recipe = STUDIES["on_off"].variants[1].recipe(image=IMAGE, seed=5)
    assert (recipe.seed, recipe.cache.seed) == (5, 5)
