"""Guidance by a text: SDS with Stable Diffusion, the prompt with words for the view."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hash3d.cache import FeatureCache
from hash3d.cameras import Cameras
from hash3d.diffusion.noise import Latents, Timesteps
from hash3d.diffusion.stable_diffusion import StableDiffusionPrior
from hash3d.stopwatch import Stopwatch
from hash3d.tensors import to_device

from .base import GuidanceInputs, Images
from .latent_guidance import LatentGuidance, LatentGuidanceConfig, expect_one_of, load_latent_prior, resize

VIEWS = ("front view", "side view", "back view", "overhead view")
FRONT, SIDE, BACK, OVERHEAD = range(4)

OVERHEAD_ELEVATION = 60.0
"""Degrees; higher views are seen from overhead, whatever their azimuth."""
SECTOR = 45.0
"""Degrees of azimuth on either side of the front, and of the back, that count as such."""


def view_index(elevation: Float[Tensor, " B"], azimuth: Float[Tensor, " B"]) -> Int[Tensor, " B"]:
    """Index into VIEWS of cameras at angles in degrees; the front is at azimuth 0.

    The rule of threestudio 28d9d80, models/prompt_processors/base.py, with its default thresholds.
    """
    turned = ((azimuth + 180.0) % 360.0 - 180.0).abs()  # The short way round.
    index = torch.where(turned < SECTOR, FRONT, torch.where(turned > 180.0 - SECTOR, BACK, SIDE))
    return torch.where(elevation > OVERHEAD_ELEVATION, OVERHEAD, index)


def view_prompt(prompt: str, view: int) -> str:
    """The prompt, with the words for VIEWS[view]."""
    return f"{prompt}, {VIEWS[view]}"


Rendered = Literal["pictures", "latents"]


@dataclass(frozen=True, kw_only=True)
class StableDiffusionGuidanceConfig(LatentGuidanceConfig):
    """SDS with Stable Diffusion. Defaults: threestudio 28d9d80, configs/dreamfusion-sd.yaml, but for the scale.

    Args:
        guidance_scale: Classifier-free guidance u + s (c - u), 1 being the bare prompt; the small embedded prior wants
            about 10. threestudio's 100 is 101 here: it starts at the conditional prediction, c + 100 (c - u).
        rendered: What the guidance gets: images ("pictures"), or latents [B, h, w, 4] without encoder (Latent-NeRF).
    """

    guidance_scale: float = 100.0
    rendered: Rendered = "pictures"

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_one_of("rendered", self.rendered, Rendered)

    def load_prior(self, name: str, device: torch.device, *, pose: str = "auto") -> StableDiffusionPrior:
        """Load a Stable Diffusion by its folder or name."""
        return load_latent_prior(StableDiffusionPrior, name, device)

    def build(self, inputs: GuidanceInputs) -> "StableDiffusionGuidance":
        """The guidance by the run's prompt. Raises `ValueError` without one, or without a Stable Diffusion."""
        prior, prompt = inputs.prior, inputs.prompt
        if not isinstance(prior, StableDiffusionPrior) or prompt is None:
            raise ValueError(
                f"Expected a Stable Diffusion prior and a prompt, but got {type(prior).__name__} and {prompt!r}. "
                "Give the recipe both."
            )
        return StableDiffusionGuidance(
            self, prior, prompt, negative_prompt=inputs.negative_prompt,
            generator=inputs.generator, cache=inputs.cache, stopwatch=inputs.stopwatch,
        )  # fmt: skip


class StableDiffusionGuidance(LatentGuidance[StableDiffusionPrior]):
    """Says how an image from a new camera should change to look like a prompt.

    Args:
        prior: the diffusion model.
        prompt: of the object; the front is at azimuth 0.
        negative_prompt: in place of the empty prompt in the unconditional branch.
        generator: samples the noise, on the CPU.
        cache: of the prior's U-Net, or None. It starts anew when the prompts change.

    Raises:
        ValueError: the prompt is empty, or too long with the view's words.
    """

    config: StableDiffusionGuidanceConfig

    def __init__(
        self,
        config: StableDiffusionGuidanceConfig,
        prior: StableDiffusionPrior,
        prompt: str,
        *,
        negative_prompt: str = "",
        generator: torch.Generator,
        cache: FeatureCache | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> None:
        super().__init__(config, prior, generator=generator, cache=cache, stopwatch=stopwatch)
        if not prompt.strip():
            raise ValueError("Expected a prompt, but got an empty one. Say what to make, such as 'a red mug'.")
        self.prompts = tuple(view_prompt(prompt, view) for view in range(len(VIEWS)))
        self.negative_prompt = negative_prompt
        with torch.no_grad():
            self._conditional: Float[Tensor, "4 T D"] = prior.embed(list(self.prompts))
            self._unconditional: Float[Tensor, "1 T D"] = prior.embed([negative_prompt])

    @property
    def scope(self) -> object:
        """The prompts."""
        return self.prompts, self.negative_prompt

    @property
    def draws_posterior(self) -> bool:
        """Rendered latents have none."""
        return super().draws_posterior and self.config.rendered == "pictures"

    def encode(self, image: Images, noise: Float[Tensor, "B 4 h w"] | None = None) -> Float[Tensor, "B 4 h w"]:
        """Latents of images of any size, or rendered latents brought to the U-Net's size."""
        if self.config.rendered == "pictures":
            return super().encode(image, noise)
        return resize_latents(image, self.prior.unet.config.sample_size).to(self.prior.dtype)

    def decode(self, latents: Float[Tensor, "B 4 h w"]) -> Images:
        """Images in [0, 1] of latents, or where latents are rendered these, at the U-Net's size."""
        return super().decode(latents) if self.config.rendered == "pictures" else latents.permute(0, 2, 3, 1)

    def inputs(self, noisy: Latents, timesteps: Timesteps, cameras: Cameras) -> dict[str, Any]:
        """The prompt with the nearest view's words, and the unconditional one."""
        views = view_index(cameras.elevation, cameras.azimuth)
        conditional = self._conditional.index_select(0, to_device(views, self._conditional.device))
        return self.prior.make_guided_inputs(noisy, timesteps, conditional, self._unconditional.expand_as(conditional))


def resize_latents(latents: Float[Tensor, "B H W C"], size: int) -> Float[Tensor, "B C size size"]:
    """Rendered latents at the U-Net's size, by antialiased bilinear interpolation; at that size unchanged.

    A channel is what the diffusion model adds noise to: already times the autoencoder's scaling factor (Metzer et al.
    2022, https://arxiv.org/abs/2211.07600). Antialiased, so that the gradient reaches every pixel of a larger render
    (threestudio 28d9d80 does not, and trains a quarter of the pixels of 256 x 256 at a step). Raises `ValueError`
    unless there are 4 channels.
    """
    if latents.shape[-1] != 4:
        raise ValueError(
            f"Expected rendered latents of 4 channels, but got {latents.shape[-1]}. Render 4 features, "
            'or set the guidance to rendered="pictures".'
        )
    return resize(latents, (size, size)).permute(0, 3, 1, 2)
