"""The model and the scene of a stage, by the kind of its representation."""

from pathlib import Path
from typing import Any, Unpack

import torch
from torch import nn

from hash3d.diffusion.latent_prior import LatentPrior
from hash3d.recipes.recipe import Recipe
from hash3d.recipes.stage import Stage

from . import field, gaussians, mesh  # noqa: F401  # The kinds of this package become known.
from .base import Scene, SceneTools, find_kind
from .show import Show


def build_model(recipe: Recipe, number: int, previous: nn.Module | None, generator: torch.Generator) -> nn.Module:
    """The start of the recipe's stage `number`, on the CPU; `previous` is the result of the stage before.

    Without it a second stage gets its parts without their values, for a checkpoint to fill in.
    """
    kind = find_kind(recipe.stages[number].representation)
    if number == 0:
        return kind.start(recipe, generator)
    return kind.blank(recipe) if previous is None else kind.start_from(previous, recipe, generator)


def build_scene(stage: Stage, model: nn.Module, **tools: Unpack[SceneTools]) -> Scene[Any]:
    """The scene of a stage that optimises `model`."""
    return find_kind(stage.representation)(stage, model, **tools)


def show_model(model: nn.Module, stage: Stage, prior: LatentPrior | None = None) -> Show:
    """A function that renders a stage's model on white; `prior` decodes the images of a latent field."""
    return find_kind(stage.representation).show(model, stage, prior)


def save_model(folder: Path, model: nn.Module, stage: Stage) -> str:
    """Write the file of a stage's model. Returns its name."""
    kind = find_kind(stage.representation)
    kind.save(model, folder / kind.file)
    return kind.file


def load_model(recipe: Recipe, folder: Path, device: torch.device) -> nn.Module:
    """The model of a finished run. Raises `ValueError` if there is none, or it cannot be read."""
    kind = find_kind(recipe.stages[-1].representation)
    path = folder / kind.file
    if not path.is_file():
        raise ValueError(f"Expected a finished run in {folder}, but it has no {path.name}. Run hash3d generate first.")
    model: nn.Module = kind.blank(recipe)
    kind.load(model, path)
    return model.to(device)
