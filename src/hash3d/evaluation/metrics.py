"""Metrics of an image against a true one, [H, W, 3] in [0, 1] on the same background, and of a scene's views."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.export.turntable import orbit
from hash3d.pictures import load_picture
from hash3d.recipes.recipe import Recipe
from hash3d.scenes.show import Show

from .perceptual import CLIPS, Measure, load_measures
from .reference_frame import ReferenceFrame, find_reference_frame
from .truth import Truth, load_truth

METRICS = {
    "psnr": ("PSNR", ".2f"), "ssim": ("SSIM", ".3f"), "ssim_padded": ("SSIM, padded", ".3f"),
    "sharpness": ("sharpness", ".2f"), "iou": ("IoU", ".3f"), "flip": ("FLIP", ".3f"),
    "lpips_vgg": ("LPIPS, VGG", ".3f"), "lpips_alex": ("LPIPS, Alex", ".3f"), "clip_b32": ("CLIP B/32", ".3f"),
    "clip_l14": ("CLIP L/14", ".3f"), "clip_g14": ("CLIP bigG/14", ".3f"),
}  # fmt: skip
"""Headings and formats."""
VIEWS_WITHOUT_TRUTH, VIEW_SIZE = 8, 256
"""Every 45 degrees at elevation 0, as the paper judges what is made of a text."""
MOST_TILT = 2.0
"""Degrees between the elevations of a run's image and of the true views' above which that is told."""
WINDOW_RADIUS = 5
"""Pixels of SSIM's window on each side of its middle: 3.5 sigma, rounded."""


def psnr(image: Float[Tensor, "H W 3"], truth: Float[Tensor, "H W 3"]) -> float:
    """Peak signal-to-noise ratio in decibels, -10 log10 of the mean squared error; infinite for equal images."""
    error = (image.double() - truth.double()).square().mean().item()
    return math.inf if error == 0.0 else -10.0 * math.log10(error)


def ssim(image: Float[Tensor, "H W 3"], truth: Float[Tensor, "H W 3"]) -> float:
    """Structural similarity (Wang et al. 2004): Gaussian window of 11 pixels and sigma 1.5, mean over channels.

    The mean leaves out the border of 5 pixels where the window reaches over the edge, as scikit-image does.
    """
    from skimage.metrics import structural_similarity

    value = structural_similarity(
        image.cpu().double().numpy(), truth.cpu().double().numpy(), gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, data_range=1.0, channel_axis=-1,
    )  # fmt: skip
    return float(value)


def ssim_padded(image: Float[Tensor, "H W 3"], truth: Float[Tensor, "H W 3"]) -> float:
    """Structural similarity over all pixels, the images padded by reflection, as torchmetrics does."""
    pair = torch.stack([image, truth]).permute(0, 3, 1, 2)
    return ssim(*F.pad(pair, (WINDOW_RADIUS,) * 4, mode="reflect").permute(0, 2, 3, 1))


def sharpness(image: Float[Tensor, "H W 3"], truth: Float[Tensor, "H W 3"]) -> float:
    """Squared differences of neighbouring pixels over those of the truth: below 1 what is blurred, above it noise."""
    energies = [sum(each.double().diff(dim=dim).square().sum().item() for dim in (0, 1)) for each in (image, truth)]
    return energies[0] / energies[1] if energies[1] else math.inf


def silhouette_iou(
    alpha: Float[Tensor, "*shape"], truth_alpha: Float[Tensor, "*shape"], threshold: float = 0.5
) -> float:
    """Pixels inside both silhouettes over pixels inside at least one; 1 if both are empty."""
    inside, truly_inside = alpha > threshold, truth_alpha > threshold
    union = (inside | truly_inside).sum().item()
    return 1.0 if union == 0 else (inside & truly_inside).sum().item() / union


ALWAYS: dict[str, Measure] = {"psnr": psnr, "ssim": ssim, "ssim_padded": ssim_padded, "sharpness": sharpness}
Row = dict[str, Any]


def judge(
    show: Show, recipe: Recipe, image: Path | None, truth: Path | None, names: Sequence[str], weights: Path | None
) -> dict[str, Any]:
    """Compare the scene of a recipe with a folder of true views, or without one judge views all round by CLIP alone.

    Args:
        show: renders the scene.
        recipe: of its run.
        image: the input image as the run reads it, if there is one: the frame of the true views, and CLIP's reference.
        truth: the folder of the true views.
        names: further metrics, of `hash3d.evaluation.perceptual`.
        weights: a folder of their weights.

    Returns:
        As `compare`.
    """
    frame = find_reference_frame(recipe, image)
    names = [name for name in names if truth is not None or name in CLIPS]
    reference: Any = recipe.prompt
    if image and names:
        color, alpha = load_picture(image).split((3, 1), dim=-1)
        reference = color * alpha + 1.0 - alpha
    measures = load_measures(names, reference, weights=weights)
    if truth is not None:
        views = load_truth(truth)
        found = compare(show, views, frame, measures)
        told, real = recipe.reference_elevation, views.reference_elevation
        if image and abs(told - real) > MOST_TILT:
            found["notes"].append(
                f"The run took its image from elevation {told:g}, the true views from {real:g}: all views are compared "
                f"so far apart. Make it with --elevation {real:g}."
            )
        return found
    own, rows = recipe.stages[-1].cameras, list[Row]()
    cameras = orbit(VIEWS_WITHOUT_TRUTH, 0.0, own.radius, own.fov_y, VIEW_SIZE)
    for index in range(len(cameras) if measures else 0):
        shown = show(cameras[index]).color[0].clamp(0.0, 1.0).cpu()
        rows.append(_place(cameras, index) | {name: measure(shown, shown) for name, measure in measures.items()})
    return {"views": rows, "mean": mean_of(rows), "notes": []}


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
    notes, empty = list(truth.notes), [row for row in rows if math.isinf(row["sharpness"])]
    if empty:
        notes.append(f"{len(empty)} of {len(rows)} true views show one colour alone, so that they have no sharpness.")
    for row in empty:
        del row["sharpness"]
    return {"views": rows, "mean": mean_of(rows), "notes": notes}


def _place(cameras: Cameras, index: int) -> Row:
    return {name: float(getattr(cameras, name)[index]) for name in ("azimuth", "elevation")}


def mean_of(rows: list[Row]) -> dict[str, float]:
    """Means of the metrics over the views that have them."""
    names = dict.fromkeys(name for row in rows for name in row if name not in ("azimuth", "elevation"))
    known = {name: [row[name] for row in rows if name in row] for name in names}
    return {name: sum(values) / len(values) for name, values in known.items()}
