"""A recipe with other values: only those change, in every stage."""

import dataclasses

import pytest

from hash3d.recipes.adjust import adjust, map_values
from hash3d.schedules import ramp
from hash3d.systems import dreamgaussian, magic3d, magic123, zero123_gs


@pytest.fixture
def two_priors(picture_file):
    return magic123.recipe(image=picture_file, prompt="a mug", prior="mini-zero123", cache=None)


def test_nothing_given_changes_nothing(two_priors):
    assert adjust(two_priors) == two_priors


def test_the_guidance_scale_is_that_of_the_first_model(two_priors, picture_file):
    for before, after in zip(two_priors.stages, adjust(two_priors, guidance_scale=3.5).stages, strict=True):
        assert after.guidances["image"] == dataclasses.replace(before.guidances["image"], guidance_scale=3.5)
        assert after.guidances["text"] == before.guidances["text"]
    nested = dreamgaussian.recipe(image=picture_file, prior="mini-zero123", cache=None)
    assert adjust(nested, guidance_scale=3.5).stages[1].guidance.guidance.guidance_scale == 3.5


def test_targets_of_replay_follow_the_guidance(picture_file):
    one = zero123_gs.recipe(image=picture_file, prior="mini-zero123", cache=None, replay_every=3)
    targets, before = adjust(one, guidance_scale=3.5, loss_scale={"image": 2.0}).stage.replay, one.stage.replay
    assert targets == dataclasses.replace(before, guidance_scale=3.5, weight=2.0 * before.weight)


def test_a_batch_of_no_views_is_refused(two_priors):
    with pytest.raises(ValueError, match="batch_size"):
        adjust(two_priors, batch_size=0)


def test_sizes_and_batches(two_priors):
    for stage in adjust(two_priors, size=48, batch_size=3).stages:
        assert (stage.size(0), stage.size(10**6), stage.cameras.batch_size) == (48, 48, 3)


def test_all_learning_rates_are_scaled():
    recipe = magic3d.recipe(prompt="a mug", prior="mini-sd", cache=None, scale="supplement")
    for before, after in zip(recipe.stages, adjust(recipe, lr_scale=0.5).stages, strict=True):
        for part in ("representation", "background"):
            old, new = (dataclasses.asdict(getattr(stage, part)) for stage in (before, after))
            rates = {name for name in old if name.endswith("lr")}
            assert rates
            assert {name: new[name] for name in old} == {
                name: 0.5 * value if name in rates else value for name, value in old.items()
            }


def test_a_range_of_learning_rates_is_scaled_at_both_ends(tiny_recipe):
    first, last = tiny_recipe.stage.representation.means_lr
    assert adjust(tiny_recipe, lr_scale=2.0).stage.representation.means_lr == (2.0 * first, 2.0 * last)


def test_losses_are_scaled_by_name(two_priors):
    adjusted = adjust(two_priors, loss_scale={"color": 2.0, "text": 0.0, "normal_consistency": 0.5})
    for before, after in zip(two_priors.stages, adjusted.stages, strict=True):
        for step in (0, 50, 1000):
            assert after.losses.color(step) == 2.0 * before.losses.color(step)
            assert after.losses.mask(step) == before.losses.mask(step)
            assert after.losses.normal_consistency(step) == 0.5 * before.losses.normal_consistency(step)
            assert after.losses.guidances["text"](step) == 0.0
    with pytest.raises(ValueError, match=r"a loss of magic123 \(color, image, .*text\), but got 'scale'"):
        adjust(two_priors, loss_scale={"scale": 2.0})


def test_values_are_changed_wherever_they_are():
    by_name = {"a": 10.0, "b": 100.0}
    plain = {"a": (1.0, 2.0), "b": ramp((0, 1.0), (9, 3.0))}
    found = map_values(plain, lambda name, value: by_name[name] * value)
    assert found["a"] == (10.0, 20.0)
    assert found["b"] == ramp((0, 100.0), (9, 300.0))
