"""How near a scene comes to an object's true views."""

from typing import Any

import torch

from hash3d.export.truth import Truth
from hash3d.metrics import psnr, silhouette_iou, ssim
from hash3d.rendering.splat import render_gaussians
from hash3d.representations.gaussians import Gaussians

FIGURES = ("psnr", "ssim", "iou")


def compare(scene: Gaussians, truth: Truth, device: torch.device) -> dict[str, Any]:
    """PSNR and SSIM on white and silhouette IoU of each true view, as `views`, and their means, as `mean`."""
    rows = []
    for index in range(len(truth.cameras)):
        camera = truth.cameras[index]
        with torch.no_grad():
            render = render_gaussians(scene, camera, torch.ones(1, 3, device=device))
        picture, target = render.color[0].clamp(0.0, 1.0).cpu(), truth.images[index]
        rows.append(
            {
                "azimuth": float(camera.azimuth),
                "elevation": float(camera.elevation),
                "psnr": psnr(picture, target),
                "ssim": ssim(picture, target),
                "iou": silhouette_iou(render.alpha[0].cpu(), truth.alpha[index]),
            }
        )
    return {"views": rows, "mean": {name: sum(row[name] for row in rows) / len(rows) for name in FIGURES}}
