"""`hash3d systems`."""

from dataclasses import dataclass

import tyro
from rich.console import Console
from rich.table import Table

from hash3d.systems import SYSTEMS

WIDTH = 140
"""Characters of the table, also where the terminal is narrower: a row stays a line."""


@dataclass(frozen=True)
class Systems:
    """List the systems."""


def main(arguments: list[str]) -> int:
    """Print the table. Returns the exit code."""
    tyro.cli(Systems, prog="hash3d systems", args=arguments)
    table = Table("system", "from", "prior", "makes", "stages", "steps", "state", box=None)
    for column in table.columns:
        column.no_wrap = True
    for system in SYSTEMS:
        state = "runs" if system.available else "missing"
        table.add_row(
            system.name, system.input, system.prior, system.representation, system.stages, system.steps, state
        )
    Console(highlight=False, width=WIDTH).print(table)
    return 0
