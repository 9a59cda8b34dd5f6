"""The guidance of a recipe, and the diffusion model that it asks."""

from typing import TypeVar

import torch

from hash3d.cache import FeatureCache
from hash3d.diffusion.latent_prior import LatentPrior
from hash3d.diffusion.loading import resolve_folder
from hash3d.diffusion.stable_diffusion import StableDiffusionPrior
from hash3d.diffusion.zero123 import Zero123Prior
from hash3d.guidance.sds import Guidance
from hash3d.guidance.stable_diffusion import StableDiffusionGuidance, StableDiffusionGuidanceConfig
from hash3d.guidance.zero123 import Zero123Guidance
from hash3d.stopwatch import Stopwatch

from .recipe import Recipe
from .reference import Reference

PriorT = TypeVar("PriorT", Zero123Prior, StableDiffusionPrior)


def load_zero123(name: str, device: torch.device) -> Zero123Prior:
    """A Zero123 by its folder or name: half precision on a GPU, channels last on a CPU, where that is faster."""
    return _load(Zero123Prior, name, device)


def load_prior(recipe: Recipe, device: torch.device) -> LatentPrior:
    """The diffusion model that a recipe's guidance asks."""
    if isinstance(recipe.stage.guidance, StableDiffusionGuidanceConfig):
        return _load(StableDiffusionPrior, recipe.prior, device)
    return load_zero123(recipe.prior, device)


def _load(kind: type[PriorT], name: str, device: torch.device) -> PriorT:
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    prior = kind.load(resolve_folder(name), dtype=dtype, device=device)
    return prior.to(memory_format=torch.channels_last) if device.type == "cpu" else prior  # type: ignore[call-overload]


def build_guidance(
    recipe: Recipe,
    prior: LatentPrior,
    reference: Reference | None,
    *,
    generator: torch.Generator,
    cache: FeatureCache | None,
    stopwatch: Stopwatch,
) -> Guidance:
    """The guidance that a recipe describes, on a prior of its kind."""
    config = recipe.stage.guidance
    if isinstance(config, StableDiffusionGuidanceConfig):
        if not isinstance(prior, StableDiffusionPrior) or recipe.prompt is None:
            raise ValueError(f"Expected a text prior and a prompt for {recipe.system}, but got {type(prior).__name__}.")
        return StableDiffusionGuidance(
            config, prior, recipe.prompt,
            negative_prompt=recipe.negative_prompt, generator=generator, cache=cache, stopwatch=stopwatch,
        )  # fmt: skip
    if not isinstance(prior, Zero123Prior) or reference is None:
        raise ValueError(f"Expected a Zero123 prior and a picture for {recipe.system}, but got {type(prior).__name__}.")
    return Zero123Guidance(
        config, prior, reference.on_white(prior.image_size)[0] * 2.0 - 1.0,
        reference_elevation=recipe.reference_elevation, reference_radius=recipe.stage.cameras.radius,
        generator=generator, cache=cache, stopwatch=stopwatch,
    )  # fmt: skip
