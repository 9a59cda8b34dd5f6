"""Metrics of an image against a true one. Images are [H, W, 3] in [0, 1], on the same background."""

import math

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

WINDOW_RADIUS = 5
"""Pixels of SSIM's window on each side of its middle: 3.5 sigma, rounded."""


def psnr(image: Float[Tensor, "H W 3"], truth: Float[Tensor, "H W 3"]) -> float:
    """Peak signal-to-noise ratio in decibels, -10 log10 of the mean squared error; infinite for equal images."""
    error = (image.double() - truth.double()).square().mean().item()
    return math.inf if error == 0.0 else -10.0 * math.log10(error)


def ssim(image: Float[Tensor, "H W 3"], truth: Float[Tensor, "H W 3"]) -> float:
    """Structural similarity (Wang et al. 2004): Gaussian window of 11 pixels and sigma 1.5, mean over channels.

    The mean leaves out the border of 5 pixels where the window reaches over the edge, as scikit-image does.
    """
    from skimage.metrics import structural_similarity

    value = structural_similarity(
        image.cpu().double().numpy(), truth.cpu().double().numpy(), gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, data_range=1.0, channel_axis=-1,
    )  # fmt: skip
    return float(value)


def ssim_padded(image: Float[Tensor, "H W 3"], truth: Float[Tensor, "H W 3"]) -> float:
    """Structural similarity over all pixels, the images padded by reflection, as torchmetrics does."""
    return ssim(*(_pad(each) for each in (image, truth)))


def _pad(image: Float[Tensor, "H W 3"]) -> Float[Tensor, "h w 3"]:
    return F.pad(image.permute(2, 0, 1)[None], (WINDOW_RADIUS,) * 4, mode="reflect")[0].permute(1, 2, 0)


def sharpness(image: Float[Tensor, "H W 3"], truth: Float[Tensor, "H W 3"]) -> float:
    """Squared differences of neighbouring pixels over those of the truth: below 1 what is blurred, above it noise."""
    energies = [sum(each.double().diff(dim=dim).square().sum().item() for dim in (0, 1)) for each in (image, truth)]
    return energies[0] / energies[1] if energies[1] else math.inf


def silhouette_iou(
    alpha: Float[Tensor, "*shape"], truth_alpha: Float[Tensor, "*shape"], threshold: float = 0.5
) -> float:
    """Pixels inside both silhouettes over pixels inside at least one; 1 if both are empty."""
    inside, truly_inside = alpha > threshold, truth_alpha > threshold
    union = (inside | truly_inside).sum().item()
    return 1.0 if union == 0 else (inside & truly_inside).sum().item() / union
