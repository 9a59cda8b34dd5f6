"""Which kind of scene a model is."""

from typing import Unpack

from hash3d.recipes.stage import Stage
from hash3d.representations.gaussians import Gaussians
from hash3d.representations.nerf import Nerf

from .base import SceneTools
from .field import FieldScene
from .gaussians import GaussianScene
from .mesh import MeshScene
from .model import Model


def build_scene(stage: Stage, model: Model, **tools: Unpack[SceneTools]) -> GaussianScene | FieldScene | MeshScene:
    """The scene of a stage that optimises `model`."""
    if isinstance(model, Gaussians):
        return GaussianScene(stage, model, **tools)
    if isinstance(model, Nerf):
        return FieldScene(stage, model, **tools)
    return MeshScene(stage, model, **tools)
