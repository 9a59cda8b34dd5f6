"""U-Nets in LDM's layout: the partial pass and the hook against the U-Net itself."""

import copy
import pickle
from contextlib import nullcontext

import pytest
import torch

from hash3d import Hash3DConfig, apply_hash3d, remove_hash3d
from hash3d.unet.partial_unet import PartialUNet
from tests.tiny_ldm import DiffusionWrapper, ResBlock, ldm_inputs, tiny_ldm
from tests.tiny_models import VIEW, LoRA

CUTS = 9
"""Three levels of two residual blocks and one change of size, but for the last, and the first convolution."""


@pytest.fixture(scope="module")
def unet():
    return tiny_ldm()


@pytest.fixture(scope="module")
def linear():
    """With linear projections, which leave images channels last, and residual blocks that do not say their width."""
    unet = tiny_ldm(label_channels=6)
    for block in unet.modules():
        if isinstance(block, ResBlock):
            del block.out_channels
    return unet


@pytest.mark.parametrize("name", ["unet", "linear"])
@pytest.mark.parametrize("cut", range(CUTS))
def test_shallow_pass_of_own_feature_is_the_full_pass_bit_for_bit(name, cut, request):
    unet = request.getfixturevalue(name)
    partial, inputs = PartialUNet(unet, cut), ldm_inputs(unet)
    if name == "linear":
        inputs["y"] = torch.ones(2, 6)
    with torch.no_grad():
        expected = unet(**inputs)
        prediction, feature = partial.full_pass(**inputs)
        assert torch.equal(prediction, expected)
        assert torch.equal(partial.shallow_pass(feature.clone(), **inputs), expected)
    assert partial.num_cuts == CUTS


def test_shallow_pass_depends_on_shallow_layers_and_feature_alone():
    unet = tiny_ldm()
    partial, inputs = PartialUNet(unet, -2), ldm_inputs(unet)
    with torch.no_grad():
        _, feature = partial.full_pass(**inputs)
        expected = partial.shallow_pass(feature, **inputs)
        for block in (*unet.input_blocks[2:], unet.middle_block, *unet.output_blocks[:-2]):
            for parameter in block.parameters():
                parameter.fill_(float("nan"))
        assert torch.equal(partial.shallow_pass(feature, **inputs), expected)
        assert not torch.equal(partial.shallow_pass(feature + 1.0, **inputs), expected)


def test_a_hit_with_the_same_input_is_the_full_pass_and_removal_leaves_nothing(unet):
    inputs = ldm_inputs(unet)
    expected = unet(**inputs)
    before = {name: set(vars(module)) for name, module in unet.named_modules()}
    cache, passes = apply_hash3d(unet), []
    handle = unet.middle_block[0].in_layers.register_forward_hook(lambda *_: passes.append(1))
    for _ in range(3):
        with cache.view(**VIEW):
            assert torch.equal(unet(inputs["x"], inputs["timesteps"], context=inputs["context"]), expected)
    handle.remove()
    assert (cache.statistics.full, cache.statistics.shallow, len(passes)) == (1, 2, 1)
    remove_hash3d(unet)
    assert {name: set(vars(module)) for name, module in unet.named_modules()} == before


def test_views_of_one_batch_are_split(unet):
    """LDM's own layers treat each row by itself: one view that misses does not cost the other."""
    inputs = ldm_inputs(unet, views=2)
    cache = apply_hash3d(unet)
    with cache.view(**VIEW):
        unet(**{name: value[::2] for name, value in inputs.items()})
    with cache.view(**{**VIEW, "azimuth": [VIEW["azimuth"], 200.0]}):
        found = unet(**inputs)
    remove_hash3d(unet)
    assert (cache.statistics.full, cache.statistics.shallow) == (2, 1)
    torch.testing.assert_close(found, unet(**inputs), rtol=1e-4, atol=1e-5)  # Another batch size, other kernels.


def test_the_reference_image_of_a_zero123_counts():
    unet = tiny_ldm(in_channels=8)
    inputs, wrapped = ldm_inputs(unet), DiffusionWrapper(unet)
    cache = apply_hash3d(unet)
    for image in (0.0, 1.0, 0.0):
        with cache.view(**VIEW):
            parts = inputs["x"][:, :4], inputs["timesteps"], [inputs["x"][:, 4:] + image], [inputs["context"]]
            wrapped(*parts)
    assert (cache.statistics.full, cache.statistics.shallow) == (2, 1)


@pytest.mark.parametrize("change", ["context", "y", "scale", "step"])
@torch.no_grad()
def test_what_changes_the_prediction_is_not_answered_by_what_was_kept(change):
    unet = tiny_ldm(channel_mult=(1, 1), label_channels=6)
    attention = unet.input_blocks[1][1].transformer_blocks[0].attn1
    lora = attention.to_q = LoRA(attention.to_q).requires_grad_(False)
    lora.step()
    inputs, cache = {**ldm_inputs(unet), "y": torch.randn(2, 6)}, apply_hash3d(unet)
    for _ in range(2):
        with cache.view(**VIEW):
            before = unet(**inputs)
    if change in inputs:
        inputs[change] = inputs[change] + 1.0
    elif change == "scale":
        lora.scale = 0.5
    else:
        lora.step()
    with cache.view(**VIEW):
        after = unet(**inputs)
    assert (cache.statistics.full, cache.statistics.shallow) == (2, 1)
    assert not torch.equal(before, after)


@torch.no_grad()
def test_rows_of_interleaved_branches_are_those_of_grouped_ones(unet):
    inputs, order = ldm_inputs(unet, views=2), [0, 2, 1, 3]
    expected, cache = unet(**inputs)[order], apply_hash3d(unet)
    for _ in range(2):
        with cache.view(**{**VIEW, "azimuth": [10.0, 200.0]}, branch_order="interleaved"):
            found = unet(**{name: value[order] for name, value in inputs.items()})
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    remove_hash3d(unet)
    assert (cache.statistics.full, cache.statistics.shallow) == (2, 2)


@torch.no_grad()
def test_views_stay_together_where_a_layer_of_another_name_may_mix_them():
    unet = tiny_ldm(channel_mult=(1, 1))
    attention = unet.input_blocks[1][1].transformer_blocks[0].attn1
    attention.to_q = LoRA(attention.to_q).requires_grad_(False)
    inputs, cache = ldm_inputs(unet, views=2), apply_hash3d(unet)
    for azimuth in (200.0, 300.0):
        with cache.view(**{**VIEW, "azimuth": [10.0, azimuth]}):
            unet(**inputs)
    assert (cache.statistics.full, cache.statistics.shallow) == (4, 0)


@pytest.mark.filterwarnings("ignore:A U-Net call ran in full")
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # Of torch, in vmap.
@pytest.mark.parametrize("case", ["no view", "a gradient", "vmap", "residuals without a scope"])
def test_what_the_cache_cannot_serve_is_the_unets_own(unet, case):
    inputs = ldm_inputs(unet)
    if case == "a gradient":
        inputs["x"].requires_grad_()
    if case == "residuals without a scope":
        inputs["features_adapter"] = [torch.ones(1)] * 3
    call = torch.func.vmap(lambda x: unet(**{**inputs, "x": x})) if case == "vmap" else lambda _: unet(**inputs)
    expected, cache = call(inputs["x"][None]), apply_hash3d(unet)
    with nullcontext() if case == "no view" else cache.view(**VIEW):
        assert torch.equal(call(inputs["x"][None]), expected)
    remove_hash3d(unet)
    assert sum(cache.statistics.bypassed.values()) == 1
    assert cache.statistics.lookups == 0


@torch.no_grad()
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda unet: pickle.loads(pickle.dumps(unet))])
def test_a_copy_takes_a_cache_of_its_own(copied):
    unet = tiny_ldm(channel_mult=(1, 1))
    inputs, cache = ldm_inputs(unet), apply_hash3d(unet)
    other = copied(unet)
    own = apply_hash3d(other)
    with cache.view(**VIEW), own.view(**VIEW):
        assert torch.equal(other(**inputs), unet(**inputs))
    assert cache.statistics.full == own.statistics.full == 1
    assert other.state_dict().keys() == unet.state_dict().keys()


def test_a_written_weight_is_never_a_silent_hit(unet):
    unet, inputs = tiny_ldm(), ldm_inputs(unet)
    cache = apply_hash3d(unet, Hash3DConfig())
    for _ in range(2):
        with cache.view(**VIEW):
            unet(**inputs)
        unet.middle_block[0].in_layers[2].weight.mul_(2.0)
    assert (cache.statistics.full, cache.statistics.shallow) == (2, 0)


def test_a_wrapped_unet_is_refused_with_where_it_is(unet):
    with pytest.raises(TypeError, match=r"or a UNetModel of LDM, but got DiffusionWrapper\. Pass its diffusion_model"):
        apply_hash3d(DiffusionWrapper(unet))
