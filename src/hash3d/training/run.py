"""A run from its recipe to its outputs: load, loop, checkpoint, export; resumable, and stopped by Ctrl+C in order."""

import json
import platform
import resource
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d import __version__
from hash3d.diffusion.latent_prior import LatentPrior
from hash3d.export.turntable import save_image, to_bytes
from hash3d.fast.engine import Engine
from hash3d.pictures import FramedPicture, frame_picture, load_picture, show_cutout
from hash3d.recipes.recipe import Recipe
from hash3d.scenes.build import show_model
from hash3d.tensors import all_finite

from .guide import load_priors
from .outputs import VIEW, OnPhase, has_view, leave_earlier, write_outputs, write_previews, write_view
from .run_folder import RunFolder, identify
from .stop import stop_requests
from .trainer import Trainer
from .watch import DIVERGED, Metrics, NotFiniteError

Progress = Callable[[Trainer, Metrics], None]
PARTS = ("render", "encode", "unet", "backward")
PACKAGES = ("torch", "diffusers", "transformers", "numpy", "numba")


class Run:
    """One run in its folder.

    Args:
        recipe: what to run.
        path: the run folder.
        device: "cpu" or "cuda".
        resume: go on from the folder's last checkpoint, if it has one.
        progress: called once for each step, in order: at once on a CPU; on a GPU when its numbers have arrived, which
            may be a few steps later.
        priors: the recipe's diffusion models, without a cache, where they are loaded already.
        on_stop: called once when the run is asked to stop, before its last step ends.
        on_phase: told after the last step what is written next.
    """

    def __init__(
        self,
        recipe: Recipe,
        path: Path,
        *,
        device: str = "cpu",
        resume: bool = False,
        progress: Progress | None = None,
        engine: Engine = "auto",
        priors: dict[str, LatentPrior] | None = None,
        on_stop: Callable[[], object] = lambda: None,
        on_phase: OnPhase = lambda _: None,
    ) -> None:
        self.recipe, self.device, self.progress, self.on_stop = recipe, torch.device(device), progress, on_stop
        self.folder, self.on_phase = RunFolder(path), on_phase
        self._late: deque[Metrics] = deque()
        self._earlier_seconds = 0.0
        self._started = time.perf_counter()
        self._resuming = resume and self.folder.holds_run
        if self._resuming:
            self.folder.lock()
            self.folder.check_same(recipe)
        else:
            self.folder.check_free()
        image = None if recipe.image is None else self._load_image(recipe.image)
        self.priors = load_priors(recipe, self.device) if priors is None else priors
        self.prior = next(iter(self.priors.values()), None)
        self.picture = None if image is None else frame_reference(recipe, self.prior, image)
        self.owner = identify(recipe, b"" if image is None else to_bytes(image).tobytes())
        self.fingerprints = {recipe.priors[name]: prior.fingerprint() for name, prior in self.priors.items()}
        state = self.folder.load_checkpoint(self.device, self.owner, self.fingerprints) if self._resuming else None
        self.finished: list[dict[str, Any]] = []
        self.notes: Sequence[str] = (self.folder.read_summary() or {}).get("notes", []) if self._resuming else []
        try:
            self.trainer = Trainer(
                recipe, self.priors, self.picture, number=state["stage"] if state else 0, engine=engine,
                device=self.device,
            )  # fmt: skip
            if state is not None:
                self.trainer.load_state_dict(state)
                self._earlier_seconds, self.finished = float(state["total_seconds"]), list(state["finished"])
                json.dumps(self.summary([]))  # Of counts that can be added, and written.
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            if not self._resuming:
                raise
            raise ValueError(
                f"Expected a run of this version of hash3d in {path}, but it cannot be rebuilt: "
                f"{type(error).__name__} {str(error).splitlines()[0] if str(error) else ''}. Start it again elsewhere."
            ) from error
        self._check_steps()
        if not self._resuming:  # Only now: a mistake that a part above has found leaves no folder behind.
            self.folder.create(recipe)
        elif recipe != self.folder.read_recipe():
            self.folder.write_recipe(recipe)
        if image is not None and not (self._resuming and self.folder.input_picture.exists()):
            save_image(show_cutout(image), self.folder.path / "cutout.png")
            save_image(image, self.folder.input_picture)

    def _check_steps(self) -> None:
        """Raise `ValueError` if the recipe has fewer steps than are done, or others in a stage that is done."""
        done = [*(row["steps"] for row in self.finished), self.trainer.step_count]
        wanted = [stage.steps for stage in self.recipe.stages]
        if done[:-1] != wanted[: len(done) - 1] or not 0 <= done[-1] <= wanted[len(done) - 1]:
            raise ValueError(
                f"Expected stages of {wanted} steps to go on from, but {done} are done in {self.folder.path}. "
                f"Pass --steps with at least {sum(done)}."
            )

    def _load_image(self, path: Path) -> Float[Tensor, "H W 4"]:
        """The reference image with 8 bits a channel, as the folder keeps it: a resumed run has the very same pixels."""
        kept = self.folder.input_picture
        image = load_picture(kept if self._resuming and kept.exists() else path)
        return torch.from_numpy(to_bytes(image)).float() / 255.0

    @property
    def completed(self) -> bool:
        """Whether all steps of all stages are done."""
        return self.trainer.completed and self.trainer.is_last

    @property
    def steps(self) -> int:
        """Steps done, of all stages."""
        return sum(row["steps"] for row in self.finished) + self.trainer.step_count

    def execute(self) -> dict[str, Any]:
        """Run to the end, or to an interruption; then export. Returns the summary."""
        try:
            self.train()
            model = self.trainer.scene.model
            show = show_model(model, self.trainer.stage, self.prior)
            self.folder.expect_own()
            recipe = self.recipe.up_to(self.trainer.number)
            outputs = write_outputs(self.folder.path, model, show, recipe, self.picture, self.on_phase)
            if (self.folder.read_summary() or {}).get("steps", self.steps) != self.steps:
                leave_earlier(self.folder.path)
            page = [VIEW] if has_view(model, self.trainer.stage) else []
            summary = self.summary([*outputs, *page])
            self.folder.write_summary(summary)
            if page:
                self.on_phase("page")
                write_view(self.folder.path)
            return summary
        except NotFiniteError:
            self.trainer.close()
            self.folder.write_summary({**self.summary([]), "completed": False})
            raise
        finally:
            self.folder.unlock()

    def train(self) -> None:
        """All steps that are left, or those before an interruption, with their checkpoints."""
        with stop_requests(self.on_stop) as stopped:
            while not self.completed and not stopped():
                if self.trainer.completed:
                    self.finished.append(self.stage_summary())
                    self.trainer = self.trainer.next_stage()
                self._late.append(self.trainer.step())
                self._record(lambda metrics: metrics.arrived)
                if self.trainer.step_count % self.recipe.checkpoint_every == 0 or self.trainer.completed:
                    self.save_checkpoint()
                quick = not (self.completed or self.trainer.scene.slow)
                if quick and self.trainer.step_count % self.recipe.checkpoint_every == 0:
                    show = show_model(self.trainer.scene.model, self.trainer.stage, self.prior)
                    write_previews(self.folder.path, show, self.recipe.up_to(self.trainer.number), self.picture)
            if not self.completed:
                self.save_checkpoint()
        self.trainer.close()

    def _record(self, ready: Callable[[Metrics], bool]) -> None:
        """Write and show the steps whose numbers are ready, in order."""
        while self._late and ready(self._late[0]):
            metrics = self._late.popleft()
            row = self.trainer.watch.read(metrics)
            self.folder.append_metrics(row)
            if self.progress:
                self.progress(self.trainer, metrics)
            self.trainer.watch.check(row)

    @property
    def total_seconds(self) -> float:
        """Wall-clock time of the run, earlier parts included."""
        return self._earlier_seconds + time.perf_counter() - self._started

    def save_checkpoint(self) -> None:
        """Keep the trainer's state, and the numbers of all steps before it.

        Raises `NotFiniteError`, and leaves the last checkpoint, if the scene has numbers that are not finite.
        """
        self._record(lambda _: True)
        state = self.trainer.state_dict()
        if not all_finite(state["scene"]):
            raise NotFiniteError(
                f"Expected a scene of finite numbers after {self.steps} steps, but it has others. {DIVERGED}. "
                "The last checkpoint, if there is one, is finite."
            )
        state |= {"total_seconds": self.total_seconds, "finished": self.finished, "priors": self.fingerprints}
        self.folder.save_checkpoint(state, self.owner)

    def stage_summary(self) -> dict[str, Any]:
        """What the present stage did: its steps, how large its scene is, each guidance's U-Net passes and cache."""
        trainer = self.trainer
        counts = {name: int(count) if count > 1.0 else count for name, count in trainer.scene.counts().items()}
        summary: dict[str, Any] = {"steps": trainer.step_count, "scene": counts, "not_finite": trainer.watch.counts}
        for name, guidance in trainer.guidances.items():
            prefix = trainer.stage.prefix(name)
            summary[f"{prefix}unet"] = describe_passes(*guidance.count_passes())
            summary[f"{prefix}cache"] = guidance.cache.summary() if guidance.cache else None
        return summary

    def summary(self, outputs: list[str]) -> dict[str, Any]:
        """The contents of summary.json."""
        recipe, trainer = self.recipe, self.trainer
        seconds = dict.fromkeys(PARTS, 0.0) | trainer.stopwatch.seconds()
        total, stages = self.total_seconds, [*self.finished, self.stage_summary()]
        passes = [part for stage in stages for name, part in stage.items() if name.endswith("unet")]
        return {
            "system": recipe.system,
            "prior": recipe.prior,
            "pose_variant": getattr(self.prior, "pose_variant", None),
            "pose_reason": getattr(self.prior, "pose_reason", None),
            "priors": dict(recipe.priors),
            "prompt": recipe.prompt,
            "device": self.device.type,
            "seed": recipe.seed,
            "steps": self.steps,
            "completed": self.completed,
            "not_finite": dict(sum((Counter(stage.get("not_finite", {})) for stage in stages), Counter())),
            "seconds": {"total": total, **seconds, "other": total - sum(seconds.values())},
            "unet": describe_passes(*(sum(each[kind] for each in passes) for kind in ("full", "shallow"))),
            "stages": stages,
            "framing": {"scale": self.picture.scale, "shift": list(self.picture.shift)} if self.picture else None,
            "peak_memory_bytes": peak_memory(self.device),
            "outputs": outputs,
            "notes": list(self.notes),
            "versions": versions(),
        }


def versions() -> dict[str, str]:
    """Of Python, this package and what it stands on."""
    found = {"python": platform.python_version(), "hash3d": __version__}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def frame_reference(recipe: Recipe, prior: LatentPrior | None, image: Float[Tensor, "H W 4"]) -> FramedPicture:
    """A loaded image in the prior's framing, as large as the prior and the recipe's reference views need it."""
    sizes = [int(value) for stage in recipe.stages for _, value in stage.reference_size.knots]
    return frame_picture(image, max(sizes if prior is None else [prior.image_size, *sizes]), recipe.framing)


def describe_passes(full: int, shallow: int) -> dict[str, float]:
    """U-Net passes by kind, counted per view."""
    return {"full": full, "shallow": shallow, "reuse_share": shallow / max(full + shallow, 1)}


def peak_memory(device: torch.device) -> int:
    """The most bytes held: by the allocator on a GPU, by the process otherwise."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
