"""Latents that a scene renders itself (Latent-NeRF, Metzer et al. 2022, https://arxiv.org/abs/2211.07600): no encoder.

A channel is what the diffusion model adds noise to: already times the autoencoder's scaling factor, in no fixed range.
"""

from jaxtyping import Float
from torch import Tensor

from .latent_guidance import resize


def resize_latents(latents: Float[Tensor, "B H W C"], size: int) -> Float[Tensor, "B C size size"]:
    """Rendered latents at the U-Net's size, by antialiased bilinear interpolation; at that size unchanged.

    Antialiased, so that the gradient reaches every pixel of a larger render (threestudio 28d9d80 does not, and trains
    a quarter of the pixels of 256 x 256 at a step). Raises `ValueError` unless there are 4 channels.
    """
    if latents.shape[-1] != 4:
        raise ValueError(
            f"Expected rendered latents of 4 channels, but got {latents.shape[-1]}. Render 4 features, "
            'or set the guidance to rendered="pictures".'
        )
    return resize(latents, (size, size)).permute(0, 3, 1, 2)
