"""What is said of a run."""

from pathlib import Path

from hash3d.cli.progress import report, size


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
        "zero123_gs: interrupted; --resume goes on after 7 steps, 10 s (U-Net 4 s, 50% of its passes reused)",
        "  not finite, and left out: loss at 2 of 7 steps",
        "  asset    run/model.glb",
        "  picture  run/preview.png",
        "  video    run/turntable.mp4",
        "  page     run/view.html",
    ]
