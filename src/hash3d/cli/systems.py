"""`hash3d systems`."""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from hash3d.systems import SYSTEMS, SystemInfo

from .parsing import parse_options

WIDTH = 160
"""Characters of the table, also where the terminal is narrower: a row stays a line."""
HEADS = ("system", "from", "prior", "makes", "stages", "steps, mini", "steps, full")
SHOWN = {"image": "picture", "prompt": "text"}


@dataclass(frozen=True)
class Systems:
    """List the systems."""


def main(arguments: list[str]) -> int:
    """Print the table. Returns the exit code."""
    parse_options(Systems, "systems", arguments)
    table = Table(*HEADS, box=None)
    for column in table.columns:
        column.no_wrap = True
    for system in SYSTEMS:
        table.add_row(*row(system))
    Console(highlight=False, width=WIDTH).print(table)
    return 0


def row(system: SystemInfo) -> tuple[str, ...]:
    """The cells of a system, one for each of HEADS."""
    steps = [system.steps(scale) for scale in ("mini", "supplement")]
    stages = " or ".join(sorted({str(len(each)) for each in steps}))
    given = " and ".join(SHOWN[name] for name in system.inputs)
    counts = [" + ".join(f"{count:,}" for count in each) for each in steps]
    return (system.name, given, system.prior, system.representation, stages, *counts)
