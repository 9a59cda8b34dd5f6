"""Base class of the latent diffusion models: a U-Net, an autoencoder and a noise schedule."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from jaxtyping import Float
from torch import Tensor, nn

from hash3d.cache.calls import digest
from hash3d.cache.state import sample_weights
from hash3d.fast.engine import AutoencoderEngine, Engine
from hash3d.files import filling, write_json
from hash3d.tensors import to_device

from .loading import load_part
from .noise import NoiseSchedule


class LatentPrior(nn.Module):
    """A diffusion model of an autoencoder's latents. Images are [B, 3, S, S] in [-1, 1], latents [B, 4, h, w]."""

    parts: ClassVar[dict[str, list[str]]] = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    """Library and class of each subfolder that is read, as model_index.json has them."""
    pipeline: ClassVar[dict[str, Any]]
    """What else model_index.json says."""
    optional: ClassVar[tuple[str, ...]] = ()
    """Subfolders that only some folders have."""
    encoders: ClassVar[tuple[str, ...]] = ()
    """The parts that read an image or a text, which a run asks once."""
    resting: bool = False
    """Whether these lie in the host's memory between two calls."""

    def __init__(self, *, unet: UNet2DConditionModel, vae: AutoencoderKL, schedule: NoiseSchedule) -> None:
        super().__init__()
        self.unet: Any = unet
        self.vae: Any = vae
        self.schedule = schedule
        self._autoencoder = AutoencoderEngine(vae)

    def use_engine(self, engine: Engine) -> None:
        """Run the autoencoder by an engine, whose CUDA graphs stay for as long as it does."""
        if engine != self._autoencoder.engine:
            self._autoencoder = AutoencoderEngine(self.vae, engine)

    def rest_encoders(self) -> None:
        """Leave in the host's memory what reads an image or a text; on a GPU it takes 0.2 to 1.6 GiB."""
        self.resting = True
        self._move_encoders(torch.device("cpu"))

    def _move_encoders(self, device: torch.device) -> None:
        for name in self.encoders:
            if (encoder := getattr(self, name)) is not None:
                encoder.to(device)

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Let the encoders be where the U-Net is."""
        if not self.resting:
            yield
            return
        self._move_encoders(self.device)
        try:
            yield
        finally:
            self._move_encoders(torch.device("cpu"))

    def _expect(self, kind: str, expected: dict[str, tuple[Any, Any]]) -> None:
        """Raise `ValueError` if the parts do not fit each other. `expected`: what came and what must come, by name."""
        common = {
            "unet out_channels": (self.unet.config.out_channels, 4),
            "unet time_cond_proj_dim": (self.unet.config.time_cond_proj_dim, None),  # A distilled U-Net's guidance.
            "vae latent_channels": (self.vae.config.latent_channels, 4),
        }
        size, scale = self.unet.config.sample_size, self.vae.config.scaling_factor
        if not (isinstance(size, int) and 1 <= size <= 1024 and self.image_size <= 4096):
            raise ValueError(f"Expected a {kind} of 1 to 4096 pixels a side, but its unet sample_size is {size}.")
        if not (isinstance(scale, int | float) and scale > 0.0):
            raise ValueError(f"Expected a vae scaling_factor above 0 for a {kind}, but got {scale}.")
        if other := [name for name in ("shift_factor", "latents_mean") if self.vae.config.get(name)]:
            raise ValueError(
                f"Expected a vae that scales latents by scaling_factor alone for a {kind}, but it has {other[0]}."
            )
        for name, (got, wanted) in {**expected, **common}.items():
            if got != wanted:
                raise ValueError(f"The prior's parts do not make a {kind}: expected {name} {wanted}, but got {got}.")

    @property
    def image_size(self) -> int:
        """Side in pixels of the images that the model was trained on."""
        return int(self.unet.config.sample_size * 2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def device(self) -> torch.device:
        """The parts' device, read off one weight: diffusers' own property walks all modules at each call."""
        return torch.device(self.unet.conv_in.weight.device)

    @property
    def dtype(self) -> torch.dtype:
        """The parts' number type."""
        return self.unet.conv_in.weight.dtype

    def fingerprint(self) -> str:
        """What tells its weights, rounded to half precision, and its settings. It waits for a GPU."""
        settings = self.schedule.config, self.vae.config.scaling_factor, getattr(self, "pose_variant", None)
        return digest(settings, sample_weights(self).half().numpy().tobytes())

    @property
    def _vae_dtype(self) -> torch.dtype:
        """The autoencoder's, which may be wider."""
        return next(self.vae.parameters()).dtype

    def encode(
        self, images: Float[Tensor, "B 3 S S"], noise: Float[Tensor, "B 4 h w"] | None = None
    ) -> Float[Tensor, "B 4 h w"]:
        """Encode images to the posterior's mode, or the sample of normal noise, times scaling_factor."""
        posterior = DiagonalGaussianDistribution(self._autoencoder.encode(images.to(self._vae_dtype)))
        latents = posterior.mode()
        if noise is not None:
            latents = latents + posterior.std * to_device(noise, latents)
        return (latents * self.vae.config.scaling_factor).to(self.dtype)

    def decode(self, latents: Float[Tensor, "B 4 h w"]) -> Float[Tensor, "B 3 S S"]:
        """Decode scaled latents to images."""
        return self._autoencoder.decode(latents.to(self._vae_dtype) / self.vae.config.scaling_factor)

    @staticmethod
    def _load_common(folder: Path, dtype: torch.dtype) -> dict[str, Any]:
        """Load the parts that every prior has, as arguments of its constructor."""
        unet = load_part(UNet2DConditionModel, folder, "unet", dtype)
        vae = load_part(AutoencoderKL, folder, "vae", dtype)
        return {"unet": unet, "vae": vae, "schedule": NoiseSchedule.load(folder / "scheduler")}

    def save(self, folder: Path) -> None:
        """Write the diffusers folder, each file whole or not at all, model_index.json last."""
        with filling(folder) as temporary:
            self._save_parts(temporary)
            write_json(temporary / "model_index.json", dict(sorted({**self.pipeline, **self.parts}.items())))

    def _save_parts(self, folder: Path) -> None:
        """Write the subfolders that every prior has."""
        self.unet.save_pretrained(folder / "unet")
        self.vae.save_pretrained(folder / "vae")
        self.schedule.save(folder / "scheduler")
