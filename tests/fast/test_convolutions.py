"""Convolutions without copies: PyTorch's own results and gradients."""

import pytest
import torch
from diffusers.models.downsampling import Downsample2D
from torch import nn

from hash3d.fast.convolutions import conv2d, downsample, is_downsample


def draw(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", [(8, 6), (7, 8), (9, 5), (2, 3)])
def test_a_downsampling_convolution_needs_no_padded_input(size, bias, channels_last):
    layer = Downsample2D(4, use_conv=True, out_channels=6, padding=0, bias=bias).double().requires_grad_(False)
    x = draw(2, 4, *size)
    x = x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format).requires_grad_()
    expected, found = layer(x), downsample(layer.conv, x)
    assert torch.allclose(found, expected)
    dy = torch.randn_like(expected)
    (gradient,), (wanted,) = (torch.autograd.grad(result, x, dy) for result in (found, expected))
    assert torch.allclose(gradient, wanted)


def test_only_such_a_convolution_is_a_downsample():
    assert is_downsample(nn.Conv2d(4, 4, 3, stride=2))
    for other in (nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, 3, stride=2, groups=2)):
        assert not is_downsample(other)
    assert not is_downsample(nn.AvgPool2d(2))


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
