"""The page of a run, as a browser shows it: every side where it belongs, as the renderers have it."""

import base64
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import torch
from PIL import Image

from hash3d.cameras import CameraSamplerConfig
from hash3d.evaluation.metrics import psnr
from hash3d.export.mesh import write_glb
from hash3d.export.page import write_page
from hash3d.export.splats import encode_splat
from hash3d.export.turntable import orbit
from hash3d.rendering.raster import render_surface
from hash3d.rendering.splat import render_gaussians
from hash3d.representations.gaussians import GaussianTensors
from hash3d.representations.mesh import Mesh
from tests.shapes import bake_texture, ball

CAMERA = CameraSamplerConfig(radius=2.0, fov_y=40.0)
KINDS = ("splat", "mesh")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def blobs() -> GaussianTensors:
    """Red on the right (+x), green on top (+y), blue in front (+z), each longer to one side."""
    return GaussianTensors(
        means=0.35 * torch.eye(3),
        quats=torch.tensor([[0.9, 0.1, 0.3, 0.2]]).repeat(3, 1),
        scales=torch.tensor([[0.05, 0.1, 0.03]]).repeat(3, 1),
        opacities=torch.full((3,), 0.9),
        colors=torch.eye(3),
    )


def page(path, asset: bytes, kind: str, **changed):
    given = {"title": "a run", "figures": [("steps", "300")], "picture": None, "camera": CAMERA, "elevation": 20.0}
    return write_page(path, asset, kind=kind, **(given | changed))


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_a_browser_draws_splats_and_meshes_as_the_renderers_do(tmp_path):
    """From the input's elevation at azimuth 0, both pages in one window of 644 pixels: a canvas starts at 246."""
    painted = bake_texture(ball(12), lambda points: points.clamp(-0.5, 0.5) + 0.5, size=256)
    page(tmp_path / "splat.html", encode_splat(blobs()), "splat")
    page(tmp_path / "mesh.html", write_glb(tmp_path / "model.glb", painted).read_bytes(), "mesh")
    style = "border: 0; width: 644px; height: 300px"
    frames = [f'<iframe style="{style}" src="{kind}.html#still"></iframe>' for kind in KINDS]
    (tmp_path / "both.html").write_text(f'<body style="margin: 0; font-size: 0">{"".join(frames)}')
    subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
         "--hide-scrollbars", "--window-size=644,700", "--virtual-time-budget=500",
         f"--screenshot={tmp_path / 's.png'}", f"--user-data-dir={tmp_path / 'b'}", (tmp_path / "both.html").as_uri()],
        check=True, capture_output=True, timeout=100,
    )  # fmt: skip
    shot = torch.tensor(np.asarray(Image.open(tmp_path / "s.png").convert("RGB"))) / 255.0
    cameras, white = orbit(1, elevation=20.0, radius=CAMERA.radius, fov_y=CAMERA.fov_y, size=300), torch.ones(1, 3)
    mesh = Mesh(vertices=painted.vertices, faces=painted.faces, colors=painted.vertices.clamp(-0.5, 0.5) + 0.5)
    for row, expected in enumerate((render_gaussians(blobs(), cameras, white), render_surface(mesh, cameras, white))):
        found = shot[300 * row : 300 * row + 235, 295:595]  # Without the last rows, where words are.
        assert psnr(found, expected.color[0, :235]) > 30


def test_a_page_needs_nothing_else_and_ends_no_script_early(tmp_path):
    title = "</script><script>alert(1)</script> a red mug"
    (tmp_path / "input.png").write_bytes(b"\x89PNG")
    path = page(tmp_path / "view.html", b"abcd", "splat", title=title, picture=tmp_path / "input.png")
    text = path.read_text()
    assert text.count("<script") == text.count("</script>") == 1
    assert not re.search(r"(src|href)=\"|https?:|@import|url\(", text)
    run = json.loads(re.search(r"const run = (.*);\n", text)[1])
    assert (run["title"], base64.b64decode(run["data"])) == (title, b"abcd")
    assert run["picture"] == "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()
