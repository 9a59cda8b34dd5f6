"""What `hash3d batch` is asked for: a folder of pictures, a text file of prompts, or JSON lines with any option.

And what its workers share: claims of jobs, notes of attempts, and which jobs are settled.
"""

import fcntl
import json
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import chain, count
from operator import itemgetter
from pathlib import Path
from typing import Any

from hash3d.files import append_text, read_lines
from hash3d.pictures.loading import PICTURES

from .options import parse
from .parsing import expect_image

NAME_LENGTH = 60
JOB = ".job"
"""The file in a run's folder that holds its job's key."""


@dataclass(frozen=True)
class BatchJob:
    """One run: the name of its folder, and the words of `hash3d generate` that make it."""

    name: str
    words: tuple[str, ...]
    key: str = ""
    """A digest of what they ask for: the recipe, and what its picture and its priors hold."""

    def options(self, out: Path, device: str) -> Any:
        """Parse the words, as `hash3d generate` does. Raises `ValueError` with one sentence for a mistake."""
        options = replace(parse(list(self.words)), out=out / self.name, device=device)
        expect_image(getattr(options, "image", None))
        return options


def read_jobs(source: Path, system: str | None, shared: Sequence[str]) -> list[BatchJob]:
    """Read the jobs in their order.

    Args:
        source: a folder of pictures, a file of JSON lines (.jsonl), or a file with a prompt on each line.
        system: of jobs that name none; None is zero123_gs for pictures and sds_gs for prompts.
        shared: options of all jobs; a job's own come after them.
    """
    if not source.exists():
        raise ValueError(f"Expected a folder of pictures or a file of jobs, but there is no {source}. Check the path.")
    jobs = []
    for given in _list_given(source):
        image, prompt = given.get("image"), given.get("prompt")
        chosen = str(given.pop("system", None) or system or ("zero123_gs" if image else "sds_gs"))
        stem = str(given.pop("name", None) or (Path(image).stem if image else prompt or chosen))
        name = re.sub(r"[^\w-]+", "_", stem).strip("_-")[:NAME_LENGTH] or "job"
        words = (chosen, *shared, *(word for item in given.items() for word in _write_option(*item)))
        jobs.append(BatchJob(name, words))
    if not jobs:
        raise ValueError(f"Expected jobs in {source}, but there are none.")
    return jobs


def place_jobs(jobs: Sequence[BatchJob], out: Path) -> list[BatchJob]:
    """Give each job its key and the folder NAME, NAME-2, ... that holds its run, else the first without a run.

    Raises `ValueError` for a mistake in a job's options.
    """
    from hash3d.table.objects import key_of
    from hash3d.training.run_folder import RunFolder

    from .generate import build_recipe

    keyed = [replace(job, key=key_of(build_recipe(job.options(out, "cpu")))) for job in jobs]
    held, taken = defaultdict[str | None, list[str]](list), dict[str, int]()
    for path in sorted(out.glob(f"*/{JOB}"), key=lambda path: (len(path.name), path)):
        held[read_key(path.parent)].append(path.parent.name)
    for number, job in enumerate(keyed):
        own = (name for name in held[job.key] if re.fullmatch(re.escape(job.name) + r"(-\d+)?", name))
        if name := next((name for name in own if name not in taken), None):
            taken[name] = number
    for number in sorted(set(range(len(keyed))) - set(taken.values())):
        names = chain([keyed[number].name], (f"{keyed[number].name}-{each}" for each in count(2)))
        taken[next(name for name in names if name not in taken and not RunFolder(out / name).holds_run)] = number
    return [replace(keyed[number], name=name) for name, number in sorted(taken.items(), key=itemgetter(1))]


def read_key(folder: Path) -> str | None:
    """The key of the job whose run is in a folder."""
    try:
        return (folder / JOB).read_text()
    except (OSError, ValueError):
        return None


def _list_given(source: Path) -> Iterator[dict[str, Any]]:
    """Yield what each job is given."""
    if source.is_dir():
        found = [path for path in sorted(source.iterdir()) if not path.name.startswith(".")]
        pictures = [path for path in found if path.suffix.lower() in PICTURES]
        if left := [path.name for path in found if path not in pictures]:
            warnings.warn(f"{source} holds what is no picture that is read: {', '.join(left)}.", stacklevel=2)
        yield from ({"image": str(path)} for path in pictures)
        return
    for number, line in read_lines(source):
        if source.suffix != ".jsonl":
            yield {"prompt": line}
            continue
        try:
            given = json.loads(line)
        except (ValueError, RecursionError):
            given = None
        if not isinstance(given, dict) or not any(isinstance(given.get(name), str) for name in ("image", "prompt")):
            raise ValueError(
                f'Expected {{"image": ...}} or {{"prompt": ...}} in line {number} of {source}, but got {line[:60]!r}.'
            )
        if isinstance(given.get("image"), str):
            given["image"] = str(source.parent / given["image"])
        yield given


def _write_option(name: str, value: Any) -> list[str]:
    """Write an option as words: a flag alone if it is true, and not at all if it is false or null."""
    option = f"--{name.replace('_', '-')}"
    if value is None or (isinstance(value, bool) and "." not in name):
        return [option] if value else []
    return [option, *map(str, value)] if isinstance(value, list) else [f"{option}={value}"]


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
