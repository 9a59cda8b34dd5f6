"""U-Nets in LDM's layout: the partial pass and the hook against the U-Net itself."""

import pytest
import torch

from hash3d import Hash3DConfig, apply_hash3d, remove_hash3d
from hash3d.unet.partial_unet import PartialUNet
from tests.tiny_ldm import DiffusionWrapper, ldm_inputs, tiny_ldm
from tests.tiny_models import VIEW

CUTS = 9
"""Three levels of two residual blocks and one change of size, but for the last, and the first convolution."""


@pytest.fixture(scope="module")
def unet():
    return tiny_ldm()


@pytest.mark.parametrize("cut", range(CUTS))
def test_shallow_pass_of_own_feature_is_the_full_pass_bit_for_bit(unet, cut):
    partial, inputs = PartialUNet(unet, cut), ldm_inputs(unet)
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
