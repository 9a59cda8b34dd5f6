"""Runs of `hash3d web`: `hash3d generate` in a process of its own, in a folder that goes when its visitor does."""

import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from .options import parse

COMMAND = (sys.executable, "-m", "hash3d", "generate")
SYSTEMS = {
    ("image", "splats"): "zero123_gs", ("image", "mesh"): "dreamgaussian",
    ("prompt", "splats"): "sds_gs", ("prompt", "mesh"): "magic3d",
}  # fmt: skip
"""By what a visitor has and wants."""
PREVIEW_EVERY, LOOK_EVERY = 25, 0.5
"""Steps between two previews; seconds between two looks at a run."""
LONGEST_PROMPT = 500


@dataclass(frozen=True)
class Look:
    """A run as it stands: a sentence, and the files that are there."""

    said: str
    folder: Path
    done: bool = False

    def find(self, *names: str) -> list[str]:
        """The paths of those files that are there."""
        return [str(self.folder / name) for name in names if (self.folder / name).is_file()]


@dataclass
class Visit:
    """An open page: its folder, whose name nobody can guess, and its last run."""

    folder: Path
    process: "subprocess.Popen[bytes] | None" = None
    stopped: bool = False
    left: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_running(self) -> bool:
        """Whether a run goes on."""
        return self.process is not None and self.process.poll() is None

    def run(self, words: Sequence[str]) -> Iterator[Look]:
        """Run `hash3d generate WORDS`. Yields how it stands; raises `ValueError` with what it says of a mistake."""
        started = time.monotonic()
        with self._lock:
            if self.left or self.is_running:
                raise ValueError("Expected one run at a time. Wait until yours is done, or stop it.")
            folder = Path(tempfile.mkdtemp(dir=self.folder)) / words[0]
            folder.mkdir()
            with (folder / "said.txt").open("wb") as said:
                self.stopped, self.process = False, subprocess.Popen(
                    [*COMMAND, *words, f"--out={folder}"], stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                    start_new_session=True,
                )  # fmt: skip
        try:
            while self.is_running:
                yield Look(tell(folder, time.monotonic() - started, stopped=self.stopped), folder)
                time.sleep(LOOK_EVERY)
        finally:
            self.kill()  # Where nobody looks any more.
        if self.process.returncode in (0, 130):
            state = "stopped early, and kept" if self.process.returncode else "done"
            yield Look(f"{state}, {time.monotonic() - started:.0f} s", folder, done=True)
        else:
            raise ValueError(read_said(folder).rpartition("hash3d: ")[2].strip() or "The run ended without a word.")

    def stop(self) -> None:
        """Let the run end after its step and write what there is."""
        if self.process and self.is_running:
            self.stopped = True
            self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End the run at once."""
        if self.process and self.is_running:
            self.process.kill()
            self.process.wait()

    def leave(self) -> None:
        """End the run at once, and delete the folder."""
        with self._lock:
            self.left = True
            self.kill()
            shutil.rmtree(self.folder, ignore_errors=True)


class Visits:
    """All open pages, by their session, in folders below `root`; options in `shared` are those of all runs."""

    def __init__(self, root: Path, shared: Sequence[str] = ()) -> None:
        self.root, self.shared = root, shared
        self._visits: dict[str, Visit] = {}
        self._lock = threading.Lock()

    def find(self, session: str) -> Visit:
        """The visit of a session, new if need be."""
        with self._lock:
            if session not in self._visits:
                self._visits[session] = Visit(Path(tempfile.mkdtemp(dir=self.root)))
            return self._visits[session]

    def make(self, session: str, kind: str, value: str, purpose: str, quality: str) -> Iterator[Look]:
        """Run what a visitor asks for, as `Visit.run`.

        Args:
            session: the visitor's.
            kind: "image" or "prompt".
            value: a path, or a sentence.
            purpose: "splats" or "mesh".
            quality: "fast", "good" or "best".
        """
        if not value or "\0" in value or len(value) > LONGEST_PROMPT:
            wanted = "a picture" if kind == "image" else f"a sentence of at most {LONGEST_PROMPT} characters"
            raise ValueError(f"Expected {wanted}, but got {len(value) or 'no'} characters.")
        options = (f"--quality={quality}", f"--checkpoint-every={PREVIEW_EVERY}", *self.shared, f"--{kind}={value}")
        words = (SYSTEMS[kind, purpose], *options)
        parse(list(words))  # A mistake is told at once.
        yield from self.find(session).run(words)

    def leave(self, session: str) -> None:
        """End a visit."""
        with self._lock:
            visit = self._visits.pop(session, None)
        if visit:
            visit.leave()

    def close(self) -> None:
        """End all visits."""
        for session in list(self._visits):
            self.leave(session)


def read_said(folder: Path) -> str:
    """What a run has printed so far; nothing if its folder is gone."""
    with suppress(OSError):
        return (folder / "said.txt").read_text(errors="replace")
    return ""


def tell(folder: Path, seconds: float, *, stopped: bool) -> str:
    """How a run stands `seconds` after its start: its steps, the seconds left, its warnings."""
    said, since = read_said(folder), 0.0
    with suppress(OSError):
        since = time.time() - (folder / "said.txt").stat().st_mtime
    steps = re.findall(r"step\s+(\d+)/(\d+):\s[^:]*\s(\d+)\s+s\s+left", said)
    state = "starting"
    if stopped:
        state = "finishing the step, then writing the files"
    elif steps:
        done, total, left = map(int, steps[-1])
        state = f"step {done} of {total}" + (f", about {left - since:.0f} s left" if left > since else "")
        state = state if done < total else "writing the files"
    return "  \n".join([f"{seconds:.0f} s: {state}", *re.findall(r"^\w*Warning: .*$", said, re.M)])
