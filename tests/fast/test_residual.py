"""Residual blocks: diffusers' own results and gradients, in PyTorch and on a GPU by the kernels."""

import copy
from functools import partial

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D

from hash3d.fast.residual import run_residual_block
from tests.distances import apart

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
@pytest.mark.parametrize("kind", ["plain", "another width", "scaled"])
def test_on_a_gpu_the_kernels_equal_the_reference(kind):
    wider = {} if kind != "another width" else {"out_channels": 256}
    block, x = block_of(kind, in_channels=128, groups=32, **wider), torch.randn(2, 128, 40, 33)
    expected = forward_and_backward(partial(run_residual_block, block), x, None)
    on_gpu = partial(run_residual_block, copy.deepcopy(block).cuda().half())
    found = forward_and_backward(on_gpu, x.cuda().half(), None)
    for got, wanted, tolerance in zip(found, expected, (3e-3, 5e-3), strict=True):
        assert apart(got.cpu().float(), wanted) < tolerance  # Half precision.
