"""The diffusion models that a recipe names, and a guidance of a stage at work."""

import functools
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from hash3d.cache import FeatureCache
from hash3d.diffusion.latent_prior import LatentPrior
from hash3d.diffusion.stable_diffusion import StableDiffusionPrior
from hash3d.diffusion.zero123 import Zero123Prior
from hash3d.guidance.base import Guidance, GuidanceConfig
from hash3d.guidance.stable_diffusion import StableDiffusionGuidanceConfig
from hash3d.guidance.zero123 import Zero123GuidanceConfig
from hash3d.recipes.recipe import Pose, Recipe
from hash3d.unet import remove_hash3d


def load_zero123(name: str, device: torch.device, pose: Pose = "auto") -> Zero123Prior:
    """Load a Zero123 by its folder or name: half precision on a GPU, channels last on a CPU, where that is faster."""
    return Zero123GuidanceConfig().load_prior(name, device, pose=pose)


def load_stable_diffusion(name: str, device: torch.device) -> StableDiffusionPrior:
    """Load a Stable Diffusion by its folder or name, in the same way."""
    return StableDiffusionGuidanceConfig().load_prior(name, device)


def list_configs(recipe: Recipe) -> dict[str, GuidanceConfig]:
    """The guidances of a recipe by name, each as its first stage has it."""
    return {name: config for stage in reversed(recipe.stages) for name, config in stage.guidances.items()}


def load_priors(recipe: Recipe, device: torch.device) -> dict[str, LatentPrior]:
    """Load the diffusion model of each guidance that the recipe names one for, in the recipe's order."""
    configs = list_configs(recipe)
    return {name: configs[name].load_prior(prior, device, pose=recipe.pose) for name, prior in recipe.priors.items()}


def keep_priors(recipe: Recipe, device: torch.device) -> dict[str, LatentPrior]:
    """Load them as `load_priors` does, but each once in this process; without a cache of an earlier run."""
    configs = list_configs(recipe)
    priors = {name: _load(type(configs[name]), prior, device, recipe.pose) for name, prior in recipe.priors.items()}
    for prior in priors.values():
        remove_hash3d(prior.unet)
    return priors


@functools.lru_cache(maxsize=4)
def _load(kind: Any, name: str, device: torch.device, pose: Pose) -> LatentPrior:
    return kind().load_prior(name, device, pose=pose)


NUM_TIMESTEPS = 1000
"""Of a guidance without a diffusion model."""


@dataclass
class ActiveGuidance:
    """A guidance of the stage at work, with its own diffusion model and cache."""

    config: GuidanceConfig
    prior: LatentPrior | None
    cache: FeatureCache | None
    guide: Guidance
    passes: int = 0
    """U-Net passes so far, counted per view."""

    def timestep_range(self, step: int) -> tuple[int, int]:
        """The lowest and highest timestep at a step, both included."""
        return self.config.timestep_range(step, self.prior.schedule.num_timesteps if self.prior else NUM_TIMESTEPS)

    def count_passes(self) -> tuple[int, int]:
        """Full and shallow U-Net passes so far; without a cache all are full."""
        shallow = self.cache.statistics.shallow if self.cache else 0
        return self.passes - shallow, shallow


def scale_timesteps(timesteps: Int[Tensor, " B"], first: tuple[int, int], second: tuple[int, int]) -> Int[Tensor, " B"]:
    """Timesteps at the same share of another range: uniform there too, and near each other where these are.

    So a view that returns to a cell of one model's cache returns to one of the other's.
    """
    if second == first:
        return timesteps
    share = (timesteps - first[0]).double() / max(first[1] - first[0], 1)
    return second[0] + (share * (second[1] - second[0])).round().long()
