"""How an autoencoder runs: eagerly, or on a GPU as recordings, the gradient in the picture among them.

At 512 pixels the encoder of Stable Diffusion, there and back, costs as much as a guidance pair of the U-Net, and no
cache of U-Net features makes it cheaper. Recorded, it runs channels last by `fused_layers`.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from jaxtyping import Float
from torch import Tensor, nn

from .eight_bits import eight_bit_gradients
from .engine import Engine, records
from .fused_layers import fixed_norms, fused_layers
from .recording import RecordedCall, RecordedGradient, recorded_or_none
from .stand_ins import StandIn

Gradient = Literal["exact", "fixed_norms", "eight_bits"]
"""Of the moments, which are the same. exact: the encoder's. fixed_norms: the means and variances of the normalisations
in the encoder's first level are constants. eight_bits: the same, and the residual blocks of all levels but the last,
whose pictures are small, multiply numbers of eight bits."""

MAX_RECORDINGS = 8
"""Shapes of pictures and latents of which recordings are kept, each with memory of its own; others run eagerly."""


class RecordedAutoencoder:
    """The two halves of an autoencoder, or the first half of a tiny one.

    A recording holds the addresses of the weights: make a new one after moving or changing the autoencoder.
    """

    def __init__(self, vae: AutoencoderKL | AutoencoderTiny, engine: Engine = "auto") -> None:
        self.vae: Any = vae
        self.engine = engine
        self._recorded: dict[Any, Callable[[Tensor], Tensor] | None] = {}
        self._stand_ins: list[StandIn] = []

    def moments(self, images: Float[Tensor, "B 3 S S"], gradient: Gradient = "exact") -> Float[Tensor, "B M h w"]:
        """Mean and log variance of the posterior of pictures in [-1, 1], differentiable in the pictures."""

        def encode(x: Tensor) -> Tensor:
            hidden = self.vae.encoder(x)
            moments: Tensor = hidden if self.vae.quant_conv is None else self.vae.quant_conv(hidden)
            return moments

        return self._run(encode, images, gradient)

    def latents(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B 4 h w"]:
        """Latents of pictures in [-1, 1] by a tiny autoencoder, which has no posterior."""

        def encode_tiny(x: Tensor) -> Tensor:
            latents: Tensor = self.vae.encoder(x)
            return latents

        return self._run(encode_tiny, images)

    def pictures(self, latents: Float[Tensor, "B 4 h w"]) -> Float[Tensor, "B 3 S S"]:
        """Pictures in about [-1, 1] of latents without scaling factor."""

        def decode(z: Tensor) -> Tensor:
            pictures: Tensor = self.vae.decode(z, return_dict=False)[0]
            return pictures

        return self._run(decode, latents)

    def _run(self, function: Callable[[Tensor], Tensor], x: Tensor, gradient: Gradient = "exact") -> Tensor:
        differentiable = torch.is_grad_enabled() and x.requires_grad
        gradient = gradient if differentiable else "exact"
        if records(self.engine, x.device):
            form = function.__name__, gradient, differentiable, tuple(x.shape), x.dtype
            key = form, self._address()
            if key not in self._recorded and len(self._recorded) < MAX_RECORDINGS:
                self.vae.to(memory_format=torch.channels_last)
                key = form, self._address()  # The weights may have moved.
                self._recorded[key] = recorded_or_none(
                    "An autoencoder", lambda: self._record(function, x, differentiable, gradient)
                )
            if (recorded := self._recorded.get(key)) is not None:
                return recorded(x)
        with self._differentiated(gradient):
            return function(x)

    def _address(self) -> int:
        """Where the weights lie."""
        return int(next(self.vae.parameters()).data_ptr())

    @contextmanager
    def _differentiated(self, gradient: Gradient) -> Iterator[None]:
        """Eager calls with a gradient of some kind while the block is open."""
        fixed, eight_bits = self._parts(gradient)
        with ExitStack() as stack:
            if fixed is not None:
                stack.enter_context(fixed_norms(fixed))
            if eight_bits is not None:
                stack.enter_context(eight_bit_gradients(eight_bits))
            yield

    def _parts(self, gradient: Gradient) -> tuple[nn.Module | None, nn.Module | None]:
        """The parts with fixed statistics, and with products of eight bits."""
        if gradient == "exact":
            return None, None
        levels = self.vae.encoder.down_blocks
        return levels[0], levels[:-1] if gradient == "eight_bits" else None

    def _record(
        self, function: Callable[[Tensor], Tensor], x: Tensor, differentiable: bool, gradient: Gradient
    ) -> Callable[..., Tensor]:
        example = x.detach().contiguous(memory_format=torch.channels_last)
        fixed, eight_bits = self._parts(gradient)
        with fused_layers(self.vae, fixed=fixed, eight_bits=eight_bits) as stand_ins:
            self._stand_ins += stand_ins
            if differentiable:
                return RecordedGradient(function, example)
            recorded = RecordedCall(lambda x: (function(x),), {"x": example})
        return lambda x: recorded({"x": x})[0].clone()
