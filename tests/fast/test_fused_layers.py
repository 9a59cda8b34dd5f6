"""Layers of real diffusers models with fewer passes over memory: the same numbers, and nothing left behind."""

import copy
from functools import partial

import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from hash3d.fast import fused_layers as layers
from hash3d.fast.fused_layers import conv2d, run_residual_block
from hash3d.unet.partial_unet import PartialUNet
from tests.distances import apart
from tests.tiny_models import UNETS, tiny_unet, unet_inputs

ROUNDING = 1e-5
"""Relative: sums in another order, in float32, through some sixty layers."""


def tiny_autoencoder():
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return AutoencoderKL(block_out_channels=(16, 32), norm_num_groups=4, **blocks).eval().requires_grad_(False)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", list(UNETS))
def test_the_passes_of_a_unet_are_the_same(name, channels_last):
    unet = tiny_unet(**UNETS[name])
    unet.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    inputs, partial = unet_inputs(unet), PartialUNet(unet, -2)
    attributes = {name: set(module.__dict__) for name, module in unet.named_modules()}
    with torch.no_grad():
        (expected,), feature = partial.full_pass(**inputs, return_dict=False)
        with layers.fused_layers(unet):
            (full,), fused_feature = partial.full_pass(**inputs, return_dict=False)
            (shallow,) = partial.shallow_pass(fused_feature, **inputs, return_dict=False)
        (after,), _ = partial.full_pass(**inputs, return_dict=False)
    assert apart(full, expected) < ROUNDING
    assert apart(fused_feature, feature) < ROUNDING
    assert torch.equal(shallow, full)
    assert torch.equal(after, expected)
    assert {name: set(module.__dict__) for name, module in unet.named_modules()} == attributes


def test_every_residual_block_and_transformer_of_a_unet_is_patched():
    unet = tiny_unet()
    chosen = [type(module).__name__ for module, _, _ in layers.choose_patches(unet)]
    assert chosen.count("ResnetBlock2D") == 22  # Two for each of 11 levels' pairs, as Stable Diffusion has them.
    assert chosen.count("Transformer2DModel") == chosen.count("GEGLU") == 16


@pytest.mark.parametrize("wide", [False, True])
def test_an_encoder_and_its_gradient_are_the_same(wide, monkeypatch):
    monkeypatch.setattr(layers, "WIDEST_HEAD", 16 if wide else 1024)
    encoder = tiny_autoencoder().encoder
    x = torch.rand(2, 3, 20, 20, requires_grad=True)
    expected = encoder(x)
    dy = torch.randn_like(expected)
    (expected_gradient,) = torch.autograd.grad(expected, x, dy)
    assert any(isinstance(module, Attention) for module, _, _ in layers.choose_patches(encoder)) == wide
    with layers.fused_layers(encoder):
        moments = encoder(x)
        (gradient,) = torch.autograd.grad(moments, x, dy)
    assert apart(moments, expected) < ROUNDING
    assert apart(gradient, expected_gradient) < ROUNDING


@pytest.mark.parametrize(
    "settings",
    [
        {"time_embedding_norm": "scale_shift"},
        {"output_scale_factor": 2.0},
        {"up": True},
        {"down": True},
        {"non_linearity": "mish"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_blocks_of_another_kind_keep_their_forward(settings):
    block = ResnetBlock2D(in_channels=8, temb_channels=8, groups=2, **settings).eval()
    chosen = layers.choose_patches(block)
    assert not any(module is block for module, _, _ in chosen)
    x, embedding = torch.randn(2, 8, 6, 6), torch.randn(2, 8)
    with torch.no_grad():
        expected = block(x, embedding)
        with layers.fused_layers(block):
            assert apart(block(x, embedding), expected) < ROUNDING


def test_a_block_with_dropout_in_training_keeps_its_forward():
    block = ResnetBlock2D(in_channels=8, temb_channels=8, groups=2, dropout=0.5)
    assert not any(module is block for module, _, _ in layers.choose_patches(block.train()))
    assert any(module is block for module, _, _ in layers.choose_patches(block.eval()))


KINDS = {
    "plain": {"in_channels": 8, "temb_channels": None, "groups": 2},
    "another width": {"in_channels": 8, "out_channels": 12, "temb_channels": None, "groups": 2},
    "of the timestep": {"in_channels": 8, "out_channels": 12, "temb_channels": 5, "groups": 2},
}


def block_of(kind, **settings):
    torch.manual_seed(0)
    block = ResnetBlock2D(**{**KINDS[kind], **settings}).eval().requires_grad_(False)
    for norm in (block.norm1, block.norm2):
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    return block


def forward_and_backward(function, x, embedding):
    x = x.detach().requires_grad_()
    result = function(x, embedding)
    dy = torch.randn(result.shape, generator=torch.Generator().manual_seed(1)).to(result)
    return result.detach(), torch.autograd.grad(result, x, dy)[0]


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_block_and_its_gradient_are_diffusers_own(kind):
    block, x = block_of(kind), torch.randn(3, 8, 10, 9)
    embedding = torch.randn(3, 5) if KINDS[kind]["temb_channels"] else None
    expected = forward_and_backward(block, x, embedding)
    for found, wanted in zip(
        forward_and_backward(partial(run_residual_block, block), x, embedding), expected, strict=True
    ):
        assert apart(found, wanted) < 1e-5  # Sums in another order, in float32.


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["plain", "another width"])
def test_on_a_gpu_the_kernels_equal_the_reference(kind):
    wider = {} if kind != "another width" else {"out_channels": 256}
    block, x = block_of(kind, in_channels=128, groups=32, **wider), torch.randn(2, 128, 40, 33)
    expected = forward_and_backward(partial(run_residual_block, block), x, None)
    on_gpu = partial(run_residual_block, copy.deepcopy(block).cuda().half())
    found = forward_and_backward(on_gpu, x.cuda().half(), None)
    for got, wanted, tolerance in zip(found, expected, (3e-3, 5e-3), strict=True):
        assert apart(got.cpu().float(), wanted) < tolerance  # Half precision.


def draw(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(
    ("kernel", "settings"),
    [(3, {"padding": 1}), (1, {}), (1, {"stride": 2}), (3, {"stride": 2, "padding": 1}), (3, {"padding": 0})],
)
def test_a_convolution_and_its_gradient_are_the_layer_s(kernel, settings):
    layer = nn.Conv2d(4, 6, kernel, **settings).double().requires_grad_(False)
    x = draw(2, 4, 9, 7).requires_grad_()
    result = conv2d(layer, x)
    assert torch.allclose(result, layer(x))
    dy = torch.randn_like(result)
    assert torch.allclose(torch.autograd.grad(result, x, dy)[0], torch.autograd.grad(layer(x), x, dy)[0])
