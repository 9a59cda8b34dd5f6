"""What the workers of a batch share: claims of jobs, notes of attempts, and which jobs are settled."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .batch_jobs import BatchJob, read_key

ATTEMPTS, DEATHS = 2, 10
"""How often a job may fail, and how often its workers may die, until the batch goes on without it."""


@dataclass(frozen=True)
class Crew:
    """What the workers of one command share."""

    jobs: tuple[BatchJob, ...]
    out: Path
    device: str
    threads: int
    token: str
    """Tells this command's attempts from those of others: each command tries anew."""
    finished: dict[str, dict[str, Any]] = field(default_factory=dict, compare=False)
    """The summaries that were read, by the job's name."""

    @contextmanager
    def claim(self, job: BatchJob) -> Iterator[bool]:
        """Claim a job until the block, or this process, ends. Yields whether nobody else has."""
        with self._attempts(job).open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def note(self, job: BatchJob, error: str | None = None) -> None:
        """Note that a claimed job was started, or that it failed."""
        from hash3d.files import append_text

        append_text(self._attempts(job), json.dumps({"token": self.token, "error": error}) + "\n")

    def errors(self, job: BatchJob) -> list[str | None]:
        """A job's attempts so far: None for its starts, sentences for its failures."""
        path, found = self._attempts(job), []
        for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
            with suppress(ValueError):
                found.append(json.loads(line))
        return [row.get("error") for row in found if isinstance(row, dict) and row.get("token") == self.token]

    def _attempts(self, job: BatchJob) -> Path:
        return self.out / ".claims" / f"{job.name}.jsonl"

    def summary(self, job: BatchJob) -> dict[str, Any] | None:
        """What a job's run says of itself once it is complete, and has written all files."""
        from hash3d.training.run_folder import RunFolder

        folder = self.out / job.name
        with suppress(ArithmeticError, LookupError, TypeError, ValueError):
            if job.name not in self.finished and read_key(folder) == job.key:
                summary = RunFolder(folder).read_summary() or {}
                figures = {"steps": int(summary["steps"]), "seconds": {"total": float(summary["seconds"]["total"])}}
                if summary["completed"] is True and all((folder / name).is_file() for name in summary["outputs"]):
                    self.finished[job.name] = summary | figures
        return self.finished.get(job.name)

    def is_settled(self, job: BatchJob) -> bool:
        """Whether a job is finished, or was tried often enough."""
        if self.summary(job):
            return True
        errors = self.errors(job)
        failures = sum(each is not None for each in errors)
        return failures >= ATTEMPTS or len(errors) - 2 * failures >= DEATHS
