"""The noise schedule of a diffusion model: q(z_t | z_0), parametrisations, weights w(t)."""

from pathlib import Path
from typing import Literal

import torch
from diffusers import DDIMScheduler
from jaxtyping import Float, Int
from torch import Tensor

from hash3d.model_files import read_configuration
from hash3d.tensors import to_device

Weighting = Literal["sds", "sqrt", "uniform"]
Latents = Float[Tensor, "B C h w"]
Timesteps = Int[Tensor, " B"]


class NoiseSchedule:
    """Cumulated alphas (on the CPU, float32) and the prediction type; timesteps are integers in [0, num_timesteps)."""

    def __init__(
        self,
        *,
        num_timesteps: int = 1000,
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        beta_schedule: str = "scaled_linear",
        prediction_type: str = "epsilon",
    ) -> None:
        if prediction_type not in ("epsilon", "v_prediction"):
            raise ValueError(f"Expected the prediction type epsilon or v_prediction, but got {prediction_type!r}.")
        if not (1 <= num_timesteps <= 100_000 and 0.0 < beta_start <= beta_end < 1.0):
            got = f"{num_timesteps} and {beta_start} to {beta_end}"
            raise ValueError(f"Expected 1 to 100,000 timesteps and betas that rise inside (0, 1), but got {got}.")
        if beta_schedule not in ("scaled_linear", "linear"):
            raise ValueError(f"Expected the beta schedule scaled_linear or linear, but got {beta_schedule!r}.")
        power = 2 if beta_schedule == "scaled_linear" else 1
        first, last = beta_start ** (1 / power), beta_end ** (1 / power)
        betas = torch.linspace(first, last, num_timesteps, dtype=torch.float64) ** power
        self.num_timesteps, self.prediction_type = num_timesteps, prediction_type
        self.config = {
            "num_train_timesteps": num_timesteps,
            "beta_start": beta_start,
            "beta_end": beta_end,
            "beta_schedule": beta_schedule,
            "prediction_type": prediction_type,
        }
        self.alphas_cumprod: Float[Tensor, " T"] = torch.cumprod(1.0 - betas, dim=0).float()
        self._tables: dict[torch.device, Tensor] = {}

    @classmethod
    def load(cls, folder: Path) -> "NoiseSchedule":
        """Read a diffusers `scheduler/` folder. Raises `ValueError` if it cannot be used."""
        path = folder / "scheduler_config.json"
        config = read_configuration(path)
        config["num_timesteps"] = config.get("num_train_timesteps", 1000)
        known = ("num_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type")
        try:
            if other := [name for name in ("trained_betas", "rescale_betas_zero_snr") if config.get(name)]:
                raise ValueError(f"Expected betas of beta_schedule alone, but got {other[0]}.")
            if "beta_schedule" not in config:
                raise ValueError(f"Expected a beta_schedule, but {config.get('_class_name')} has none.")
            return cls(**{name: config[name] for name in known if name in config})
        except (TypeError, ValueError) as error:
            raise ValueError(f"The noise schedule in {path} cannot be used: {str(error).splitlines()[0]}") from error

    def save(self, folder: Path) -> None:
        """Write a diffusers `scheduler/` folder."""
        DDIMScheduler(**self.config, clip_sample=False, set_alpha_to_one=False, steps_offset=1).save_pretrained(folder)

    def alphas(self, timesteps: Timesteps) -> Float[Tensor, " B"]:
        """Return abar_t where the timesteps are; on a GPU the host is not asked."""
        if timesteps.is_cpu:
            return self.alphas_cumprod[timesteps]
        if timesteps.device not in self._tables:
            self._tables[timesteps.device] = self.alphas_cumprod.to(timesteps.device)
        return self._tables[timesteps.device][timesteps]

    def coefficients(self, timesteps: Timesteps, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return sqrt(abar_t) and sqrt(1 - abar_t), each [B, 1, ..., 1] on the device and in the dtype of `like`.

        Of one timestep on the CPU each is a number, in a tensor of shape []: nothing is sent to the device.
        """
        alphas = self.alphas(timesteps)
        signal, sigma = alphas.sqrt(), (1.0 - alphas).sqrt()
        if signal.is_cpu and len(signal) == 1:
            return signal[0].to(like.dtype), sigma[0].to(like.dtype)
        shape = (-1, *[1] * (like.ndim - 1))
        return to_device(signal.view(shape), like), to_device(sigma.view(shape), like)

    def add_noise(self, latents: Latents, noise: Latents, timesteps: Timesteps) -> Latents:
        """Return z_t = sqrt(abar_t) z_0 + sqrt(1 - abar_t) noise (Ho et al. 2020, eq. 4)."""
        signal, sigma = self.coefficients(timesteps, latents)
        return signal * latents + sigma * noise

    def to_noise(self, prediction: Latents, noisy: Latents, timesteps: Timesteps) -> Latents:
        """Return the predicted noise: the prediction, or sqrt(abar_t) v + sqrt(1 - abar_t) z_t for a v-prediction."""
        if self.prediction_type == "epsilon":
            return prediction
        signal, sigma = self.coefficients(timesteps, noisy)
        return signal * prediction + sigma * noisy

    def to_latents(self, noise_pred: Latents, noisy: Latents, timesteps: Timesteps) -> Latents:
        """Return the denoised latents z_0 = (z_t - sqrt(1 - abar_t) noise) / sqrt(abar_t)."""
        signal, sigma = self.coefficients(timesteps, noisy)
        return (noisy - sigma * noise_pred) / signal

    def weights(self, timesteps: Timesteps, weighting: Weighting) -> Float[Tensor, " B"]:
        """Return w(t) of the SDS gradient, where the timesteps are.

        sds: 1 - abar_t (Poole et al. 2022); sqrt: 1 - sqrt(abar_t) (the released Hash3D's zero123_unified_guidance);
        uniform: 1 (threestudio 28d9d80).
        """
        alphas = self.alphas(timesteps)
        return {"sds": 1.0 - alphas, "sqrt": 1.0 - alphas.sqrt(), "uniform": torch.ones_like(alphas)}[weighting]
