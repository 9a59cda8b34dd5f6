"""A mesh in training."""

from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.recipes.stage import Stage
from hash3d.rendering.base import Render
from hash3d.rendering.raster import RasterRenderer, RasterRendererConfig
from hash3d.rendering.shading import Shading
from hash3d.representations.dmtet import DmtetMesh
from hash3d.representations.mesh import Mesh, Surface, SurfacePoints
from hash3d.representations.textured_mesh import TexturedMesh

from .base import Losses, Scene, SceneTools
from .losses import normal_consistency_loss


@dataclass(frozen=True)
class Drawn:
    """A surface whose geometry is made once for all that a step does with it."""

    model: Surface
    geometry: Mesh

    def mesh(self) -> Mesh:
        """The geometry."""
        return self.geometry

    def colors_at(self, points: SurfacePoints) -> Float[Tensor, "N 3"]:
        """The model's."""
        return self.model.colors_at(points)


class MeshScene(Scene[DmtetMesh | TexturedMesh]):
    """A mesh and its rasteriser."""

    own_losses: ClassVar[set[str]] = {"normal_consistency"}

    def __init__(self, stage: Stage, model: DmtetMesh | TexturedMesh, **tools: Unpack[SceneTools]) -> None:
        super().__init__(stage, model, **tools)
        assert isinstance(stage.renderer, RasterRendererConfig)
        self.renderer: RasterRenderer = stage.renderer.build()
        self._drawn: Drawn | None = None

    @property
    def drawn(self) -> Drawn:
        """The present surface, with gradients."""
        if self._drawn is None:
            with torch.enable_grad():
                self._drawn = Drawn(self.model, self.model.mesh())
        return self._drawn

    def after_step(self, step: int) -> None:
        """The surface has changed."""
        self._drawn = None

    def draw(
        self,
        cameras: Cameras,
        background: Float[Tensor, "B C"] | Float[Tensor, "B H W C"],
        *,
        step: int,
        shading: Shading | None = None,
    ) -> Render:
        """Pictures of the scene, with gradients."""
        return self.renderer(self.drawn, cameras, background, shading=shading)

    def losses_of(self, views: list[Render]) -> Losses:
        """That of the whole surface's normals."""
        return {"normal_consistency": lambda: normal_consistency_loss(self.drawn.mesh())}

    def sizes(self) -> dict[str, float | Float[Tensor, ""]]:
        """How many faces; the surface that is counted serves the next step."""
        return {"faces": float(len(self.drawn.mesh()))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as if the run had not stopped."""
        super().load_state_dict(state)
        self._drawn = None
