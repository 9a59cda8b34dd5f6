"""What the studies and the benchmarks share: the machine, means with their errors, where rows come from."""

import datetime
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from research.measured import name_hardware

from .objects import Identity

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where runs are made and kept."""

    runs: Path
    """Folder of the rows and the strips of views."""
    device: str = "cpu"
    workers: int = 1
    """Runs at a time; on several GPUs they share them evenly."""
    threads: int = 1
    """CPU threads of each."""
    hardware: str = "unknown"
    commit: str = "unknown"

    def account(self) -> Row:
        """What a row says of how it was made."""
        return {
            "device": self.device,
            "hardware": self.hardware,
            "workers": self.workers,
            "threads": self.threads,
            "commit": self.commit,
            "date": str(datetime.date.today()),
        }

    def strip(self, identity: Identity) -> Path:
        """Where the views of a run are."""
        return self.runs / "views" / f"{'-'.join(map(str, identity))}.jpg"


def describe_machine(
    out: Path, device: str, *, workers: int = 1, hardware: str | None = None, commit: str = "unknown"
) -> Machine:
    """Where a measurement is made: the cores are shared evenly, the hardware by default what the machine says."""
    if workers < 1:
        raise ValueError(f"Expected at least 1 worker, but got {workers}.")
    return Machine(
        runs=out,
        device=device,
        workers=workers,
        threads=max((os.cpu_count() or 1) // workers, 1),
        hardware=hardware or name_hardware(device),
        commit=commit,
    )


def provenance(rows: Sequence[Row]) -> str:
    """On what, from what and when rows were made."""
    found = [all_of(rows, name) for name in ("device", "hardware", "commit", "date")]
    return "device {}, {}; commit {}; {}".format(*found)


def all_of(rows: Sequence[Row], name: str) -> str:
    """The values that rows have."""
    return ", ".join(sorted({str(row[name]) for row in rows}))


def mean_and_error(values: Float[Tensor, "O *shape"]) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Mean over O objects, and its standard error s / sqrt(O); of one object there is none (nan)."""
    error = values.std(0) / math.sqrt(len(values)) if len(values) > 1 else torch.full_like(values[0], math.nan)
    return values.mean(0), error


def with_error(mean: float, error: float) -> str:
    """A cell of a table."""
    return f"{mean:.2f}" if math.isnan(error) else f"{mean:.2f} +- {error:.2f}"
