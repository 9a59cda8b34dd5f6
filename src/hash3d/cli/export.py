"""`hash3d export DIR --format ...`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from hash3d.export import FORMATS

from .parsing import Maybe, expect_run, parse_options
from .streams import say

Format = Literal["glb", "obj", "ply", "splat", "splat-glb", "mp4", "sheet"]


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a run's asset for other programs."""

    folder: tyro.conf.Positional[Path]
    """The run folder."""
    format: Format
    """glb: a mesh with its texture as binary glTF, which Blender and the web read; obj: the same as OBJ with MTL and
    PNG; ply: splats, as viewers read them; splat: the same in half of the bytes; splat-glb: splats as binary glTF
    with KHR_gaussian_splatting; mp4: a turntable; sheet: 16 views as one image."""
    out: Path | None = None
    """The file to write; by default one in the run folder, such as model.glb, or model-placed.glb with --origin,
    --size or --max-faces."""
    origin: Literal["centre", "floor"] = "centre"
    """Of a mesh: where the run has it, or the middle of its lower side, so that it stands on the ground."""
    size: Maybe[float] = None
    """Of a mesh: its longest side in the file's units, which are metres for most programs; by default the run's."""
    max_faces: Maybe[int] = None
    """Of a mesh: at most so many triangles (quadric edge collapse), with a texture of its own."""


def main(arguments: list[str]) -> int:
    """Write the file. Returns the exit code."""
    options = parse_options(Export, "export", arguments)
    expect_run(options.folder)
    own, placed = options.folder / FORMATS[options.format], is_changed(options)
    out = options.out or (own.with_stem(f"{own.stem}-placed") if placed else own)
    from hash3d.training import run_folder

    file, names = out.resolve(), (*run_folder.RECORDS, *run_folder.FILES)
    if file.name in names and (file.parent / "recipe.json").exists() and (placed or file != own.resolve()):
        raise ValueError(f"Expected --out to be no file of a run's own, but got {out}. Choose another name.")
    write(options, out)
    say(out)
    return 0


def is_changed(options: Export) -> bool:
    """Whether the mesh is to be another than the run's own."""
    return (options.origin, options.size, options.max_faces) != ("centre", None, None)


def write(options: Export, out: Path) -> None:
    """Write one file of a run's asset. Raises `ValueError` if the run has none, or its scene no such file."""
    folder, format = options.folder, options.format
    meshed = format in ("glb", "obj")
    if not meshed and is_changed(options):
        raise ValueError(f"Expected no --origin, --size or --max-faces with --format {format}: they are a mesh's.")
    import torch

    from hash3d.export.mesh import place_mesh, write_glb, write_obj
    from hash3d.export.turntable import save_image, write_video
    from hash3d.files import check_suffix
    from hash3d.scenes.base import find_kind
    from hash3d.scenes.show import colors
    from hash3d.training.outputs import bake_model, contact_sheet, load_asset, read_reached, turntable

    recipe = read_reached(folder)
    model, show = load_asset(folder, torch.device("cpu"))
    if meshed:
        mesh = bake_model(model, recipe, show, options.max_faces)
        mesh = place_mesh(mesh, floor=options.origin == "floor", size=options.size)
        (write_glb if format == "glb" else write_obj)(out, mesh)
    elif format in ("ply", "splat", "splat-glb"):
        check_suffix(out, f".{format.removeprefix('splat-')}")
        find_kind(recipe.stages[-1].representation).write_splats(model, out)
    elif format == "mp4":
        write_video(turntable(colors(show), recipe), out)
    else:
        save_image(contact_sheet(colors(show), recipe), out)
