"""The loop."""

import dataclasses

import pytest
import torch

from hash3d.cache import GuardConfig, Hash3DConfig
from hash3d.diffusion.hook import remove_hash3d
from hash3d.pictures import frame_picture, load_picture
from hash3d.schedules import ramp
from hash3d.training.guide import load_prior
from hash3d.training.trainer import Trainer, size_at


@pytest.fixture(params=["picture", "text"])
def recipe(request, tiny_recipe, tiny_text_recipe):
    return tiny_recipe if request.param == "picture" else tiny_text_recipe


@pytest.fixture
def prior(recipe):
    return load_prior(recipe, torch.device("cpu"))


def make_trainer(recipe, prior):
    remove_hash3d(prior.unet)
    return Trainer(recipe, prior, frame_picture(load_picture(recipe.image), 32, "keep") if recipe.image else None)


def often_reusing(recipe):
    """The recipe with returns to two cells, and audits: soon there are hits of both kinds."""
    grid = dataclasses.replace(recipe.cache.grid, timestep=100.0)
    draws = dataclasses.replace(recipe.stage.draws, dwell=6, open_cells=2, cells=grid)
    cache = dataclasses.replace(recipe.cache, reuse_probability=0.9, grid=grid, guard=GuardConfig(audit_every=2))
    return dataclasses.replace(recipe, stage=dataclasses.replace(recipe.stage, draws=draws), cache=cache)


def losses(trainer, steps):
    return [trainer.step()["loss"] for _ in range(steps)]


def test_a_seed_makes_the_series(recipe, prior):
    first, again = (losses(make_trainer(recipe, prior), 6) for _ in range(2))
    other = losses(make_trainer(dataclasses.replace(recipe, seed=1), prior), 6)
    assert first == again
    assert first != other


def test_reuse_probability_zero_is_no_cache(recipe, prior):
    without = losses(make_trainer(dataclasses.replace(recipe, cache=None), prior), 8)
    zero = dataclasses.replace(recipe, cache=Hash3DConfig(reuse_probability=0.0))
    assert losses(make_trainer(zero, prior), 8) == without


def test_the_cache_changes_no_camera_and_no_noise(recipe, prior):
    """On/off runs are paired: after the same steps the generators stand at the same place."""
    recipe = often_reusing(recipe)
    on = make_trainer(recipe, prior)
    losses(on, 10)
    assert on.cache.statistics.hits > 0, "the test means nothing without hits"
    assert on.cache.summary()["guard"]["audits"] > 0, "nor without audits"
    off = make_trainer(dataclasses.replace(recipe, cache=None), prior)
    losses(off, 10)
    for name in ("cameras", "noise"):
        assert torch.equal(on.generators[name].get_state(), off.generators[name].get_state())


def test_state_round_trip_continues_the_series(recipe, prior, tmp_path):
    """Through the disk, over a densification round, with a filled cache and a guard that has made audits."""
    recipe = often_reusing(recipe)
    whole = make_trainer(recipe, prior)
    expected = losses(whole, 12)
    part = make_trainer(recipe, prior)
    losses(part, 7)
    assert part.cache.summary()["guard"]["audits"] > 0
    assert whole.cache.statistics.hits > part.cache.statistics.hits > 0
    torch.save(part.state_dict(), tmp_path / "state.pt")
    resumed = make_trainer(recipe, prior)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert losses(resumed, 5) == expected[7:]
    assert resumed.cache.statistics == whole.cache.statistics
    assert len(resumed.scene) == len(whole.scene)
    assert len(whole.scene) > 40 or recipe.stage.densify is None


def test_guidance_weight_zero_fits_the_reference_view(tiny_recipe):
    """Without guidance the loss is the reference view's alone, and falls."""
    stage = tiny_recipe.stage
    weights = dataclasses.replace(stage.losses, guidance=ramp((0, 0.0)))
    recipe = dataclasses.replace(tiny_recipe, stage=dataclasses.replace(stage, losses=weights))
    series = losses(make_trainer(recipe, load_prior(recipe, torch.device("cpu"))), 100)
    assert series[-1] < 0.5 * series[0]


def test_sizes_jump():
    schedule = ramp((0, 128), (200, 256), (300, 512))
    assert [size_at(schedule, step) for step in (0, 199, 200, 299, 300, 999)] == [128, 128, 256, 256, 512, 512]


@pytest.mark.parametrize(("mine", "other"), [("tiny_recipe", "tiny_text_recipe"), ("tiny_text_recipe", "tiny_recipe")])
def test_a_recipe_needs_a_prior_of_its_kind(request, mine, other):
    recipe = request.getfixturevalue(mine)
    prior = load_prior(request.getfixturevalue(other), torch.device("cpu"))
    with pytest.raises(ValueError, match=f"Expected a .* prior and a .* for {recipe.system}, but got"):
        make_trainer(recipe, prior)
