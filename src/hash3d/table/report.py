"""Rows as a table: a line for each system and setting, compared pair by pair with the system's first setting."""

import csv
import functools
import io
import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from hash3d.diffusion.loading import EMBEDDED
from hash3d.evaluation.macs import Macs, count_known, count_macs
from hash3d.evaluation.metrics import METRICS as OF_VIEWS
from hash3d.files import read_json

from .objects import Row

Pairs = list[tuple[Row, Row]]
"""Rows of a setting, each beside the first setting's of the same input and seed."""
METRICS = OF_VIEWS | {
    "ssim": ("SSIM, cropped", ".3f"), "noun_found": ("object found", ".0%"), "color_found": ("colour found", ".0%"),
}  # fmt: skip
"""Headings and formats of what is compared, by the names of the rows."""
LEGEND = (
    "In brackets the mean difference to the system's first line over the runs of the same input and seed, +- its "
    "standard error. SSIM, cropped leaves out a border of 5 pixels, as scikit-image; padded counts all pixels, as "
    "torchmetrics and the official evaluation. Object and colour found: by the shipped matcher, from 8 "
    "views. Reused: share of shallow U-Net passes. MACs: of the U-Nets in a run, in 10^12, and of a pass with both "
    "branches of guidance, in 10^9. Seconds: of a run, without loading."
)


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1) -> list[str]:
    """Return the lines of a table. The first `words` columns are words, the others numbers."""
    rule = ["---"] * words + ["---:"] * (len(heads) - words)
    return [f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows)]


def pairs_of(rows: Sequence[Row], variant: str, first: str) -> Pairs:
    """Return a setting's rows, each beside the first setting's of the same input and seed."""
    others = _by_place(rows, first)
    return [(row, others[place]) for place, row in _by_place(rows, variant).items() if place in others]


def _by_place(rows: Sequence[Row], variant: str) -> dict[tuple[str, int], Row]:
    return {(row["object"], row["seed"]): row for row in rows if row["variant"] == variant}


def paired_difference(values: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """Mean of value - other, and its standard error s / sqrt(n); of one pair there is none (nan)."""
    differences = [value - other for value, other in zip(values, others, strict=True)]
    error = statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else math.nan
    return statistics.fmean(differences), error


def known_metrics(name: str, pairs: Pairs) -> tuple[list[float], list[float]]:
    """Return a metric of both sides of the pairs that have it; where it is infinite, as PSNR may be, it is none."""
    both = [[float(each.get(name, math.nan)) for each in pair] for pair in pairs]
    known = [values for values in both if all(map(math.isfinite, values))]
    return [value for value, _ in known], [other for _, other in known]


def count_row(row: Row) -> tuple[float, float] | None:
    """Return a run's multiply-accumulates, and those of a pass with both branches; None if its U-Net is not at hand."""
    total = passes = 0.0
    for each in row["unets"].values():
        macs = _count_prior(each["prior"])
        if macs is None:
            return None
        total += macs.full * (each["full"] - 0.5 * each["single"])
        total += macs.shallow[each["cut"]] * each["shallow"] if each["shallow"] else 0.0
        passes += each["full"] + each["shallow"] - 0.5 * each["single"]
    return total, total / max(passes, 1.0)


@functools.cache
def _count_prior(name: str) -> Macs | None:
    config = Path(name) / "unet" / "config.json"
    if name in EMBEDDED:
        return count_known(name)
    return count_macs(read_json(config)) if config.is_file() else None


def summarize(
    rows: Sequence[Row], systems: Sequence[str], variants: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Return headings and cells; metrics that no row has are left out, and so are systems without rows."""
    names = [name for name in METRICS if any(name in row for row in rows)]
    headings = [METRICS[name][0] for name in names]
    heads = ["system", "reuse", "runs", *headings, "reused", "MACs, T", "a pass, G", "seconds"]
    lines = []
    for system in systems:
        own = [row for row in rows if row["system"] == system]
        for variant in variants:
            if pairs := pairs_of(own, variant, variants[0]):
                cells = [_compare(name, pairs, compared=variant != variants[0]) for name in names]
                lines.append([system, variant, str(len(pairs)), *cells, *_costs([row for row, _ in pairs])])
    return heads, lines


def _compare(name: str, pairs: Pairs, *, compared: bool) -> str:
    values, others = known_metrics(name, pairs)
    if not values:
        return "-"
    form = METRICS[name][1]
    mean = format(statistics.fmean(values), form)
    if not compared:
        return mean
    difference, error = paired_difference(values, others)
    spread = "" if math.isnan(error) else f" +- {error:{form}}"
    return f"{mean} ({difference:+{form}}{spread})"


def _costs(rows: Sequence[Row]) -> list[str]:
    counts = [count for row in rows if (count := count_row(row))]
    means = [statistics.fmean(each) for each in zip(*counts, strict=True)]
    macs = [f"{mean / unit:.4g}" for mean, unit in zip(means, (1e12, 1e9), strict=True)] if counts else ["-", "-"]
    reused = statistics.fmean(row["reuse_share"] for row in rows)
    return [f"{reused:.0%}", *macs, f"{statistics.fmean(row['seconds']['total'] for row in rows):.0f}"]


def to_csv(rows: Sequence[Row], systems: Sequence[str], variants: Sequence[str]) -> str:
    """Return a line for each system, setting and metric, with full precision."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("system", "reuse", "metric", "runs", "mean", "difference", "standard_error"))
    for system in systems:
        own = [row for row in rows if row["system"] == system]
        for variant in variants:
            pairs = pairs_of(own, variant, variants[0])
            for name in METRICS:
                values, others = known_metrics(name, pairs)
                if values:
                    change = paired_difference(values, others)
                    writer.writerow((system, variant, name, len(values), statistics.fmean(values), *change))
    return file.getvalue()
