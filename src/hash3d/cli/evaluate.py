"""`hash3d evaluate DIR --truth FOLDER`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console

from .parsing import Maybe, expect_run, parse_options
from .tables import print_table

COLUMNS = {
    "azimuth": ("azimuth", ".1f"), "elevation": ("elevation", ".0f"), "psnr": ("PSNR", ".2f"), "ssim": ("SSIM", ".3f"),
    "ssim_padded": ("SSIM, padded", ".3f"), "sharpness": ("sharpness", ".2f"), "iou": ("IoU", ".3f"),
    "flip": ("FLIP", ".3f"), "lpips_vgg": ("LPIPS, VGG", ".3f"), "lpips_alex": ("LPIPS, Alex", ".3f"),
    "clip_b32": ("CLIP B/32", ".3f"), "clip_l14": ("CLIP L/14", ".3f"), "clip_g14": ("CLIP bigG/14", ".3f"),
}  # fmt: skip
"""Headings and formats by the names of `evaluation.json`."""
VIEWS_WITHOUT_TRUTH, VIEW_SIZE = 8, 256
"""Every 45 degrees at elevation 0, as the paper judges what is made of a text."""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Compare a run with true views in the frame of its input image: PSNR, SSIM, sharpness, IoU, and their means.

    SSIM leaves out a border of 5 pixels, as scikit-image does; padded, it counts all pixels, as torchmetrics does.
    Sharpness is squared differences of neighbouring pixels over those of the truth.
    """

    folder: tyro.conf.Positional[Path]
    """The run folder."""
    truth: Maybe[Path] = None
    """A folder with views.json and its images. Without it CLIP judges 8 views all round, alone."""
    metrics: tuple[Literal["flip", "lpips_vgg", "lpips_alex", "clip_b32", "clip_l14", "clip_g14"], ...] = ()
    """Further metrics. flip needs the extra `metrics` alone; the others need weights. clip_: mean cosine of the views
    and the input image, or of a text alone the prompt."""
    weights: Maybe[Path] = None
    """A folder of weights, before the hubs are asked: vgg16-397923af.pth and vgg.pth, alexnet-owt-7be5be79.pth and
    alex.pth; folders clip-vit-base-patch32, clip-vit-large-patch14, CLIP-ViT-bigG-14-laion2B-39B-b160k."""


def main(arguments: list[str]) -> int:
    """Print the metrics and write evaluation.json. Returns the exit code."""
    options = parse_options(Evaluate, "evaluate", arguments)
    expect_run(options.folder)
    if options.truth is None and not any(name.startswith("clip") for name in options.metrics):
        raise ValueError("Expected --truth FOLDER, or CLIP among the --metrics, but got neither.")
    from hash3d.files import write_json

    metrics = evaluate(options)
    write_json(options.folder / "evaluation.json", metrics)
    rows = (*metrics["views"], {"azimuth": "mean", "elevation": "", **metrics["mean"]})
    columns = {name: each for name, each in COLUMNS.items() if any(name in row for row in rows)}
    print_table(
        [heading for heading, _ in columns.values()],
        [[format_cell(row.get(name, "-"), form) for name, (_, form) in columns.items()] for row in rows],
    )
    for note in metrics["notes"]:
        Console(highlight=False).print(note, markup=False)
    return 0


def format_cell(value: float | str, form: str) -> str:
    """Format a number; words stay."""
    return value if isinstance(value, str) else format(value, form)


def evaluate(options: Evaluate) -> dict[str, Any]:
    """Compare the asset of a run folder with each true view. See `compare` for what is returned."""
    import torch

    from hash3d.evaluation.metrics import compare, compare_with_reference
    from hash3d.evaluation.perceptual import load_measures
    from hash3d.evaluation.reference_frame import find_reference_frame
    from hash3d.evaluation.truth import load_truth
    from hash3d.export.turntable import orbit
    from hash3d.pictures import load_picture
    from hash3d.training.outputs import load_asset, read_reached
    from hash3d.training.run_folder import RunFolder

    _, show = load_asset(options.folder, torch.device("cpu"))
    recipe = read_reached(options.folder)
    image = RunFolder(options.folder).input_picture if recipe.image else None
    reference: Any = recipe.prompt
    if image and options.metrics:
        color, alpha = load_picture(image).split((3, 1), dim=-1)
        reference = color * alpha + 1.0 - alpha
    frame = find_reference_frame(recipe, image)
    measures = load_measures(options.metrics, reference, weights=options.weights)
    if options.truth is None:
        own = recipe.stages[-1].cameras
        views = orbit(VIEWS_WITHOUT_TRUTH, 0.0, own.radius, own.fov_y, VIEW_SIZE)
        clips = {name: measure for name, measure in measures.items() if name.startswith("clip")}
        return compare_with_reference(show, views, clips)
    return compare(show, load_truth(options.truth), frame, measures)
