"""`hash3d export DIR --format ...`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro
from rich.console import Console

from hash3d.export.points import write_ply
from hash3d.export.turntable import save_picture, write_video
from hash3d.representations.gaussians import Gaussians
from hash3d.training.outputs import contact_sheet, load_scene, turntable, views_on_white
from hash3d.training.recipe import Recipe
from hash3d.training.run_folder import RunFolder

Format = Literal["ply", "gsplat", "mp4", "sheet"]
FILES = {"ply": "splats.ply", "gsplat": "splats_gsplat.ply", "mp4": "turntable.mp4", "sheet": "sheet.png"}


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a run's asset for other programs."""

    folder: tyro.conf.Positional[Path]
    """The run folder."""
    format: Format
    """ply: splats in the layout of the Inria viewer; gsplat: that of gsplat's exporter; mp4: a turntable; sheet: 16
    views as one picture."""
    out: Path | None = None
    """The file to write; by default one in the run folder."""


def main(arguments: list[str]) -> int:
    """Write the file. Returns the exit code."""
    options = tyro.cli(Export, prog="hash3d export", args=arguments)
    recipe = RunFolder(options.folder).read_recipe()
    out = options.out or options.folder / FILES[options.format]
    write(options.format, load_scene(options.folder), recipe, out)
    Console(highlight=False, soft_wrap=True).print(str(out), markup=False)
    return 0


def write(format: Format, scene: Gaussians, recipe: Recipe, out: Path) -> None:
    """Write one file of the asset."""
    render = views_on_white(scene, torch.device("cpu"))
    if format in ("ply", "gsplat"):
        write_ply(out, scene, "inria" if format == "ply" else "gsplat")
    elif format == "mp4":
        write_video(turntable(render, recipe), out)
    else:
        save_picture(contact_sheet(render, recipe), out)
