"""The run folder: recipe.json, metrics.jsonl, checkpoint/, summary.json, and the outputs.

A run that is killed at any moment leaves its last checkpoint whole (`hash3d.files`). metrics.jsonl is only appended to;
a checkpoint knows how much of it belongs to it, and which recipe and input image it belongs to.
"""

import fcntl
import hashlib
import json
import math
import os
import re
import warnings
import weakref
from dataclasses import replace
from itertools import chain, count
from os.path import samestat
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch

from hash3d.files import append_text, load_tensors, make_folder, read_json, save_tensors, write_bytes, write_json
from hash3d.recipes.recipe import Recipe
from hash3d.recipes.serialize import difference, from_plain, to_plain

RECORDS = ("recipe.json", "metrics.jsonl", "summary.json", "evaluation.json", "checkpoint")
FILES = (
    "input.png",
    "cutout.png",
    "preview.png",
    "preview_lit.png",
    "turntable.mp4",
    "model.ply",
    "model.pt",
    "model.glb",
    "view.html",
)
TEMPORARY = re.compile(rf"\.({'|'.join(map(re.escape, (*RECORDS, *FILES, 'state.pt')))})\.\w{{8}}\.tmp\.\w+")
"""What a write of this package that was killed leaves behind; `hash3d.files.replacing` names them."""


class RunFolder:
    """One run on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pending: list[str] = []
        self._descriptor: int | None = None
        self._unlock: weakref.finalize[..., Any] | None = None

    @property
    def input_picture(self) -> Path:
        """The reference image with its alpha, as the run reads it."""
        return self.path / "input.png"

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint."""
        return self.path / "checkpoint" / "state.pt"

    @property
    def metrics(self) -> Path:
        """One JSON line a step."""
        return self.path / "metrics.jsonl"

    @property
    def holds_run(self) -> bool:
        """Whether there is a recipe."""
        return os.path.lexists(self.path / "recipe.json")

    def check_free(self) -> None:
        """Raise `FileExistsError` if a new run would write over something, `NotADirectoryError` without a folder."""
        if self.path.exists() and not self.path.is_dir():
            raise NotADirectoryError(f"Expected a folder for the run, but {self.path} is a file. Pass another --out.")
        if self.holds_run:
            raise FileExistsError(
                f"Expected a folder without a run, but {self.path} holds one. Pass --resume to go on with it, "
                "or another --out."
            )
        if taken := [name for name in (*RECORDS, *FILES) if os.path.lexists(self.path / name)]:
            raise FileExistsError(
                f"Expected a folder without a run's files, but {self.path} holds {taken[0]}. Pass another --out."
            )

    def create(self, recipe: Recipe) -> None:
        """Lock the folder and start a run. Raises what `check_free` and `lock` raise, or `WriteError`."""
        make_folder(self.path)
        self.lock()
        self.check_free()
        self._remove_temporary()
        self.write_recipe(recipe)

    def lock(self) -> None:
        """Keep other writers out until `unlock`, or until this process ends in whatever way.

        Raises `ValueError` if the folder is not there, is being written, or holds a link or a pipe.
        """
        if self._unlock is not None:
            return
        try:
            self._descriptor = descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise ValueError(f"Expected a run folder, but {self.path} cannot be opened: {error.strerror}.") from error
        self._unlock = weakref.finalize(self, os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.unlock()
            raise ValueError(
                f"Expected no other run in {self.path}, but one is writing it. Wait until it ends, or pass another "
                "--out."
            ) from error
        except OSError as error:
            warnings.warn(f"{self.path} cannot be locked ({error.strerror}): start only one run in it.", stacklevel=2)
        try:
            self.expect_own()
        except ValueError:
            self.unlock()
            raise

    def expect_own(self) -> None:
        """Raise `ValueError` if the locked folder was moved or replaced, or holds a link or a pipe."""
        try:
            own = self._descriptor is None or samestat(os.fstat(self._descriptor), self.path.stat())
        except OSError:
            own = False
        if not own:
            raise ValueError(
                f"Expected the folder of this run in {self.path}, but it was moved, replaced or deleted meanwhile. "
                "Put it back, and go on with --resume."
            )
        for each in [*self.path.iterdir(), *self.checkpoint.parent.glob("*")]:
            if each.is_symlink() or not (each.is_file() or each.is_dir()):
                kind = "link. Replace it by what it names" if each.is_symlink() else "pipe or a device. Remove it"
                raise ValueError(f"Expected files of a run's own, but {each} is a {kind}.")

    def unlock(self) -> None:
        """Let others write."""
        if self._unlock is not None:
            self._unlock()
            self._unlock = self._descriptor = None

    def write_recipe(self, recipe: Recipe) -> None:
        """Write recipe.json."""
        write_json(self.path / "recipe.json", to_plain(recipe))

    def read_recipe(self) -> Recipe:
        """The run's recipe. Raises `ValueError` if there is none, or it cannot be read."""
        path = self.path / "recipe.json"
        if not path.is_file():
            raise ValueError(f"Expected a run in {self.path}, but it has no recipe.json. Check the path.")
        try:
            recipe = from_plain(read_json(path))
        except (ValueError, RecursionError) as error:
            raise ValueError(error if str(path) in str(error) else f"{path}: {shorten(str(error), 500)}") from error
        if not isinstance(recipe, Recipe):
            raise ValueError(f"Expected a recipe in {path}, but it holds something else.")
        return recipe

    def check_same(self, recipe: Recipe) -> None:
        """Raise `ValueError` if `recipe` is not the run's, `without_steps`."""
        differs = difference(without_steps(self.read_recipe()), without_steps(recipe))
        if differs:
            raise ValueError(
                f"Expected the options that {self.path} was started with, but they differ in {differs}. "
                "Leave the options away to resume the run as it was, or pass another --out."
            )

    def append_metrics(self, row: dict[str, float]) -> None:
        """Add one step; it reaches the disk with `flush_metrics`."""
        self._pending.append(json.dumps(row) + "\n")

    def flush_metrics(self) -> int:
        """Write what was added. Returns the file's bytes."""
        size = append_text(self.metrics, "".join(self._pending))
        self._pending.clear()
        return size

    def save_checkpoint(self, state: dict[str, Any], owner: str) -> None:
        """Keep a state of tensors and plain values; the last one stays until this one is whole.

        Args:
            state: what `load_checkpoint` gives back.
            owner: the digest of what the state belongs to.

        Raises what `expect_own` raises, or `WriteError`.
        """
        self.expect_own()
        save_tensors(self.checkpoint, {**state, "metrics_bytes": self.flush_metrics(), "owner": owner})

    def load_checkpoint(
        self, device: torch.device, owner: str, priors: dict[str, str] | None = None
    ) -> dict[str, Any] | None:
        """The last state, with metrics.jsonl cut to it; None if there is none yet.

        Raises `ValueError` if it is damaged, or belongs to another run or other `priors`, given as fingerprints.
        """
        self._remove_temporary()
        if not self.checkpoint.exists():
            if self.metrics.exists():
                warnings.warn(f"{self.path} has no checkpoint: the run starts anew.", stacklevel=2)
                self._cut_metrics(0)
            return None
        try:
            state = load_tensors(self.checkpoint, device, sealed=True)
        except ValueError as error:
            raise ValueError(f"{error} Delete it to start the run again.") from error
        if state.get("owner") != owner or not isinstance(state.get("metrics_bytes"), int):
            raise ValueError(
                f"Expected the checkpoint of this run, but {self.checkpoint} belongs to another recipe or input image. "
                "Put the right one back, or delete it to start the run again."
            )
        if priors and state.get("priors", priors) != priors:
            raise ValueError(
                f"Expected {' and '.join(priors)} as {self.path} was started with, but its weights or settings are "
                "others now. Put the old ones back, or pass another --out to start again."
            )
        self._cut_metrics(state["metrics_bytes"])
        return state

    def _remove_temporary(self) -> None:
        """Remove what a killed write of a run has left."""
        for folder in (self.path, self.checkpoint.parent):
            for leftover in folder.glob(".*.tmp.*"):
                if TEMPORARY.fullmatch(leftover.name) and leftover.is_file():
                    leftover.unlink()

    def _cut_metrics(self, length: int) -> None:
        """Keep the whole, valid lines of the first `length` bytes of metrics.jsonl; say so if some are missing."""
        if self.metrics.is_dir():
            raise ValueError(f"Expected {self.metrics} to be a file, but it is a folder. Move it elsewhere.")
        size = self.metrics.stat().st_size if self.metrics.is_file() else 0
        if size == 0 == length:
            return
        content = b""
        if size:
            with self.metrics.open("rb") as file:
                content = file.read(length)
        kept = valid_lines(content)
        if len(kept) < length:
            names = chain(["metrics-damaged.jsonl"], (f"metrics-damaged-{each}.jsonl" for each in count(2)))
            aside = next(self.path / name for name in names if not os.path.lexists(self.path / name))
            if size:
                self.metrics.replace(aside)
            warnings.warn(
                f"{self.metrics} lacks steps of the checkpoint or is damaged: it goes on with {len(kept):,} bytes of "
                f"{length:,}" + (f"; the file was moved to {aside}." if size else "."),
                stacklevel=2,
            )
        if len(kept) != size:
            write_bytes(self.metrics, kept)

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write summary.json. Raises what `expect_own` raises, or `WriteError`."""
        self.expect_own()
        write_json(self.path / "summary.json", summary)

    def read_summary(self) -> dict[str, Any] | None:
        """summary.json, or None. Raises `ValueError` if it cannot be read or names no stages."""
        path = self.path / "summary.json"
        if not path.exists():
            return None
        summary = read_json(path)
        if not isinstance(summary.get("stages"), list) or len(summary["stages"]) not in (1, 2):
            raise ValueError(f"Expected one or two stages in {path}, but got {str(summary.get('stages'))[:40]}.")
        if not isinstance(notes := summary.get("notes", []), list) or not all(isinstance(each, str) for each in notes):
            raise ValueError(f"Expected notes of text in {path}, but got {str(notes)[:40]}.")
        return summary


def valid_lines(content: bytes) -> bytes:
    """The first lines of a metrics file that are whole, JSON objects and in the order of their steps."""
    length, last = 0, -1.0
    for line in content.splitlines(keepends=True):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            break
        step = row.get("step") if isinstance(row, dict) else None
        if not line.endswith(b"\n") or not isinstance(step, int | float) or not last < step < math.inf:
            break
        length, last = length + len(line), step
    return content[:length]


def without_steps(recipe: Recipe) -> Recipe:
    """The same recipe without what a resumed run may change: the steps, and how often checkpoints are kept."""
    return recipe.map_stages(lambda stage: replace(stage, steps=1), checkpoint_every=1)


def identify(recipe: Recipe, image: bytes) -> str:
    """The digest of what makes a run's checkpoints its own: its recipe `without_steps`, and its input's pixels."""
    plain = json.dumps(to_plain(without_steps(recipe)), sort_keys=True).encode()
    return hashlib.sha256(plain + image).hexdigest()
