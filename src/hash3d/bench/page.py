"""The measurement as a table and as a page."""

import json
from collections.abc import Sequence
from typing import Any

from hash3d.markdown import markdown_table

from .summary import PARTS, CaseSummary, Spread

GIBIBYTE = 2**30
HEADS = (
    "case",
    "steps",
    "reused",
    "ms a step",
    "median (quartiles)",
    *PARTS,
    "other",
    "GiB",
    "times off, eager",
    "times released, eager",
    "times off, same engine",
)
NOTES = """\
Every case runs the same steps: the same cameras and the same noise, of one seed, in one process and on one set of
weights; an eager case has fields, rays and triangles in plain PyTorch too. Blocks of steps alternate in a rotating
order. "ms a step" is the mean, which is what a run pays; the parts add up to it. The released preset starts with a
full table, as in the middle of a long run. With reuse the median is that of the more frequent kind of step.
"times ..." is how often the case's mean step goes into the other's, with the quartiles from block to block."""


def cells(row: CaseSummary) -> list[str]:
    """Return one line of the table."""
    memory = "-" if row.peak_bytes is None else f"{row.peak_bytes / GIBIBYTE:.2f}"
    return [
        row.name,
        str(row.steps),
        f"{row.reused:.0%}",
        f"{row.ms.mean:.1f}",
        with_quartiles(row.ms, row.ms.median, 1),
        *(f"{ms:.1f}" for ms in row.parts.values()),
        memory,
        *(with_quartiles(each, each.mean, 2) for each in (row.over_off, row.over_released, row.over_same_engine)),
    ]


def with_quartiles(values: Spread, middle: float, digits: int) -> str:
    """Format a number and the quartiles around it."""
    return f"{middle:.{digits}f} ({values.first_quartile:.{digits}f}-{values.third_quartile:.{digits}f})"


def page_lines(account: dict[str, Any], rows: Sequence[CaseSummary]) -> list[str]:
    """Return what is put between a page's marks."""
    made = f"commit {account['commit']}, {account['hardware']}, {account['date']}, {json.dumps(account['versions'])}."
    return [
        f"`{account['command']}`, {made}",
        "",
        account["about"],
        "",
        *markdown_table(HEADS, [cells(row) for row in rows]),
        "",
        *(f"{row.name}: {row.note}." for row in rows if row.note),
        "",
        NOTES,
    ]
