"""The guidance of a recipe, and the diffusion model that it asks."""

from typing import Any, TypedDict, TypeVar, Unpack

import torch

from hash3d.cache import FeatureCache
from hash3d.diffusion.latent_prior import LatentPrior
from hash3d.diffusion.loading import resolve_folder
from hash3d.diffusion.stable_diffusion import StableDiffusionPrior
from hash3d.diffusion.zero123 import Zero123Prior
from hash3d.guidance.denoise import DenoiseGuidance, DenoiseGuidanceConfig
from hash3d.guidance.latent_guidance import LatentGuidance
from hash3d.guidance.sds import Guidance
from hash3d.guidance.stable_diffusion import StableDiffusionGuidance, StableDiffusionGuidanceConfig
from hash3d.guidance.zero123 import Zero123Guidance, Zero123GuidanceConfig
from hash3d.recipes.recipe import Pose, Recipe
from hash3d.recipes.stage import GuidanceConfig
from hash3d.stopwatch import Stopwatch

from .reference import Reference

PriorT = TypeVar("PriorT", Zero123Prior, StableDiffusionPrior)


def load_zero123(name: str, device: torch.device, pose: Pose = "auto") -> Zero123Prior:
    """Load a Zero123 by its folder or name: half precision on a GPU, channels last on a CPU, where that is faster."""
    return _load(Zero123Prior, name, device, name=name, pose_variant=None if pose == "auto" else pose)


def load_stable_diffusion(name: str, device: torch.device) -> StableDiffusionPrior:
    """A Stable Diffusion by its folder or name, in the same way."""
    return _load(StableDiffusionPrior, name, device)


def load_prior(recipe: Recipe, device: torch.device) -> LatentPrior:
    """The diffusion model that a recipe's guidance asks: with a picture a Zero123."""
    if recipe.image is None:
        return load_stable_diffusion(recipe.prior, device)
    return load_zero123(recipe.prior, device, recipe.pose)


def load_text_prior(recipe: Recipe, device: torch.device) -> StableDiffusionPrior | None:
    """The second diffusion model, if the recipe has one."""
    return None if recipe.text_prior is None else load_stable_diffusion(recipe.text_prior, device)


def _load(kind: type[PriorT], source: str, device: torch.device, **options: Any) -> PriorT:
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    prior = kind.load(resolve_folder(source, kind.parts, dtype), dtype=dtype, device=device, **options)
    return prior.to(memory_format=torch.channels_last) if device.type == "cpu" else prior  # type: ignore[call-overload]


class Tools(TypedDict):
    """What every guidance works with: the noise's generator, the prior's cache, and who counts the seconds."""

    generator: torch.Generator
    cache: FeatureCache | None
    stopwatch: Stopwatch


def build_guidance(
    recipe: Recipe, config: GuidanceConfig, prior: LatentPrior, reference: Reference | None, **tools: Unpack[Tools]
) -> Guidance:
    """The guidance of a stage, on the recipe's prior."""
    if isinstance(config, DenoiseGuidanceConfig):
        return DenoiseGuidance(config, build_latent_guidance(recipe, config.guidance, prior, reference, **tools))
    return build_latent_guidance(recipe, config, prior, reference, **tools)


def build_latent_guidance(
    recipe: Recipe,
    config: Zero123GuidanceConfig | StableDiffusionGuidanceConfig,
    prior: LatentPrior,
    reference: Reference | None,
    **tools: Unpack[Tools],
) -> LatentGuidance[Any]:
    """Score distillation by a picture or by a text."""
    if isinstance(config, StableDiffusionGuidanceConfig):
        return build_text_guidance(recipe, config, prior, **tools)
    if not isinstance(prior, Zero123Prior) or reference is None:
        raise ValueError(f"Expected a Zero123 prior and a picture for {recipe.system}, but got {type(prior).__name__}.")
    picture = reference.on_white(prior.image_size)[0] * 2.0 - 1.0
    return Zero123Guidance(
        config, prior, picture,
        reference_elevation=recipe.reference_elevation, reference_radius=reference.cameras.radius, **tools,
    )  # fmt: skip


def build_text_guidance(
    recipe: Recipe, config: StableDiffusionGuidanceConfig, prior: LatentPrior, **tools: Unpack[Tools]
) -> StableDiffusionGuidance:
    """Score distillation by the recipe's prompt."""
    if not isinstance(prior, StableDiffusionPrior) or recipe.prompt is None:
        raise ValueError(f"Expected a text prior and a prompt for {recipe.system}, but got {type(prior).__name__}.")
    return StableDiffusionGuidance(config, prior, recipe.prompt, negative_prompt=recipe.negative_prompt, **tools)
