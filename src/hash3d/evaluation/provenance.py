"""What the measurements without runs share with the studies: the machine, means with their errors, a page from rows."""

import datetime
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.files import write_text

from .objects import Identity

Row = dict[str, Any]
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"


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
    cores = os.cpu_count() or 1
    if hardware is None:
        on_gpu = device == "cuda" and torch.cuda.is_available()
        hardware = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}" if on_gpu else f"{cores} CPU cores"
    threads = max(cores // workers, 1)
    return Machine(runs=out, device=device, workers=workers, threads=threads, hardware=hardware, commit=commit)


def require_device(device: str) -> None:
    """Raise `ValueError` if CUDA is asked for and not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("Expected a CUDA device for --device cuda, but torch sees none. Pass --device cpu.")


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


def write_measured(page: Path, title: str, question: str, lines: Sequence[str]) -> None:
    """Put lines between the marks of the page PAGE.md; one that is not there begins with the title and question."""
    path = page.with_name(f"{page.name}.md")
    before = path.read_text() if path.exists() else f"# {title}\n\n{question}\n\n{BEGIN}\n{END}\n"
    write_text(path, with_measured(before, "\n".join(lines)))


def with_measured(page: str, measured: str) -> str:
    """The page with another text between its marks."""
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"Expected one {BEGIN} and one {END} in the page, but they are not there. Put them back.")
    return re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{measured}\n{END}", page, flags=re.DOTALL)
