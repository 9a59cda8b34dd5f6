"""`hash3d systems`."""

from dataclasses import dataclass

from hash3d.systems import SYSTEMS, SystemInfo

from .options import SHOWN
from .parsing import parse_options
from .tables import print_table

HEADS = ("system", "from", "makes", "prior")


@dataclass(frozen=True)
class Systems:
    """List the systems: what each starts from and makes, and the diffusion models that it can ask."""


def main(arguments: list[str]) -> int:
    """Print the table. Returns the exit code."""
    parse_options(Systems, "systems", arguments)
    print_table(HEADS, map(row, SYSTEMS))
    return 0


def row(system: SystemInfo) -> tuple[str, ...]:
    """The cells of a system, one for each of HEADS."""
    return (system.name, " and ".join(SHOWN[name] for name in system.inputs), system.representation, system.prior)
