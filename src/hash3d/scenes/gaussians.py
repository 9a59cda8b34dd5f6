"""Gaussians in training."""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Unpack, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hash3d.cameras import Cameras
from hash3d.export.points import read_ply, write_ply
from hash3d.export.splats import write_splats
from hash3d.meshing.asset import FIELD_SURFACE
from hash3d.meshing.isosurface import IsosurfaceConfig, extract_mesh_or_auto
from hash3d.recipes.recipe import Recipe
from hash3d.recipes.stage import Stage
from hash3d.rendering.base import Render
from hash3d.rendering.shading import Shading, depth_normals, shade_render
from hash3d.rendering.splat import SplatRenderer, SplatRendererConfig, screen_probe
from hash3d.representations.background import SolidBackgroundConfig
from hash3d.representations.gaussians import Gaussians, GaussiansConfig, GaussianTensors
from hash3d.representations.mesh import sample_surface
from hash3d.representations.nerf import Nerf
from hash3d.representations.point_start import PointStart, grow_points

from .base import Behind, Losses, Scene, SceneTools, expect_config
from .convert import density_at, no_way
from .losses import opacity_loss, position_loss, scale_loss, scale_sum_loss, total_variation_loss


class GaussianScene(Scene[Gaussians], represents=GaussiansConfig):
    """Gaussians, their rasteriser and their densification."""

    own_losses: ClassVar[set[str]] = {"scale", "scale_sum", "opacity", "position", "shape_variation"}
    file: ClassVar[str] = "model.ply"
    """In the layout that viewers of splats read."""
    writes_mesh: ClassVar[bool] = False

    def __init__(self, stage: Stage, model: Gaussians, **tools: Unpack[SceneTools]) -> None:
        super().__init__(stage, model, **tools)
        self.renderer: SplatRenderer = expect_config(stage.renderer, SplatRendererConfig, stage).build()
        self.densifier = (
            stage.densify.build(len(model), tools["generators"]["initialisation"]) if stage.densify else None
        )
        self._random_cameras: Cameras | None = None
        self._splats: GaussianTensors | None = None

    @classmethod
    def start(cls, recipe: Recipe, generator: torch.Generator) -> Gaussians:
        """At the points of the recipe's `start`, or in a ball."""
        config = expect_config(recipe.stage.representation, GaussiansConfig, recipe.stage)
        if recipe.start is None:
            return config.build(generator)
        start = recipe.start.build(generator)
        return Gaussians(config, start.points, start.colors)

    @classmethod
    def start_from(cls, previous: nn.Module, recipe: Recipe, generator: torch.Generator) -> Gaussians:
        """On the surface of a field, and around it where the stage says how points grow."""
        first, stage = recipe.stages
        config = expect_config(stage.representation, GaussiansConfig, stage)
        if not isinstance(previous, Nerf):
            raise no_way(previous, stage)
        start = sample_field(previous, first.surface or FIELD_SURFACE, config.num_points, generator)
        start = start if stage.growth is None else grow_points(start, stage.growth, generator)
        return Gaussians(config, start.points, start.colors)

    @classmethod
    def save(cls, model: Gaussians, path: Path) -> None:
        """Write the splats in the layout that viewers read."""
        write_ply(path, model)

    @classmethod
    def write_splats(cls, model: Gaussians, path: Path) -> None:
        """Write the splats as PLY, .splat or GLB, by the file's name."""
        write_splats(path, model)

    @classmethod
    def load(cls, model: Gaussians, path: Path) -> None:
        """Read the splats."""
        model.load_state_dict(read_ply(path))

    @property
    def splats(self) -> GaussianTensors:
        """The Gaussians as they are: those of the step's random views, where these are rendered."""
        return self.model.gaussians() if self._splats is None else self._splats

    def draw_random(self, cameras: Cameras, step: int) -> Render:
        """The random views; the rest of the step shares their Gaussians, densification counts their gradients alone."""
        self._splats = self.model.gaussians()
        self._random_cameras, self.probe = cameras, screen_probe(self._splats, cameras)
        return super().draw_random(cameras, step)

    def render(self, cameras: Cameras, background: Behind, *, step: int, shading: Shading | None = None) -> Render:
        """Render the scene, with gradients."""
        probe = self.probe if cameras is self._random_cameras else None
        if background.ndim == 2 and shading is None:
            return self.renderer(self.splats, cameras, background, probe)
        black = torch.zeros(len(cameras), 3, device=self.device)
        render = self.renderer(self.splats, cameras, black, probe)
        if shading is not None:
            return shade_render(render, cameras, background, shading)
        return replace(render, color=render.color + (1.0 - render.alpha) * background)

    def losses_of(self, views: list[Render]) -> Losses:
        """Those of the Gaussians' sizes and positions, and of the shape that the random view shows."""
        return {
            "scale": lambda: scale_loss(self.splats.scales, self.stage.losses.scale_limit),
            "scale_sum": lambda: scale_sum_loss(self.splats.scales),
            "opacity": lambda: opacity_loss(self.splats.scales, self.splats.opacities),
            "position": lambda: position_loss(self.splats.means),
            "shape_variation": lambda: self._shape_variation(views[0]),
        }

    def _shape_variation(self, view: Render) -> Float[Tensor, ""]:
        """Total variation of the normals and of the depths (threestudio's Gaussian extension 8c2ab7b)."""
        assert self._random_cameras is not None
        normals = depth_normals(view.depth, view.alpha, self._random_cameras, min_alpha=0.99)
        return total_variation_loss(normals) + total_variation_loss(view.depth)

    def can_record(self) -> bool:
        """On one colour without light, by kernels that wait for nothing."""
        stage, renderer = self.stage, cast(Any, self.stage.renderer)
        plain = isinstance(stage.background, SolidBackgroundConfig) and not stage.shading
        drawn = plain and "shape_variation" not in stage.losses.used() and renderer.backend in ("auto", "triton")
        return drawn and len(self.model) > 0

    def recorded_form(self) -> tuple[Any, list[Tensor]]:
        """How they are sorted, which has other kernels from 4097 on, and what a densification counts."""
        counted = [self.densifier.total, self.densifier.views] if self.densifier else []
        return (len(self.model) - 1).bit_length(), counted

    def may_overflow(self, size: int, views: int) -> bool:
        """Whether the rasteriser's lists might be too short."""
        from hash3d.rendering._triton_splat import RESERVE, full_capacity

        return full_capacity((size, size), views, len(self.model)) > RESERVE["places"]

    def after_backward(self) -> None:
        """Count the gradients of the projected centres."""
        if self.densifier and self.probe is not None and self.probe.grad is not None:
            cameras = self._random_cameras
            assert cameras is not None
            self.densifier.add(self.probe.grad, (cameras.width, cameras.height))

    def after_step(self, step: int) -> None:
        """Add and remove Gaussians."""
        self.forget()
        if self.densifier:
            self.densifier.after_step(step, self.model, self.optimizer)

    def forget(self) -> None:
        """Drop the Gaussians that a step shares."""
        self._splats = None

    def sizes(self) -> dict[str, float | Float[Tensor, ""]]:
        """How many."""
        return {"gaussians": float(len(self.model))}

    def helpers(self) -> dict[str, Any]:
        """The densification."""
        return {"densifier": self.densifier}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue as if the run had not stopped. Raises `ValueError` if the densification is of other Gaussians."""
        super().load_state_dict(state)
        if self.densifier and not self.densifier.total.shape == self.densifier.views.shape == (len(self.model),):
            raise ValueError(f"Expected gradients of {len(self.model)} Gaussians, but got others.")


@torch.no_grad()
def sample_field(field: Nerf, surface: IsosurfaceConfig, count: int, generator: torch.Generator) -> PointStart:
    """`count` points uniform on a field's surface, in its colours, on the CPU."""
    box = torch.tensor([[-field.radius] * 3, [field.radius] * 3])
    mesh = extract_mesh_or_auto(density_at(field), box, surface)
    points = sample_surface(mesh, count, generator)
    device = next(field.parameters()).device
    return PointStart(points=points, colors=field(points.to(device)).cpu())
