"""Guidance branches of a view in calls of their own, where a scope vouches for the conditioning."""

import contextlib
import warnings

import pytest
import torch

from hash3d import Hash3DConfig, apply_hash3d, remove_hash3d
from tests.tiny_models import VIEW, alike, predict, small_unet


@pytest.fixture
def branches():
    """A U-Net whose cache knows a view, and the inputs and predictions of its two branches."""
    unet = small_unet().requires_grad_(False)
    given = alike(unet)
    parts = [{name: value[row : row + 1] for name, value in given.items()} for row in (0, 1)]
    expected = [unet(**part).sample for part in parts]
    cache = apply_hash3d(unet)
    for _ in range(2):
        with torch.no_grad(), cache.view(**VIEW, scope="a cat"):
            for part in parts:
                unet(**part)
    return unet, cache, parts, expected


def call_with_gradients(unet, cache, inputs):
    with pytest.warns(UserWarning, match="gradients were on"), torch.enable_grad():
        unet(**{**inputs, "sample": inputs["sample"].clone().requires_grad_()})


def call_disabled(unet, cache, inputs):
    cache.disable()
    unet(**inputs)
    cache.enable()


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("call", [call_with_gradients, call_disabled])
def test_a_branch_that_the_cache_does_not_serve_is_counted_all_the_same(branches, call, fresh):
    unet, cache, (first, second), expected = branches
    if fresh:
        first, second = ({name: value.clone() for name, value in each.items()} for each in (first, second))
    with torch.no_grad(), cache.view(**VIEW, scope="a cat"):
        call(unet, cache, first)
        assert torch.equal(unet(**second).sample, expected[1])
    assert cache.statistics.shallow == 3


@pytest.mark.parametrize("order", [[1], [1, 0]])
def test_the_same_tensors_are_the_same_branch_in_any_order(branches, order):
    unet, cache, parts, expected = branches
    with warnings.catch_warnings(), torch.no_grad(), cache.view(**VIEW, scope="a cat"):
        warnings.simplefilter("error")
        assert all(torch.equal(unet(**parts[number]).sample, expected[number]) for number in order)
    assert cache.statistics.shallow == 2 + len(order)


def test_new_tensors_in_fewer_calls_than_before_are_told(branches):
    unet, cache, (_, second), _ = branches
    second["encoder_hidden_states"] = second["encoder_hidden_states"].clone()
    block = cache.view(**VIEW, scope="a cat")
    with torch.no_grad(), pytest.warns(UserWarning, match="had fewer calls than others"), block:
        unet(**second)


@pytest.mark.parametrize("loads", [1, 2])
def test_after_loading_new_tensors_are_no_branch_of_before(branches, loads):
    unet, cache, parts, expected = branches
    parts = [{name: value.clone() for name, value in part.items()} for part in parts]
    for number in range(loads):
        state = cache.state_dict()
        remove_hash3d(unet)
        cache = Hash3DConfig().build()
        cache.load_state_dict(state)
        apply_hash3d(unet, cache)
        with torch.no_grad(), pytest.warns(UserWarning, match="fewer calls"), cache.view(**VIEW, scope="a cat"):
            assert torch.equal(unet(**parts[1 - number]).sample, expected[1 - number])
    for _ in range(2):
        with torch.no_grad(), cache.view(**VIEW, scope="a cat"):
            assert all(torch.equal(unet(**part).sample, one) for part, one in zip(parts, expected, strict=True))
    assert cache.statistics.shallow == 4


def test_after_loading_a_view_of_one_call_goes_on_reusing():
    unet = small_unet()
    cache, inputs = apply_hash3d(unet), alike(unet)
    predict(unet, cache, inputs, scope="a cat")
    state = cache.state_dict()
    cache.load_state_dict(state)
    predict(unet, cache, {name: value.clone() for name, value in inputs.items()}, scope="a cat")
    assert cache.statistics.shallow == 1


def test_a_view_that_an_error_ends_may_have_fewer_calls(branches, recwarn):
    unet, cache, (first, _), _ = branches
    first["encoder_hidden_states"] = first["encoder_hidden_states"].clone()
    with contextlib.suppress(KeyError), torch.no_grad(), cache.view(**VIEW, scope="a cat"):
        unet(**first)
        raise KeyError
    assert not recwarn


def test_another_scope_may_have_fewer_calls(branches, recwarn):
    unet, cache, (_, second), _ = branches
    predict(unet, cache, second, scope="a dog")
    assert not recwarn


def test_of_a_list_of_scopes_each_views_own_counts():
    """The views change places, their prompts do not."""
    unet = small_unet()
    cache, inputs = apply_hash3d(unet), alike(unet, views=2)
    predict(unet, cache, inputs, azimuth=[0.0, 90.0], scope=["a cat", "a dog"])
    predict(unet, cache, inputs, azimuth=[90.0, 0.0], scope=["a cat", "a dog"])
    assert cache.statistics.shallow == 0
    predict(unet, cache, inputs, azimuth=[90.0, 0.0], scope=["a cat", "a dog"])
    assert cache.statistics.shallow == 2


def test_of_a_pair_as_scope_of_two_views_both_count_in_each():
    unet = small_unet()
    cache, inputs = apply_hash3d(unet), alike(unet, views=2)
    for direction in ("front", "back"):
        predict(unet, cache, inputs, azimuth=[0.0, 90.0], scope=("a cat", direction))
    assert cache.statistics.shallow == 0
