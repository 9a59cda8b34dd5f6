"""What every latent diffusion model here shares: a U-Net, an autoencoder and a noise schedule."""

from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from jaxtyping import Float
from torch import Tensor, nn

from hash3d.transfer import to_device

from .autoencoder import RecordedAutoencoder
from .encoding import Encoding, encoded_moments
from .engine import Engine
from .loading import load_part, resolve_folder
from .noise import NoiseSchedule


class LatentPrior(nn.Module):
    """A diffusion model of an autoencoder's latents. Images are [B, 3, S, S] in [-1, 1], latents [B, 4, h, w]."""

    def __init__(self, *, unet: UNet2DConditionModel, vae: AutoencoderKL, schedule: NoiseSchedule) -> None:
        super().__init__()
        self.unet: Any = unet
        self.vae: Any = vae
        self.schedule = schedule
        self.tiny: Any = None
        self._autoencoder = RecordedAutoencoder(vae)
        self._tiny: RecordedAutoencoder | None = None

    def use_engine(self, engine: Engine) -> None:
        """Run the autoencoders by an engine. Their recordings stay for as long as the engine does."""
        if engine != self._autoencoder.engine:
            self._autoencoder = RecordedAutoencoder(self.vae, engine)
            self._tiny = None if self.tiny is None else RecordedAutoencoder(self.tiny, engine)

    def load_tiny(self, name: str) -> None:
        """Read the tiny autoencoder that the encoding "tiny" needs: diffusers' `AutoencoderTiny`, such as taesd.

        Raises `FileNotFoundError` or `ValueError` with one sentence if `name`, a folder or a hub name, holds none, or
        one of other latents than the prior's.
        """
        folder = resolve_folder(name, "tiny autoencoder").resolve()
        tiny = load_part(AutoencoderTiny, folder.parent, folder.name, self.dtype)
        came = tiny.config.latent_channels, 2 ** (len(tiny.config.encoder_block_out_channels) - 1)
        wanted = self.vae.config.latent_channels, 2 ** (len(self.vae.config.block_out_channels) - 1)
        if came != wanted:
            raise ValueError(
                "Expected a tiny autoencoder with latents of {} channels, each of {} pixels a side, ".format(*wanted)
                + "but {} has {} channels of {} pixels.".format(folder, *came)
            )
        layout = torch.channels_last if self.device.type == "cpu" else torch.contiguous_format
        self.tiny = tiny.to(self.device, memory_format=layout)
        self._tiny = RecordedAutoencoder(self.tiny, self._autoencoder.engine)

    def _expect(self, kind: str, expected: dict[str, tuple[Any, Any]]) -> None:
        """The parts fit each other: each name has what came and what must come."""
        common = {
            "unet out_channels": (self.unet.config.out_channels, 4),
            "vae latent_channels": (self.vae.config.latent_channels, 4),
        }
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

        The generator lives on the CPU, so that a seed means the same on every device. A tiny autoencoder has no
        posterior, and what it gives is scaled already, if trained as taesd: its scaling_factor is 1 (diffusers,
        `AutoencoderTiny`; madebyollin/taesd, issues 3 and 18). Raises `ValueError` without a tiny autoencoder for it.
        """
        if encoding == "tiny":
            if self._tiny is None:
                raise ValueError("Expected a tiny autoencoder for 'tiny', but there is none. Call load_tiny first.")
            return self._tiny.latents(images.to(self.dtype)) * self.tiny.config.scaling_factor
        posterior = DiagonalGaussianDistribution(encoded_moments(self._autoencoder, images.to(self.dtype), encoding))
        latents = posterior.mode()
        if generator is not None:
            noise = torch.randn(latents.shape, generator=generator)
            latents = latents + posterior.std * to_device(noise, latents)
        return latents * self.vae.config.scaling_factor

    def decode(self, latents: Float[Tensor, "B 4 h w"]) -> Float[Tensor, "B 3 S S"]:
        """Images of scaled latents."""
        return self._autoencoder.pictures(latents.to(self.dtype) / self.vae.config.scaling_factor)
