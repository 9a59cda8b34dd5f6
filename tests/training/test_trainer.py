"""The loop."""

import dataclasses

import pytest
import torch

from hash3d.cache import GuardConfig, Hash3DConfig
from hash3d.pictures import frame_picture, load_picture
from hash3d.schedules import constant, ramp
from hash3d.training.trainer import Trainer, size_at
from hash3d.unet import remove_hash3d
from hash3d.unet.watch import ModelWatch
from tests.tiny_recipes import load_priors

CPU = torch.device("cpu")


@pytest.fixture(params=["picture", "text"])
def recipe(request, tiny_recipe, tiny_text_recipe):
    return tiny_recipe if request.param == "picture" else tiny_text_recipe


@pytest.fixture
def priors(recipe):
    return load_priors(recipe, CPU)


def make_trainer(recipe, priors, **options):
    for prior in priors.values():
        remove_hash3d(prior.unet)
    picture = frame_picture(load_picture(recipe.image), 32, "keep") if recipe.image else None
    return Trainer(recipe, priors, picture, **options)


def often_reusing(recipe):
    """The recipe with returns to two cells, and audits: soon there are hits of both kinds."""
    grid = dataclasses.replace(recipe.cache.grid, timestep=100.0)
    order = dataclasses.replace(recipe.stage.view_order, visits_per_cell=6, active_cells=2, grid=grid)
    cache = dataclasses.replace(recipe.cache, reuse_probability=0.9, grid=grid, guard=GuardConfig(audit_every=2))
    return dataclasses.replace(recipe, stage=dataclasses.replace(recipe.stage, view_order=order), cache=cache)


def losses(trainer, steps):
    return [trainer.step()["loss"] for _ in range(steps)]


def test_a_seed_makes_the_series_and_looks_at_the_model_change_none(recipe, priors, monkeypatch):
    looks, look = [], ModelWatch.look
    monkeypatch.setattr(ModelWatch, "look", lambda self, **options: looks.append(self) or look(self, **options))
    first = losses(make_trainer(recipe, priors), 6)
    assert len(looks) == 2, "one when the first call comes, one in it, and none in the next fifteen"
    monkeypatch.setattr("hash3d.training.trainer.CHECK_EVERY", 1)
    again = losses(make_trainer(recipe, priors), 6)
    assert len(looks) == 2 + 7
    other = losses(make_trainer(dataclasses.replace(recipe, seed=1), priors), 6)
    assert first == again
    assert first != other


def test_reuse_probability_zero_is_no_cache(recipe, priors):
    without = losses(make_trainer(dataclasses.replace(recipe, cache=None), priors), 8)
    zero = dataclasses.replace(recipe, cache=Hash3DConfig(reuse_probability=0.0))
    assert losses(make_trainer(zero, priors), 8) == without


def test_the_cache_changes_no_camera_and_no_noise(recipe, priors):
    """On/off runs are paired: after the same steps the generators stand at the same place."""
    recipe = often_reusing(recipe)
    on = make_trainer(recipe, priors)
    losses(on, 10)
    assert on.cache.statistics.hits > 0, "the test means nothing without hits"
    assert on.cache.summary()["guard"]["audits"] > 0, "nor without audits"
    off = make_trainer(dataclasses.replace(recipe, cache=None), priors)
    losses(off, 10)
    for name in ("cameras", "noise"):
        assert torch.equal(on.generators[name].get_state(), off.generators[name].get_state())


def test_state_round_trip_continues_the_series(recipe, priors, tmp_path):
    """Through the disk, over a densification round, with a filled cache and a guard that has made audits."""
    recipe = often_reusing(recipe)
    whole = make_trainer(recipe, priors)
    expected = losses(whole, 12)
    part = make_trainer(recipe, priors)
    losses(part, 7)
    assert part.cache.summary()["guard"]["audits"] > 0
    assert whole.cache.statistics.hits > part.cache.statistics.hits > 0
    torch.save(part.state_dict(), tmp_path / "state.pt")
    resumed = make_trainer(recipe, priors)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert losses(resumed, 5) == expected[7:]
    assert resumed.cache.statistics == whole.cache.statistics
    assert resumed.scene.counts() == whole.scene.counts()
    assert whole.scene.counts()["gaussians"] > 40 or recipe.stage.densify is None


SCENES = {"gaussians": "zero123_gs", "field": "zero123_nerf", "latent field": "latent_nerf", "two models": "magic123"}


@pytest.fixture(params=SCENES.values(), ids=SCENES.keys())
def paired(request, tiny):
    """A recipe of each kind of first stage, and its diffusion models."""
    recipe = tiny(request.param, steps=10)
    cache = dataclasses.replace(recipe.cache, reuse_probability=0.9)
    return dataclasses.replace(recipe, cache=cache), load_priors(recipe, CPU)


def test_the_cache_changes_no_camera_and_no_noise_of_any_kind_of_scene(paired):
    recipe, priors = paired
    on = make_trainer(recipe, priors)
    reused = losses(on, 10)
    for guidance in on.guidances.values():
        assert guidance.cache.statistics.hits > 0, "the test means nothing without hits"
    off = make_trainer(dataclasses.replace(recipe, cache=None), priors)
    assert losses(off, 10) != reused
    for name in ("cameras", "noise"):
        assert torch.equal(on.generators[name].get_state(), off.generators[name].get_state())


def mesh_stage(tiny, name, cache):
    """The second stage of a system, from a first one without a step."""
    recipe = dataclasses.replace(tiny(name, steps=10), cache=cache)
    priors = load_priors(recipe, CPU)
    first = make_trainer(recipe, priors)
    first.close()
    return make_trainer(recipe, priors, number=1, previous=first.scene.model)


@pytest.mark.parametrize("name", ["dreamgaussian", "magic123"])
def test_the_cache_changes_no_camera_and_no_noise_of_a_mesh(tiny, name):
    cache = dataclasses.replace(tiny(name).cache, reuse_probability=0.9)
    on, off = mesh_stage(tiny, name, cache), mesh_stage(tiny, name, None)
    for each in (on, off):
        losses(each, 5)
    assert on.cache.statistics.shallow > 0
    for generator in ("cameras", "noise"):
        assert torch.equal(on.generators[generator].get_state(), off.generators[generator].get_state())


def test_magic123_has_a_table_for_each_diffusion_model(tiny):
    trainer = mesh_stage(tiny, "magic123", tiny("magic123").cache)
    losses(trainer, 10)
    caches = {name: guidance.cache for name, guidance in trainer.guidances.items()}
    assert list(caches) == ["image", "text"]
    assert caches["image"].store is not caches["text"].store
    for cache in caches.values():
        assert cache.statistics.full + cache.statistics.shallow == 10
        assert cache.statistics.hits > 0
    trainer.close()
    for prior in trainer.priors.values():
        assert "forward" not in vars(prior.unet)


@pytest.mark.parametrize("name", ["zero123_nerf", "latent_nerf", "magic123"])
def test_a_field_s_state_round_trip_continues_the_series(tiny, name, tmp_path):
    """With its occupied cells, the levels of its encoding, its background and both caches."""
    recipe = tiny(name, steps=8)
    priors = load_priors(recipe, CPU)
    whole = make_trainer(recipe, priors)
    expected = losses(whole, 8)
    part = make_trainer(recipe, priors)
    losses(part, 5)
    torch.save(part.state_dict(), tmp_path / "state.pt")
    resumed = make_trainer(recipe, priors)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert losses(resumed, 3) == expected[5:]
    assert torch.equal(resumed.scene.occupancy.alphas, whole.scene.occupancy.alphas)
    assert resumed.cache.statistics == whole.cache.statistics


def test_generators_of_all_stages_and_seeds_are_different(tiny):
    seeds = []
    for seed in (0, 1):
        recipe = dataclasses.replace(tiny("magic3d"), seed=seed)
        priors = load_priors(recipe, CPU)
        for number in (0, 1):
            trainer = make_trainer(recipe, priors, number=number)
            seeds += [generator.initial_seed() for generator in trainer.generators.values()]
            trainer.close()
    assert len(set(seeds)) == len(seeds) == 16


def test_guidance_weight_zero_fits_the_reference_view(tiny_recipe):
    """Without guidance the loss is the reference view's alone, and falls."""
    stage = tiny_recipe.stage
    weights = dataclasses.replace(stage.losses, guidances={"image": ramp((0, 0.0))})
    recipe = dataclasses.replace(tiny_recipe, stage=dataclasses.replace(stage, losses=weights))
    series = losses(make_trainer(recipe, load_priors(recipe, CPU)), 30)
    assert series[-1] < 0.75 * series[0]


def test_each_guidance_has_timesteps_of_its_own_range(tiny):
    recipe, seen = tiny("magic123"), []
    text = dataclasses.replace(recipe.stage.guidances["text"], min_timestep=constant(0.3), max_timestep=constant(0.31))
    stage = dataclasses.replace(recipe.stage, guidances={**recipe.stage.guidances, "text": text})
    trainer = make_trainer(dataclasses.replace(recipe, stage=stage), load_priors(recipe, CPU))
    guide = trainer.guidances["text"].guide
    trainer.guidances["text"].guide = lambda image, cameras, timesteps, step: (
        seen.append(timesteps) or guide(image, cameras, timesteps, step=step)
    )
    losses(trainer, 2)
    assert all(300 <= int(each) <= 310 for timesteps in seen for each in timesteps)


def test_the_scene_hears_how_many_steps_are_done_and_a_state_keeps_the_passes(tiny_recipe, monkeypatch):
    trainer, steps = make_trainer(tiny_recipe, load_priors(tiny_recipe, CPU)), []
    monkeypatch.setattr(trainer.scene, "after_step", steps.append)
    losses(trainer, 2)
    assert steps == [1, 2]
    resumed = make_trainer(tiny_recipe, load_priors(tiny_recipe, CPU))
    resumed.load_state_dict(trainer.state_dict())
    assert resumed.state_dict()["passes"] == {"image": 2}


def test_sizes_jump():
    schedule = ramp((0, 128), (200, 256), (300, 512))
    assert [size_at(schedule, step) for step in (0, 199, 200, 299, 300, 999)] == [128, 128, 256, 256, 512, 512]


@pytest.mark.parametrize(("mine", "other"), [("tiny_recipe", "tiny_text_recipe"), ("tiny_text_recipe", "tiny_recipe")])
def test_a_guidance_needs_a_prior_of_its_kind(request, mine, other):
    recipe = request.getfixturevalue(mine)
    (prior,) = load_priors(request.getfixturevalue(other), CPU).values()
    with pytest.raises(
        ValueError, match=r"^Expected a (Zero123|Stable Diffusion) prior and a .*, but got \w+Prior and"
    ):
        make_trainer(recipe, dict.fromkeys(recipe.priors, prior))
