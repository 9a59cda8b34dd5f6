"""`hash3d generate SYSTEM`."""

import dataclasses
import os
import re
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hash3d.cache import CacheConfig, GridConfig, Hash3DConfig
from hash3d.systems import SystemInfo

from .options import SHOWN, choose_cache, expect_full_size, explain_choices, find_system, parse, runs_mini
from .parsing import expect_image
from .streams import say
from .words import warn_of_strange

if TYPE_CHECKING:
    from hash3d.diffusion.latent_prior import LatentPrior
    from hash3d.recipes.recipe import Recipe
    from hash3d.recipes.stage import Stage

INPUTS = {"image": "--image PATH", "prompt": '--prompt "a red mug"'}
"""How what a system needs is given."""
GIVEN = (*INPUTS, "negative_prompt", "elevation", "framing", "pose", "text_prior", "start")
"""The options that are arguments of a system's `recipe`, where the system has them."""
ADJUSTED = ("guidance_scale", "size", "batch_size", "lr_scale", "loss_scale")
"""The options that are arguments of `hash3d.recipes.adjust.adjust`."""
STOPPING = "finishing the step, then writing the files; press Ctrl+C again to quit at once"
RANDOM_START = Path("random")
"""In place of a shape: points in a ball."""


def main(arguments: list[str]) -> int:
    """Parse, run, report. Returns the exit code."""
    if arguments[:1] in (["-h"], ["--help"], ["--help-all"]):
        from . import systems

        say("hash3d generate SYSTEM [OPTIONS]; hash3d generate SYSTEM --help tells a system's options")
        return systems.main([])
    options = parse(arguments)
    expect_image(getattr(options, "image", None))
    return run(options, arguments)


def run(options: Any, arguments: list[str]) -> int:
    """Run what the options describe. Returns the exit code."""
    from hash3d.fast.engine import records
    from hash3d.files import WriteError
    from hash3d.training.run_folder import RunFolder

    from .host import choose_device, limit_threads
    from .progress import report
    from .resume import names_of, new_folder, resume_recipe

    names = names_of(arguments)

    def build(steps: int | None) -> "Recipe":
        return build_recipe(dataclasses.replace(options, steps=steps))

    if options.resume:
        every = options.checkpoint_every if "checkpoint_every" in names else None
        recipe = resume_recipe(options.out, options.system, names, build, steps=options.steps, every=every)
    else:
        recipe = build(options.steps)
    device = choose_device(options.device)
    records(options.engine, device)  # A mistake is told before anything is written.
    limit_threads(device.type)
    path = options.out or new_folder(new_name(options))
    try:
        summary = run_recipe(options, recipe, path, device.type)
    except WriteError as error:
        if RunFolder(path).holds_run:
            error.args = (f"{error} Then go on with --resume --out {path}",)
        raise
    finally:
        if options.out is None:
            with suppress(OSError):  # A mistake leaves no folder behind: only an empty one is removed.
                path.rmdir()
    report(path, summary)
    return 0 if summary["completed"] else 130


def run_recipe(
    options: Any, recipe: "Recipe", path: Path, device: str, *,
    priors: "dict[str, LatentPrior] | None" = None, quiet: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Run a recipe in a folder, and show how it goes on unless `quiet`. Returns the summary."""
    from hash3d.training.run import Run

    from .progress import ProgressLine

    with ProgressLine(recipe, quiet=quiet) as progress, ExitStack() as stack:
        if options.view:
            from .live import LiveView

            progress.live = live = LiveView(path, recipe.stages[-1].cameras, recipe.reference_elevation)
            stack.callback(live.close)
            progress.console.print(f"live view: {live.url}", markup=False)
        run = Run(
            recipe, path, device=device, resume=options.resume, progress=progress, engine=options.engine, priors=priors,
            on_stop=partial(progress.console.print, STOPPING), on_phase=progress.show_phase,
        )  # fmt: skip
        for prior in run.priors.values():
            if variant := getattr(prior, "pose_variant", None):
                progress.console.print(f"pose convention: {variant} ({prior.pose_reason})", markup=False)
        if getattr(options, "image", None) and options.elevation is None:
            progress.console.print(f"elevation of the image: {recipe.reference_elevation:g} degrees", markup=False)
        if not options.resume:
            cached = recipe.cache is not None and recipe.stage.distills
            mini = runs_mini(options.prior, options.scale)
            asked = options.preset != "default" or options.cache != choose_cache(options.system, "default", mini=mini)
            run.notes = explain_choices(options.scale, options.preset, mini=mini, cached=cached, asked=asked)
        for note in run.notes:
            progress.console.print(note, markup=False, soft_wrap=True)
        return run.execute()


def build_recipe(options: Any) -> "Recipe":
    """The recipe that the options describe. Raises `ValueError` with one sentence for a mistake."""
    from hash3d.recipes.adjust import adjust

    system = find_system(options.system)
    if options.dwell is not None and options.dwell < 1:
        raise ValueError(f"Expected --dwell to be at least 1 visit, but got {options.dwell}.")
    inputs = collect_inputs(options, system)
    if not runs_mini(options.prior, options.scale):
        text_prior, start = getattr(options, "text_prior", None), getattr(options, "start", None)
        expect_full_size(system, options.prior, text_prior, start)
    asked = getattr(options, "text_prior", None) if "image" in inputs else options.prior
    if "prompt" in inputs and asked in (None, "mini-sd"):
        warn_of_strange(inputs["prompt"], alone="image" not in inputs)
    cache = None if options.no_cache or options.quality == "best" else options.cache
    inputs["replay_every"] = choose_replay(options, system, cache)
    if "image" in inputs and "elevation" not in inputs:
        from hash3d.pictures import PictureError
        from hash3d.pictures.elevation import estimate_elevation

        with suppress(PictureError):  # The run tells.
            inputs["elevation"] = estimate_elevation(inputs["image"], inputs.get("framing", "auto"))

    def make(steps: int | None) -> "Recipe":
        prior = options.prior or system.embedded
        return system.recipe(prior=prior, cache=cache, scale=options.scale, steps=steps, seed=options.seed, **inputs)

    recipe = make(options.steps)
    if options.quality == "fast" and options.steps is None:
        recipe = make(recipe.steps // 2)
    recipe = adjust(recipe, **{name: getattr(options, name) for name in ADJUSTED})
    # The same with and without --no-cache, so that the two runs have the same cameras.
    cells = options.cache.grid if isinstance(options.cache, Hash3DConfig) else GridConfig()

    def order(stage: "Stage") -> "Stage":
        usual = stage.view_order.visits_per_cell if options.preset == "default" else 1
        visits = usual if options.dwell is None else options.dwell
        view_order = dataclasses.replace(stage.view_order, visits_per_cell=visits, grid=cells)
        return dataclasses.replace(stage, view_order=view_order)

    return recipe.map_stages(order, checkpoint_every=options.checkpoint_every)


def choose_replay(options: Any, system: SystemInfo, cache: CacheConfig | None) -> int:
    """Steps between two targets of replay, 0 for none: the system's own at mini scale if the cache is left as it is."""
    every: int | None = getattr(options, "replay_every", None)
    if every is not None:
        if every < 0:
            raise ValueError(f"Expected --replay-every to be at least 0 steps, but got {every}.")
        return every
    usual = choose_cache(system.name, "default", mini=True)
    as_it_is = options.preset == "default" and options.dwell is None and cache == usual
    return system.replay_every if as_it_is and runs_mini(options.prior, options.scale) else 0


def collect_inputs(options: Any, system: SystemInfo) -> dict[str, Any]:
    """What the system starts from, and the settings that are given. Raises `ValueError` for a missing input."""
    if not all(getattr(options, name) for name in system.inputs):
        start = " and ".join(f"a {SHOWN[name]}" for name in system.inputs)
        raise ValueError(f"{system.name} starts from {start}. Pass {' '.join(INPUTS[name] for name in system.inputs)}.")
    chosen = {name: getattr(options, name, None) for name in GIVEN}
    return {name: value for name, value in chosen.items() if value not in (None, RANDOM_START)}


def new_name(options: Any) -> str:
    """The name of a new run's folder: SYSTEM-SUBJECT."""
    image = getattr(options, "image", None)
    subject = image.stem if image else re.sub(r"\W+", "_", options.prompt or "run").strip("_")[:40]
    return f"{os.path.basename(options.system)}-{subject}"
