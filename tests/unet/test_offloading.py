"""Weights that accelerate keeps elsewhere: its hooks stand around the U-Net's forward and come and go."""

from functools import partial

import pytest
import torch
from diffusers.hooks import HookRegistry, ModelHook

from hash3d import apply_hash3d, remove_hash3d
from hash3d.cache.state import fingerprint
from tests.tiny_models import VIEW, alike, small_unet


def run(unet, inputs):
    with torch.no_grad():
        return unet(**inputs).sample


def offload(unet):
    """As accelerate's `add_hook_to_module`."""
    unet._old_forward, unet._hf_hook = unet.forward, object()
    unet.forward = partial(lambda module, *args, **kwargs: module._old_forward(*args, **kwargs), unet)


def stop_offloading(unet):
    """As accelerate's `remove_hook_from_module`."""
    unet.forward = unet._old_forward
    del unet._old_forward, unet._hf_hook


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("offloaded", [False, True])
@pytest.mark.filterwarnings("ignore:A U-Net call ran in full")
def test_it_stays_where_offloading_is_taken_off_and_put_on_as_after_each_pipeline(order, offloaded):
    unet = small_unet().requires_grad_(False)
    inputs, expected = alike(unet), run(unet, alike(unet))
    if order == "before":
        offload(unet)
    cache = apply_hash3d(unet)
    if order == "after":
        offload(unet)
    for _ in range(3):
        with cache.view(**VIEW):
            assert torch.equal(run(unet, inputs), expected)
        stop_offloading(unet)
        offload(unet)
    assert (cache.statistics.full, cache.statistics.shallow) == (1, 2)
    if not offloaded:
        stop_offloading(unet)
    remove_hash3d(unet)
    with cache.view(**VIEW):
        assert torch.equal(run(unet, inputs), expected)
    assert cache.statistics.shallow == 2
    if offloaded:
        stop_offloading(unet)
    assert unet.forward.__func__ is type(unet).forward
    assert offloaded or "forward" not in vars(unet)


def test_that_the_hook_of_another_took_the_cache_off_is_told_once(recwarn):
    """As diffusers' group offloading does, when a LoRA is loaded."""
    unet = small_unet()
    registry = HookRegistry.check_if_exists_or_initialize(unet)
    registry.register_hook(ModelHook(), "another")
    cache = apply_hash3d(unet)
    registry.remove_hook("another")
    for _ in range(2):
        with cache.view(**VIEW):
            run(unet, alike(unet))
    assert [str(each.message)[:32] for each in recwarn] == ["No call of the cache's U-Net cam"]
    remove_hash3d(unet)
    cache = apply_hash3d(unet)
    with cache.view(**VIEW):
        run(unet, alike(unet))
    assert cache.statistics.full == 1
    assert len(recwarn) == 1


def test_weights_that_are_offloaded_layer_by_layer_are_never_the_same():
    """Their numbers cannot be read, so that no feature is taken for one of theirs."""
    unet = small_unet()
    cache = apply_hash3d(unet)
    with torch.no_grad(), cache.view(**VIEW):
        unet(**alike(unet))
    assert fingerprint(cache) == fingerprint(cache)
    unet.to("meta")
    assert fingerprint(cache) != fingerprint(cache)
    remove_hash3d(unet)
    assert "forward" not in vars(unet)
