"""Compare a scene with an object's true views."""

from collections.abc import Mapping
from typing import Any

from hash3d.cameras import Cameras
from hash3d.scenes.show import Show

from .metrics import psnr, sharpness, silhouette_iou, ssim, ssim_padded
from .perceptual import Measure
from .reference_frame import ReferenceFrame
from .truth import Truth

ALWAYS: dict[str, Measure] = {"psnr": psnr, "ssim": ssim, "ssim_padded": ssim_padded, "sharpness": sharpness}
Row = dict[str, Any]


def compare(
    show: Show, truth: Truth, frame: ReferenceFrame, measures: Mapping[str, Measure] | None = None
) -> dict[str, Any]:
    """Render a scene as each true view sees it, and measure how alike they are.

    Returns:
        `views`, a row each with PSNR, both SSIMs, sharpness, the further `measures` and, of a view with an alpha
        channel, silhouette IoU; `mean`, over the views that have the metric; `notes`, what the views do not tell.
    """
    rows, cameras = [], frame.cameras(truth)
    for index in range(len(cameras)):
        render, background = show(cameras[index]), truth.backgrounds[index]
        alpha = render.alpha[0].cpu()
        # The render lies on white: exchange it for the true view's background.
        image = (render.color[0].cpu() - (1.0 - alpha) * (1.0 - background)).clamp(0.0, 1.0)
        row = _place(truth.cameras, index)
        row |= {name: measure(image, truth.images[index]) for name, measure in (ALWAYS | dict(measures or {})).items()}
        if truth.has_alpha[index]:
            row["iou"] = silhouette_iou(alpha, truth.alpha[index])
        rows.append(row)
    return {"views": rows, "mean": mean_of(rows), "notes": list(truth.notes)}


def compare_with_reference(show: Show, cameras: Cameras, measures: Mapping[str, Measure]) -> dict[str, Any]:
    """Measure views without true ones, on white, by what compares with a reference (CLIP). Returns as `compare`."""
    rows = []
    for index in range(len(cameras)):
        image = show(cameras[index]).color[0].clamp(0.0, 1.0).cpu()
        row = {name: measure(image, image) for name, measure in measures.items()}
        rows.append(_place(cameras, index) | row)
    return {"views": rows, "mean": mean_of(rows), "notes": []}


def _place(cameras: Cameras, index: int) -> Row:
    return {name: float(getattr(cameras, name)[index]) for name in ("azimuth", "elevation")}


def mean_of(rows: list[Row]) -> dict[str, float]:
    """Means of the metrics over the views that have them."""
    names = dict.fromkeys(name for row in rows for name in row if name not in ("azimuth", "elevation"))
    known = {name: [row[name] for row in rows if name in row] for name in names}
    return {name: sum(values) / len(values) for name, values in known.items()}
