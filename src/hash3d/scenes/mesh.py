"""A mesh in training."""

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hash3d.cameras import Cameras
from hash3d.diffusion.latent_prior import LatentPrior
from hash3d.meshing.asset import FIELD_SURFACE, GAUSSIANS_SURFACE
from hash3d.meshing.isosurface import IsosurfaceConfig
from hash3d.recipes.recipe import Recipe
from hash3d.recipes.stage import Stage
from hash3d.rendering.base import Render
from hash3d.rendering.raster import RasterRenderer, RasterRendererConfig, SurfaceRender
from hash3d.rendering.shading import Shading
from hash3d.representations.background import is_mixed
from hash3d.representations.dmtet import DmtetMesh, DmtetMeshConfig
from hash3d.representations.gaussians import Gaussians
from hash3d.representations.mesh import Mesh, Surface, SurfacePoints
from hash3d.representations.nerf import Nerf, NerfConfig
from hash3d.representations.textured_mesh import TexturedMesh, TexturedMeshConfig

from .base import REFERENCE_LOSSES, Behind, Losses, ModelT, Scene, SceneTools, expect_config
from .convert import density_at, no_way, textured_mesh
from .losses import normal_consistency_loss
from .rooms import RANDOM, REFERENCE, Rooms
from .show import Show


@dataclass(frozen=True)
class FixedSurface:
    """A surface whose geometry is made once for all that a step does with it."""

    model: Surface
    geometry: Mesh

    def mesh(self) -> Mesh:
        """The geometry."""
        return self.geometry

    def colors_at(self, points: SurfacePoints) -> Float[Tensor, "N 3"]:
        """The model's."""
        return self.model.colors_at(points)


class MeshScene(Scene[ModelT]):
    """A mesh and its rasteriser; a second stage alone has one."""

    own_losses: ClassVar[set[str]] = {"normal_consistency"}

    def __init__(self, stage: Stage, model: ModelT, **tools: Unpack[SceneTools]) -> None:
        super().__init__(stage, model, **tools)
        self.renderer: RasterRenderer = expect_config(stage.renderer, RasterRendererConfig, stage).build()
        self._surface: FixedSurface | None = None

    @classmethod
    def start(cls, recipe: Recipe, generator: torch.Generator) -> ModelT:
        """A mesh has no start of its own."""
        name = type(recipe.stage.representation).__name__
        raise ValueError(f"Expected a first stage of Gaussians or a field, but got a {name}.")

    @classmethod
    def show(cls, model: ModelT, stage: Stage, prior: LatentPrior | None = None) -> Show:
        """All views are of the surface that the mesh has now."""
        surface: Any = model
        with torch.no_grad():
            fixed = FixedSurface(surface, surface.mesh())
        renderer = expect_config(stage.renderer, RasterRendererConfig, stage).build()

        @torch.no_grad()
        def show(cameras: Cameras) -> Render:
            return renderer(fixed, cameras, torch.ones(len(cameras), 3, device=fixed.geometry.vertices.device))

        return show

    @property
    def surface(self) -> FixedSurface:
        """The present surface, with gradients."""
        if self._surface is None:
            with torch.enable_grad():
                model: Any = self.model
                self._surface = FixedSurface(model, self.extract())
        return self._surface

    def extract(self) -> Mesh:
        """The geometry of the model's present values."""
        model: Any = self.model
        mesh: Mesh = model.mesh()
        return mesh

    def forget(self) -> None:
        """Drop the surface."""
        self._surface = None

    def render(self, cameras: Cameras, background: Behind, *, step: int, shading: Shading | None = None) -> Render:
        """Render the scene, with gradients."""
        return self.renderer(self.surface, cameras, background, shading=shading)

    def losses_of(self, views: list[Render]) -> Losses:
        """That of the whole surface's normals."""
        return {"normal_consistency": lambda: normal_consistency_loss(self.surface.mesh())}

    def sizes(self) -> dict[str, float | Float[Tensor, ""]]:
        """How many faces; the surface that is counted serves the next step."""
        return {"faces": float(len(self.surface.mesh()))}


class DmtetScene(MeshScene[DmtetMesh], represents=DmtetMeshConfig):
    """A mesh of moving tetrahedra, in the colours of a field."""

    def __init__(self, stage: Stage, model: DmtetMesh, **tools: Unpack[SceneTools]) -> None:
        super().__init__(stage, model, **tools)
        self.rooms = Rooms(self.device)
        self._random_cameras: Cameras | None = None

    @classmethod
    def start_from(cls, previous: nn.Module, recipe: Recipe, generator: torch.Generator) -> DmtetMesh:
        """The surface of a field."""
        first, stage = recipe.stages
        if not isinstance(previous, Nerf):
            raise no_way(previous, stage)
        config = expect_config(stage.representation, DmtetMeshConfig, stage)
        return dmtet_mesh(previous, config, first.surface or FIELD_SURFACE)

    @classmethod
    def blank(cls, recipe: Recipe) -> DmtetMesh:
        """A ball in the colours of a new field: a file brings its own shape."""
        last = recipe.stages[-1]
        config = expect_config(last.representation, DmtetMeshConfig, last)
        field = expect_config(recipe.stage.representation, NerfConfig, last).build(torch.Generator().manual_seed(0))
        return config.build(lambda points: (-points.norm(dim=-1)).exp(), field)

    def extract(self) -> Mesh:
        """The geometry of the model's present values, in the rooms of a graph where shapes are to be fixed."""
        return self.model.mesh(self.rooms.mesh if self.fixed else None)

    def draw_random(self, cameras: Cameras, step: int) -> Render:
        """The random views; a graph makes a surface of its own."""
        self._random_cameras = cameras
        if self.fixed:
            self.forget()
        return super().draw_random(cameras, step)

    def render(
        self, cameras: Cameras, background: Behind, *, step: int, shading: Shading | None = None
    ) -> SurfaceRender:
        """Render the scene, with gradients, and take down what that needs."""
        kind = RANDOM if cameras is self._random_cameras else REFERENCE
        room = self.rooms.pixels(kind, len(cameras) * cameras.height * cameras.width) if self.fixed else None
        view = self.renderer(self.surface, cameras, background, shading=shading, room=room)
        self.rooms.note(self.surface.geometry, view, kind)
        return view

    def can_record(self) -> bool:
        """By kernels that wait for nothing, before a background of one kind; what is too large shows in the colours."""
        used, renderer = self.stage.losses.used(), cast(Any, self.stage.renderer)
        told = "color" in used or not used & REFERENCE_LOSSES
        return told and not is_mixed(self.stage.background) and renderer.backend in ("auto", "triton")

    def has_room(self) -> bool:
        """After some plain steps."""
        return self.rooms.ready

    def recorded_form(self) -> tuple[Any, list[Tensor]]:
        """The rooms, and what graphs say of their needs."""
        return tuple(self.rooms.most), [self.rooms.needed, self.rooms.faces]

    def may_overflow(self, size: int, views: int) -> bool:
        """A surface may always outgrow its rooms."""
        return True

    def sizes(self) -> dict[str, float | Float[Tensor, ""]]:
        """How many faces the surface has that a step rendered last, before it was changed."""
        return {"faces": self.rooms.faces}

    def counts(self) -> dict[str, float]:
        """How many faces the present surface has, which waits for the device."""
        return {"faces": float(len(self.surface.mesh()))}


class TexturedScene(MeshScene[TexturedMesh], represents=TexturedMeshConfig):
    """A mesh with a texture."""

    @classmethod
    def start_from(cls, previous: nn.Module, recipe: Recipe, generator: torch.Generator) -> TexturedMesh:
        """The surface of Gaussians, painted with their renders."""
        first, stage = recipe.stages
        if not isinstance(previous, Gaussians):
            raise no_way(previous, stage)
        config = expect_config(stage.representation, TexturedMeshConfig, stage)
        return textured_mesh(previous.gaussians(), config, first.surface or GAUSSIANS_SURFACE, camera=stage.cameras)

    @classmethod
    def blank(cls, recipe: Recipe) -> TexturedMesh:
        """A triangle: a file brings its own mesh."""
        config = expect_config(recipe.stages[-1].representation, TexturedMeshConfig, recipe.stages[-1])
        triangle = Mesh(vertices=torch.eye(3), faces=torch.arange(3)[None])
        return TexturedMesh(config, triangle, torch.eye(3)[:, :2], triangle.faces)


def dmtet_mesh(field: Nerf, config: DmtetMeshConfig, surface: IsosurfaceConfig) -> DmtetMesh:
    """A field's surface; with a warning that of the level "auto", where a faint field never reaches the level."""
    density = density_at(field)
    try:
        return config.build(density, field, surface.level)
    except ValueError as error:
        if surface.level == "auto":
            raise
        warnings.warn(f"{error} The mesh starts at the level 'auto', the mean density.", stacklevel=2)
        return config.build(density, field)
