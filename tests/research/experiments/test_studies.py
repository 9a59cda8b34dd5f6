"""Every study builds, and asks what it says."""

import dataclasses
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from hash3d.files import read_json, write_json
from hash3d.model_files import embedded_folder
from hash3d.recipes.serialize import from_plain, to_plain
from hash3d.recipes.view_order import ViewOrderConfig
from hash3d.systems.stages import VIEW_ORDER
from hash3d.table.objects import InputObject
from hash3d.unet.partial_unet import PartialUNet
from research.experiments.job import find_jobs
from research.experiments.studies import DWELLS, SCALES, STUDIES
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
def test_variants_differ_in_cache_steps_order_of_draws_replay_and_guidance_scale_alone(name):
    for variant in STUDIES[name].variants:
        recipe = variant.recipe(image=IMAGE, seed=3)
        plain = Variant(name="plain", steps_share=variant.steps_share).recipe(image=IMAGE, seed=3)
        same = {"view_order": plain.stage.view_order, "guidances": plain.stage.guidances, "replay": None}
        stage = dataclasses.replace(recipe.stage, **same)
        assert name == "what_is_kept" or recipe.stage.guidances == plain.stage.guidances
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
    objects = [InputObject(path=IMAGE)]
    jobs = find_jobs(STUDIES["reuse_layer"], objects, seeds=(0,))
    assert [job.label for job in jobs[1:]] == [f"cut {cut}" for cut in range(9)]
    caches = [job.recipe().cache for job in jobs[1:]]
    assert [cache.cut for cache in caches] == list(range(9))
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(read_json(embedded_folder("mini-zero123") / "unet" / "config.json"))
    assert PartialUNet(unet, 0).num_cuts == 9


def test_a_full_size_prior_has_twelve_cuts(tmp_path):
    """i = 10 is the paper's."""
    write_json(tmp_path / "unet" / "config.json", {"block_out_channels": [320, 640, 1280, 1280], "layers_per_block": 2})
    jobs = find_jobs(STUDIES["reuse_layer"], [InputObject(path=IMAGE)], seeds=(0,), priors=[str(tmp_path)])
    assert [job.label for job in jobs] == ["no cache", *(f"cut {cut}" for cut in range(12))]
    assert {job.label: job.recipe().cache.cut for job in jobs[1:]} == {f"cut {cut}": cut for cut in range(12)}


def test_predictions_are_kept_at_higher_guidance_scales_too():
    recipes = {variant.name: variant.recipe(image=IMAGE) for variant in STUDIES["what_is_kept"].variants}
    for scale in SCALES:
        for name in ("no cache", "features", "predicted noise"):
            usual, higher = recipes[name], recipes[f"{name}, scale {scale:g}"]
            assert higher.stage.guidance.guidance_scale == scale
            assert higher.cache == usual.cache


@pytest.mark.parametrize("system", ["zero123_gs", "zero123_nerf"])
def test_a_study_runs_on_either_system(system):
    (job,) = find_jobs(STUDIES["on_off"], [InputObject(path=IMAGE)], variants=("default",), system=system)
    assert (job.recipe().system, job.recipe().cache.seed) == (system, job.recipe().seed)


def test_a_share_of_the_steps():
    """Schedules stretch: after half the steps the learning rates have fallen as far."""
    whole, half = (Variant(name="x", steps_share=share).recipe(image=IMAGE, steps=200) for share in (1.0, 0.5))
    assert (whole.stage.steps, half.stage.steps) == (200, 100)
    assert whole.stage.representation.lr_steps == 2 * half.stage.representation.lr_steps == 200


def test_the_seed_is_the_cache_s_too():
    recipe = STUDIES["on_off"].variants[1].recipe(image=IMAGE, seed=5)
    assert (recipe.seed, recipe.cache.seed) == (5, 5)
