"""Calls that the cache cannot serve: they are the U-Net's own, counted, and told once of each kind."""

from types import MappingProxyType, SimpleNamespace

import pytest
import torch
from diffusers import UNet3DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch.autograd import forward_ad

from hash3d import Hash3DConfig, apply_hash3d
from hash3d.unet import accelerate_unet
from tests.tiny_models import VIEW, alike, predict, small_unet, unet_inputs


def messages(recwarn, text):
    """How many warnings say this."""
    return sum(text in str(each.message) for each in recwarn)


def gradient(unet, inputs):
    sample = inputs["sample"].clone().requires_grad_()
    (found,) = torch.autograd.grad(unet(**{**inputs, "sample": sample}).sample.square().sum(), sample)
    return found


@pytest.mark.parametrize("checkpointing", [False, True])
def test_with_gradients_a_call_is_the_unets_own_also_where_its_view_was_seen(checkpointing, recwarn):
    unet = small_unet().train(checkpointing)
    if checkpointing:
        unet.enable_gradient_checkpointing()
    inputs = unet_inputs(unet)
    expected = gradient(unet, inputs)
    cache = apply_hash3d(unet)
    with torch.no_grad(), cache.view(**VIEW):
        unet(**inputs)
    for _ in range(3):
        with cache.view(**VIEW):
            assert torch.allclose(gradient(unet, inputs), expected, atol=1e-6)
    assert messages(recwarn, "gradients were on. Call it under torch.no_grad") == 1
    assert cache.statistics.bypassed == {"gradients were on": 3}
    assert (cache.statistics.full, cache.statistics.shallow) == (1, 0)


@pytest.mark.filterwarnings("ignore:A U-Net call ran in full", "ignore:`torch.jit.script` is deprecated")  # In torch.
@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
@pytest.mark.parametrize("derive", [
    lambda function, at, along: torch.func.jvp(function, (at,), (along,))[1],
    lambda function, at, along: derive_dual(function, at, along),
])  # fmt: skip
def test_a_derivative_in_forward_mode_is_the_unets_own(derive, mode):
    unet = small_unet().requires_grad_(False)
    unet.set_attn_processor(AttnProcessor())  # The fused attention has no derivative in forward mode.
    inputs = unet_inputs(unet)
    sample = inputs.pop("sample")
    with mode():
        expected = derive(lambda at: unet(at, **inputs).sample, sample, torch.ones_like(sample))
        cache = apply_hash3d(unet)
        for _ in range(2):
            with cache.view(**VIEW):
                unet(sample, **inputs)
                found = derive(lambda at: unet(at, **inputs).sample, sample, torch.ones_like(sample))
            assert torch.allclose(found, expected, atol=1e-6)
    assert cache.statistics.bypassed == {"gradients were on": 2}


def derive_dual(function, at, along):
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(function(forward_ad.make_dual(at, along))).tangent


@pytest.mark.filterwarnings("ignore:A U-Net call ran in full")
def test_a_gradient_may_be_wanted_of_an_input_in_any_mapping():
    settings = {"addition_time_embed_dim": 4, "projection_class_embeddings_input_dim": 14}
    unet = small_unet(addition_embed_type="text_time", **settings).requires_grad_(False)
    text = torch.ones(2, 6, requires_grad=True)
    inputs = unet_inputs(unet)
    inputs["added_cond_kwargs"] = MappingProxyType({"text_embeds": text, "time_ids": torch.ones(2, 2)})
    expected = torch.autograd.grad(unet(**inputs).sample.sum(), text)
    cache = apply_hash3d(unet)
    with cache.view(**VIEW):
        with torch.no_grad():
            unet(**inputs)
        assert torch.equal(*torch.autograd.grad(unet(**inputs).sample.sum(), text), *expected)


def test_a_weight_that_wants_a_gradient_is_enough():
    unet = small_unet().requires_grad_(False)
    cache, inputs = apply_hash3d(unet), unet_inputs(unet)
    for _ in range(2):
        with cache.view(**VIEW):
            assert not unet(**inputs).sample.requires_grad
    assert (cache.statistics.full, cache.statistics.shallow) == (1, 1)
    unet.conv_out.bias.requires_grad_()
    with pytest.warns(UserWarning, match="gradients were on"), cache.view(**VIEW):
        assert unet(**inputs).sample.requires_grad


@pytest.mark.filterwarnings("ignore:A U-Net call ran in full")
def test_outside_a_view_and_with_residuals_of_a_controlnet_the_unet_runs_in_full():
    unet = small_unet()
    inputs = unet_inputs(unet)
    residual = {"mid_block_additional_residual": torch.ones(2, 32, 2, 2)}
    with torch.no_grad():
        expected, controlled = unet(**inputs).sample, unet(**inputs, **residual).sample
        cache = apply_hash3d(unet)
        with pytest.warns(UserWarning, match=r"no view was open\. Put `with cache\.view"):
            assert torch.equal(unet(**inputs).sample, expected)
        for _ in range(2):
            with cache.view(**VIEW):
                assert torch.equal(unet(**inputs, **residual).sample, controlled)
    assert cache.statistics.full == cache.statistics.lookups == 0
    reasons = {"no view was open": 1, "it has residuals of a ControlNet or T2I-Adapter": 2}
    assert cache.statistics.bypassed == cache.summary()["bypassed"] == reasons
    assert "2 calls bypassed: it has residuals" in str(cache.statistics)
    assert "2 calls ran in full: it has residuals" in str(cache)


@pytest.mark.filterwarnings("ignore:A U-Net call ran in full")
def test_between_two_checks_what_the_cache_cannot_serve_still_runs_in_full():
    unet = small_unet()
    cache, inputs = apply_hash3d(unet), alike(unet)
    residual = {"mid_block_additional_residual": torch.ones(2, 32, 2, 2)}
    unet.forward.check_every = 16
    predict(unet, cache, inputs, scope="a cat")
    with cache.view(**VIEW, scope="a cat"):
        assert unet(**inputs).sample.requires_grad
    predict(unet, cache, {**inputs, **residual})
    with torch.no_grad():
        unet(**inputs)
    reasons = "gradients were on", "it has residuals of a ControlNet or T2I-Adapter", "no view was open"
    assert cache.statistics.bypassed == dict.fromkeys(reasons, 1)


def trace(unet, inputs):
    return torch.jit.trace(lambda sample: unet(sample, **inputs).sample, torch.zeros(2, 4, 8, 8), check_trace=False)


def map_over(unet, inputs):
    return lambda sample: torch.func.vmap(lambda one: unet(one, **inputs).sample)(sample[None])[0]


@pytest.mark.parametrize("record", [trace, map_over])
@pytest.mark.filterwarnings(
    "ignore::torch.jit.TracerWarning", "ignore:There is a performance drop", "ignore:`torch.jit"
)
@torch.no_grad()
def test_what_is_recorded_holds_no_feature(record):
    """A traced program runs later on other inputs, a mapped one on several at once."""
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "block_out_channels": (8,)}
    unet = small_unet(sample_size=8, layers_per_block=1, **blocks).requires_grad_(False)
    inputs = unet_inputs(unet)
    sample = inputs.pop("sample")
    expected, cache = unet(sample, **inputs).sample, apply_hash3d(unet)
    with cache.view(**VIEW):
        unet(torch.zeros_like(sample), **inputs)
        with pytest.warns(UserWarning, match="it was recorded"):
            predicted = record(unet, inputs)(sample)
    torch.testing.assert_close(predicted, expected)
    assert cache.statistics.shallow == 0


def test_a_disabled_cache_leaves_calls_alone_and_keeps_its_features():
    unet = small_unet()
    inputs, cache = alike(unet), apply_hash3d(unet)
    found = []
    for switch in (cache.enable, cache.disable, cache.enable):
        switch()
        predict(unet, cache, inputs)
        found.append((cache.is_enabled, cache.statistics.full, cache.statistics.shallow))
    assert found == [(True, 1, 0), (False, 1, 0), (True, 1, 1)]
    assert cache.statistics.bypassed == {}


def in_a_pipeline():
    return SimpleNamespace(unet=small_unet()), "SimpleNamespace.*Pass its unet"


def in_a_sequence():
    return torch.nn.Sequential(small_unet()), "Sequential.*Pass its 0"


def in_data_parallel():
    return torch.nn.DataParallel(small_unet()), "DataParallel.*Pass its module"


def another_layer():
    return torch.nn.Linear(3, 3), "but got Linear"


def a_video_model():
    blocks = {"down_block_types": ("DownBlock3D",), "up_block_types": ("UpBlock3D",), "block_out_channels": (8,)}
    model = UNet3DConditionModel(sample_size=8, layers_per_block=1, norm_num_groups=4, attention_head_dim=4, **blocks)
    return model, "but got UNet3DConditionModel"


@pytest.mark.parametrize("verb", [apply_hash3d, accelerate_unet])
@pytest.mark.parametrize("wrong", [in_a_pipeline, in_a_sequence, in_data_parallel, another_layer, a_video_model])
def test_what_is_no_unet_is_refused_by_name(wrong, verb):
    what, message = wrong()
    with pytest.raises(TypeError, match=f"Expected a diffusers UNet2DConditionModel, but got.*{message}|{message}"):
        verb(what)


def test_angles_that_look_like_radians_are_told_once(recwarn):
    cache = Hash3DConfig().build()
    for number in range(40):
        with cache.view(elevation=0.1, azimuth=-3.0 + 0.15 * number, radius=1):
            pass
    assert messages(recwarn, "are they radians") == 1


@pytest.mark.parametrize("azimuths", [[0, 1, 2, 3] * 10, [0.5, 7.0] + [0.1 * n for n in range(40)]])
def test_whole_or_larger_angles_are_degrees(azimuths, recwarn):
    cache = Hash3DConfig().build()
    for azimuth in azimuths:
        with cache.view(elevation=0, azimuth=azimuth, radius=1):
            pass
    assert not list(recwarn)


def test_a_budget_below_the_configuration_is_told_with_its_numbers():
    cache = Hash3DConfig(store="pool", pool_length=1000, max_age=None, max_bytes=2800).build()
    with pytest.warns(UserWarning, match=r"max_bytes=2800 holds 100 entries of 28 bytes, but .* can fill 1000"):
        cache.insert(cache.locate(cache_keys(cache)), torch.zeros(1, 1, 1, 1), torch.zeros(2, 1, 3))


def cache_keys(cache):
    with cache.view(**VIEW):
        return cache.current_view.keys(0)


def test_a_call_that_fails_counts_for_nothing():
    unet = small_unet()
    cache, inputs = apply_hash3d(unet), alike(unet)
    predict(unet, cache, inputs, scope="a cat")
    for azimuth in (10.0, 11.0, 200.0):  # A hit, and a miss.
        with pytest.raises(RuntimeError):
            predict(
                unet, cache, {**inputs, "encoder_hidden_states": torch.zeros(2, 5, 1)}, azimuth=azimuth, scope="a cat"
            )
    assert (cache.statistics.lookups, cache.statistics.hits, cache.statistics.full) == (1, 0, 1)
    assert set(cache.statistics.gaps.values()) == {0.0}
