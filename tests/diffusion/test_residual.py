"""Residual blocks: diffusers' own results and gradients, by the definition and on a GPU by the kernels."""

import copy

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D

from hash3d.diffusion.residual import ResidualBlock
from tests.distances import apart
from tests.gpus import needs_eight_bits

KINDS = {
    "plain": {"in_channels": 8, "temb_channels": None, "groups": 2},
    "another width": {"in_channels": 8, "out_channels": 12, "temb_channels": None, "groups": 2},
    "scaled": {"in_channels": 8, "temb_channels": None, "groups": 2, "output_scale_factor": 2.0},
    "of the timestep": {"in_channels": 8, "out_channels": 12, "temb_channels": 5, "groups": 2},
}


def block_of(kind, **settings):
    torch.manual_seed(0)
    block = ResnetBlock2D(**{**KINDS[kind], **settings}).eval().requires_grad_(False)
    for norm in (block.norm1, block.norm2):
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    return block


def there_and_back(function, x, embedding):
    x = x.detach().requires_grad_()
    result = function(x, embedding)
    dy = torch.randn(result.shape, generator=torch.Generator().manual_seed(1)).to(result)
    return result.detach(), torch.autograd.grad(result, x, dy)[0]


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_block_and_its_gradient_are_diffusers_own(kind):
    block, x = block_of(kind), torch.randn(3, 8, 10, 9)
    embedding = torch.randn(3, 5) if KINDS[kind]["temb_channels"] else None
    expected = there_and_back(block, x, embedding)
    for found, wanted in zip(there_and_back(ResidualBlock(block), x, embedding), expected, strict=True):
        assert apart(found, wanted) < 1e-5  # Sums in another order, in float32.


def test_eight_bits_change_the_gradient_a_little_and_the_result_not():
    block, x = block_of("another width"), torch.randn(3, 8, 10, 9)
    (result, gradient), (expected, slope) = (
        there_and_back(ResidualBlock(block, eight_bits=eight_bits), x, None) for eight_bits in (True, False)
    )
    assert apart(result, expected) < 1e-6
    assert 1e-3 < apart(gradient, slope) < 0.1


@pytest.mark.gpu
@pytest.mark.parametrize("eight_bits", [False, pytest.param(True, marks=needs_eight_bits)])
@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("kind", ["plain", "another width", "scaled"])
def test_on_a_gpu_the_kernels_are_the_definition(kind, fixed, eight_bits):
    wider = {} if kind != "another width" else {"out_channels": 256}
    block, x = block_of(kind, in_channels=128, groups=32, **wider), torch.randn(2, 128, 40, 33)
    expected = there_and_back(ResidualBlock(block, fixed=fixed, eight_bits=eight_bits), x, None)
    on_gpu = ResidualBlock(copy.deepcopy(block).cuda().half(), fixed=fixed, eight_bits=eight_bits)
    found = there_and_back(on_gpu, x.cuda().half(), None)
    # Half precision; what it changes may fall to the next number of eight bits.
    for got, wanted, tolerance in zip(found, expected, (3e-3, 3e-2 if eight_bits else 5e-3), strict=True):
        assert apart(got.cpu().float(), wanted) < tolerance
