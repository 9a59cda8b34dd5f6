"""The run folder: recipe.json, metrics.jsonl, checkpoint/, summary.json, and the outputs.

A run that is killed at any moment leaves its last checkpoint whole: files are written under a temporary name and
renamed. metrics.jsonl is only appended to; a checkpoint knows how much of it belongs to it.
"""

import json
from pathlib import Path
from typing import Any

import torch

from hash3d.files import replacing, write_text
from hash3d.recipes.recipe import Recipe
from hash3d.recipes.serialize import difference, from_plain, to_plain


class RunFolder:
    """One run on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pending: list[str] = []

    @property
    def input_picture(self) -> Path:
        """The reference picture with its alpha, as the run reads it."""
        return self.path / "input.png"

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint."""
        return self.path / "checkpoint" / "state.pt"

    @property
    def metrics(self) -> Path:
        """One JSON line a step."""
        return self.path / "metrics.jsonl"

    def create(self, recipe: Recipe) -> None:
        """Start a run. Raises `FileExistsError` if the folder holds one already, `OSError` if it cannot be written."""
        if (self.path / "recipe.json").exists():
            raise FileExistsError(
                f"Expected a folder without a run, but {self.path} holds one. Pass --resume to go on with it, "
                "or another --out."
            )
        (self.path / "checkpoint").mkdir(parents=True, exist_ok=True)
        write_text(self.path / "recipe.json", json.dumps(to_plain(recipe), indent=2) + "\n")

    def read_recipe(self) -> Recipe:
        """The run's recipe. Raises `ValueError` if there is none, or it cannot be read."""
        path = self.path / "recipe.json"
        if not path.is_file():
            raise ValueError(f"Expected a run in {self.path}, but it has no recipe.json. Check the path.")
        try:
            recipe = from_plain(json.loads(path.read_text()))
        except json.JSONDecodeError as error:
            raise ValueError(f"Expected a recipe in {path}, but it is not JSON: {error}.") from error
        if not isinstance(recipe, Recipe):
            raise ValueError(f"Expected a recipe in {path}, but it holds something else.")
        return recipe

    def check_same(self, recipe: Recipe) -> None:
        """Raise `ValueError` if `recipe` is not the run's."""
        differs = difference(self.read_recipe(), recipe)
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
        with self.metrics.open("a") as file:
            file.writelines(self._pending)
        self._pending.clear()
        return self.metrics.stat().st_size

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Keep a state of tensors and plain values; the last one stays until this one is whole."""
        with replacing(self.checkpoint) as temporary:
            torch.save({**state, "metrics_bytes": self.flush_metrics()}, temporary)

    def load_checkpoint(self, device: torch.device) -> dict[str, Any] | None:
        """The last state, with metrics.jsonl cut to it; None if there is none yet."""
        for leftover in self.path.glob("**/.*.tmp*"):
            leftover.unlink()
        if not self.checkpoint.is_file():
            self.metrics.unlink(missing_ok=True)
            return None
        try:
            state = torch.load(self.checkpoint, map_location=device, weights_only=True)
        except Exception as error:
            raise ValueError(
                f"Expected a checkpoint in {self.checkpoint}, but it cannot be read ({type(error).__name__}). "
                "Delete it to start the run again."
            ) from error
        with self.metrics.open("r+b") as file:
            file.truncate(state["metrics_bytes"])
        return dict(state)

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write summary.json."""
        write_text(self.path / "summary.json", json.dumps(summary, indent=2) + "\n")

    def read_summary(self) -> dict[str, Any] | None:
        """summary.json, or None."""
        path = self.path / "summary.json"
        return dict(json.loads(path.read_text())) if path.is_file() else None
