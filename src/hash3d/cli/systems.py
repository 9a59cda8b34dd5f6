"""`hash3d systems`."""

from dataclasses import dataclass

from hash3d.systems import SYSTEMS, SystemInfo

from .host import print_table
from .parsing import parse_options

HEADS = ("system", "from", "prior", "makes", "stages", "steps, mini", "steps, full")
SHOWN = {"image": "picture", "prompt": "text"}


@dataclass(frozen=True)
class Systems:
    """List the systems."""


def main(arguments: list[str]) -> int:
    """Print the table. Returns the exit code."""
    parse_options(Systems, "systems", arguments)
    print_table(HEADS, map(row, SYSTEMS))
    return 0


def row(system: SystemInfo) -> tuple[str, ...]:
    """The cells of a system, one for each of HEADS."""
    steps = [system.steps(scale) for scale in ("mini", "supplement")]
    stages = " or ".join(sorted({str(len(each)) for each in steps}))
    given = " and ".join(SHOWN[name] for name in system.inputs)
    counts = [" + ".join(f"{count:,}" for count in each) for each in steps]
    return (system.name, given, system.prior, system.representation, stages, *counts)
