"""Where runs are made and judged, and what a row says of that."""

import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hash3d.training.run import versions

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
    metrics: tuple[str, ...] = ()
    """Of `hash3d.evaluation.perceptual`, besides those that need nothing."""
    weights: Path | None = None
    """A folder of their weights."""

    def account(self) -> Row:
        """What a row says of how it was made."""
        return {
            "device": self.device,
            "hardware": self.hardware,
            "workers": self.workers,
            "threads": self.threads,
            "commit": self.commit,
            "date": str(datetime.date.today()),
            **{name: version for name, version in versions().items() if name in ("hash3d", "torch", "diffusers")},
        }

    def strip(self, identity: Identity) -> Path:
        """Where the views of a run are."""
        return self.runs / "views" / f"{'-'.join(map(str, identity))}.jpg"


def name_hardware(device: str) -> str:
    """Name the GPUs, or count the CPU cores."""
    if device == "cuda" and torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"{os.cpu_count() or 1} CPU cores"


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
