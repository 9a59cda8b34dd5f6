"""`hash3d export DIR --format ...`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from .parsing import expect_run, parse_options

Format = Literal["glb", "obj", "ply", "mp4", "sheet"]
FILES = {
    "glb": "model.glb", "obj": "model.obj", "ply": "splats.ply", "mp4": "turntable.mp4", "sheet": "sheet.png",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a run's asset for other programs."""

    folder: tyro.conf.Positional[Path]
    """The run folder."""
    format: Format
    """glb: a mesh with its texture as binary glTF, which Blender and the web read; obj: the same as OBJ with MTL and
    PNG; ply: splats, as viewers read them; mp4: a turntable; sheet: 16 views as one image."""
    out: Path | None = None
    """The file to write; by default one in the run folder."""


def main(arguments: list[str]) -> int:
    """Write the file. Returns the exit code."""
    options = parse_options(Export, "export", arguments)
    expect_run(options.folder)
    out = options.out or options.folder / FILES[options.format]
    write(options.format, options.folder, out)
    Console(highlight=False, soft_wrap=True).print(str(out), markup=False)
    return 0


def write(format: Format, folder: Path, out: Path) -> None:
    """Write one file of a run's asset. Raises `ValueError` if the run has none, or its scene no such file."""
    import torch

    from hash3d.export.mesh import write_glb, write_obj
    from hash3d.export.turntable import save_image, write_video
    from hash3d.scenes.base import find_kind
    from hash3d.scenes.show import colors
    from hash3d.training.outputs import bake_model, contact_sheet, load_asset, read_reached, turntable

    recipe = read_reached(folder)
    model, show = load_asset(folder, torch.device("cpu"))
    if format in ("glb", "obj"):
        (write_glb if format == "glb" else write_obj)(out, bake_model(model, recipe, show))
    elif format == "ply":
        find_kind(recipe.stages[-1].representation).write_splats(model, out)
    elif format == "mp4":
        write_video(turntable(colors(show), recipe), out)
    else:
        save_image(contact_sheet(colors(show), recipe), out)
