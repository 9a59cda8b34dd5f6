"""A run from its recipe to its outputs: load, loop, checkpoint, export; resumable, and stopped by Ctrl+C in order."""

import platform
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from hash3d import __version__
from hash3d.cache import FeatureCache
from hash3d.diffusion.hook import remove_hash3d
from hash3d.diffusion.latent_prior import LatentPrior
from hash3d.export.turntable import save_picture
from hash3d.pictures import FramedPicture, frame_picture, load_picture

from .guide import load_prior
from .outputs import write_outputs
from .recipe import Recipe
from .run_folder import RunFolder
from .trainer import Metrics, Trainer

Progress = Callable[[Trainer, Metrics], None]
PARTS = ("render", "encode", "unet", "backward")
PACKAGES = ("torch", "diffusers", "transformers", "numpy", "numba", "gsplat")


class Run:
    """One run in its folder.

    Args:
        recipe: what to run.
        path: the run folder.
        device: "cpu" or "cuda".
        resume: go on from the folder's last checkpoint, if it has one.
        progress: called after each step.
    """

    def __init__(
        self, recipe: Recipe, path: Path, *, device: str = "cpu", resume: bool = False, progress: Progress | None = None
    ) -> None:
        self.recipe, self.device, self.progress = recipe, torch.device(device), progress
        self.folder = RunFolder(path)
        self._earlier_seconds = 0.0
        self._started = time.perf_counter()
        resuming = resume and (path / "recipe.json").exists()
        source = self.folder.input_picture if resuming and self.folder.input_picture.exists() else recipe.image
        picture = load_picture(source) if source else None
        prior = load_prior(recipe, self.device)
        if resuming:
            self.folder.check_same(recipe)
        else:
            self.folder.create(recipe)
        if picture is not None and source != self.folder.input_picture:
            save_picture(picture, self.folder.input_picture)
        self.picture = frame_reference(recipe, prior, self.folder.input_picture) if source else None
        self.trainer = Trainer(recipe, prior, self.picture)
        if resuming:
            self._resume()

    def _resume(self) -> None:
        state = self.folder.load_checkpoint(self.device)
        if state is not None:
            self.trainer.load_state_dict(state)
            self._earlier_seconds = state["total_seconds"]

    @property
    def completed(self) -> bool:
        """Whether all steps are done."""
        return self.trainer.step_count >= self.recipe.stage.steps

    def execute(self) -> dict[str, Any]:
        """Run to the end, or to an interruption; then export. Returns the summary."""
        self.train()
        outputs = write_outputs(self.folder.path, self.trainer.scene, self.recipe, self.picture, self.device)
        summary = self.summary(outputs)
        self.folder.write_summary(summary)
        return summary

    def train(self) -> None:
        """All steps that are left, or those before an interruption, with their checkpoints."""
        with stop_requests() as stopped:
            while not self.completed and not stopped():
                metrics = self.trainer.step()
                self.folder.append_metrics(metrics)
                if self.progress:
                    self.progress(self.trainer, metrics)
                if self.trainer.step_count % self.recipe.checkpoint_every == 0 or self.completed:
                    self.save_checkpoint()
            if not self.completed:
                self.save_checkpoint()
        remove_hash3d(self.trainer.prior.unet)

    @property
    def total_seconds(self) -> float:
        """Wall-clock time of the run, earlier parts included."""
        return self._earlier_seconds + time.perf_counter() - self._started

    def save_checkpoint(self) -> None:
        """Keep the trainer's state."""
        self.folder.save_checkpoint({**self.trainer.state_dict(), "total_seconds": self.total_seconds})

    def summary(self, outputs: list[str]) -> dict[str, Any]:
        """The contents of summary.json."""
        recipe, cache = self.recipe, self.trainer.cache
        seconds = dict.fromkeys(PARTS, 0.0) | self.trainer.stopwatch.seconds()
        total = self.total_seconds
        views = self.trainer.step_count * recipe.stage.cameras.batch_size
        return {
            "system": recipe.system,
            "prior": recipe.prior,
            "device": self.device.type,
            "seed": recipe.seed,
            "steps": self.trainer.step_count,
            "completed": self.completed,
            "seconds": {"total": total, **seconds, "other": total - sum(seconds.values())},
            "unet": unet_passes(cache, views),
            "cache": cache.summary() if cache else None,
            "gaussians": len(self.trainer.scene),
            "framing": {"scale": self.picture.scale, "shift": list(self.picture.shift)} if self.picture else None,
            "peak_memory_bytes": peak_memory(self.device),
            "outputs": outputs,
            "versions": versions(),
        }


def versions() -> dict[str, str]:
    """Of Python, this package and what it stands on."""
    found = {"python": platform.python_version(), "hash3d": __version__}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def frame_reference(recipe: Recipe, prior: LatentPrior, image: Path) -> FramedPicture:
    """A picture in the prior's framing, as large as the recipe's reference views need it.

    A run gives it the picture that its folder keeps: a resumed run reads the very same pixels.
    """
    size = max(prior.image_size, *(int(value) for _, value in recipe.stage.reference_size.knots))
    return frame_picture(load_picture(image), size, recipe.framing)


def unet_passes(cache: FeatureCache | None, views: int) -> dict[str, float]:
    """Passes by kind, counted per view."""
    full, shallow = (cache.statistics.full, cache.statistics.shallow) if cache else (views, 0)
    return {"full": full, "shallow": shallow, "reuse_share": shallow / max(full + shallow, 1)}


def peak_memory(device: torch.device) -> int:
    """The most bytes held: by the allocator on a GPU, by the process otherwise."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl+C or SIGTERM into a question answered between two steps; a second one stops at once.

    Signals reach the main thread alone; in another one nothing is ever requested.
    """
    requested: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def note(number: int, _: Any) -> None:
        requested.append(number)
        signal.signal(number, before[number])

    before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, note)
        yield lambda: bool(requested)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
