"""Rendered latents: resized to the U-Net's latents."""

import pytest
import torch

from hash3d.guidance.rendered_latents import resize_latents


def test_latents_of_the_right_size_are_the_same_numbers():
    latents = torch.randn(2, 8, 8, 4)
    assert torch.equal(resize_latents(latents, 8).permute(0, 2, 3, 1), latents)


@pytest.mark.parametrize("size", [8, 16, 32, (8, 16)])
def test_a_plane_stays_a_plane(size):
    """Linear interpolation keeps what is linear between pixel centres; the border clamps, so the inside is compared."""
    height, width = size if isinstance(size, tuple) else (size, size)
    rows, columns = torch.meshgrid(
        (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij"
    )
    plane = (rows + 2 * columns)[None, :, :, None] * torch.tensor([1.0, -1.0, 0.5, 3.0])
    rows, columns = torch.meshgrid(*[(torch.arange(16) + 0.5) / 16] * 2, indexing="ij")
    expected = (rows + 2 * columns)[None, None] * torch.tensor([1.0, -1.0, 0.5, 3.0])[None, :, None, None]
    found = resize_latents(plane, 16)
    torch.testing.assert_close(found[:, :, 2:-2, 2:-2], expected[:, :, 2:-2, 2:-2], rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [4, 8, 12, 32])
def test_the_gradient_reaches_every_latent(size):
    """The mean is kept where the sizes divide, so that a step moves a large render as it moves a small one."""
    latents = torch.randn(1, size, size, 4, requires_grad=True)
    resize_latents(latents, 8).sum().backward()
    assert (latents.grad > 0).all()
    assert latents.grad.sum() == pytest.approx(8 * 8 * 4, rel=1e-5)


def test_pictures_are_refused():
    with pytest.raises(ValueError, match="Expected rendered latents of 4 channels, but got 3"):
        resize_latents(torch.zeros(1, 8, 8, 3), 8)
