"""`hash3d evaluate DIR --truth FOLDER`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table

from hash3d.evaluation.compare import compare
from hash3d.evaluation.truth import load_truth
from hash3d.files import write_text
from hash3d.training.outputs import load_asset


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Compare a run with true views: PSNR and SSIM on white, silhouette IoU; mean over the views."""

    folder: tyro.conf.Positional[Path]
    """The run folder."""
    truth: Path
    """A folder with views.json and its pictures."""


def main(arguments: list[str]) -> int:
    """Print and keep the metrics. Returns the exit code."""
    options = tyro.cli(Evaluate, prog="hash3d evaluate", args=arguments)
    metrics = evaluate(options.folder, options.truth)
    write_text(options.folder / "evaluation.json", json.dumps(metrics, indent=2) + "\n")
    table = Table("azimuth", "elevation", "PSNR", "SSIM", "IoU", box=None)
    for row in metrics["views"]:
        table.add_row(
            f"{row['azimuth']:.1f}",
            f"{row['elevation']:.0f}",
            f"{row['psnr']:.2f}",
            f"{row['ssim']:.3f}",
            f"{row['iou']:.3f}",
        )
    mean = metrics["mean"]
    table.add_row("mean", "", f"{mean['psnr']:.2f}", f"{mean['ssim']:.3f}", f"{mean['iou']:.3f}")
    Console(highlight=False).print(table)
    return 0


def evaluate(folder: Path, truth: Path) -> dict[str, Any]:
    """PSNR, SSIM and IoU of each true view, and their means."""
    return compare(load_asset(folder, torch.device("cpu"))[1], load_truth(truth))
