"""Convolutions without copies: PyTorch's own results and gradients."""

import pytest
import torch
from torch import nn

from hash3d.fast.convolutions import conv2d


def draw(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(
    ("kernel", "settings"), [(3, {"padding": 1}), (1, {}), (3, {"stride": 2, "padding": 1}), (3, {"padding": 0})]
)
def test_a_convolution_and_its_gradient_are_the_layer_s(kernel, settings):
    layer = nn.Conv2d(4, 6, kernel, **settings).double().requires_grad_(False)
    x = draw(2, 4, 9, 7).requires_grad_()
    result = conv2d(layer, x)
    assert torch.allclose(result, layer(x))
    dy = torch.randn_like(result)
    assert torch.allclose(torch.autograd.grad(result, x, dy)[0], torch.autograd.grad(layer(x), x, dy)[0])
