"""The figure of a page: what quality a variant loses against what it reuses and what it costs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hash3d.table.objects import Row
from hash3d.table.report import known_metrics, paired_difference, pairs_of

from .table import METRICS, Costs, relative_cost, reuse_share

PLOTTED = ("psnr", "iou")
LABEL_STEP = 1.0
"""Points by which a name is moved at a time until it lies on no other."""
COLORS = (*(f"C{number}" for number in range(10)), "black")
BACKGROUND = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5}
"""Of names, which lie above the lines and below the points."""
COST_TICKS = (0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)


@dataclass(frozen=True, kw_only=True)
class Point:
    """A variant's numbers, as its line of the table has them."""

    label: str
    runs: int
    """Pairs that the means are over."""
    share: float
    """Of shallow passes."""
    cost: float
    """Of guidance, relative to the first variant."""
    differences: dict[str, tuple[float, float]]
    """By figure: the mean paired difference to the first variant, and its standard error."""


def points_of(rows: Sequence[Row], variants: Sequence[str], costs: Costs) -> list[Point]:
    """A point for each variant that has pairs; without true views it has no differences."""
    points = []
    for name in variants:
        pairs = pairs_of(rows, name, variants[0])
        if pairs:
            known = {figure: known_metrics(figure, pairs) for figure in PLOTTED}
            differences = {figure: paired_difference(*both) for figure, both in known.items() if both[0]}
            share, cost = reuse_share(pairs), relative_cost(pairs, costs)
            points.append(Point(label=name, runs=len(pairs), share=share, cost=cost, differences=differences))
    return points


def plot_points(points: Sequence[Point], path: Path) -> None:
    """A row a figure; against the share of shallow passes, and against the cost on a logarithmic axis."""
    plot = import_pyplot()
    figure, axes = plot.subplots(len(PLOTTED), 2, figsize=(13, 9), sharex="col", sharey="row", layout="constrained")
    for line, name in zip(axes, PLOTTED, strict=True):
        line[0].set_ylabel(f"{METRICS[name][0]}, difference to {points[0].label}")
        known = [point for point in points if name in point.differences]
        for axis, horizontal in zip(line, ("share", "cost"), strict=True):
            axis.axhline(0.0, color="gray", linewidth=1.0, zorder=1)
            axis.grid(alpha=0.3)
            for number, point in enumerate(known):
                difference, error = point.differences[name]
                axis.errorbar(
                    getattr(point, horizontal), difference, yerr=None if math.isnan(error) else error,
                    fmt="o", markersize=5, capsize=3, color=COLORS[number % len(COLORS)],
                )  # fmt: skip
    share_axis, cost_axis = axes[-1]
    share_axis.set_xlabel("share of shallow passes")
    share_axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    cost_axis.set_xlabel(f"cost of guidance relative to {points[0].label}")
    _scale_costs(cost_axis, [point.cost for point in points])
    figure.canvas.draw()  # Now the places of all points are known.
    for line, name in zip(axes, PLOTTED, strict=True):
        known = [point for point in points if name in point.differences]
        for axis, horizontal in zip(line, ("share", "cost"), strict=True):
            names = [_told(point, known) for point in known]
            _name(axis, [(getattr(point, horizontal), point.differences[name][0]) for point in known], names)
    figure.savefig(path, dpi=90)
    plot.close(figure)


def _scale_costs(axis: Any, costs: Sequence[float]) -> None:
    """A logarithmic axis with plain numbers."""
    axis.set_xscale("log")
    axis.set_xlim(min(costs) / 1.15, max(costs) * 1.15)
    low, high = axis.get_xlim()
    ticks = [tick for tick in COST_TICKS if low <= tick <= high]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_xticks([], minor=True)


def _told(point: Point, points: Sequence[Point]) -> str:
    """A point's name, and its runs if it has fewer than others: then it is not of the same objects."""
    return f"{point.label} ({point.runs} runs)" if point.runs < max(other.runs for other in points) else point.label


def _name(axis: Any, places: Sequence[tuple[float, float]], names: Sequence[str]) -> None:
    """Write names beside their points, to the side with more room, each moved down until it lies on no other."""
    taken: list[Any] = []
    by_height = sorted(range(len(places)), key=lambda number: -places[number][1])
    for number in by_height:
        x, y = places[number]
        left = axis.transAxes.inverted().transform(axis.transData.transform((x, y)))[0] < 0.5
        text = axis.annotate(
            names[number], (x, y), xytext=(7 if left else -7, 4), textcoords="offset points", fontsize=8,
            bbox=BACKGROUND, zorder=1.9, ha="left" if left else "right", color=COLORS[number % len(COLORS)],
        )  # fmt: skip
        text.set_in_layout(False)
        while any(text.get_window_extent().overlaps(other) for other in taken):
            text.xyann = (text.xyann[0], text.xyann[1] - LABEL_STEP)
        taken.append(text.get_window_extent())


def import_pyplot() -> Any:
    """Import matplotlib without a display, when the first figure is plotted."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(
            "Expected matplotlib for the figure, but it is missing. Run pip install -r research/requirements.txt."
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
