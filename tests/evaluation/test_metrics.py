"""Values that follow from the definitions."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from hash3d.cameras import Cameras
from hash3d.evaluation.metrics import compare, psnr, sharpness, silhouette_iou, ssim, ssim_padded
from hash3d.evaluation.reference_frame import ReferenceFrame
from hash3d.evaluation.truth import Truth
from hash3d.rendering.base import Render
from hash3d.rendering.splat import render_gaussians
from hash3d.representations.gaussians import GaussiansConfig


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


def test_sharpness_is_a_ratio_of_squared_differences():
    """Half the contrast has a quarter of the energy; a box blur of white noise over n pixels leaves less of it."""
    truth = picture()
    assert sharpness(truth, truth) == 1.0
    assert sharpness(0.5 * truth + 0.2, truth) == pytest.approx(0.25)
    blurred = torch.nn.functional.avg_pool2d(truth.permute(2, 0, 1), 3, stride=1, padding=1).permute(1, 2, 0)
    assert sharpness(blurred, truth) < 0.2


def test_silhouette_iou():
    left, right = torch.zeros(10, 10, 1), torch.zeros(10, 10, 1)
    left[:, :6], right[:, 4:] = 1.0, 0.9
    assert silhouette_iou(left, right) == pytest.approx(2 / 10)
    assert silhouette_iou(left, left) == 1
    assert silhouette_iou(left, 1 - left) == 0
    assert silhouette_iou(0 * left, 0 * left) == 1
    assert silhouette_iou(left, right, threshold=0.95) == 0


OFFICIAL_SSIM = (
    1.0, 0.9687784, 0.9116639, 0.8321189, 0.7540284, 0.6772414, 0.6035957, 0.5475074, 0.4918733, 0.4837076,
    0.3688718, 0.3341771, 0.3051394, 0.3419975, 0.2534592, 0.2586290, 0.2485133, 0.2313172, 0.2117442, 0.1920652,
)  # fmt: skip
"""torchmetrics 1.9.0: structural_similarity_index_measure(data_range=1.0) of `noisy_pair(seed)` in double precision."""


def noisy_pair(seed):
    """A smooth image with seed / 20 of noise, and without; 24 + seed by 40 - seed pixels."""
    generator, size = torch.Generator().manual_seed(seed), (24 + seed, 40 - seed)
    coarse = torch.rand(1, 3, 5, 5, generator=generator, dtype=torch.float64)
    smooth = torch.nn.functional.interpolate(coarse, size, mode="bilinear")[0].permute(1, 2, 0)
    noise = torch.rand(*size, 3, generator=generator, dtype=torch.float64)
    return (smooth + seed / 20 * (noise - 0.5)).clamp(0, 1).float(), smooth.float()


@pytest.mark.parametrize(("seed", "expected"), list(enumerate(OFFICIAL_SSIM)))
def test_padded_ssim_is_that_of_torchmetrics(seed, expected):
    assert ssim_padded(*noisy_pair(seed)) == pytest.approx(expected, abs=1e-5)


def map_ssim(image, truth):
    """SSIM of each window that fits (Wang et al. 2004, eq. 13), from its own weights, means and covariances."""
    offsets = torch.arange(-5.0, 6.0, dtype=torch.float64)
    line = torch.exp(-0.5 * (offsets / 1.5) ** 2)
    weights = (line[:, None] * line / line.sum() ** 2)[None, None]
    x, y = (
        each.double().permute(2, 0, 1).unfold(1, 11, 1).unfold(2, 11, 1).permute(1, 2, 0, 3, 4)
        for each in (image, truth)
    )

    def average(values):
        return (values * weights).sum((-1, -2))

    mean_x, mean_y = average(x), average(y)
    variances = average(x * x) - mean_x**2 + average(y * y) - mean_y**2
    covariance = average(x * y) - mean_x * mean_y
    return ((2 * mean_x * mean_y + 1e-4) * (2 * covariance + 9e-4)) / (
        (mean_x**2 + mean_y**2 + 1e-4) * (variances + 9e-4)
    )


@pytest.mark.parametrize("seed", [3, 12])
def test_both_ssims_follow_the_formula(seed):
    """Cropped: all windows that fit. Padded: those of the images mirrored about their outermost pixels."""
    pair = noisy_pair(seed)
    assert ssim(*pair) == pytest.approx(map_ssim(*pair).mean().item(), abs=1e-6)
    mirrored = [torch.from_numpy(np.pad(each.numpy(), ((5, 5), (5, 5), (0, 0)), mode="reflect")) for each in pair]
    padded = map_ssim(*mirrored)
    assert padded.shape[:2] == pair[0].shape[:2]
    assert ssim_padded(*pair) == pytest.approx(padded.mean().item(), abs=1e-6)


def test_cropped_ssim_is_that_of_scikit_image():
    """The mean of its map without 5 pixels on each side."""
    image, truth = (each.double().numpy() for each in noisy_pair(7))
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    _, values = structural_similarity(image, truth, channel_axis=-1, full=True, **options)
    assert ssim(*noisy_pair(7)) == pytest.approx(values[5:-5, 5:-5].mean())


SAME_CAMERA = ReferenceFrame(radius=1.5, fov_y=49.1)


def test_a_scene_equals_its_own_views_and_errors_are_averaged():
    scene = GaussiansConfig(num_points=60).build(torch.Generator().manual_seed(0))
    cameras = Cameras.orbit(elevation=0.0, azimuth=[0.0, 90.0], radius=1.5, fov_y=49.1, size=32)

    @torch.no_grad()
    def show(shown):
        return render_gaussians(scene, shown, torch.ones(len(shown), 3))

    render = show(cameras)
    views = render.color.clamp(0.0, 1.0)
    shifted = torch.stack([views[0] * 0.9, views[1] * 0.8])
    truth = Truth(
        cameras=cameras,
        images=shifted,
        alpha=render.alpha,
        has_alpha=(True, True),
        backgrounds=torch.ones(2, 3),
        reference_elevation=0.0,
    )
    metrics = compare(show, truth, SAME_CAMERA, {"darker": lambda image, true: float((image - true).mean())})
    assert metrics["mean"]["darker"] == pytest.approx(float((views - shifted).mean()), abs=1e-5)
    expected = [psnr(views[n], shifted[n]) for n in range(2)]
    assert torch.allclose(torch.tensor([row["psnr"] for row in metrics["views"]]), torch.tensor(expected), atol=1e-3)
    assert abs(metrics["mean"]["psnr"] - sum(expected) / 2) < 1e-3
    assert metrics["mean"]["iou"] == 1.0
    assert [row["azimuth"] for row in metrics["views"]] == [0.0, 90.0]


@pytest.mark.parametrize("color_behind", [(1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.2, 0.7, 0.4)])
def test_opaque_views_are_compared_on_their_own_background_and_have_no_iou(color_behind):
    """A render on white, color + (1 - alpha), lies on a background b as color + (1 - alpha) b."""
    cameras = Cameras.orbit(elevation=0.0, azimuth=[0.0, 90.0], radius=1.5, fov_y=49.1, size=32)
    alpha, background = torch.zeros(1, 32, 32, 1), torch.tensor(color_behind)
    alpha[:, 8:24, 8:24] = 0.8
    color = torch.tensor([0.9, 0.1, 0.1]) * alpha

    def show(shown):
        return Render(color=color + 1.0 - alpha, alpha=alpha, depth=alpha)

    image = (color + (1.0 - alpha) * background).expand(2, -1, -1, -1)
    truth = Truth(
        cameras=cameras,
        images=image,
        alpha=torch.cat([torch.ones(1, 32, 32, 1), alpha]),
        has_alpha=(False, True),
        backgrounds=background.expand(2, 3),
        notes=("one is opaque",),
        reference_elevation=0.0,
    )
    metrics = compare(show, truth, SAME_CAMERA)
    assert min(row["psnr"] for row in metrics["views"]) > 100
    assert ["iou" in row for row in metrics["views"]] == [False, True]
    assert metrics["mean"]["iou"] == 1.0
    assert metrics["notes"] == ["one is opaque"]


def test_a_true_view_without_anything_has_no_sharpness_and_is_told():
    cameras = Cameras.orbit(elevation=0.0, azimuth=[0.0, 90.0], radius=1.5, fov_y=49.1, size=32)
    images, alpha = torch.stack([picture(), torch.ones(32, 32, 3)]), torch.ones(1, 32, 32, 1)
    truth = Truth(
        cameras=cameras, images=images, alpha=torch.cat([alpha, 0 * alpha]), has_alpha=(True, True),
        backgrounds=torch.ones(2, 3), notes=(), reference_elevation=0.0,
    )  # fmt: skip
    metrics = compare(lambda _: Render(color=picture(1)[None], alpha=alpha, depth=alpha), truth, SAME_CAMERA)
    assert metrics["mean"]["sharpness"] == sharpness(picture(1), picture())
    assert metrics["notes"] == ["1 of 2 true views show one colour alone, so that they have no sharpness."]
