"""The diffusion models that a recipe names."""

import torch

from hash3d.diffusion.latent_prior import LatentPrior
from hash3d.diffusion.stable_diffusion import StableDiffusionPrior
from hash3d.diffusion.zero123 import Zero123Prior
from hash3d.guidance.base import GuidanceConfig
from hash3d.guidance.stable_diffusion import StableDiffusionGuidanceConfig
from hash3d.guidance.zero123 import Zero123GuidanceConfig
from hash3d.recipes.recipe import Pose, Recipe


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
