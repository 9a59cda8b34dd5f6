"""One run in a worker process: train all stages, compare with the true views or the prompt, render a strip of views."""

import multiprocessing
import time
import traceback
from dataclasses import dataclass
from typing import Any

import torch

from hash3d.cache import FeatureCache
from hash3d.cameras import Cameras, CameraSamplerConfig
from hash3d.diffusion.latent_prior import LatentPrior
from hash3d.evaluation.metrics import judge
from hash3d.export.turntable import encode_image, orbit, render_each, tile
from hash3d.pictures import load_picture
from hash3d.recipes.recipe import Recipe
from hash3d.scenes.build import show_model
from hash3d.scenes.show import Show, colors
from hash3d.training.guide import keep_priors
from hash3d.training.run import describe_passes, frame_reference
from hash3d.training.trainer import Trainer
from hash3d.unet.partial_unet import PartialUNet

from .matcher import judge_views
from .objects import Job, Machine, Row

SHOWN_AZIMUTHS = (45.0, 90.0, 180.0, 270.0)
VIEW_SIZE = 128
JUDGED_VIEWS, MATCHER_ELEVATION = 8, 15.0
"""Views all round of what is made of a text, for the matcher."""
TRACEBACK_LINES = 6


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A finished run's row and strip of views, or why there is none."""

    job: Job
    row: Row | None = None
    strip: bytes = b""
    """A JPEG file."""
    error: str = ""
    """A sentence, or the last lines of the traceback."""


def attempt(job: Job, machine: Machine) -> Outcome:
    """Run a job; a failure is an outcome too, so that the others go on."""
    try:
        return run(job, machine)
    except (ValueError, OSError, ImportError) as error:
        return Outcome(job=job, error=str(error))
    except Exception:
        lines = traceback.format_exc().splitlines()
        return Outcome(job=job, error="\n".join(lines[-TRACEBACK_LINES:]))


def run(job: Job, machine: Machine) -> Outcome:
    """All stages of a job. It writes nothing: its row and views go to where the rows are kept."""
    torch.set_num_threads(machine.threads)
    device, recipe, identity = pick_device(machine.device), job.recipe(), job.identity
    priors = keep_priors(recipe, device)
    main = next(iter(priors.values()))
    picture = None if recipe.image is None else frame_reference(recipe, main, load_picture(recipe.image))
    started, unets = time.perf_counter(), dict[str, dict[str, Any]]()
    trainer = Trainer(recipe, priors, picture)
    try:
        while True:
            while not trainer.completed:
                trainer.step()
            count_unets(trainer, unets)
            if trainer.is_last:
                break
            trainer = trainer.next_stage()
    finally:
        trainer.close()
    seconds, total = trainer.stopwatch.seconds(), time.perf_counter() - started
    show = show_model(trainer.scene.model, trainer.stage, main)
    cache = trainer.cache
    row = {
        **dict(zip(("object", "seed", "key"), identity, strict=True)),
        "system": recipe.system,
        **_judge(job, recipe, show, machine),
        "steps": recipe.steps,
        **describe_passes(*(sum(int(each[kind]) for each in unets.values()) for kind in ("full", "shallow"))),
        "unets": unets,
        "cut": find_cut(main, cache),
        "mode": cache.mode if cache else None,
        "cache": cache.summary() if cache else None,
        "pose": getattr(main, "pose_variant", None),
        **trainer.scene.counts(),
        "seconds": {"total": total, **seconds, "other": total - sum(seconds.values())},
        **machine.account(),
    }
    return Outcome(job=job, row=row, strip=_render_strip(show, trainer.stage.cameras))


def count_unets(trainer: Trainer, unets: dict[str, dict[str, Any]]) -> None:
    """Add a stage's U-Net passes by guidance: `full`, of which `single` have one branch, as replay's, and `shallow`."""
    replay = trainer.stage.replay
    alone = replay is not None and replay.guidance_scale == 1.0
    for name, guidance in trainer.guidances.items():
        full, shallow = guidance.count_passes()
        cut = find_cut(trainer.priors[name], guidance.cache)
        before = unets.get(name, {"full": 0, "shallow": 0, "single": 0})
        unets[name] = {
            "prior": trainer.recipe.priors[name], "cut": cut, "full": before["full"] + full,
            "shallow": before["shallow"] + shallow, "single": before["single"] + full * alone,
        }  # fmt: skip


def find_cut(prior: LatentPrior, cache: FeatureCache | None) -> int | None:
    """Return the layer that a cache keeps, counted from the first; None without a cache."""
    return PartialUNet(prior.unet, cache.cut).cut if cache else None


def _judge(job: Job, recipe: Recipe, show: Show, machine: Machine) -> dict[str, Any]:
    """Metrics: against true views, or of a text by the matcher and by CLIP."""
    if recipe.image is not None and job.input.truth is None:
        return {}
    found = judge(show, recipe, recipe.image, job.input.truth, machine.metrics, machine.weights)["mean"]
    if recipe.image is not None:
        return found
    own = recipe.stages[-1].cameras
    views = orbit(JUDGED_VIEWS, MATCHER_ELEVATION, own.radius, own.fov_y, VIEW_SIZE)
    images = torch.stack(render_each(colors(show), views)).permute(0, 3, 1, 2) * 2.0 - 1.0
    return judge_views(images, recipe.prompt or "") | found


def pick_device(name: str) -> torch.device:
    """One of the GPUs for each worker, evenly; other devices as they are."""
    if name != "cuda":
        return torch.device(name)
    numbers = multiprocessing.current_process()._identity  # () in the main process
    device = torch.device("cuda", (numbers[0] - 1 if numbers else 0) % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def _render_strip(show: Show, config: CameraSamplerConfig) -> bytes:
    """Four views from the horizon, side by side, as a JPEG file."""
    cameras = Cameras.orbit(
        elevation=0.0, azimuth=list(SHOWN_AZIMUTHS), radius=config.radius, fov_y=config.fov_y, size=VIEW_SIZE
    )
    return encode_image(tile(render_each(colors(show), cameras), len(cameras)), "JPEG")
