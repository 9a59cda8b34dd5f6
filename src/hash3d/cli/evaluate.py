"""`hash3d evaluate DIR --truth FOLDER`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from .parsing import Maybe, expect_run, parse_options
from .streams import print_table, say

ANGLES = {"azimuth": ("azimuth", ".1f"), "elevation": ("elevation", ".0f")}


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
    from hash3d.evaluation.metrics import METRICS
    from hash3d.files import write_json

    metrics = evaluate(options)
    write_json(options.folder / "evaluation.json", metrics)
    rows = (*metrics["views"], {"azimuth": "mean", "elevation": "", **metrics["mean"]})
    columns = {name: each for name, each in (ANGLES | METRICS).items() if any(name in row for row in rows)}
    print_table(
        [heading for heading, _ in columns.values()],
        [[format_cell(row.get(name, "-"), form) for name, (_, form) in columns.items()] for row in rows],
    )
    for note in metrics["notes"]:
        say(note)
    return 0


def format_cell(value: float | str, form: str) -> str:
    """Format a number; words stay."""
    return value if isinstance(value, str) else format(value, form)


def evaluate(options: Evaluate) -> dict[str, Any]:
    """Compare the asset of a run folder with each true view. See `compare` for what is returned."""
    import torch

    from hash3d.evaluation.metrics import judge
    from hash3d.training.outputs import load_asset, read_reached
    from hash3d.training.run_folder import RunFolder

    _, show = load_asset(options.folder, torch.device("cpu"))
    recipe = read_reached(options.folder)
    image = RunFolder(options.folder).input_picture if recipe.image else None
    return judge(show, recipe, image, options.truth, options.metrics, options.weights)
