"""What is said of a run."""

import dataclasses
from pathlib import Path

from hash3d.cli import progress
from hash3d.cli.progress import ProgressLine, report, size
from hash3d.training.trainer import Trainer
from hash3d.training.watch import Metrics


def test_a_size_is_a_count_or_a_share():
    assert size({"gaussians": 3000.0, "occupied": 0.12}) == "3,000 gaussians, 12% occupied"


def test_a_report_names_the_asset_and_what_was_left_out(capsys):
    summary = {
        "system": "zero123_gs",
        "completed": False,
        "steps": 7,
        "seconds": {"total": 10.0, "unet": 4.0},
        "unet": {"reuse_share": 0.5},
        "not_finite": {"loss": 2},
        "outputs": ["model.ply", "model.glb", "preview.png", "turntable.mp4", "view.html"],
    }
    report(Path("run"), summary)
    assert capsys.readouterr().out.splitlines() == [
        "zero123_gs: interrupted after 7 steps, 10 s (U-Net 4 s, 50% of its passes reused)",
        "  not finite, and left out: loss at 2 of 7 steps",
        "  asset    run/model.glb",
        "  picture  run/preview.png",
        "  video    run/turntable.mp4",
        "  page     run/view.html",
        "  go on    hash3d generate --resume --out run",
    ]


def test_plain_lines_have_the_time_and_what_is_left(tiny, monkeypatch, capsys):
    """Ten steps a second, from step 20 of 100 on: half of the steps are five seconds."""
    clock = iter((5.0, 8.0))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(Trainer, "cache", None)
    recipe = tiny("sds_gs")
    line = ProgressLine(dataclasses.replace(recipe, stage=dataclasses.replace(recipe.stage, steps=100)))
    for step in (19, 48, 49):  # A line every fifth step.
        line(object.__new__(Trainer), Metrics({"step": step, "loss": 1.0, "gaussians": 40.0}))
    assert capsys.readouterr().err.splitlines() == ["step 50/100: loss 1.000, 40 gaussians, 3 s, 5 s left"]


def test_what_is_written_after_the_last_step_is_told(tiny, capsys):
    line = ProgressLine(tiny("sds_gs"))
    line.show_phase("turntable")
    line.show_phase("mesh and texture")
    assert capsys.readouterr().err.splitlines() == ["writing: turntable", "writing: mesh and texture"]
