"""How an autoencoder's encoder runs, with its gradient in the picture: eagerly, or on a GPU as two recordings.

At 512 pixels the encoder of Stable Diffusion, there and back, costs as much as a guidance pair of the U-Net, and no
cache of U-Net features makes it cheaper. Recorded, it runs channels last with fused normalisations (`group_norm`).
"""

from typing import Any

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float
from torch import Tensor

from .engine import Engine, records
from .fused_layers import fused_layers
from .recording import RecordedGradient

MAX_RECORDINGS = 8
"""Shapes of pictures of which recordings are kept, each with memory of its own; others run eagerly."""


class ImageEncoder:
    """Moments of the posterior of pictures: mean and log variance, [B, 8, h, w] for [B, 3, S, S] in [-1, 1].

    A recording holds the addresses of the weights: make a new encoder after moving or changing the autoencoder.
    """

    def __init__(self, vae: AutoencoderKL, engine: Engine = "auto") -> None:
        self.vae: Any = vae
        self.engine = engine
        self._recorded: dict[Any, RecordedGradient] = {}

    def __call__(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B M h w"]:
        """The moments, differentiable in the pictures."""
        if not torch.is_grad_enabled() or not records(self.engine, images.device):
            return self._moments(images)
        key = tuple(images.shape), images.dtype, self.vae.encoder.conv_in.weight.data_ptr()
        if key not in self._recorded:
            if len(self._recorded) >= MAX_RECORDINGS:
                return self._moments(images)
            self._recorded[key] = self._record(images)
        return self._recorded[key](images)

    def _moments(self, images: Tensor) -> Tensor:
        hidden = self.vae.encoder(images)
        moments: Tensor = hidden if self.vae.quant_conv is None else self.vae.quant_conv(hidden)
        return moments

    def _record(self, images: Tensor) -> RecordedGradient:
        self.vae.encoder.to(memory_format=torch.channels_last)
        example = images.contiguous(memory_format=torch.channels_last)
        if self.engine == "compile":
            return RecordedGradient(torch.compile(self._moments, dynamic=False), example)
        with fused_layers(self.vae.encoder):
            return RecordedGradient(self._moments, example)
