"""What a stage optimises: its start, alone or from the stage before, and its file."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from hash3d.export.points import read_ply, write_ply
from hash3d.files import replacing
from hash3d.meshing.asset import FIELD_SURFACE, GAUSSIANS_SURFACE
from hash3d.meshing.isosurface import IsosurfaceConfig, extract_mesh_or_auto
from hash3d.recipes.recipe import Recipe
from hash3d.recipes.stage import Stage
from hash3d.representations.dmtet import DmtetMesh, DmtetMeshConfig
from hash3d.representations.gaussians import Gaussians, GaussiansConfig
from hash3d.representations.mesh import Mesh, sample_surface
from hash3d.representations.nerf import Nerf, NerfConfig
from hash3d.representations.point_start import PointStart, grow_points
from hash3d.representations.textured_mesh import TexturedMesh, TexturedMeshConfig

from .convert import textured_mesh

SPLATS, OTHERS = "model.ply", "model.pt"
"""The model's file: splats in the layout that viewers read, anything else as PyTorch's state."""

Model = Gaussians | Nerf | DmtetMesh | TexturedMesh


def build_model(recipe: Recipe, number: int, previous: nn.Module | None, generator: torch.Generator) -> Model:
    """The start of the recipe's stage `number`, on the CPU; `previous` is the result of the stage before.

    Without it a second stage gets its parts without their values, for a checkpoint to fill in.
    """
    stage = recipe.stages[number]
    config = stage.representation
    if number > 0:
        return (
            blank_model(recipe)
            if previous is None
            else continued(recipe.stages[number - 1], stage, previous, generator)
        )
    if isinstance(config, GaussiansConfig) and recipe.start is not None:
        start = recipe.start.build(generator)
        return Gaussians(config, start.points, start.colors)
    if isinstance(config, GaussiansConfig | NerfConfig):
        return config.build(generator)
    raise ValueError(f"Expected a first stage of Gaussians or a field, but got a {type(config).__name__}.")


def continued(first: Stage, stage: Stage, previous: nn.Module, generator: torch.Generator) -> Model:
    """The start of a second stage: the surface of what the first has made."""
    config = stage.representation
    surface = first.surface or (GAUSSIANS_SURFACE if isinstance(previous, Gaussians) else FIELD_SURFACE)
    if isinstance(config, TexturedMeshConfig) and isinstance(previous, Gaussians):
        return textured_mesh(previous.gaussians(), config, surface, camera=stage.cameras)
    if isinstance(config, DmtetMeshConfig) and isinstance(previous, Nerf):
        return dmtet_mesh(previous, config, surface)
    if isinstance(config, GaussiansConfig) and isinstance(previous, Nerf):
        start = surface_points(previous, surface, config.num_points, generator)
        start = start if stage.growth is None else grow_points(start, stage.growth, generator)
        return Gaussians(config, start.points, start.colors)
    raise ValueError(f"Expected a way from {type(previous).__name__} to {type(config).__name__}, but there is none.")


def dmtet_mesh(field: Nerf, config: DmtetMeshConfig, surface: IsosurfaceConfig) -> DmtetMesh:
    """A field's surface; with a warning that of the level "auto", where a faint field never reaches the level."""
    if surface.level != "auto":
        try:
            return config.build_from_density(lambda points: density(field, points), field, surface.level)
        except ValueError as error:
            warnings.warn(f"{error} The mesh starts at the level 'auto', the mean density.", stacklevel=2)
    return config.build_from_density(lambda points: density(field, points), field)


@torch.no_grad()
def surface_points(field: Nerf, surface: IsosurfaceConfig, count: int, generator: torch.Generator) -> PointStart:
    """`count` points uniform on a field's surface, in its colours, on the CPU."""
    box = torch.tensor([[-field.radius] * 3, [field.radius] * 3])
    mesh = extract_mesh_or_auto(lambda points: density(field, points), box, surface)
    points = sample_surface(mesh, count, generator)
    device = next(field.parameters()).device
    return PointStart(points=points, colors=field(points.to(device)).cpu())


def density(field: Nerf, points: Tensor) -> Tensor:
    """Density at positions on the CPU, "N 3" to "N"."""
    return field.density(points.to(next(field.parameters()).device)).cpu()


def blank_model(recipe: Recipe) -> Model:
    """The last stage's model before its values are loaded."""
    config, generator = recipe.stages[-1].representation, torch.Generator().manual_seed(0)
    if isinstance(config, TexturedMeshConfig):
        triangle = Mesh(vertices=torch.eye(3), faces=torch.arange(3)[None])
        return TexturedMesh(config, triangle, torch.eye(3)[:, :2], triangle.faces)
    if not isinstance(config, DmtetMeshConfig):
        return config.build(generator)
    field = recipe.stage.representation
    if not isinstance(field, NerfConfig):
        return config.build()
    return config.build(color_field=field.build(generator))


def save_model(folder: Path, model: Model) -> str:
    """Write the model's file. Returns its name."""
    if isinstance(model, Gaussians):
        write_ply(folder / SPLATS, model)
        return SPLATS
    with replacing(folder / OTHERS) as temporary:
        torch.save(model.state_dict(), temporary)
    return OTHERS


def load_model(recipe: Recipe, folder: Path, device: torch.device) -> Model:
    """The model of a finished run. Raises `ValueError` if there is none, or it cannot be read."""
    model = blank_model(recipe)
    path = folder / (SPLATS if isinstance(model, Gaussians) else OTHERS)
    if not path.is_file():
        raise ValueError(f"Expected a finished run in {folder}, but it has no {path.name}. Run hash3d generate first.")
    if isinstance(model, Gaussians):
        model.load_state_dict(read_ply(path))
    else:
        try:
            model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:
            raise ValueError(
                f"Expected a model in {path}, but it cannot be read ({type(error).__name__}). Run it again."
            ) from error
    return model.to(device)
