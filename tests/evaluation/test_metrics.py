"""Values that follow from the definitions."""

import math

import pytest
import torch

from hash3d.evaluation.metrics import psnr, silhouette_iou, ssim


def picture(seed=0, size=32):
    return torch.rand(size, size, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("offset", [0.1, 0.01, 0.5])
def test_psnr_of_an_offset(offset):
    """The mean squared error is offset^2, so the PSNR is -20 log10(offset)."""
    image = picture() * 0.5
    assert psnr(image + offset, image) == pytest.approx(-20 * math.log10(offset), abs=1e-4)


def test_equal_pictures():
    assert psnr(picture(), picture()) == math.inf
    assert ssim(picture(), picture()) == pytest.approx(1)


def test_ssim_of_two_flat_pictures():
    """Without variance only the luminance term is left: (2 a b + c) / (a^2 + b^2 + c) with c = 0.01^2."""
    low, high = torch.full((32, 32, 3), 0.25), torch.full((32, 32, 3), 0.75)
    expected = (2 * 0.25 * 0.75 + 1e-4) / (0.25**2 + 0.75**2 + 1e-4)
    assert ssim(low, high) == pytest.approx(expected, abs=1e-6)
    assert ssim(picture(0), picture(1)) < 0.1


def test_ssim_is_symmetric_and_falls_with_noise():
    clean = torch.nn.functional.interpolate(picture(0, 4).permute(2, 0, 1)[None], 32, mode="bilinear")[0].permute(
        1, 2, 0
    )
    values = [ssim((clean + share * (picture(1) - 0.5)).clamp(0, 1), clean) for share in (0.1, 0.3, 0.9)]
    assert values == sorted(values, reverse=True)
    assert ssim(clean, picture(1)) == pytest.approx(ssim(picture(1), clean))


def test_silhouette_iou():
    left, right = torch.zeros(10, 10, 1), torch.zeros(10, 10, 1)
    left[:, :6], right[:, 4:] = 1.0, 0.9
    assert silhouette_iou(left, right) == pytest.approx(2 / 10)
    assert silhouette_iou(left, left) == 1
    assert silhouette_iou(left, 1 - left) == 0
    assert silhouette_iou(0 * left, 0 * left) == 1
    assert silhouette_iou(left, right, threshold=0.95) == 0
