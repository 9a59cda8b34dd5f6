"""What a run leaves behind: the model, images, a video."""

import warnings
from collections.abc import Callable
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hash3d.cameras import Cameras
from hash3d.export import FORMATS
from hash3d.export.mesh import BakedMesh, write_glb
from hash3d.export.page import write_page
from hash3d.export.splats import encode_splat
from hash3d.export.turntable import RenderViews, orbit, render_each, save_image, tile, write_video
from hash3d.pictures import FramedPicture
from hash3d.recipes.recipe import Recipe
from hash3d.recipes.stage import Stage
from hash3d.rendering.bake import PointColors, colors_from_views
from hash3d.representations.gaussians import Splats
from hash3d.representations.mesh import Mesh, Surface
from hash3d.scenes.base import KINDS, find_kind
from hash3d.scenes.build import load_model, save_model, show_model
from hash3d.scenes.show import Show, colors, is_latent, shape

from .guide import load_priors
from .run_folder import FILES, RunFolder

OnPhase = Callable[[str], object]
"""Told the name of what is written next."""
ASSET = "model.glb"
PREVIEWS = ("preview.png", "preview_lit.png")
"""The colours without light, and the grey shape in light."""
VIEW = "view.html"
PREVIEW_SIZE = 192
PREVIEW_VIEWS = 8
SHEET_SIZE = 256
VIDEO_SIZE = 512
VIDEO_FRAMES = 72
SLOW_VIDEO = (48, 160)
"""Frames and pixels a side of what is slow to render."""
BAKED_SIZE = 256
"""Pixels a side of the images that paint a latent field's mesh."""


def load_asset(folder: Path, device: torch.device) -> tuple[nn.Module, Show]:
    """The model of the last stage that a run has reached, and what renders it. Raises `ValueError` if there is none."""
    recipe = read_reached(folder)
    model = load_model(recipe, folder, device)
    priors = load_priors(recipe, device) if is_latent(model) else {}
    return model, show_model(model, recipe.stages[-1], next(iter(priors.values()), None))


def read_reached(folder: Path) -> Recipe:
    """A run's recipe up to the stage that it has reached; a run without a summary counts as finished."""
    run = RunFolder(folder)
    recipe, summary = run.read_recipe(), run.read_summary()
    done = run.metrics.read_bytes().count(b"\n") if run.metrics.is_file() else 0
    if summary and isinstance(shown := summary.get("steps"), int) and shown < done:
        told = f"The asset in {folder} is of {shown} steps, but its run has gone on to {done}: end it by --resume."
        warnings.warn(told, stacklevel=2)
    return recipe if summary is None else recipe.up_to(len(summary["stages"]) - 1)


def write_previews(folder: Path, show: Show, recipe: Recipe, picture: FramedPicture | None) -> None:
    """Write the input, if it is an image, and a row of views all round from its elevation, as colours and as shapes."""
    config = recipe.stages[-1].cameras
    first: list[Tensor] = []
    if picture:
        color = picture.color_on_white.permute(2, 0, 1)[None]
        first = [F.interpolate(color, (PREVIEW_SIZE, PREVIEW_SIZE), mode="area")[0].permute(1, 2, 0)]
    rows = (first, [*first])
    cameras = orbit(PREVIEW_VIEWS, recipe.reference_elevation, config.radius, config.fov_y, PREVIEW_SIZE)
    for index in range(len(cameras)):
        seen = show(cameras[index])
        for row, image in zip(rows, (seen.color, shape(seen, cameras[index])), strict=True):
            row.append(image[0].cpu())
    for name, row in zip(PREVIEWS, rows, strict=True):
        save_image(tile(row, columns=len(row)), folder / name)


def contact_sheet(render: RenderViews, recipe: Recipe) -> Float[Tensor, "H W 3"]:
    """Two rows of eight views, from the horizon and from 30 degrees above."""
    config = recipe.stages[-1].cameras
    rows = [orbit(8, elevation, config.radius, config.fov_y, SHEET_SIZE) for elevation in (0.0, 30.0)]
    return tile([view for row in rows for view in render_each(render, row)], columns=8)


def turntable(render: RenderViews, recipe: Recipe) -> list[Float[Tensor, "H W 3"]]:
    """The frames of one turn, from the input's elevation; fewer and smaller ones of what is slow to render."""
    stage = recipe.stages[-1]
    frames, size = SLOW_VIDEO if find_kind(stage.representation).slow else (VIDEO_FRAMES, VIDEO_SIZE)
    cameras = orbit(frames, recipe.reference_elevation, stage.cameras.radius, stage.cameras.fov_y, size)
    return render_each(render, cameras)


def write_outputs(
    folder: Path, model: nn.Module, show: Show, recipe: Recipe, picture: FramedPicture | None,
    on_phase: OnPhase = lambda _: None,
) -> list[str]:  # fmt: skip
    """Write the model, two previews, turntable.mp4 and, but for splats, model.glb. Returns their names.

    `on_phase` is told before each. What an earlier stage has left is removed.
    """
    stage = recipe.stages[-1]
    on_phase("model")
    names = [save_model(folder, model, stage)]
    on_phase("previews")
    write_previews(folder, show, recipe, picture)
    on_phase("turntable")
    write_video(turntable(colors(show), recipe), folder / "turntable.mp4")
    if find_kind(stage.representation).writes_mesh:
        on_phase("mesh and texture")
        write_glb(folder / ASSET, bake_model(model, recipe, show))
        names.append(ASSET)
    for leftover in ({kind.file for kind in KINDS.values()} | {ASSET}) - set(names):
        (folder / leftover).unlink(missing_ok=True)
    return [*names, *PREVIEWS, "turntable.mp4"]


def leave_earlier(folder: Path) -> None:
    """Remove the evaluation of an earlier asset, and tell what else may show it."""
    (folder / "evaluation.json").unlink(missing_ok=True)
    endings = {Path(name).suffix for name in FORMATS.values()}
    if found := sorted({each.name for each in folder.iterdir() if each.suffix in endings} - {*FILES}):
        told = f"{folder} has a new asset: what was exported before shows the earlier one: {', '.join(found)}."
        warnings.warn(told, stacklevel=2)


def has_view(model: nn.Module, stage: Stage) -> bool:
    """Whether a run has a page: it writes a mesh, or its model is splats."""
    return find_kind(stage.representation).writes_mesh or isinstance(model, Splats)


def write_view(folder: Path) -> Path:
    """Write view.html from a run's folder, and return it. Raises `ValueError` if there is nothing to show."""
    run, recipe = RunFolder(folder), read_reached(folder)
    stage, summary = recipe.stages[-1], run.read_summary() or {}
    model = load_model(recipe, folder, torch.device("cpu"))
    if not has_view(model, stage):
        raise ValueError(f"Expected a mesh or splats in {folder}, but its {type(model).__name__} is neither.")
    if isinstance(model, Splats):
        kind, asset = "splat", encode_splat(model)
    elif (mesh := folder / ASSET).is_file():
        kind, asset = "mesh", mesh.read_bytes()
    else:
        advice = f"Make it: hash3d export {folder} --format glb"
        raise ValueError(f"Expected a mesh in {mesh}, but there is none. {advice}")
    try:
        told = figures(recipe, summary)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        problem = f"{type(error).__name__} {shorten(str(error), 200)}"
        raise ValueError(
            f"Expected a summary.json that a run wrote in {folder}, but got another: {problem}."
        ) from error
    picture = run.input_picture if run.input_picture.is_file() else None
    return write_page(
        folder / VIEW, asset, kind=kind, title=recipe.prompt or folder.resolve().name, figures=told,
        picture=picture, camera=stage.cameras, elevation=recipe.reference_elevation,
    )  # fmt: skip


def figures(recipe: Recipe, summary: dict[str, Any]) -> list[tuple[str, str]]:
    """What view.html tells of a run: its system, steps, time, reuse and size."""
    told = [("system", recipe.system), ("prior", str(recipe.prior)), ("seed", str(recipe.seed))]
    if summary:
        unet, sizes = summary["unet"], summary["stages"][-1]["scene"]
        told += [
            ("steps", f"{summary['steps']:,}"),
            ("time", f"{summary['seconds']['total']:.0f} s on {summary['device']}"),
            ("U-Net passes", f"{unet['full']:,} full, {unet['shallow']:,} reused"),
            *((name, f"{count:,.0f}" if count > 1.0 else f"{count:.0%}") for name, count in sizes.items()),
            ("made with", f"hash3d {summary['versions']['hash3d']}"),
        ]
    return told


def bake_model(model: nn.Module, recipe: Recipe, show: Show, max_faces: int | None = None) -> BakedMesh:
    """The model as a mesh with a texture, on the CPU, of at most `max_faces`.

    A latent field is painted with its decoded images, a mesh whose faces get fewer with renders of it.
    """
    stage = recipe.stages[-1]
    azimuths, elevations = torch.arange(0.0, 360.0, 45.0).repeat(3), torch.tensor([0.0, -40.0, 40.0])
    cameras = Cameras.orbit(
        elevation=elevations.repeat_interleave(8), azimuth=azimuths,
        radius=stage.cameras.radius, fov_y=stage.cameras.fov_y, size=BAKED_SIZE if is_latent(model) else VIDEO_SIZE,
    )  # fmt: skip

    def paint(mesh: Mesh) -> PointColors:
        return colors_from_views(mesh, cameras, torch.stack(render_each(colors(show), cameras)))

    painted = is_latent(model) or (max_faces is not None and isinstance(model, Surface))
    return find_kind(stage.representation).bake(model, stage, paint if painted else None, max_faces)
