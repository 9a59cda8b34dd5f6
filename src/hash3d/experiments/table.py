"""Rows as a Markdown table: a line a variant, compared pair by pair with the first."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hash3d.cache.grid import FIELDS

from .worker import Row

SHALLOW_COST = 0.18
"""A shallow pass in full passes: mini-zero123 at its default cut on 2 CPU cores, 34 / 192 ms (embedded.md)."""
FIGURES = {
    "psnr": ("PSNR", ".2f", "+.3f", ".3f"),
    "ssim": ("SSIM", ".3f", "+.4f", ".4f"),
    "iou": ("IoU", ".3f", "+.4f", ".4f"),
}
"""Heading; formats of the mean, of the paired difference, of its standard error."""
HEADS = (
    "variant",
    "runs",
    *(heading for heading, *_ in FIGURES.values()),
    "reuse",
    "cost",
    f"gap: {' / '.join(FIELDS)}",
    "age",
    "audits: error",
    "seconds",
)
LEGEND = (
    "In brackets the mean difference to the first variant over the `runs` pairs of one object and seed, +- its "
    "standard error. Reuse: share of shallow passes. Cost: of guidance, relative to the first variant, with a "
    "shallow pass at {shallow_cost} of a full one. Gap and age: mean distance in degrees, scene units and diffusion "
    "steps, and mean age in steps, of the entries used. Audits: how many a run had, and the mean relative error of the "
    "reused prediction. Seconds: of a run, without loading."
)


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a shallow pass costs."""

    shallow: float = SHALLOW_COST
    """Relative to a full pass."""
    pass_ms: dict[str, Any] | None = None
    """Measured milliseconds, `full` and a list `shallow` by cut: they win."""

    def guidance(self, row: Row) -> float:
        """Cost of a run's guidance in full passes."""
        audits = row["cache"]["guard"]["audits"] if row["cache"] else 0
        return row["full"] + self.of_shallow(row) * (row["shallow"] + audits)

    def of_shallow(self, row: Row) -> float:
        """Of one of the run's shallow passes; where predictions are kept, a hit runs nothing."""
        if row["mode"] == "noise":
            return 0.0
        if self.pass_ms and row["cut"] is not None:
            return self.pass_ms["shallow"][row["cut"]] / self.pass_ms["full"]
        return self.shallow


def table(rows: Sequence[Row], variants: Sequence[str], costs: Costs) -> list[str]:
    """The lines of the table. A variant is compared with the first over the pairs that both have."""
    lines = [f"| {' | '.join(HEADS)} |", "| --- |" + " ---: |" * (len(HEADS) - 1)]
    first = _by_place(rows, variants[0])
    for name in variants:
        pairs = [(row, first[place]) for place, row in _by_place(rows, name).items() if place in first]
        cells = _cells(pairs, costs, compared=name != variants[0]) if pairs else ["-"] * (len(HEADS) - 2)
        lines.append(f"| {' | '.join([name, str(len(pairs)), *cells])} |")
    return lines


def _by_place(rows: Sequence[Row], variant: str) -> dict[tuple[str, int], Row]:
    """A variant's rows by object and seed."""
    return {(row["object"], row["seed"]): row for row in rows if row["variant"] == variant}


def _cells(pairs: list[tuple[Row, Row]], costs: Costs, *, compared: bool) -> list[str]:
    """A variant's cells behind its name and number, from its rows and the first variant's."""
    rows = [row for row, _ in pairs]
    cost = _mean([costs.guidance(row) / costs.guidance(other) for row, other in pairs])
    used = [row["cache"] for row in rows if row["cache"] and row["cache"]["hits"]]
    gaps = [f"{_mean([cache['mean_gap'][field] for cache in used]):.3g}" for field in FIELDS] if used else ["-"]
    return [
        *(_figure(name, pairs, compared=compared) for name in FIGURES),
        f"{_mean([row['reuse_share'] for row in rows]):.0%}",
        f"{cost:.2f}",
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


def _figure(name: str, pairs: list[tuple[Row, Row]], *, compared: bool) -> str:
    """The mean of a figure, and its paired difference to the first variant."""
    known = [(row[name], other[name]) for row, other in pairs if name in row and name in other]
    if not known:
        return "-"
    _, of_mean, of_difference, of_error = FIGURES[name]
    mean = format(_mean([value for value, _ in known]), of_mean)
    if not compared:
        return mean
    difference, error = paired_difference([value for value, _ in known], [other for _, other in known])
    spread = "" if math.isnan(error) else f" +- {error:{of_error}}"
    return f"{mean} ({difference:{of_difference}}{spread})"


def paired_difference(values: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """Mean of value - other, and its standard error s / sqrt(n); of one pair there is none (nan)."""
    differences = [value - other for value, other in zip(values, others, strict=True)]
    error = statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else math.nan
    return _mean(differences), error


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
