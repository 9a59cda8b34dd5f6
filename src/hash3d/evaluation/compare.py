"""How near a scene comes to an object's true views."""

from typing import Any

from hash3d.scenes.show import Show

from .metrics import psnr, silhouette_iou, ssim
from .truth import Truth

METRICS = ("psnr", "ssim", "iou")


def compare(show: Show, truth: Truth) -> dict[str, Any]:
    """PSNR and SSIM on white and silhouette IoU of each true view, as `views`, and their means, as `mean`."""
    rows = []
    for index in range(len(truth.cameras)):
        camera = truth.cameras[index]
        render = show(camera)
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
    return {"views": rows, "mean": {name: sum(row[name] for row in rows) / len(rows) for name in METRICS}}
