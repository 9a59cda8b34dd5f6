"""Rows as a Markdown table: a line a variant, compared pair by pair with the first."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hash3d.cache.grid import FIELDS
from hash3d.table.objects import Row
from hash3d.table.report import Pairs, known_metrics, markdown_table, paired_difference, pairs_of

SHALLOW_COST = 0.18
"""A shallow pass in full passes: mini-zero123 at the cut before the last on 2 CPU cores, 34 / 192 ms (embedded.md)."""
METRICS = {
    "psnr": ("PSNR", ".2f", "+.3f", ".3f"),
    "ssim": ("SSIM, cropped", ".3f", "+.4f", ".4f"),
    "sharpness": ("sharpness", ".2f", "+.3f", ".3f"),
    "iou": ("IoU", ".3f", "+.4f", ".4f"),
}
"""Heading; formats of the mean, of the paired difference, of its standard error."""
HEADS = (
    "variant",
    "runs",
    *(heading for heading, *_ in METRICS.values()),
    "reuse",
    "cost",
    f"gap: {' / '.join(FIELDS)}",
    "age",
    "audits: error",
    "seconds",
)
LEGEND = (
    "SSIM leaves out a border of 5 pixels, as scikit-image does. Sharpness: squared differences of neighbouring "
    "pixels over those of the truth. "
    "In brackets the mean difference to the first variant over the `runs` pairs of one object and seed, +- its "
    "standard error. Reuse: share of shallow passes. Cost: of guidance with its audits, relative to the first variant. "
    "{costs} Gap and age: mean distance in degrees, scene units and diffusion steps, and mean age in steps, of the "
    "entries used. Audits: how many a run had, and the mean relative error of the reused prediction. Seconds: of a "
    "run, without loading."
)


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a shallow pass costs."""

    timing: Row | None = None
    """A row with `pass_ms`: measured milliseconds, `full` and a list `shallow` by cut. None: `SHALLOW_COST` at all."""

    def guidance(self, row: Row) -> float:
        """Cost of a run's guidance in full passes. An audit takes a shallow pass besides the full one."""
        audits = row["cache"]["guard"]["audits"] if row["cache"] else 0
        return row["full"] + self.of_shallow(row) * (row["shallow"] + audits)

    def of_shallow(self, row: Row) -> float:
        """Of one of the run's shallow passes; where predictions are kept, a hit runs nothing."""
        if row["mode"] == "noise":
            return 0.0
        if self.timing is None or row["cut"] is None:
            return SHALLOW_COST
        pass_ms = self.timing["pass_ms"]
        return float(pass_ms["shallow"][row["cut"]] / pass_ms["full"])

    def __str__(self) -> str:
        if self.timing is None:
            return (
                f"The passes have not been timed: every shallow pass counts as {SHALLOW_COST:g} of a full one. That is "
                "its share at the cut before the last; at the last it is less, at the others more."
            )
        pass_ms, hardware = self.timing["pass_ms"], self.timing["hardware"]
        shallow = ", ".join(f"{milliseconds:.1f}" for milliseconds in pass_ms["shallow"])
        return (
            f"A shallow pass counts as timed on {hardware}: {shallow} ms from the first cut to the last, of "
            f"{pass_ms['full']:.1f} ms for a full one."
        )


def table(rows: Sequence[Row], variants: Sequence[str], costs: Costs) -> list[str]:
    """The lines of the table. A variant is compared with the first over the pairs that both have."""
    lines = []
    for name in variants:
        pairs = pairs_of(rows, name, variants[0])
        cells = _cells(pairs, costs, compared=name != variants[0]) if pairs else ["-"] * (len(HEADS) - 2)
        lines.append([name, str(len(pairs)), *cells])
    return markdown_table(HEADS, lines)


def relative_cost(pairs: Pairs, costs: Costs) -> float:
    """Mean cost of guidance, relative to the first variant."""
    return _mean([costs.guidance(row) / costs.guidance(other) for row, other in pairs])


def reuse_share(pairs: Pairs) -> float:
    """Mean share of shallow passes."""
    return _mean([row["reuse_share"] for row, _ in pairs])


def _cells(pairs: Pairs, costs: Costs, *, compared: bool) -> list[str]:
    """A variant's cells behind its name and number, from its rows and the first variant's."""
    rows = [row for row, _ in pairs]
    used = [row["cache"] for row in rows if row["cache"] and row["cache"]["hits"]]
    gaps = [f"{_mean([cache['mean_gap'][field] for cache in used]):.3g}" for field in FIELDS] if used else ["-"]
    return [
        *(_figure(name, pairs, compared=compared) for name in METRICS),
        f"{reuse_share(pairs):.0%}",
        f"{relative_cost(pairs, costs):.2f}",
        " / ".join(gaps),
        f"{_mean([cache['mean_age_steps'] for cache in used]):.1f}" if used else "-",
        _audits(used),
        f"{_mean([row['seconds']['total'] for row in rows]):.0f}",
    ]


def _audits(caches: list[dict[str, Any]]) -> str:
    """Audits a run, and their error."""
    guards = [cache["guard"] for cache in caches if cache["guard"]["audits"]]
    if not guards:
        return "-"
    return f"{_mean([guard['audits'] for guard in guards]):.0f}: {_mean([guard['mean_error'] for guard in guards]):.2f}"


def _figure(name: str, pairs: Pairs, *, compared: bool) -> str:
    """The mean of a figure, and its paired difference to the first variant."""
    values, others = known_metrics(name, pairs)
    if not values:
        return "-"
    _, of_mean, of_difference, of_error = METRICS[name]
    mean = format(_mean(values), of_mean)
    if not compared:
        return mean
    difference, error = paired_difference(values, others)
    spread = "" if math.isnan(error) else f" +- {error:{of_error}}"
    return f"{mean} ({difference:{of_difference}}{spread})"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
