"""What a run leaves behind: the asset, a picture, a video."""

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.export.points import read_ply, write_ply
from hash3d.export.turntable import RenderViews, orbit, render_each, save_picture, tile, write_video
from hash3d.pictures import FramedPicture
from hash3d.rendering.splat import render_gaussians
from hash3d.representations.gaussians import Gaussians, GaussiansConfig

from .recipe import Recipe

MODEL = "model.ply"
PREVIEW_SIZE = 192
PREVIEW_VIEWS = 8
SHEET_SIZE = 256
VIDEO_SIZE = 256
VIDEO_FRAMES = 72


def views_on_white(scene: Gaussians, device: torch.device) -> RenderViews:
    """A function that renders cameras on white."""

    def render(cameras: Cameras) -> Float[Tensor, "B H W 3"]:
        return render_gaussians(scene, cameras, torch.ones(len(cameras), 3, device=device)).color

    return render


def load_scene(folder: Path) -> Gaussians:
    """The splats of a finished run. Raises `ValueError` if there are none."""
    path = folder / MODEL
    if not path.is_file():
        raise ValueError(f"Expected a finished run in {folder}, but it has no {MODEL}. Run hash3d generate first.")
    raw = read_ply(path)
    scene = Gaussians(GaussiansConfig(), raw["means"], torch.full_like(raw["means"], 0.5))
    scene.load_state_dict(raw)
    return scene


def preview(render: RenderViews, recipe: Recipe, picture: FramedPicture | None) -> Float[Tensor, "H W 3"]:
    """The input, if it is a picture, and a row of views all round, from its elevation."""
    config = recipe.stage.cameras
    cameras = orbit(PREVIEW_VIEWS, recipe.reference_elevation, config.radius, config.fov_y, PREVIEW_SIZE)
    shown = render_each(render, cameras)
    if picture:
        color = picture.color_on_white.permute(2, 0, 1)[None]
        shown.insert(0, F.interpolate(color, (PREVIEW_SIZE, PREVIEW_SIZE), mode="area")[0].permute(1, 2, 0))
    return tile(shown, columns=len(shown))


def contact_sheet(render: RenderViews, recipe: Recipe) -> Float[Tensor, "H W 3"]:
    """Two rows of eight views, from the horizon and from 30 degrees above."""
    config = recipe.stage.cameras
    rows = [orbit(8, elevation, config.radius, config.fov_y, SHEET_SIZE) for elevation in (0.0, 30.0)]
    return tile([view for row in rows for view in render_each(render, row)], columns=8)


def turntable(render: RenderViews, recipe: Recipe) -> list[Float[Tensor, "H W 3"]]:
    """The frames of one turn, from the input's elevation."""
    config = recipe.stage.cameras
    return render_each(render, orbit(VIDEO_FRAMES, recipe.reference_elevation, config.radius, config.fov_y, VIDEO_SIZE))


def write_outputs(
    folder: Path, scene: Gaussians, recipe: Recipe, picture: FramedPicture | None, device: torch.device
) -> list[str]:
    """Write model.ply, preview.png and turntable.mp4. Returns their names."""
    render = views_on_white(scene, device)
    write_ply(folder / MODEL, scene)
    save_picture(preview(render, recipe, picture), folder / "preview.png")
    write_video(turntable(render, recipe), folder / "turntable.mp4")
    return [MODEL, "preview.png", "turntable.mp4"]
