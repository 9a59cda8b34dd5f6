"""Compare a scene with an object's true views."""

from typing import Any

from hash3d.scenes.show import Show

from .metrics import psnr, sharpness, silhouette_iou, ssim, ssim_padded
from .reference_frame import ReferenceFrame
from .truth import Truth

METRICS = ("psnr", "ssim", "ssim_padded", "sharpness", "iou")


def compare(show: Show, truth: Truth, frame: ReferenceFrame) -> dict[str, Any]:
    """Render a scene as each true view sees it, and measure how alike they are.

    Returns:
        `views`, a row each with PSNR, both SSIMs, sharpness and, of a view with an alpha channel, silhouette IoU;
        `mean`, over the views that have the metric; `notes`, what the views do not tell.
    """
    rows, cameras = [], frame.cameras(truth)
    for index in range(len(cameras)):
        render, background = show(cameras[index]), truth.backgrounds[index]
        alpha = render.alpha[0].cpu()
        # The render lies on white: exchange it for the true view's background.
        image = (render.color[0].cpu() - (1.0 - alpha) * (1.0 - background)).clamp(0.0, 1.0)
        target = truth.images[index]
        row = {
            "azimuth": float(truth.cameras.azimuth[index]),
            "elevation": float(truth.cameras.elevation[index]),
            "psnr": psnr(image, target),
            "ssim": ssim(image, target),
            "ssim_padded": ssim_padded(image, target),
            "sharpness": sharpness(image, target),
        }
        if truth.has_alpha[index]:
            row["iou"] = silhouette_iou(alpha, truth.alpha[index])
        rows.append(row)
    known = {name: [row[name] for row in rows if name in row] for name in METRICS}
    mean = {name: sum(values) / len(values) for name, values in known.items() if values}
    return {"views": rows, "mean": mean, "notes": list(truth.notes)}
