"""`hash3d systems`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hash3d.systems import SYSTEMS, SystemInfo

from .options import SHOWN
from .parsing import parse_options
from .streams import print_table

if TYPE_CHECKING:
    from hash3d.evaluation.macs import Macs

HEADS = ("system", "from", "makes", "prior")


@dataclass(frozen=True)
class Systems:
    """List the systems: what each starts from and makes, and the diffusion models that it can ask."""

    macs: bool = False
    """List instead what a pass of each U-Net costs: multiply-accumulates of a view with both branches of its guidance,
    in full, and the share of them that a pass from each layer i of the supplement takes. Counted in a minute."""


def main(arguments: list[str]) -> int:
    """Print the table. Returns the exit code."""
    if parse_options(Systems, "systems", arguments).macs:
        from hash3d.evaluation.macs import count_known, list_unets

        counts = {name: count_known(name) for name in list_unets()}
        cuts = range(max(len(each.shallow) for each in counts.values()))
        print_table(
            ("U-Net", "full", "as the paper counts", *(f"i = {cut}" for cut in cuts)),
            [(name, *format_macs(count)) for name, count in counts.items()],
        )
    else:
        print_table(HEADS, map(row, SYSTEMS))
    return 0


def format_macs(macs: "Macs") -> list[str]:
    """The cells of a U-Net: 10^9 multiply-accumulates, and shares."""
    totals = [f"{total / 1e9:.2f} G" for total in (macs.full, macs.full_layers)]
    return [*totals, *(f"{shallow / macs.full:.1%}" for shallow in macs.shallow)]


def row(system: SystemInfo) -> tuple[str, ...]:
    """The cells of a system, one for each of HEADS."""
    return (system.name, " and ".join(SHOWN[name] for name in system.inputs), system.representation, system.prior)
