"""A mesh in training."""

from typing import ClassVar, Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.rendering.base import Render
from hash3d.rendering.raster import RasterRenderer, RasterRendererConfig
from hash3d.rendering.shading import Shading
from hash3d.representations.dmtet import DmtetMesh
from hash3d.representations.textured_mesh import TexturedMesh

from .losses import normal_consistency_loss
from .scene import Losses, Scene, SceneTools
from .stage import Stage


class MeshScene(Scene[DmtetMesh | TexturedMesh]):
    """A mesh and its rasteriser."""

    own_losses: ClassVar[set[str]] = {"normal_consistency"}

    def __init__(self, stage: Stage, model: DmtetMesh | TexturedMesh, **tools: Unpack[SceneTools]) -> None:
        super().__init__(stage, model, **tools)
        assert isinstance(stage.renderer, RasterRendererConfig)
        self.renderer: RasterRenderer = stage.renderer.build()

    def draw(
        self,
        cameras: Cameras,
        background: Float[Tensor, "B C"] | Float[Tensor, "B H W C"],
        *,
        step: int,
        shading: Shading | None = None,
    ) -> Render:
        """Pictures of the scene, with gradients."""
        return self.renderer(self.model, cameras, background, shading=shading)

    def losses_of(self, views: list[Render]) -> Losses:
        """That of the whole surface's normals."""
        return {"normal_consistency": lambda: normal_consistency_loss(self.model.mesh())}

    def counts(self) -> dict[str, float]:
        """How many faces."""
        with torch.no_grad():
            return {"faces": float(len(self.model.mesh()))}
