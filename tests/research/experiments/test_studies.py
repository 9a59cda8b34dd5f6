"""Every study builds, and asks what it says."""

import dataclasses
from pathlib import Path

import pytest

from hash3d.diffusion.loading import embedded_folder
from hash3d.diffusion.zero123 import Zero123Prior
from hash3d.recipes.serialize import from_plain, to_plain
from hash3d.recipes.view_order import ViewOrderConfig
from hash3d.systems.stages import VIEW_ORDER
from hash3d.unet.partial_unet import PartialUNet
from research.experiments.studies import DWELLS, MINI_CUTS, STUDIES
from research.experiments.study import Variant

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
        if recipe.cache:
            recipe.cache.build()


@pytest.mark.parametrize("name", STUDIES)
def test_variants_differ_in_cache_steps_order_of_draws_and_replay_alone(name):
    for variant in STUDIES[name].variants:
        recipe = variant.recipe(image=IMAGE, seed=3)
        plain = Variant(name="plain", steps_share=variant.steps_share).recipe(image=IMAGE, seed=3)
        stage = dataclasses.replace(recipe.stage, view_order=plain.stage.view_order, replay=None)
        assert dataclasses.replace(recipe, cache=None, stage=stage) == plain, variant.name


@pytest.mark.parametrize("name", ["key_hashing", "what_is_kept", "reuse_layer", "probability", "queue", "cells"])
def test_ablations_have_one_order_of_draws(name):
    """So the variants differ in the cache alone."""
    variants = STUDIES[name].variants
    assert {variant.recipe(image=IMAGE).stage.view_order for variant in variants} == {
        ViewOrderConfig(visits_per_cell=14, active_cells=8)
    }


@pytest.mark.parametrize("name", STUDIES)
def test_pictures_hold_the_first_variant_and_four_more(name):
    study = STUDIES[name]
    shown = study.choose(study.shown)
    assert shown[0] == study.variants[0]
    assert len(shown) == len(study.shown or study.variants) <= 5, "a page of 3,200 pixels"


def test_the_key_s_stages_are_compared_at_one_probability():
    caches = {variant.name: variant.cache for variant in STUDIES["key_hashing"].variants if variant.cache}
    assert {cache.reuse_probability for cache in caches.values()} == {0.7}
    assert {name: (cache.store, cache.aggregation) for name, cache in caches.items()} == {
        "whole method": ("table", "softmax"),
        "without key hashing": ("pool", "softmax"),
        "without aggregation": ("table", "nearest_key"),
    }


def test_what_the_frontier_compares_with_draws_every_view_anew():
    dwells = {
        variant.name: variant.recipe(image=IMAGE).stage.view_order.visits_per_cell
        for variant in STUDIES["frontier"].variants
    }
    returning = {name: dwell for name, dwell in dwells.items() if dwell > 1}
    longer = {f"dwell {dwell}": dwell for dwell in DWELLS if dwell != VIEW_ORDER.visits_per_cell}
    assert returning == {"default": VIEW_ORDER.visits_per_cell, "dwell 14, 1.8 x steps": 14, **longer}


def test_cells_share_one_probability():
    caches = [variant.cache for variant in STUDIES["cells"].variants[1:]]
    assert len({cache.reuse_probability for cache in caches}) == 1
    assert [len(cache.other_grids) for cache in caches] == [0, 0, 0, 2]
    assert [cache.grid.azimuth for cache in caches[:3]] == [10.0, 20.0, 30.0]


def test_all_cuts_of_the_embedded_prior_are_there():
    unet = Zero123Prior.load(embedded_folder("mini-zero123")).unet
    assert PartialUNet(unet, 0).num_cuts == MINI_CUTS
    cuts = [variant.cache.cut for variant in STUDIES["reuse_layer"].variants[1:]]
    assert [cut % MINI_CUTS for cut in cuts] == list(range(MINI_CUTS))


def test_a_share_of_the_steps():
    """Schedules stretch: after half the steps the learning rates have fallen as far."""
    whole, half = (Variant(name="x", steps_share=share).recipe(image=IMAGE, steps=200) for share in (1.0, 0.5))
    assert (whole.stage.steps, half.stage.steps) == (200, 100)
    assert whole.stage.representation.lr_steps == 2 * half.stage.representation.lr_steps == 200


def test_the_seed_is_the_cache_s_too():
    recipe = STUDIES["on_off"].variants[1].recipe(image=IMAGE, seed=5)
    assert (recipe.seed, recipe.cache.seed) == (5, 5)
