"""Score distillation with a latent diffusion model: what guidance by an image and guidance by a text share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from hash3d.cache import FeatureCache
from hash3d.cameras import Cameras
from hash3d.diffusion.latent_prior import LatentPrior
from hash3d.diffusion.loading import resolve_folder
from hash3d.diffusion.noise import Latents, Timesteps, Weighting
from hash3d.schedules import Schedule, constant
from hash3d.stopwatch import Stopwatch
from hash3d.tensors import to_device
from hash3d.unet.model import map_tensors

from .base import GuidanceOutput, Images
from .sds import Bound, classifier_free_guidance, sds_gradient, sds_loss

PriorT = TypeVar("PriorT", bound=LatentPrior)


@dataclass(frozen=True, kw_only=True)
class LatentGuidanceConfig:
    """SDS on latents.

    Args:
        guidance_scale: Classifier-free guidance: 1 is the bare condition. More is sharper and more saturated.
        weighting: w(t): "sds" 1 - abar, "sqrt" 1 - sqrt(abar) (the released Hash3D), or "uniform" 1.
        min_timestep: Lowest timestep over the steps, as a share of the model's.
        max_timestep: Highest timestep over the steps, as a share of the model's.
        shared_timestep: One timestep for all views of a step (threestudio), or one for each.
        sample_latents: Sample the latents from the encoder's posterior, or take its mode; a tiny autoencoder has none.
        max_gradient: Bound on every number of the gradient on the latents over the steps; less is steadier, slower.
    """

    guidance_scale: float
    weighting: Weighting = "sds"
    min_timestep: Schedule = field(default_factory=lambda: constant(0.02))
    max_timestep: Schedule = field(default_factory=lambda: constant(0.98))
    shared_timestep: bool = True
    sample_latents: bool = True
    max_gradient: Schedule | None = None

    def __post_init__(self) -> None:
        expect_one_of("weighting", self.weighting, Weighting)

    def gradient_bound(self, step: int | None) -> float | None:
        """`max_gradient` at a step of the run. Raises `ValueError` if there is one and the step is not given."""
        if self.max_gradient is None:
            return None
        if step is None:
            raise ValueError("Expected the run's step for max_gradient, but got none. Call the guidance with step=...")
        return self.max_gradient(step)

    def timestep_range(self, step: int, num_timesteps: int) -> tuple[int, int]:
        """The lowest and highest timestep of a step, both included."""
        low, high = (int(num_timesteps * bound(step)) for bound in (self.min_timestep, self.max_timestep))
        return min(low, num_timesteps - 1), min(max(low, high), num_timesteps - 1)


def load_latent_prior(kind: type[PriorT], source: str, device: torch.device, **options: Any) -> PriorT:
    """Load a diffusion model: half precision on a GPU, channels last on a CPU, where that is faster.

    On a GPU it keeps the encoders of images and texts in the host's memory: a guidance asks them once.

    Args:
        kind: its class, with `load` and `parts`.
        source: a diffusers folder, an embedded prior's name, or a hub name.
        device: where it runs.
        options: of `load`.
    """
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    loader: Any = kind
    prior: Any = loader.load(
        resolve_folder(source, [*loader.parts, *loader.optional], dtype), dtype=dtype, device=device, **options
    )
    if device.type == "cpu":
        return prior.to(memory_format=torch.channels_last)
    prior.rest_encoders()
    return prior


class LatentGuidance(ABC, Generic[PriorT]):
    """Says how an image from a new camera should change.

    Args:
        config: scale, weighting, timesteps.
        prior: the diffusion model.
        generator: samples the noise, on the CPU.
        cache: of the prior's U-Net, or None.
        stopwatch: counts the seconds of "encode" and "unet".
    """

    def __init__(
        self,
        config: LatentGuidanceConfig,
        prior: PriorT,
        *,
        generator: torch.Generator,
        cache: FeatureCache | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> None:
        self.config, self.prior, self.cache, self.generator = config, prior, cache, generator
        self.stopwatch = stopwatch or Stopwatch(prior.device)

    @property
    def scope(self) -> object:
        """What the stored features depend on besides the view, such as the prompt; never None."""
        return type(self).__name__

    @abstractmethod
    def inputs(self, noisy: Latents, timesteps: Timesteps, cameras: Cameras) -> dict[str, Any]:
        """The U-Net's arguments: rows [conditional views, unconditional views]."""

    def __call__(
        self, image: Images, cameras: Cameras, timesteps: Timesteps, *, step: int | None = None
    ) -> GuidanceOutput:
        """The SDS loss of B images in [0, 1]; its gradient flows through the encoder, not the U-Net.

        `step` is the run's; it may be left out without `max_gradient`.
        """
        max_gradient = self.config.gradient_bound(step)
        with self.stopwatch.part("encode"):
            latents = self.encode(image)
        noise = to_device(self.draw_noise(len(latents)), latents)
        with torch.no_grad(), self.stopwatch.part("unet"):
            noisy = self.prior.schedule.add_noise(latents.detach(), noise, timesteps)
            noise_pred = self.predict_noise(noisy, timesteps, cameras)
        loss, gradient = self.loss(latents, noise_pred, noise, timesteps, max_gradient)
        metrics = {"timestep": float(timesteps.float().mean())}
        return GuidanceOutput(loss=loss, passes=len(noise), metrics=metrics, predicted=gradient)

    @property
    def draws_posterior(self) -> bool:
        """Whether `encode` samples the encoder's posterior, with noise of its own."""
        return self.config.sample_latents

    def draw_noise(self, count: int) -> Latents:
        """Normal noise of `count` latents, on the CPU, so that a seed means the same on every device."""
        side = self.prior.unet.config.sample_size
        return torch.randn(count, 4, side, side, generator=self.generator)

    def encode(self, image: Images, noise: Float[Tensor, "B 4 h w"] | None = None) -> Float[Tensor, "B 4 h w"]:
        """Latents of images of any size; of the posterior's, the sample of `noise`, which is drawn if it is wanted."""
        size = self.prior.image_size
        pixels = resize(image, (size, size)).permute(0, 3, 1, 2)
        if noise is None and self.draws_posterior:
            noise = self.draw_noise(len(image))
        return self.prior.encode(pixels * 2.0 - 1.0, noise)

    def loss(
        self, latents: Latents, noise_pred: Latents, noise: Latents, timesteps: Timesteps, max_gradient: Bound = None
    ) -> tuple[Float[Tensor, ""], Latents]:
        """The SDS loss of latents, and the gradient on them before its bound."""
        weights = self.prior.schedule.weights(timesteps, self.config.weighting)
        gradient = sds_gradient(noise_pred, noise, weights)
        return sds_loss(latents, gradient, max_gradient), gradient

    def decode(self, latents: Float[Tensor, "B 4 h w"]) -> Images:
        """Images in [0, 1] of latents, at the model's size; what is not finite becomes NaN."""
        pixels = self.prior.decode(latents).float().permute(0, 2, 3, 1) * 0.5 + 0.5
        return pixels.clamp(0.0, 1.0) + 0.0 * pixels  # An infinity is no white.

    def predict_noise(
        self,
        noisy: Latents,
        timesteps: Timesteps,
        cameras: Cameras,
        guidance_scale: float | None = None,
        inputs: dict[str, Any] | None = None,
    ) -> Latents:
        """The guided noise prediction, through the cache if there is one; a scale of None is the guidance's own.

        At a scale of 1 the prediction is the conditional one: without a cache the U-Net gets only its B rows. `inputs`
        are the U-Net's arguments, where they are known already.
        """
        scale = self.config.guidance_scale if guidance_scale is None else guidance_scale
        inputs = inputs or self.inputs(noisy, timesteps, cameras)
        if scale == 1.0 and self.cache is None:
            inputs = map_tensors(lambda rows: rows[: len(noisy)], inputs)
            return self.prior.schedule.to_noise(self.prior.unet(**inputs, return_dict=False)[0], noisy, timesteps)
        return self.guide(self.predict(inputs, timesteps, cameras), noisy, timesteps, scale)

    def predict(self, inputs: dict[str, Any], timesteps: Timesteps, cameras: Cameras) -> Float[Tensor, "N 4 h w"]:
        """The U-Net's prediction for `inputs`, through the cache if there is one."""
        view: Any = nullcontext()
        if self.cache is not None:
            places = {name: getattr(cameras, name) for name in ("elevation", "azimuth", "radius")}
            view = self.cache.view(**places, timestep=timesteps, scope=self.scope)
        with view:
            prediction: Tensor = self.prior.unet(**inputs, return_dict=False)[0]
        return prediction

    def guide(
        self, prediction: Float[Tensor, "N 4 h w"], noisy: Latents, timesteps: Timesteps, scale: float
    ) -> Latents:
        """The noise of both branches' predictions, by classifier-free guidance."""
        conditional, unconditional = prediction.chunk(2)
        guided = classifier_free_guidance(conditional, unconditional, scale)
        return self.prior.schedule.to_noise(guided, noisy, timesteps)


def resize(images: Float[Tensor, "B h w C"], size: Sequence[int]) -> Float[Tensor, "B H W C"]:
    """Images at another size, by antialiased bilinear interpolation; at that size unchanged."""
    if images.shape[1:3] == torch.Size(size):
        return images
    return F.interpolate(images.permute(0, 3, 1, 2), tuple(size), mode="bilinear", antialias=True).permute(0, 2, 3, 1)


def expect_one_of(name: str, value: str, choices: Any) -> None:
    """Raise `ValueError` unless a setting is one of the strings of a `Literal`."""
    if value not in get_args(choices):
        allowed = ", ".join(map(repr, get_args(choices)))
        raise ValueError(f"Expected {name} to be one of {allowed}, but got {value!r}. Choose one of these.")
