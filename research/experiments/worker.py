"""One run of a study in a worker process: train, compare with the true views, draw a strip of views."""

import functools
import multiprocessing
import time
import traceback
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image

from hash3d.cameras import Cameras, CameraSamplerConfig
from hash3d.diffusion.zero123 import Zero123Prior
from hash3d.evaluation.compare import compare
from hash3d.evaluation.reference_frame import find_reference_frame
from hash3d.evaluation.truth import load_truth
from hash3d.export.turntable import render_each, tile, to_bytes
from hash3d.files import write_bytes
from hash3d.pictures import load_picture
from hash3d.scenes.build import show_model
from hash3d.scenes.show import Show, colors
from hash3d.training.guide import load_zero123
from hash3d.training.run import describe_passes, frame_reference
from hash3d.training.trainer import Trainer
from hash3d.unet import remove_hash3d
from hash3d.unet.partial_unet import PartialUNet

from .objects import Job, key_of
from .provenance import Machine, Row

SHOWN_AZIMUTHS = (45.0, 90.0, 180.0, 270.0)
VIEW_SIZE = 128
TRACEBACK_LINES = 6


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A finished run's row, or why there is none."""

    job: Job
    row: Row | None = None
    error: str = ""
    """The last lines of the traceback."""


def attempt(job: Job, machine: Machine) -> Outcome:
    """Run a job; a failure is an outcome too, so that the others go on."""
    try:
        return Outcome(job=job, row=run(job, machine))
    except Exception:
        lines = traceback.format_exc().splitlines()
        return Outcome(job=job, error="\n".join(lines[-TRACEBACK_LINES:]))


def run(job: Job, machine: Machine) -> Row:
    """All steps of a job, without a run folder. Returns its row."""
    torch.set_num_threads(machine.threads)
    device, recipe = pick_device(machine.device), job.recipe()
    ((name, folder),) = recipe.priors.items()
    prior = _prior(folder, device)
    picture = frame_reference(recipe, prior, load_picture(job.input.image))
    remove_hash3d(prior.unet)
    started = time.perf_counter()
    trainer = Trainer(recipe, {name: prior}, picture)
    while not trainer.completed:
        trainer.step()
    seconds = trainer.stopwatch.seconds()
    total = time.perf_counter() - started
    show = show_model(trainer.scene.model, trainer.stage)
    frame = find_reference_frame(recipe, job.input.image)
    metrics = compare(show, load_truth(job.input.path), frame)["mean"] if job.input.has_truth else {}
    _save_strip(show, trainer.stage.cameras, machine.strip(job.identity))
    cache = trainer.cache
    return {
        "object": job.input.name,
        "seed": job.seed,
        "key": key_of(recipe, job.input),
        **metrics,
        "steps": trainer.step_count,
        **describe_passes(*trainer.guidances[name].count_passes()),
        "cut": PartialUNet(prior.unet, cache.cut).cut if cache else None,
        "mode": cache.mode if cache else None,
        "cache": cache.summary() if cache else None,
        **trainer.scene.counts(),
        "seconds": {"total": total, **seconds, "other": total - sum(seconds.values())},
        **machine.account(),
    }


def pick_device(name: str) -> torch.device:
    """One of the GPUs for each worker, evenly; other devices as they are."""
    if name != "cuda":
        return torch.device(name)
    numbers = multiprocessing.current_process()._identity  # () in the main process
    device = torch.device("cuda", (numbers[0] - 1 if numbers else 0) % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


@functools.lru_cache(maxsize=4)
def _prior(name: str, device: torch.device) -> Zero123Prior:
    """A worker loads each prior once."""
    return load_zero123(name, device)


def _save_strip(show: Show, config: CameraSamplerConfig, path: Path) -> None:
    """Four views from the horizon, side by side."""
    cameras = Cameras.orbit(
        elevation=0.0, azimuth=list(SHOWN_AZIMUTHS), radius=config.radius, fov_y=config.fov_y, size=VIEW_SIZE
    )
    views = render_each(colors(show), cameras)
    file = BytesIO()
    Image.fromarray(to_bytes(tile(views, len(views)))).save(file, format="JPEG", quality=88)
    write_bytes(path, file.getvalue())
