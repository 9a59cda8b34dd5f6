"""What is said of a run."""

import io
from pathlib import Path
from types import SimpleNamespace

from rich.console import Console

from hash3d.cli.progress import PLAIN_EVERY, ProgressLine, report, size
from hash3d.training.trainer import Trainer


def test_a_size_is_a_count_or_a_share():
    assert size({"gaussians": 3000.0, "occupied": 0.12}) == "3,000 gaussians, 12% occupied"


def test_without_a_terminal_a_line_tells_every_fiftieth_step(tiny_recipe):
    line = ProgressLine(tiny_recipe)
    line.console = Console(file=io.StringIO(), width=200, highlight=False)

    class Reusing(Trainer):
        cache = SimpleNamespace(guard=SimpleNamespace(reusing=False))

    trainer = object.__new__(Reusing)
    metrics = {"loss": 0.5, "gaussians": 40.0, "reuse_share": 0.25, "reuse_error": 0.5}
    for step in range(PLAIN_EVERY + 1):
        line(trainer, {**metrics, "step": float(step)})
    said = line.console.file.getvalue().splitlines()
    assert said == [f"step 50/{tiny_recipe.steps}: loss 0.500, 40 gaussians, reuse 25% (error 0.50, off)"]


def test_a_report_names_the_asset_and_what_was_left_out(capsys):
    summary = {
        "system": "zero123_gs",
        "completed": False,
        "steps": 7,
        "seconds": {"total": 10.0, "unet": 4.0},
        "unet": {"reuse_share": 0.5},
        "not_finite": {"loss": 2},
        "outputs": ["model.ply", "model.glb", "preview.png", "turntable.mp4"],
    }
    report(Path("run"), summary)
    assert capsys.readouterr().out.splitlines() == [
        "zero123_gs: interrupted; --resume goes on after 7 steps, 10 s (U-Net 4 s, 50% of its passes reused)",
        "  not finite, and left out: loss at 2 of 7 steps",
        "  asset    run/model.glb",
        "  picture  run/preview.png",
        "  video    run/turntable.mp4",
    ]
