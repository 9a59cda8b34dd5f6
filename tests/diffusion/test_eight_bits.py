"""Gradients in numbers of eight bits: the definition, and on a GPU the kernels against it."""

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from hash3d.diffusion.eight_bits import (
    LARGEST,
    convolution,
    eight_bit_gradients,
    multiplies_eight_bits,
    rounded,
    scale_for,
)
from hash3d.diffusion.group_norm import group_norm
from tests.distances import apart
from tests.gpus import needs_eight_bits
from tests.tiny_models import tiny_zero123


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_numbers_are_rounded_to_three_bits_behind_the_first():
    x = torch.tensor([1.0, -1.0625, 1.07, 1.125, 15.0, 15.6, 0.0])
    assert torch.equal(rounded(x), torch.tensor([1.0, -1.0, 1.125, 1.125, 15.0, 16.0, 0.0]))  # Halves go to even.


def test_rounding_is_relative_to_each_number_down_to_2_to_the_minus_14_of_the_largest():
    x = torch.cat([draw(10_000) * 2.0 ** -torch.arange(10_000).remainder(12), torch.ones(1)])
    x = x[x.abs() > 2.0**-14 * x.abs().max()]
    assert ((rounded(x) - x).abs() <= x.abs() * 2.0**-4).all()


@pytest.mark.parametrize("power", [-30, -3, 5, 40])
def test_a_power_of_two_changes_no_rounding(power):
    x = draw(1000)
    assert torch.equal(rounded(x * 2.0**power), rounded(x) * 2.0**power)


def test_the_scale_is_the_largest_power_of_two_that_fits():
    for bound in (1e-20, 0.3, 1.75, 448.0, 449.0, 3e7):
        scale = float(scale_for(torch.tensor(bound)))
        assert scale * bound <= LARGEST < 2.0 * scale * bound
    assert torch.isfinite(scale_for(torch.tensor(0.0)))


def test_a_convolution_is_exact_and_its_gradient_is_that_of_rounded_numbers():
    x, weight, dy = draw(2, 5, 7, 6).requires_grad_(), draw(3, 5, 3, 3, seed=1), draw(2, 3, 7, 6, seed=2)
    result = convolution(x, weight)
    assert torch.equal(result, F.conv2d(x, weight, padding=1))
    (found,) = torch.autograd.grad(result, x, dy)
    (expected,) = torch.autograd.grad(F.conv2d(x, rounded(weight), padding=1), x, rounded(dy))
    assert torch.allclose(found, expected, atol=1e-5)
    (exact,) = torch.autograd.grad(F.conv2d(x, weight, padding=1), x, dy)
    assert 0.01 < apart(found, exact) < 2.0**-4  # Two roundings of at most 2^-4, on average far less.


def test_only_residual_blocks_get_such_gradients_and_keep_their_results():
    encoder = tiny_zero123().vae.encoder
    x, found = draw(2, 3, 32, 32).requires_grad_(), []
    dy = torch.randn_like(encoder(x))
    for context in (eight_bit_gradients(nn.Identity()), eight_bit_gradients(encoder)):
        with context:
            result = encoder(x)
            found.append((result.detach(), *torch.autograd.grad(result, x, dy)))
    (exact, slope), (result, gradient) = found
    assert apart(result, exact) < 1e-6
    assert torch.cosine_similarity(gradient.flatten(), slope.flatten(), dim=0) > 0.98
    assert apart(gradient, slope) > 1e-3
    chosen = [layer for block in encoder.modules() if isinstance(block, ResnetBlock2D) for layer in (block.conv1,)]
    assert chosen
    assert all("forward" not in layer.__dict__ for layer in chosen)


def test_a_cpu_multiplies_no_numbers_of_eight_bits():
    assert not multiplies_eight_bits(torch.device("cpu"))


SHAPES = {
    "a tile of pixels and more": (2, 128, 256, 9, 16),
    "an odd size": (3, 256, 128, 13, 7),
    "rows over 2^20": (4, 128, 128, 512, 512),
}
SUMS = 2e-3
"""Relative: float16 results of the same products, summed in another order."""


@pytest.mark.gpu
@needs_eight_bits
@pytest.mark.parametrize("case", list(SHAPES))
def test_the_kernel_s_gradient_is_the_definition_s(case):
    from hash3d.diffusion import _triton_eight_bits as kernels

    pictures, channels, results, height, width = SHAPES[case]
    weight = draw(results, channels, 3, 3).cuda() / channels**0.5
    dy = (100.0 * draw(pictures, results, height, width, seed=1)).cuda().half()
    dy = dy.contiguous(memory_format=torch.channels_last)
    weights = kernels.AdjointWeights(weight)
    found, bound = kernels.adjoint(kernels.rounded(dy), weights, torch.float16, bound=True)
    x = torch.zeros(pictures, channels, height, width, device="cuda", requires_grad=True)
    (expected,) = torch.autograd.grad(convolution(x, weight), x, dy.float())
    assert apart(found.float(), expected) < SUMS
    assert 1.0 - SUMS <= float(bound) / float(expected.abs().max()) < 2.0
    assert torch.equal(kernels.adjoint(kernels.rounded(dy), weights, torch.float16).picture, found)


@pytest.mark.gpu
@needs_eight_bits
@pytest.mark.parametrize("fixed", [False, True])
def test_the_gradient_of_a_normalisation_in_eight_bits_is_the_rounded_one(fixed):
    from hash3d.diffusion import _triton_eight_bits as kernels
    from hash3d.diffusion import _triton_group_norm as norms

    x, dy = (
        draw(2, 128, 11, 20, seed=seed).cuda().half().contiguous(memory_format=torch.channels_last) for seed in (0, 1)
    )
    weight, bias = draw(128, seed=2).cuda().half(), draw(128, seed=3).cuda().half()
    _, lines = norms.normalise(x, 4, weight, bias, 1e-5, silu=True, shifts=(None, None))
    slope = kernels.Adjoint(dy, dy.abs().amax().float())
    found = kernels.differentiate_rounded(x, slope, lines, 4, weight, silu=True, fixed=fixed)
    pictures = found.rows.float().reshape(2, 13, 22, 128) * found.scale[1]
    border = pictures.clone()
    border[:, 1:-1, 1:-1] = 0.0
    assert not border.any()
    leaf = x.float().requires_grad_()
    y = group_norm(leaf, 4, weight.float(), bias.float(), 1e-5, silu=True, fixed=fixed)
    (expected,) = torch.autograd.grad(y, leaf, dy.float())
    inside = pictures[:, 1:-1, 1:-1].permute(0, 3, 1, 2)
    # A tie may fall to either side, where float32 differs in its last bits.
    same = (inside - rounded(expected)).abs() <= 1e-5 * expected.abs().max()
    assert same.float().mean() > 0.999
    assert apart(inside, expected) < 2.0**-4
