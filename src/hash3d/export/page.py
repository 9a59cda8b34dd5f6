"""Write a run's page: view.html, the asset to turn around in a browser, without a server or a network."""

import base64
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from hash3d.cameras import CameraSamplerConfig
from hash3d.files import check_suffix, write_text


def write_page(
    path: Path, asset: bytes, *, kind: str, title: str, figures: Sequence[tuple[str, str]],
    picture: Path | None, camera: CameraSamplerConfig, elevation: float,
) -> Path:  # fmt: skip
    """Write one HTML file that holds all it shows. Returns `path`; raises `ValueError` if it does not end in .html.

    Args:
        path: the file.
        asset: a .splat file's bytes, or those of a GLB with one textured mesh, as this package writes them.
        kind: "splat" or "mesh".
        title: of the page.
        figures: names and values of a table.
        picture: a PNG shown beside; None shows none.
        camera: the distance and the vertical field of view at first.
        elevation: in degrees, at first.
    """
    path = check_suffix(path, ".html")
    run = {
        "kind": kind, "title": title, "figures": list(figures), "elevation": elevation, "radius": camera.radius,
        "fov_y": camera.fov_y, "data": base64.b64encode(asset).decode(),
        "picture": picture and "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode(),
    }  # fmt: skip
    page = files("hash3d").joinpath("assets", "view.html").read_text(encoding="utf-8")
    # "</script>" in a prompt would end the script.
    write_text(path, page.replace("/*RUN*/{}", json.dumps(run).replace("<", "\\u003c")))
    return path
