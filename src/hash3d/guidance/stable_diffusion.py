"""Guidance by a text: SDS with Stable Diffusion, the prompt naming the view."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hash3d.cache import FeatureCache
from hash3d.cameras import Cameras
from hash3d.diffusion.stable_diffusion import StableDiffusionPrior
from hash3d.stopwatch import Stopwatch

from .latent_guidance import LatentGuidance, LatentGuidanceConfig
from .view_prompts import VIEWS, view_index, view_prompt


@dataclass(frozen=True, kw_only=True)
class StableDiffusionGuidanceConfig(LatentGuidanceConfig):
    """SDS with Stable Diffusion. Defaults: threestudio 28d9d80, configs/dreamfusion-sd.yaml."""

    guidance_scale: float = 100.0
    """Classifier-free guidance; the small embedded prior wants about 10."""
    view_prompts: bool = True
    """Add the view's words to the prompt: front, side, back or overhead view."""


class StableDiffusionGuidance(LatentGuidance[StableDiffusionPrior]):
    """Says how a picture from a new camera should change to look like a prompt.

    Args:
        prior: the diffusion model.
        prompt: of the object; the front is at azimuth 0.
        negative_prompt: in place of the empty prompt in the unconditional branch.
        generator: draws the noise, on the CPU.
        cache: of the prior's U-Net, or None. It starts anew when the prompts change.
    """

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
        self.prompts = tuple(view_prompt(prompt, view) if config.view_prompts else prompt for view in range(len(VIEWS)))
        self.negative_prompt = negative_prompt
        with torch.no_grad():
            self._conditional: Float[Tensor, "4 T D"] = prior.embed(list(self.prompts))
            self._unconditional: Float[Tensor, "1 T D"] = prior.embed([negative_prompt])

    @property
    def scope(self) -> object:
        """The prompts."""
        return self.prompts, self.negative_prompt

    def inputs(self, noisy: Float[Tensor, "B 4 h w"], timesteps: Int[Tensor, " B"], cameras: Cameras) -> dict[str, Any]:
        """Each view's prompt."""
        views = view_index(cameras.elevation, cameras.azimuth)
        conditional = self._conditional[views.to(self._conditional.device)]
        return self.prior.guided_inputs(noisy, timesteps, conditional, self._unconditional.expand_as(conditional))
