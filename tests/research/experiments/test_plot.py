"""The figure's points are the table's numbers."""

import math

import pytest
from PIL import Image

from research.experiments.plot import PLOTTED, Point, plot_points, points_of
from research.experiments.table import Costs, table
from tests.research.experiments.test_table import TIMING, cells, row

ON = {"full": 4, "shallow": 6, "mode": "feature", "cut": 1, "hits": 6, "audits": 1}


@pytest.fixture
def rows():
    """Three pairs; the third object has no true views, and a fourth has no pair."""
    rows = [row("off", "a", psnr=20.0, iou=0.5), row("off", "b", psnr=22.0, iou=0.7), row("off", "c")]
    rows += [row("on", "a", psnr=20.5, iou=0.8, **ON), row("on", "b", psnr=23.5, iou=0.6, **ON), row("on", "c", **ON)]
    return [*rows, row("on", "d", psnr=0.0, iou=0.0, **ON), row("lone", "a", psnr=21.0, iou=0.9)]


def test_points_by_hand(rows):
    off, on, lone = points_of(rows, ["off", "on", "lone", "not run"], Costs(timing=TIMING))
    assert off == Point(label="off", runs=3, share=0.0, cost=1.0, differences={"psnr": (0.0, 0.0), "iou": (0.0, 0.0)})
    # PSNR: 0.5 and 1.5, s = sqrt(0.5). IoU: 0.3 and -0.1, s = sqrt(0.08). Cost: (4 + 0.25 * (6 + 1)) / 10.
    assert (on.label, on.runs, on.share) == ("on", 3, pytest.approx(0.6))
    assert on.cost == pytest.approx(0.575)
    assert on.differences["psnr"] == pytest.approx((1.0, 0.5))
    assert on.differences["iou"] == pytest.approx((0.1, 0.2))
    assert lone.differences["psnr"][0] == 1.0
    assert math.isnan(lone.differences["psnr"][1]), "one pair has no error"


def test_points_are_the_table_s(rows):
    names, costs = ["off", "on"], Costs(timing=TIMING)
    point, line = points_of(rows, names, costs)[1], cells(table(rows, names, costs)[3])
    difference, error = point.differences["psnr"]
    assert line[1] == str(point.runs)
    assert line[2].endswith(f"({difference:+.3f} +- {error:.3f})")
    difference, error = point.differences["iou"]
    assert line[5].endswith(f"({difference:+.4f} +- {error:.4f})")
    assert line[6:8] == [f"{point.share:.0%}", f"{point.cost:.2f}"]


def test_what_is_drawn_is_what_the_points_say(rows, tmp_path, monkeypatch):
    points, kept = points_of(rows, ["off", "on", "lone"], Costs(timing=TIMING)), []
    from matplotlib import pyplot

    monkeypatch.setattr(pyplot, "close", kept.append)
    plot_points(points, tmp_path / "figure.png")
    axes = kept[0].axes
    assert [axis.get_xscale() for axis in axes] == ["linear", "log"] * 2
    for number, axis in enumerate(axes):
        figure, horizontal = PLOTTED[number // 2], ("share", "cost")[number % 2]
        drawn = [container.lines[0].get_xydata()[0].tolist() for container in axis.containers]
        assert drawn == [[getattr(point, horizontal), point.differences[figure][0]] for point in points]
        (bar,) = axis.containers[1].lines[2][0].get_segments()
        assert (bar[1, 1] - bar[0, 1]) / 2 == pytest.approx(points[1].differences[figure][1])
        assert {text.get_text() for text in axis.texts} == {"off", "on", "lone (1 runs)"}
        boxes = [text.get_window_extent() for text in axis.texts]
        assert not any(boxes[a].overlaps(boxes[b]) for a in range(3) for b in range(a))
    assert Image.open(tmp_path / "figure.png").size == (1170, 810)
    assert (tmp_path / "figure.png").stat().st_size < 200_000


def test_without_true_views_the_panels_are_empty(tmp_path):
    points = points_of([row("off", "a"), row("on", "a", **ON)], ["off", "on"], Costs())
    assert [point.differences for point in points] == [{}, {}]
    plot_points(points, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").exists()
