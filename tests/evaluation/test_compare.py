"""Comparison with true views."""

import torch

from hash3d.cameras import Cameras
from hash3d.evaluation.compare import compare
from hash3d.evaluation.metrics import psnr
from hash3d.evaluation.truth import Truth
from hash3d.rendering.splat import render_gaussians
from hash3d.representations.gaussians import GaussiansConfig


def test_a_scene_equals_its_own_views_and_errors_are_averaged():
    scene = GaussiansConfig(num_points=60).build(torch.Generator().manual_seed(0))
    cameras = Cameras.orbit(elevation=0.0, azimuth=[0.0, 90.0], radius=1.5, fov_y=49.1, size=32)

    @torch.no_grad()
    def show(shown):
        return render_gaussians(scene, shown, torch.ones(len(shown), 3))

    render = show(cameras)
    views = render.color.clamp(0.0, 1.0)
    shifted = torch.stack([views[0] * 0.9, views[1] * 0.8])
    truth = Truth(cameras=cameras, images=shifted, alpha=render.alpha, reference_elevation=0.0)
    metrics = compare(show, truth)
    expected = [psnr(views[n], shifted[n]) for n in range(2)]
    assert torch.allclose(torch.tensor([row["psnr"] for row in metrics["views"]]), torch.tensor(expected), atol=1e-3)
    assert abs(metrics["mean"]["psnr"] - sum(expected) / 2) < 1e-3
    assert metrics["mean"]["iou"] == 1.0
    assert [row["azimuth"] for row in metrics["views"]] == [0.0, 90.0]
