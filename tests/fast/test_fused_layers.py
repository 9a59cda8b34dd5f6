"""Layers of real diffusers models with fewer passes over memory: the same numbers, and nothing left behind."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from hash3d.fast import fused_layers as layers
from hash3d.fast.fused_layers import add_bias, conv2d, geglu, layer_norm, run_residual_block
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
    assert chosen.count("LayerNorm") == 3 * 16


def test_a_class_of_its_own_keeps_its_forward():
    class Scaled(nn.LayerNorm):
        def forward(self, x):
            return 2 * super().forward(x)

    plain = nn.LayerNorm(4)
    chosen = layers.choose_patches(nn.Sequential(Scaled(4), plain, nn.LayerNorm(4, bias=False), nn.LayerNorm((2, 4))))
    assert [module for module, _, _ in chosen] == [plain]


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


CASES = {
    "a group fits a program": (2, 64, 8, 8, 32),
    "a group is large": (1, 128, 96, 100, 4),
    "odd channels and size": (3, 20, 37, 70, 5),
    "width above a block": (2, 320, 64, 64, 2),
}


def group_norm(x, groups, weight, bias, eps, **options):
    norm = torch.nn.GroupNorm(groups, x.shape[1], eps).requires_grad_(False)
    norm.weight.data, norm.bias.data = weight, bias
    return layers.group_norm(norm, x, **options)


def draw_case(case, dtype, device="cpu"):
    n, channels, height, width, groups = case
    torch.manual_seed(0)
    x = (2.0 * torch.randn(n, channels, height, width) + 3.0).to(device, dtype)
    vectors = [torch.randn(channels).to(device, dtype) for _ in range(3)]
    return x.contiguous(memory_format=torch.channels_last), groups, *vectors, torch.randn(n, channels).to(device, dtype)


@pytest.mark.parametrize("silu", [False, True])
def test_each_group_has_mean_0_and_variance_1_before_the_weights(silu):
    x, groups, *_ = draw_case((2, 12, 5, 7, 3), torch.float64)
    ones, zeros = torch.ones(12, dtype=torch.float64), torch.zeros(12, dtype=torch.float64)
    result = group_norm(x, groups, ones, zeros, 0.0, silu=silu)
    by_group = x.reshape(2, 3, -1)
    expected = (by_group - by_group.mean(-1, keepdim=True)) / by_group.std(-1, correction=0, keepdim=True)
    expected = expected * expected.sigmoid() if silu else expected
    assert torch.allclose(result.reshape(2, 3, -1), expected)


def test_shifts_are_added_before():
    x, groups, weight, bias, first, second = draw_case((2, 12, 5, 7, 3), torch.float64)
    shifted = x + first[None, :, None, None] + second[:, :, None, None]
    expected = group_norm(shifted, groups, weight, bias, 1e-5, silu=True)
    assert torch.allclose(group_norm(x, groups, weight, bias, 1e-5, silu=True, shifts=(first, second)), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("shifted", [False, True])
# Both in float32 inside; half precision rounds once, by at most 2^-11 relative to the largest values.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 1e-3)])
@pytest.mark.parametrize("case", list(CASES))
def test_the_kernels_equal_the_reference(case, dtype, tolerance, shifted, silu):
    x, groups, weight, bias, *shifts = draw_case(CASES[case], dtype, "cuda")
    shifts = tuple(shifts) if shifted else (None, None)
    dy = torch.randn_like(x)

    exact = x.double().requires_grad_()
    moved = exact
    for shift in shifts:
        moved = moved if shift is None else moved + shift.double()[..., None, None]
    expected = F.group_norm(moved, groups, weight.double(), bias.double(), 1e-5)
    expected = F.silu(expected) if silu else expected
    (expected_gradient,) = torch.autograd.grad(expected, exact, dy.double())

    leaf = x.clone(memory_format=torch.channels_last).requires_grad_()
    result = group_norm(leaf, groups, weight, bias, 1e-5, silu=silu, shifts=shifts)
    (gradient,) = torch.autograd.grad(result, leaf, dy)
    with torch.no_grad():
        without_derivative = group_norm(x, groups, weight, bias, 1e-5, silu=silu, shifts=shifts)
    for got, wanted in ((result, expected), (without_derivative, expected), (gradient, expected_gradient)):
        assert (got.double() - wanted).norm() <= tolerance * wanted.norm()


def images(device="cpu", dtype=torch.float64):
    torch.manual_seed(0)
    x, other = (torch.randn(2, 24, 9, 11).to(device, dtype).to(memory_format=torch.channels_last) for _ in range(2))
    return x, other, torch.randn(24).to(device, dtype)


def test_a_bias_and_a_residual_are_added():
    x, other, bias = images()
    assert torch.equal(add_bias(x, bias, other), x + other + bias[:, None, None])
    assert torch.equal(add_bias(x, None), x)


def test_geglu_gates_by_the_second_half_of_a_row():
    rows = torch.tensor([[2.0, 3.0, 0.0, 1e3]], dtype=torch.float64)
    assert torch.allclose(geglu(rows), torch.tensor([[0.0, 3e3]], dtype=torch.float64))


@pytest.mark.gpu
@pytest.mark.parametrize("with_other", [False, True])
def test_add_bias_on_a_gpu_equals_the_reference_forward_and_backward(with_other):
    x, other, bias = images("cuda", torch.float32)
    leaves = [x.clone(memory_format=torch.channels_last).requires_grad_() for x in (x, other)]
    result = add_bias(leaves[0], bias, leaves[1] if with_other else None)
    expected = x.double() + (other.double() if with_other else 0.0) + bias.double()[:, None, None]
    assert torch.allclose(result.double(), expected, atol=1e-6)  # Three float32 roundings of numbers near 1.
    dy = torch.randn_like(result)
    for gradient in torch.autograd.grad(result, leaves if with_other else leaves[:1], dy):
        assert torch.equal(gradient, dy)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_rows_on_a_gpu_equal_the_reference(dtype):
    torch.manual_seed(0)
    x = torch.randn(3, 50, 2 * 320, device="cuda").to(dtype)
    values, gate = x.double().chunk(2, dim=-1)
    # Half precision rounds the gate and the result, each by at most 2^-11.
    tolerance = 1e-6 if dtype == torch.float32 else 1e-3
    got, wanted = geglu(x), values * F.gelu(gate)
    assert got.dtype == dtype
    assert (got.double() - wanted).norm() <= tolerance * wanted.norm()


@pytest.mark.gpu
# Half precision rounds the result by at most 2^-11.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float16, 1e-3)])
@pytest.mark.parametrize("width", [320, 1280, 24])
def test_normalised_rows_on_a_gpu_equal_the_reference(width, dtype, tolerance):
    torch.manual_seed(0)
    x, norm = (3.0 + torch.randn(3, 50, width)).cuda().to(dtype), nn.LayerNorm(width, device="cuda", dtype=dtype)
    for each in norm.parameters():
        nn.init.normal_(each)
    with torch.no_grad():
        got = layer_norm(norm, x)
    wanted = F.layer_norm(x.double(), (width,), norm.weight.double(), norm.bias.double(), norm.eps)
    assert got.dtype == dtype
    assert (got.double() - wanted).norm() <= tolerance * wanted.norm()
