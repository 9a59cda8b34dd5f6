"""How like the truth a picture is. Pictures are [H, W, 3] in [0, 1], on white."""

import math

from jaxtyping import Float
from torch import Tensor


def psnr(image: Float[Tensor, "H W 3"], truth: Float[Tensor, "H W 3"]) -> float:
    """Peak signal-to-noise ratio in decibels, -10 log10 of the mean squared error; infinite for equal pictures."""
    error = (image.double() - truth.double()).square().mean().item()
    return math.inf if error == 0.0 else -10.0 * math.log10(error)


def ssim(image: Float[Tensor, "H W 3"], truth: Float[Tensor, "H W 3"]) -> float:
    """Structural similarity (Wang et al. 2004): Gaussian window of sigma 1.5, mean over pixels and channels."""
    from skimage.metrics import structural_similarity

    value = structural_similarity(
        image.cpu().double().numpy(),
        truth.cpu().double().numpy(),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        channel_axis=-1,
    )
    return float(value)


def silhouette_iou(
    alpha: Float[Tensor, "*shape"], truth_alpha: Float[Tensor, "*shape"], threshold: float = 0.5
) -> float:
    """Pixels inside both silhouettes over pixels inside at least one; 1 if both are empty."""
    inside, truly_inside = alpha > threshold, truth_alpha > threshold
    union = (inside | truly_inside).sum().item()
    return 1.0 if union == 0 else (inside & truly_inside).sum().item() / union
