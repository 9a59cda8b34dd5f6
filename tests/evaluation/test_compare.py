"""Comparison with true views."""

import pytest
import torch

from hash3d.cameras import Cameras
from hash3d.evaluation.compare import compare
from hash3d.evaluation.metrics import psnr
from hash3d.evaluation.reference_frame import ReferenceFrame
from hash3d.evaluation.truth import Truth
from hash3d.rendering.base import Render
from hash3d.rendering.splat import render_gaussians
from hash3d.representations.gaussians import GaussiansConfig

SAME_CAMERA = ReferenceFrame(radius=1.5, fov_y=49.1)


def test_a_scene_equals_its_own_views_and_errors_are_averaged():
    scene = GaussiansConfig(num_points=60).build(torch.Generator().manual_seed(0))
    cameras = Cameras.orbit(elevation=0.0, azimuth=[0.0, 90.0], radius=1.5, fov_y=49.1, size=32)

    @torch.no_grad()
    def show(shown):
        return render_gaussians(scene, shown, torch.ones(len(shown), 3))

    render = show(cameras)
    views = render.color.clamp(0.0, 1.0)
    shifted = torch.stack([views[0] * 0.9, views[1] * 0.8])
    truth = Truth(
        cameras=cameras,
        images=shifted,
        alpha=render.alpha,
        has_alpha=(True, True),
        backgrounds=torch.ones(2, 3),
        reference_elevation=0.0,
    )
    metrics = compare(show, truth, SAME_CAMERA, {"darker": lambda image, true: float((image - true).mean())})
    assert metrics["mean"]["darker"] == pytest.approx(float((views - shifted).mean()), abs=1e-5)
    expected = [psnr(views[n], shifted[n]) for n in range(2)]
    assert torch.allclose(torch.tensor([row["psnr"] for row in metrics["views"]]), torch.tensor(expected), atol=1e-3)
    assert abs(metrics["mean"]["psnr"] - sum(expected) / 2) < 1e-3
    assert metrics["mean"]["iou"] == 1.0
    assert [row["azimuth"] for row in metrics["views"]] == [0.0, 90.0]


@pytest.mark.parametrize("color_behind", [(1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.2, 0.7, 0.4)])
def test_opaque_views_are_compared_on_their_own_background_and_have_no_iou(color_behind):
    """A render on white, color + (1 - alpha), lies on a background b as color + (1 - alpha) b."""
    cameras = Cameras.orbit(elevation=0.0, azimuth=[0.0, 90.0], radius=1.5, fov_y=49.1, size=32)
    alpha, background = torch.zeros(1, 32, 32, 1), torch.tensor(color_behind)
    alpha[:, 8:24, 8:24] = 0.8
    color = torch.tensor([0.9, 0.1, 0.1]) * alpha

    def show(shown):
        return Render(color=color + 1.0 - alpha, alpha=alpha, depth=alpha)

    image = (color + (1.0 - alpha) * background).expand(2, -1, -1, -1)
    truth = Truth(
        cameras=cameras,
        images=image,
        alpha=torch.cat([torch.ones(1, 32, 32, 1), alpha]),
        has_alpha=(False, True),
        backgrounds=background.expand(2, 3),
        notes=("one is opaque",),
        reference_elevation=0.0,
    )
    metrics = compare(show, truth, SAME_CAMERA)
    assert min(row["psnr"] for row in metrics["views"]) > 100
    assert ["iou" in row for row in metrics["views"]] == [False, True]
    assert metrics["mean"]["iou"] == 1.0
    assert metrics["notes"] == ["one is opaque"]
