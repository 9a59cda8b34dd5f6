"""Run an autoencoder eagerly, or on a GPU by CUDA graphs, its gradient in the image included.

At 512 pixels the encoder of Stable Diffusion, forward and backward, costs as much as a guidance pair of the U-Net, and
no cache of U-Net features makes it cheaper. In a CUDA graph it runs channels last with `fused_layers`.
"""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float
from torch import Tensor

from .cuda_graph import RecordedCall, RecordedGradient, recorded_or_none
from .engine import Engine, records
from .fused_layers import fused_layers

MAX_GRAPHS = 8
"""Most CUDA graphs that are kept, one for each shape of images or latents; other shapes run eagerly."""


class AutoencoderEngine:
    """The encoder and decoder of one autoencoder.

    A CUDA graph holds the addresses of the weights: build a new engine after changing the autoencoder.
    """

    def __init__(self, vae: AutoencoderKL, engine: Engine = "auto") -> None:
        self.vae: Any = vae
        self.engine = engine
        self._recorded: dict[Any, Callable[[Tensor], Tensor] | None] = {}

    def encode(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B M h w"]:
        """Return mean and log variance of the posterior of images in [-1, 1], differentiable in the images."""

        def moments(x: Tensor) -> Tensor:
            hidden = self.vae.encoder(x)
            result: Tensor = hidden if self.vae.quant_conv is None else self.vae.quant_conv(hidden)
            return result

        return self._run(moments, images)

    def decode(self, latents: Float[Tensor, "B 4 h w"]) -> Float[Tensor, "B 3 S S"]:
        """Return images in about [-1, 1] of latents without scaling factor."""

        def images(z: Tensor) -> Tensor:
            result: Tensor = self.vae.decode(z, return_dict=False)[0]
            return result

        return self._run(images, latents)

    def _run(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        differentiable = torch.is_grad_enabled() and x.requires_grad
        if records(self.engine, x.device):
            form = function.__name__, differentiable, tuple(x.shape), x.dtype
            key = form, self._address()
            if key not in self._recorded and len(self._recorded) < MAX_GRAPHS:
                self.vae.to(memory_format=torch.channels_last)
                key = form, self._address()  # The weights may have moved.
                self._recorded[key] = recorded_or_none(
                    "An autoencoder", lambda: self._record(function, x, differentiable)
                )
            if (recorded := self._recorded.get(key)) is not None:
                return recorded(x)
        return function(x)

    def _address(self) -> int:
        """Return the address of the weights."""
        return int(next(self.vae.parameters()).data_ptr())

    def _record(self, function: Callable[[Tensor], Tensor], x: Tensor, differentiable: bool) -> Callable[..., Tensor]:
        example = x.detach().contiguous(memory_format=torch.channels_last)
        with fused_layers(self.vae):
            if differentiable:
                return RecordedGradient(function, example)
            recorded = RecordedCall(lambda x: (function(x),), {"x": example})
        return lambda x: recorded({"x": x})[0].clone()
