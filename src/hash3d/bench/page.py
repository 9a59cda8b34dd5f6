"""The measurement as JSON, as a table, and as a page."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from hash3d.markdown import markdown_table

from .measure import Measurement
from .summary import PARTS, CaseSummary, Spread

GIGA, TERA, GIBIBYTE = 1e9, 1e12, 2**30
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
    "Amdahl limit, eager",
    "Amdahl limit, same engine",
    "roofline ms",
)
NOTES = """\
Every case runs the same steps: the same cameras and the same noise, of one seed, in one process and on one set of
weights; an eager case has fields, rays and triangles in plain PyTorch too, and the exact gradient of the encoder,
where a fast one has what `--encoding auto` takes. Blocks of steps alternate in a rotating order. "ms a step" is the
mean, which is what a run pays; the parts add up to it. The released preset starts with a full table, as in the middle
of a long run. With reuse the median is that of the more frequent kind of step. "times ..." is how often the case's
mean step goes into the other's, with the quartiles from block to block. The Amdahl limit is 1 / (1 - p u (1 - q)): p
the share of passes reused, u the U-Net's share of a step without reuse, q a shallow pass over a full one; "eager" has
u of `off, eager` and q of eager passes, "same engine" u of the run without a cache on the same engine and q of the
case's own steps. The roofline is the U-Net's and the encoder's alone: their operations over the measured rate of
products, or their bytes (weights read once a pass, inputs, outputs) over that of copies, whichever takes longer."""


def cells(row: CaseSummary) -> list[str]:
    """One line of the table."""
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
        f"{row.amdahl_limit:.2f}",
        "-" if row.own_amdahl_limit is None else f"{row.own_amdahl_limit:.2f}",
        f"{row.roofline_ms['total']:.2f}",
    ]


def with_quartiles(values: Spread, middle: float, digits: int) -> str:
    """A number and the quartiles around it."""
    return f"{middle:.{digits}f} ({values.first_quartile:.{digits}f}-{values.third_quartile:.{digits}f})"


def second_table(rows: Sequence[CaseSummary]) -> list[str]:
    """List what the Amdahl limits and rooflines are made of."""
    heads = ("case", "p", "u", "q, eager", "q, own steps", "TFLOP a step", "GB a step", "roofline: U-Net", "encoder")
    return markdown_table(
        heads,
        [
            [
                row.name,
                f"{row.reused:.3f}",
                f"{row.unet_share:.3f}",
                f"{row.shallow_cost:.3f}",
                "-" if row.own_shallow_cost is None else f"{row.own_shallow_cost:.3f}",
                f"{row.operations / TERA:.4f}",
                f"{row.bytes / GIGA:.3f}",
                f"{row.roofline_ms['U-Net']:.2f}",
                f"{row.roofline_ms['encoder']:.2f}",
            ]
            for row in rows
        ],
    )


def as_json(account: dict[str, Any], measurement: Measurement, rows: Sequence[CaseSummary]) -> dict[str, Any]:
    """Everything: where and how, the rates, each row with its steps."""
    cases = [
        {
            **asdict(row),
            "cache": None if each.case.cache is None else asdict(each.case.cache),
            "draws": each.draws,
            "views": each.views,
            "passes": [asdict(passes) for passes in each.passes],
            "blocks": list(each.blocks),
            "each_step": [asdict(step) for step in each.steps],
        }
        for row, each in zip(rows, measurement.cases, strict=True)
    ]
    return {**account, "rates": asdict(measurement.rates), "cases": cases}


def page_lines(account: dict[str, Any], measurement: Measurement, rows: Sequence[CaseSummary]) -> list[str]:
    """What is put between a page's marks."""
    rates = measurement.rates
    notes = [f"{row.name}: {row.note}." for row in rows if row.note]
    made = f"commit {account['commit']}, {account['hardware']}, {account['date']}, {json.dumps(account['versions'])}."
    return [
        f"`{account['command']}`, {made}",
        "",
        f"{account['about']} Measured rates: {rates.operations / TERA:.2f} TFLOP/s, {rates.bytes / GIGA:.0f} GB/s "
        f"({rates.how}).",
        "",
        *markdown_table(HEADS, [cells(row) for row in rows]),
        "",
        *second_table(rows),
        "",
        *notes,
        "",
        NOTES,
    ]
