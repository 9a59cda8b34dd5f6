"""Scores of pictures whose differences are known."""

import pytest
import torch

from hash3d.evaluation.metrics import psnr, ssim
from prior_training.view_scores import MOST_PSNR, cells, score, to_unit


def pictures(count=2):
    images = torch.ones(count, 3, 32, 32)
    images[:, :, 8:24, 8:16] = -0.2
    return images


def test_a_perfect_copy():
    summary = score(pictures(), pictures()).summary()
    assert summary == {"psnr_median": MOST_PSNR, "psnr_mean": MOST_PSNR, "ssim_mean": 1.0, "iou_mean": 1.0}


def test_scores_are_those_of_the_package():
    """Pictures in [-1, 1] and channels first get the figures of the same pictures in [0, 1] and channels last."""
    noisy = (pictures() + 0.3 * torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
    scores, first, second = score(noisy, pictures()), to_unit(noisy), to_unit(pictures())
    assert scores.psnr.tolist() == pytest.approx([psnr(first[i], second[i]) for i in range(2)], abs=1e-4)
    assert scores.ssim.tolist() == pytest.approx([ssim(first[i], second[i]) for i in range(2)], abs=1e-6)


def test_the_silhouette_is_what_differs_from_white():
    """Half of the object is missing; a shade of 0.04 of the range does not count."""
    half = pictures()
    half[:, :, 8:16, 8:16] = 1.0
    half[:, :, :4] = 1.0 - 2 * 0.04
    assert score(half, pictures()).iou.tolist() == [0.5, 0.5]
    half[:, 2, :4] = 1.0 - 2 * 0.06
    assert score(half, pictures()).iou.tolist() == pytest.approx([64 / (128 + 128)] * 2)


def test_a_summary_of_some():
    other = pictures()
    other[1] = -1.0
    scores = score(other, pictures())
    first = scores.summary(torch.tensor([True, False]))
    second = scores.summary(torch.tensor([False, True]))
    assert first["psnr_mean"] == MOST_PSNR > second["psnr_mean"]
    assert scores.summary()["psnr_mean"] == pytest.approx((first["psnr_mean"] + second["psnr_mean"]) / 2, abs=1e-3)


def test_the_cells_of_a_table():
    row = cells({"psnr_median": 20.04, "psnr_mean": 21.0, "ssim_mean": 0.5, "iou_mean": 0.25})
    assert row == ["20.0", "21.0", "0.500", "0.250"]
    assert cells(None) == [""] * 4
