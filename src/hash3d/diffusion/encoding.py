"""How pictures become latents: exactly, or with less work, on the way there or on the gradient's way back.

`benchmarks/encoder.py` measures what each costs and how far its gradient is from the exact one.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .autoencoder import Gradient, RecordedAutoencoder
from .eight_bits import multiplies_eight_bits
from .engine import Engine, records

Encoding = Literal["auto", "exact", "fixed_norms", "eight_bits", "half", "half_gradient", "tiny"]
"""auto: the fastest whose gradient has a cosine of at least 0.99 with the exact one (docs/benchmarks/encoder.md): where
a GPU runs recordings eight_bits if it multiplies such numbers, else fixed_norms; exact elsewhere. exact: the
autoencoder's encoder. fixed_norms, eight_bits: the same latents with a cheaper gradient (`autoencoder.Gradient`). half:
the latents of the picture at half its size, enlarged. half_gradient: the exact latents with the gradient of those.
tiny: a tiny autoencoder of the same latents."""

CHANGING_NOTHING: tuple[Encoding, ...] = ("auto", "exact")
"""What may be asked of rendered latents too, which need no encoder."""


def encoded_moments(
    autoencoder: RecordedAutoencoder, images: Float[Tensor, "B 3 S S"], encoding: Encoding
) -> Float[Tensor, "B M h w"]:
    """Mean and log variance of the posterior of pictures in [-1, 1]; a tiny autoencoder has none."""
    match encoding:
        case "auto":
            return autoencoder.moments(images, _fastest(autoencoder.engine, images.device))
        case "exact" | "fixed_norms" | "eight_bits":
            return autoencoder.moments(images, encoding)
        case "half":
            return _half(autoencoder, images)
        case "half_gradient":
            with torch.no_grad():
                exact = autoencoder.moments(images)
            if not (torch.is_grad_enabled() and images.requires_grad):
                return exact
            half = _half(autoencoder, images)
            return exact + (half - half.detach())
    raise ValueError(f"Expected an encoding by a posterior, but got {encoding!r}.")


def _fastest(engine: Engine, device: torch.device) -> Gradient:
    """The gradient that is fastest where an engine runs."""
    if not records(engine, device):
        return "exact"
    return "eight_bits" if multiplies_eight_bits(device) else "fixed_norms"


def _half(autoencoder: RecordedAutoencoder, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B M h w"]:
    """The moments of pictures at half their size, enlarged.

    Each level of the encoder but the last halves a picture's sides, rounding down.
    """
    size = images.shape[-1]
    levels = len(autoencoder.vae.config.block_out_channels)
    halved = F.interpolate(images, (size // 2, size // 2), mode="bilinear", antialias=True)
    latent_size = size // 2 ** (levels - 1)
    return F.interpolate(autoencoder.moments(halved), (latent_size, latent_size), mode="bilinear")
