"""`hash3d render-views MESH... --out FOLDER`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from .parsing import Maybe, parse_options
from .streams import say


@dataclass(frozen=True, kw_only=True)
class RenderViews:
    """Render true views of meshes, and views.json, for `hash3d evaluate` and `hash3d table`."""

    meshes: tyro.conf.Positional[tuple[Path, ...]]
    """Files with triangles: GLB, OBJ, PLY or whatever else trimesh reads, with textures or colours."""
    out: Path
    """Where a folder for each mesh is made, with input.png, 000.png and on, and views.json."""
    protocol: Literal["ring16", "zero123-gso"] = "ring16"
    """ring16: 16 views all round at elevations 0 and 30 by turns, the input's is 15. zero123-gso: 16 at elevation 30
    under even light, as Google Scanned Objects are rendered for Zero123; the input is the first of them."""
    size: Maybe[int] = None
    """Pixels a side; by default the protocol's 256."""
    azimuth: float = 0.0
    """Degrees from which the input sees the mesh, counter-clockwise seen from above; 0 is its front."""
    up: Literal["y", "z"] = "y"
    """The upward axis of the files: y as in glTF (front +z), z as in Blender and Google Scanned Objects (front -y)."""


def main(arguments: list[str]) -> int:
    """Render each mesh, and print its folder. Returns the exit code."""
    options = parse_options(RenderViews, "render-views", arguments)
    from hash3d.evaluation.truth import LARGEST_SIDE, write_views
    from hash3d.files import make_folder
    from hash3d.pictures.loading import MIN_SIDE
    from hash3d.representations.mesh_file import read_mesh

    if options.size is not None and not MIN_SIDE <= options.size <= LARGEST_SIDE:
        raise ValueError(f"Expected --size from {MIN_SIDE} to {LARGEST_SIDE:,} pixels, but got {options.size}.")
    for path, name in zip(options.meshes, name_meshes(options.meshes), strict=True):
        file, folder = read_mesh(path, options.up), options.out / name
        make_folder(folder)
        write_views(folder, file, options.protocol, azimuth=options.azimuth, size=options.size)
        say(folder)
    return 0


def name_meshes(paths: Sequence[Path]) -> list[str]:
    """Name each mesh after its file, or where two files have one name after all that differs in their paths."""
    stems = [path.stem for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    whole = [path.resolve().with_suffix("") for path in paths]
    common = Path(os.path.commonpath([path.parent for path in whole]))
    return ["_".join(path.relative_to(common).parts) for path in whole]
