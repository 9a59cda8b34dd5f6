"""Replayed steps, on tiny systems of every kind."""

import copy
import dataclasses
import math

import pytest
import torch

from hash3d.guidance.latent_guidance import resize
from hash3d.guidance.targets import ReplayConfig
from hash3d.pictures import frame_picture, load_picture
from hash3d.systems.stages import replay
from hash3d.training.replay import Replay
from hash3d.training.trainer import Trainer
from hash3d.unet import remove_hash3d
from tests.tiny_recipes import load_priors

CPU = torch.device("cpu")
STEPS = 7
SYSTEMS = ("zero123_gs", "sds_gs", "latent_nerf")
"""Gaussians by an image and with lights by a text, and a field of latents."""


@pytest.fixture
def replayed(tiny):
    """The recipe of a system with replay of some settings, beside its cache."""

    def build(name: str = "zero123_gs", pixel_stride: int = 1, **settings):
        recipe = tiny(name, steps=STEPS)
        stage = replay(recipe.stage, 3)
        config = dataclasses.replace(stage.replay, **settings)
        stage = dataclasses.replace(stage, replay=config, pixel_stride=pixel_stride)
        return dataclasses.replace(recipe, stage=stage)

    return build


def make_trainer(recipe, priors=None):
    priors = priors or load_priors(recipe, CPU)
    for prior in priors.values():
        remove_hash3d(prior.unet)
    picture = frame_picture(load_picture(recipe.image), 32, "keep") if recipe.image else None
    return Trainer(recipe, priors, picture)


def run(trainer, steps):
    return [dict(trainer.step()) for _ in range(steps)]


@pytest.mark.parametrize(("name", "until"), [*[(name, 1.0) for name in SYSTEMS], ("sds_gs", 0.7)])
def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(replayed, name, until):
    recipe = replayed(name, until=until)
    whole = make_trainer(recipe)
    seeds = [each.initial_seed() for each in (*whole.generators.values(), whole.replay.generator)]
    assert len(set(seeds)) == 5, "the choice of targets is as good as independent of the rest"
    rows = run(whole, 4)
    state = copy.deepcopy(whole.state_dict())
    kept = state["replay" if until < 1.0 else "cache"]
    assert len(kept["storage"]["images"]) == 2, "made at steps 0 and 3"
    rows += run(whole, 3)
    again = make_trainer(recipe)
    again.load_state_dict(state)
    assert run(again, 3) == rows[4:]
    assert all(math.isfinite(row["loss"]) for row in rows)


@pytest.mark.parametrize(
    ("settings", "passes"),
    [
        ({}, 3),  # At steps 0, 3 and 6.
        ({"every": 1}, 7),
        ({"denoising_steps": 2}, 6),
        ({"every": 99}, 1),
        ({"until": 0.5}, 2 + 3),  # 3.5 of 7: targets at steps 0 and 3, distillation at 4, 5, 6.
    ],
)
def test_passes_are_those_of_the_targets_and_of_the_steps_after(replayed, settings, passes):
    trainer = make_trainer(replayed(**settings))
    run(trainer, STEPS)
    assert sum(next(iter(trainer.guidances.values())).count_passes()) == passes
    assert (trainer.cache is None) == ("until" not in settings)


def test_targets_are_made_without_the_cache_that_the_steps_after_reuse_from(replayed):
    trainer = make_trainer(replayed(every=1, until=0.5))
    run(trainer, 4)
    statistics = trainer.cache.statistics
    assert (statistics.full, statistics.shallow, trainer.cache.store.entries()) == (0, 0, [])
    run(trainer, STEPS - 4)
    assert statistics.full + statistics.shallow == STEPS - 4
    assert statistics.shallow > 0
    assert not statistics.bypassed


@pytest.mark.parametrize(("views", "together"), [(2, 1), (1, 2)])
def test_a_batch_of_targets_is_made_after_as_many_times_more_steps(replayed, views, together):
    recipe = replayed(every=2, together=together)
    cameras = dataclasses.replace(recipe.stage.cameras, batch_size=views)
    trainer = make_trainer(dataclasses.replace(recipe, stage=dataclasses.replace(recipe.stage, cameras=cameras)))
    run(trainer, 5)
    assert (trainer.guidances["image"].passes, len(trainer.replay.targets)) == (4, 4), "two at steps 0 and 4"


@pytest.mark.parametrize(("views", "together"), [(1, 3), (2, 1), (4, 1)])
def test_a_stage_s_batches_are_enough_where_they_have_as_many_views(tiny, views, together):
    stage = tiny("zero123_gs").stage
    stage = dataclasses.replace(stage, cameras=dataclasses.replace(stage.cameras, batch_size=views))
    assert replay(stage, 3, 3).replay.together == together


def test_replay_is_of_one_guidance(tiny):
    recipe = tiny("magic123", steps=STEPS)
    with pytest.raises(ValueError, match="one diffusion model for --replay-every"):
        replay(recipe.stage, 3)
    recipe = dataclasses.replace(recipe, stage=dataclasses.replace(recipe.stage, replay=ReplayConfig()))
    with pytest.raises(ValueError, match="one guidance, for replay, but got image, text"):
        make_trainer(recipe)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_loss_is_the_weighted_mean_squared_error_of_the_fitted_views(replayed, monkeypatch, stride):
    trainer = make_trainer(replayed(fitted=3, weight=50.0, every=2, pixel_stride=stride))
    run(trainer, 5)
    renders, draw_random = [], trainer.scene.draw_random
    monkeypatch.setattr(trainer.scene, "draw_random", lambda *view: renders.append(draw_random(*view)) or renders[-1])
    state = trainer.replay.state_dict()
    _, output = trainer.replay.fit(32, 5)
    (render,) = renders
    assert render.color.shape == output.predicted.shape == (3, 32 // stride, 32 // stride, 3)
    kept = resize(torch.stack(state["storage"]["images"]).float(), (32, 32))
    places = [(y, x) for y in range(stride) for x in range(stride)]
    assert any(all(any(torch.equal(each[y::stride, x::stride], seen) for each in kept) for seen in output.predicted)
               for y, x in places), "all views' pixels are those of one lattice"  # fmt: skip
    torch.testing.assert_close(output.loss, (render.color - output.predicted).square().mean())
    trainer.replay.load_state_dict(state)
    assert dict(trainer.step())["loss_guidance"] == pytest.approx(50.0 * output.loss.item(), rel=1e-4)


def test_a_target_that_is_not_finite_is_told_and_fitted_nowhere(replayed):
    trainer = make_trainer(replayed(every=99))
    trainer.step()
    (image,) = trainer.replay.targets.state_dict()["images"]
    image[:8] = torch.nan
    before = [each.detach().clone() for each in trainer.scene.model.parameters()]
    row = dict(trainer.step())
    assert math.isfinite(row["loss"])
    assert row["not_finite_guidance"] == 1.0
    assert not all(torch.equal(*pair) for pair in zip(before, trainer.scene.model.parameters(), strict=True))


def test_fitted_views_are_rendered_as_when_their_targets_were_made(replayed):
    """With weights that stay and a target that is the render itself, the error is 0: the same camera and light."""
    trainer = make_trainer(replayed("sds_gs", every=1, until=1.0))
    scene, kept = trainer.scene, trainer.replay.targets
    cameras, timesteps, _ = trainer.sample_views(0, trainer.replay.view_order)
    trainer.replay.make(cameras, int(timesteps[0]), 0)
    ((_, view),) = zip(*kept.sample(1, torch.Generator()), strict=True)
    look = scene.look
    scene.repeat_look(look)
    again = scene.draw_random(cameras, 0).color[0].detach()
    kept.load_state_dict({"images": [again], "views": [view]}, CPU)
    _, output = trainer.replay.fit(again.shape[0], 0)
    assert output.loss.item() < 1e-10


def test_a_guidance_that_does_not_denoise_is_refused(replayed):
    trainer = make_trainer(replayed())
    with pytest.raises(ValueError, match="Expected a guidance that denoises, for replay"):
        Replay(ReplayConfig(), trainer.stage, trainer.scene, lambda *_, **__: None, 0)
