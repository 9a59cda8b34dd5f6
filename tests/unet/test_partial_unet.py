"""The partial U-Net against the U-Net itself."""

import pytest
import torch

from hash3d.unet.partial_unet import PartialUNet
from tests.tiny_models import UNETS, tiny_unet, unet_inputs

NUM_CUTS = {name: 9 if name.startswith("mini") else 12 for name in UNETS}
CASES = [(name, cut) for name, count in NUM_CUTS.items() for cut in range(count)]


@pytest.fixture(scope="module")
def unets():
    return {name: tiny_unet(**changes) for name, changes in UNETS.items()}


@pytest.mark.parametrize(("name", "cut"), CASES)
def test_shallow_pass_of_own_feature_is_the_full_pass_bit_for_bit(unets, name, cut):
    unet, inputs = unets[name], unet_inputs(unets[name])
    partial = PartialUNet(unet, cut)
    with torch.no_grad():
        expected = unet(**inputs).sample
        output, feature = partial.full_pass(**inputs)
        assert torch.equal(output.sample, expected)
        assert torch.equal(partial.shallow_pass(feature.clone(), **inputs).sample, expected)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", ["stable_diffusion_15", "zero123", "mini"])
def test_shallow_passes_before_any_full_one_round_as_after_it(name, memory_format):
    """As in a run that is resumed."""
    unet = tiny_unet(**UNETS[name]).to(memory_format=memory_format)
    inputs, partial = unet_inputs(unet), PartialUNet(unet, -1)
    with torch.no_grad():
        output, feature = partial.full_pass(**inputs)
        for other in (torch.contiguous_format, torch.channels_last):
            found = PartialUNet(unet, -1).shallow_pass(feature.contiguous(memory_format=other), **inputs)
            assert torch.equal(found.sample, output.sample)


@pytest.mark.parametrize("name", list(UNETS))
def test_number_of_cuts_is_counted_in_the_module(unets, name):
    partial = PartialUNet(unets[name], -2)
    assert partial.num_cuts == NUM_CUTS[name]
    assert (partial.cut, partial.skip) == (partial.num_cuts - 2, 1)


def test_feature_shapes_are_those_of_the_layer_table(unets):
    """Channels and sizes entering U_(i+1), from the published layer table scaled to this width (320 -> 8, 64 -> 16)."""
    inputs = unet_inputs(unets["stable_diffusion_15"])
    expected = {11: (8, 16), 10: (8, 16), 9: (16, 16), 8: (16, 8), 7: (16, 8), 6: (32, 8), 5: (32, 4), 4: (32, 4)}
    expected |= {3: (32, 4), 2: (32, 2), 1: (32, 2), 0: (32, 2)}
    for cut, (channels, size) in expected.items():
        with torch.no_grad():
            _, feature = PartialUNet(unets["stable_diffusion_15"], cut).full_pass(**inputs)
        assert feature.shape == (2, channels, size, size), cut


def test_shallow_pass_depends_on_shallow_layers_and_feature_alone(unets):
    """Destroying the middle of the U-Net changes nothing; another feature changes the output."""
    unet = tiny_unet()
    inputs, partial = unet_inputs(unet), PartialUNet(unet, -2)
    with torch.no_grad():
        _, feature = partial.full_pass(**inputs)
        expected = partial.shallow_pass(feature, **inputs).sample
        for module in (unet.mid_block, unet.down_blocks[1], unet.up_blocks[1], unet.down_blocks[0].downsamplers):
            for parameter in module.parameters():
                parameter.fill_(float("nan"))
        assert torch.equal(partial.shallow_pass(feature, **inputs).sample, expected)
        assert not torch.equal(partial.shallow_pass(feature + 1, **inputs).sample, expected)


def test_odd_sizes_pass_through(unets):
    """A latent size that is no multiple of 8 makes diffusers forward the upsampling size."""
    unet = unets["stable_diffusion_15"]
    inputs = {**unet_inputs(unet), "sample": torch.randn(2, 4, 15, 13)}
    with torch.no_grad():
        for cut in range(12):
            output, feature = PartialUNet(unet, cut).full_pass(**inputs)
            assert torch.equal(PartialUNet(unet, cut).shallow_pass(feature, **inputs).sample, output.sample), cut


def test_forwards_are_restored_after_an_error(unets):
    unet = unets["zero123"]
    before = {name: dict(module.__dict__) for name, module in unet.named_modules()}
    with pytest.raises(RuntimeError):
        PartialUNet(unet, 5).shallow_pass(torch.zeros(2, 1, 1, 1), **unet_inputs(unet))
    assert all(("forward" in module.__dict__) == ("forward" in before[name]) for name, module in unet.named_modules())
    assert not any(module._forward_pre_hooks for module in unet.modules())


@pytest.mark.parametrize("name", list(UNETS))
def test_a_negative_cut_counts_from_the_end(unets, name):
    for cut in range(NUM_CUTS[name]):
        assert PartialUNet(unets[name], cut - NUM_CUTS[name]).cut == cut


@pytest.mark.parametrize("cut", [9, -10])
def test_a_cut_that_does_not_exist_is_refused(unets, cut):
    with pytest.raises(ValueError, match=f"Expected the cut to be -9 to 8 for this U-Net, but got {cut}"):
        PartialUNet(unets["mini"], cut)
