"""What every latent diffusion model here shares: a U-Net, an autoencoder and a noise schedule."""

from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from jaxtyping import Float
from torch import Tensor, nn

from hash3d.fast.autoencoder import AutoencoderEngine, Encoding
from hash3d.fast.engine import Engine
from hash3d.transfer import to_device

from .noise import NoiseSchedule


class LatentPrior(nn.Module):
    """A diffusion model of an autoencoder's latents. Images are [B, 3, S, S] in [-1, 1], latents [B, 4, h, w]."""

    parts: ClassVar[tuple[str, ...]]
    """The subfolders of its diffusers folder that are read."""

    def __init__(self, *, unet: UNet2DConditionModel, vae: AutoencoderKL, schedule: NoiseSchedule) -> None:
        super().__init__()
        self.unet: Any = unet
        self.vae: Any = vae
        self.schedule = schedule
        self._autoencoder = AutoencoderEngine(vae)

    def use_engine(self, engine: Engine) -> None:
        """Run the autoencoder by an engine. Its CUDA graphs stay for as long as the engine does."""
        if engine != self._autoencoder.engine:
            self._autoencoder = AutoencoderEngine(self.vae, engine)

    def _expect(self, kind: str, expected: dict[str, tuple[Any, Any]]) -> None:
        """The parts fit each other: each name has what came and what must come."""
        common = {
            "unet out_channels": (self.unet.config.out_channels, 4),
            "vae latent_channels": (self.vae.config.latent_channels, 4),
        }
        size, scale = self.unet.config.sample_size, self.vae.config.scaling_factor
        if not (isinstance(size, int) and 1 <= size <= 1024 and self.image_size <= 4096):
            raise ValueError(f"Expected a {kind} of 1 to 4096 pixels a side, but its unet sample_size is {size}.")
        if not (isinstance(scale, int | float) and scale > 0.0):
            raise ValueError(f"Expected a vae scaling_factor above 0 for a {kind}, but got {scale}.")
        for name, (got, wanted) in {**expected, **common}.items():
            if got != wanted:
                raise ValueError(f"The prior's parts do not make a {kind}: expected {name} {wanted}, but got {got}.")

    @property
    def image_size(self) -> int:
        """Pixels of a side of the images that the model was made for."""
        return int(self.unet.config.sample_size * 2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def device(self) -> torch.device:
        """Where the parts live, read off one weight: diffusers' own property goes through all modules, at each call."""
        return torch.device(self.unet.conv_in.weight.device)

    @property
    def dtype(self) -> torch.dtype:
        """The parts' number type."""
        dtype: torch.dtype = self.unet.conv_in.weight.dtype
        return dtype

    def encode(
        self,
        images: Float[Tensor, "B 3 S S"],
        generator: torch.Generator | None = None,
        encoding: Encoding = "auto",
    ) -> Float[Tensor, "B 4 h w"]:
        """Latents to add noise to: the posterior's mode, or a sample if a generator is given, times scaling_factor.

        The generator lives on the CPU, so that a seed means the same on every device.
        """
        posterior = DiagonalGaussianDistribution(self._autoencoder.encode(images.to(self.dtype), encoding))
        latents = posterior.mode()
        if generator is not None:
            noise = torch.randn(latents.shape, generator=generator)
            latents = latents + posterior.std * to_device(noise, latents)
        return latents * self.vae.config.scaling_factor

    def decode(self, latents: Float[Tensor, "B 4 h w"]) -> Float[Tensor, "B 3 S S"]:
        """Images of scaled latents."""
        return self._autoencoder.decode(latents.to(self.dtype) / self.vae.config.scaling_factor)
