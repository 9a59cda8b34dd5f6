"""Run the jobs that have no row yet, in worker processes, and keep the rows: RUNS/rows.jsonl, a line a run."""

import functools
import json
import math
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.pool import Pool
from pathlib import Path
from textwrap import shorten
from typing import Any

from hash3d.files import append_text, write_bytes

from .objects import Identity, Job, Machine, Row
from .worker import Outcome, attempt

Say = Callable[[str], object]
SECONDS_BETWEEN_LOOKS = 1.0
"""Of whether the workers still live."""


class Rows:
    """The rows of all studies, in a file that only grows. A run that two studies ask for has one row.

    What reads it raises `ValueError` for rows that no run has left.
    """

    def __init__(self, runs: Path, name: str = "rows") -> None:
        self.path = runs / f"{name}.jsonl"

    def read(self) -> list[Row]:
        """All lines, those of earlier recipes included; one that a kill has cut off does not count."""
        rows: list[Row] = []
        for line in self.path.read_text(errors="replace").splitlines() if self.path.exists() else ():
            with suppress(ValueError, RecursionError):
                rows.append(json.loads(line))
        return rows

    def claim(self, *names: str) -> None:
        """Start the file. Raises `FileExistsError` if files of these names are beside where it is missing."""
        if not self.path.exists() and (taken := [name for name in names if os.path.lexists(self.path.parent / name)]):
            raise FileExistsError(
                f"Expected a folder without {', '.join(names)}, but {self.path.parent} holds {taken[0]} and no "
                f"{self.path.name}. Pass another --out."
            )
        append_text(self.path, "")

    def append(self, row: Row) -> None:
        """One line, in one write; it does not lengthen one that was cut off."""
        torn = self.path.exists() and self.path.read_bytes()[-1:] not in (b"\n", b"")
        append_text(self.path, "\n" * torn + json.dumps(row) + "\n")

    def of(self, jobs: Sequence[Job]) -> list[Row]:
        """The rows that the jobs have left, in the jobs' order, each with the job's label as `variant`."""
        found = self._by_identity()
        return [{**found[place], "variant": job.label} for job in jobs if (place := job.identity) in found]

    def missing(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs without a row, each run once; a row of another recipe is not the job's."""
        found = self._by_identity()
        due: dict[Identity, Job] = {}
        for job in jobs:
            if (place := job.identity) not in found:
                due.setdefault(place, job)
        return list(due.values())

    def _by_identity(self) -> dict[Any, Row]:
        with told(self.path):
            return {(row["object"], row["seed"], row["key"]): row for row in self.read() if "key" in row}


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Raise `ValueError` where the block finds that rows of a file are none."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__} {shorten(str(error), 200)}"
        raise ValueError(
            f"Expected rows of runs in {path}, but some are none ({reason}). Pass another --out."
        ) from error


def run_missing(
    jobs: Sequence[Job],
    rows: Rows,
    machine: Machine,
    *,
    seconds: float | None = None,
    pool: Pool | None = None,
    say: Say = print,
) -> int:
    """Run the jobs without a row, and add theirs. Returns how many failed.

    After `seconds` it stops, and what is under way then is lost. `pool`: who works; by default new processes. `say` is
    told of every run as it ends.
    """
    due = rows.missing(jobs)
    if not due or seconds == 0:
        return 0
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    num_done = num_failed = 0
    count, spawn = min(machine.workers, len(due)), multiprocessing.get_context("spawn")
    # Ctrl+C is for the parent alone, which ends its workers.
    with pool or spawn.Pool(count, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as workers:
        outcomes, alive = workers.imap_unordered(functools.partial(attempt, machine=machine), due), _list_workers()
        while num_done < len(due):
            try:
                outcome = outcomes.next(min(max(deadline - time.monotonic(), 0.0), SECONDS_BETWEEN_LOOKS))
            except multiprocessing.TimeoutError:
                if time.monotonic() >= deadline:
                    say(f"stopped after {seconds:g} seconds: {len(due) - num_done} runs are left")
                    break
                if _list_workers() != alive:  # The pool starts another, but knows nothing of the run.
                    raise ChildProcessError(
                        f"Expected {len(alive)} workers to end their runs, but one was killed, perhaps for want of "
                        "memory. Repeat the command to go on, with fewer --workers."
                    ) from None
                continue
            num_done += 1
            num_failed += outcome.row is None
            if outcome.row is not None:
                write_bytes(machine.strip(outcome.job.identity), outcome.strip)
                rows.append(outcome.row)
            say(f"{num_done}/{len(due)} {_told(outcome)}")
    return num_failed


def _list_workers() -> set[int | None]:
    return {each.pid for each in multiprocessing.active_children()}


def _told(outcome: Outcome) -> str:
    job, row = outcome.job, outcome.row
    place = f"{job.study}: {job.label}, {job.input.name}, seed {job.seed}"
    if row is None:
        return f"FAILED {place}\n{outcome.error}"
    metrics = ", ".join(f"{name} {row[name]:.3f}" for name in ("psnr", "iou", "reuse_share") if name in row)
    return f"{place}: {metrics}, {row['seconds']['total']:.0f} s"
