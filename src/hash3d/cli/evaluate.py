"""`hash3d evaluate DIR --truth FOLDER`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from .parsing import expect_run, parse_options
from .tables import print_table

COLUMNS = {
    "azimuth": ("azimuth", ".1f"), "elevation": ("elevation", ".0f"), "psnr": ("PSNR", ".2f"), "ssim": ("SSIM", ".3f"),
    "ssim_padded": ("SSIM, padded", ".3f"), "sharpness": ("sharpness", ".2f"), "iou": ("IoU", ".3f"),
}  # fmt: skip
"""Headings and formats by the names of `evaluation.json`."""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Compare a run with true views in the frame of its input image: PSNR, SSIM, sharpness, IoU, and their means.

    SSIM leaves out a border of 5 pixels, as scikit-image does; padded, it counts all pixels, as torchmetrics does.
    Sharpness is squared differences of neighbouring pixels over those of the truth.
    """

    folder: tyro.conf.Positional[Path]
    """The run folder."""
    truth: Path
    """A folder with views.json and its images."""


def main(arguments: list[str]) -> int:
    """Print the metrics and write evaluation.json. Returns the exit code."""
    options = parse_options(Evaluate, "evaluate", arguments)
    expect_run(options.folder)
    from hash3d.files import write_json

    metrics = evaluate(options.folder, options.truth)
    write_json(options.folder / "evaluation.json", metrics)
    rows = (*metrics["views"], {"azimuth": "mean", "elevation": "", **metrics["mean"]})
    print_table(
        [heading for heading, _ in COLUMNS.values()],
        [[format_cell(row.get(name, "-"), form) for name, (_, form) in COLUMNS.items()] for row in rows],
    )
    for note in metrics["notes"]:
        Console(highlight=False).print(note, markup=False)
    return 0


def format_cell(value: float | str, form: str) -> str:
    """Format a number; words stay."""
    return value if isinstance(value, str) else format(value, form)


def evaluate(folder: Path, truth: Path) -> dict[str, Any]:
    """Compare the asset of a run folder with each true view. See `compare` for what is returned."""
    import torch

    from hash3d.evaluation.compare import compare
    from hash3d.evaluation.reference_frame import find_reference_frame
    from hash3d.evaluation.truth import load_truth
    from hash3d.training.outputs import load_asset, read_reached
    from hash3d.training.run_folder import RunFolder

    _, show = load_asset(folder, torch.device("cpu"))
    recipe = read_reached(folder)
    frame = find_reference_frame(recipe, RunFolder(folder).input_picture if recipe.image else None)
    return compare(show, load_truth(truth), frame)
