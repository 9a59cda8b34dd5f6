"""What a person sees while a run goes on, and at its end."""

import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from hash3d.recipes.recipe import Recipe
from hash3d.scenes.base import COUNTED
from hash3d.training.trainer import Trainer
from hash3d.training.watch import Metrics

from .streams import say

PLAIN_EVERY, PLAIN_LINES = 50, 20
"""At most so many steps between two lines where there is no terminal, and at least so many lines in a long run."""


class ProgressLine:
    """A bar with the time left and the live reuse share; plain lines where there is no terminal."""

    def __init__(self, recipe: Recipe, *, quiet: bool = False) -> None:
        self.steps, self._second = recipe.steps, recipe.stage.steps + 1
        self.console = Console(stderr=True, highlight=False, quiet=quiet)
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[state]}"), console=self.console,
            disable=not self.console.is_terminal,
        )  # fmt: skip
        self.live: Callable[[Trainer, Metrics], None] | None = None
        self._first: tuple[int, float] | None = None
        self._phase: TaskID | None = None
        self._task = self._bar.add_task(recipe.system, total=self.steps, state="loading")

    def __enter__(self) -> "ProgressLine":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, trainer: Trainer, metrics: Metrics) -> None:
        """Show the step that was just done."""
        state = f"loss {metrics['loss']:.3f}, {size({name: metrics[name] for name in COUNTED if name in metrics})}"
        if trainer.cache:
            state += f", reuse {metrics['reuse_share']:.0%}"
            if "reuse_error" in metrics:
                switch = "" if trainer.cache.guard.reusing else ", off"
                state += f" (error {metrics['reuse_error']:.2f}{switch})"
        done = int(metrics["step"]) + 1
        if self._first is None or done == self._second:  # Stages differ in the time of a step.
            self._first = done, time.monotonic()
        self._bar.update(self._task, completed=done, state=state if done < self.steps else "writing the files")
        before, started = self._first
        every = max(min(PLAIN_EVERY, self.steps // PLAIN_LINES), 1)
        if not self.console.is_terminal and done % every == 0 and done > before:
            seconds = time.monotonic() - started
            left = seconds / (done - before) * (self.steps - done)
            self.console.print(f"step {done}/{self.steps}: {state}, {seconds:.0f} s, {left:.0f} s left", markup=False)
        if self.live:
            self.live(trainer, metrics)

    def show_phase(self, name: str) -> None:
        """Show what is written after the last step, in a bar of its own."""
        if self._phase is not None:
            self._bar.update(self._phase, total=1, completed=1)
        self._phase = self._bar.add_task(f"  {name}", total=None, state="")
        if not self.console.is_terminal:
            self.console.print(f"writing: {name}", markup=False)


def size(counts: dict[str, float]) -> str:
    """How large a scene is, such as "3,000 gaussians" or "12% occupied"."""
    return ", ".join(f"{count:,.0f} {name}" if count > 1.0 else f"{count:.0%} {name}" for name, count in counts.items())


def report(path: Path, summary: dict[str, Any]) -> None:
    """Where the results are, and what the cache did."""
    seconds, unet = summary["seconds"], summary["unet"]
    state = "done" if summary["completed"] else "interrupted"
    say(
        f"{summary['system']}: {state} after {summary['steps']} steps, {seconds['total']:.0f} s "
        f"(U-Net {seconds['unet']:.0f} s, {unet['reuse_share']:.0%} of its passes reused)"
    )
    if summary["not_finite"]:
        counts = ", ".join(f"{name} at {count}" for name, count in summary["not_finite"].items())
        say(f"  not finite, and left out: {counts} of {summary['steps']} steps")
    for label, endings in (
        ("asset", (".glb", ".ply")),
        ("picture", (".png",)),
        ("video", (".mp4",)),
        ("page", (".html",)),
    ):
        names = [name for ending in endings for name in summary["outputs"] if name.endswith(ending)]
        if names:
            say(f"  {label:8} {path / names[0]}")
    if not summary["completed"]:
        say(f"  go on    hash3d generate --resume --out {shlex.quote(str(path))}")
