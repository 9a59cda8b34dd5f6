"""`hash3d generate SYSTEM`."""

import dataclasses
import inspect
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from hash3d.cache import PRESETS, CacheConfig, GridConfig, Hash3DConfig
from hash3d.fast.engine import Engine, records
from hash3d.files import WriteError
from hash3d.recipes.recipe import Pose, Recipe
from hash3d.recipes.stage import Stage
from hash3d.recipes.view_order import ViewOrderConfig
from hash3d.systems import SYSTEMS, SystemInfo
from hash3d.training.run import Run
from hash3d.training.run_folder import RunFolder

from .full_scale import choose_cache, expect_full_size, explain_choices, runs_mini
from .host import choose_device, limit_threads
from .parsing import parse_options
from .progress import ProgressLine, report
from .resume import names_of, new_folder, resume_recipe
from .systems import SHOWN

INPUTS = {"image": "--image PATH", "prompt": '--prompt "a red mug"'}
"""What a system may need, and how it is given."""
RANDOM_START = Path("random")
"""In place of a shape: points in a ball."""
OF_SYSTEMS = (*INPUTS, "negative_prompt", "elevation", "framing", "pose", "text_prior", "start")
"""The options that only some systems know: the arguments of their `recipe` say which."""


@dataclass(frozen=True, kw_only=True)
class Generate:
    """Turn an image or a text into a 3D asset."""

    system: tyro.conf.Positional[str] = ""
    """The system; `hash3d systems` lists them."""
    image: Path | None = None
    """An image of one object, with an alpha channel or on a plain background."""
    prompt: str | None = None
    """What to make, for the systems that start from a text."""
    negative_prompt: str | None = None
    """What it should not look like."""
    out: Path | None = None
    """The run folder; by default a new folder in outputs/."""
    prior: str | None = None
    """A diffusers folder, an embedded prior, or a hub name; by default the system's embedded one. A local path wins."""
    text_prior: str | None = None
    """The Stable Diffusion of Magic-123, named like --prior; by default mini-sd, at full scale none."""
    start: Path | None = None
    """A PLY of points, a mesh, or a Shap-E folder from which Gaussians start, or "random" for points in a ball; by
    default as the recipe has it, and full-scale GaussianDreamer has no default."""
    scale: Literal["mini", "supplement", "released"] | None = None
    """The recipe's settings: by default mini for an embedded prior, else the supplement's. Full scale (supplement,
    released) needs --prior. released is the authors' code; --preset released, its reuse, belongs to it."""
    seed: int = 0
    """Makes cameras, noise, initialisation and the cache's random choices."""
    steps: int | None = None
    """Optimisation steps; by default the recipe's."""
    elevation: float | None = None
    """Degrees above the horizon from which the image was taken; by default 5."""
    framing: Literal["auto", "keep", "recentre"] | None = None
    """Whether the image is brought to the prior's framing; by default auto."""
    pose: Pose | None = None
    """The pose convention of the Zero123 (stable: Stable-Zero123's); by default auto: what is known of the prior."""
    device: Literal["cpu", "cuda"] | None = None
    """Where to run; by default the GPU if there is one."""
    engine: Engine = "auto"
    """How the diffusion models run: as CUDA graphs (graph), or as PyTorch runs them (eager). By default: graph on
    a GPU, else eager."""
    no_cache: bool = False
    """Run the whole U-Net at every step."""
    preset: Annotated[str, tyro.conf.arg(metavar="{" + ",".join(PRESETS) + "}")] = "default"
    """The cache's settings to start from; --cache.FIELD changes single ones. At full scale, default keeps the feature
    of layer i = 10 (cut -2): the cheaper last layer is proven at mini scale only. released belongs to --scale released,
    and looks for a feature as often as the authors' code of the system does."""
    cache: tyro.conf.AvoidSubcommands[CacheConfig] = dataclasses.field(default_factory=Hash3DConfig)
    """Feature reuse."""
    dwell: int | None = None
    """Visits of a cell of the cache's grid before another is sampled; more makes more reuse, 1 samples every view
    independently. By default the recipe's with the default preset (at full scale at most 2, since more are proven at
    mini scale only), and 1 with the others, which are for comparison."""
    resume: bool = False
    """Go on with the run in --out from its last checkpoint."""
    checkpoint_every: int = 50
    """Steps between two checkpoints."""


def main(arguments: list[str]) -> int:
    """Parse, run, report. Returns the exit code."""
    names, options = names_of(arguments), parse(arguments)

    def build(steps: int | None) -> Recipe:
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


def run_recipe(options: Generate, recipe: Recipe, path: Path, device: str) -> dict[str, Any]:
    """Run a recipe in a folder, and show how it goes on. Returns the summary."""
    with ProgressLine(recipe) as progress:
        run = Run(recipe, path, device=device, resume=options.resume, progress=progress, engine=options.engine)
        for prior in run.priors.values():
            progress.announce(prior)
        if not options.resume:
            cached = recipe.cache is not None
            mini = runs_mini(options.prior, options.scale)
            run.notes = explain_choices(options.scale, options.preset, mini=mini, cached=cached)
        for note in run.notes:
            progress.console.print(note, markup=False, soft_wrap=True)
        return run.execute()


def parse(arguments: list[str]) -> Generate:
    """Parse the options. The preset is read first, because it gives the cache's defaults.

    They depend on the system and the scale too; where those give others, the options are parsed with them again.
    """
    preset = "default"
    for position, argument in enumerate(arguments):
        if argument == "--preset" and position + 1 < len(arguments):
            preset = arguments[position + 1]
        elif argument.startswith("--preset="):
            preset = argument.removeprefix("--preset=")
    if preset not in PRESETS:
        raise ValueError(f"Expected --preset to be one of {', '.join(PRESETS)}, but got {preset!r}.")

    def read(cache: CacheConfig) -> Generate:
        return parse_options(Generate, "generate", arguments, default=Generate(cache=cache))

    options = read(PRESETS[preset])
    cache = choose_cache(options.system, preset, mini=runs_mini(options.prior, options.scale))
    return options if cache == PRESETS[preset] else read(cache)


def build_recipe(options: Generate) -> Recipe:
    """The recipe that the options describe. Raises `ValueError` with one sentence for a mistake."""
    system = find_system(options.system)
    if options.dwell is not None and options.dwell < 1:
        raise ValueError(f"Expected --dwell to be at least 1 visit, but got {options.dwell}.")
    inputs = collect_inputs(options, system)
    if not runs_mini(options.prior, options.scale):
        expect_full_size(system, options.prior, options.text_prior, options.start)
    recipe = system.recipe(
        prior=options.prior or system.embedded, cache=None if options.no_cache else options.cache, scale=options.scale,
        steps=options.steps, seed=options.seed, **inputs,
    )  # fmt: skip
    # The same with and without --no-cache, so that the two runs have the same cameras.
    cells = options.cache.grid if isinstance(options.cache, Hash3DConfig) else GridConfig()

    def order(stage: Stage) -> ViewOrderConfig:
        usual = stage.view_order.visits_per_cell if options.preset == "default" else 1
        return dataclasses.replace(
            stage.view_order, visits_per_cell=usual if options.dwell is None else options.dwell, grid=cells
        )

    stages = [dataclasses.replace(stage, view_order=order(stage)) for stage in recipe.stages]
    return dataclasses.replace(
        recipe,
        stage=stages[0],
        refinement=stages[1] if len(stages) > 1 else None,
        checkpoint_every=options.checkpoint_every,
    )


def find_system(name: str) -> SystemInfo:
    """The system of a name."""
    known = {system.name: system for system in SYSTEMS}
    if name not in known:
        raise ValueError(f"Expected a system ({', '.join(known)}), but got {name!r}.")
    return known[name]


def collect_inputs(options: Generate, system: SystemInfo) -> dict[str, Any]:
    """What the system starts from; one that it needs or does not know is a mistake."""
    parameters = inspect.signature(system.recipe).parameters
    known = [name for name in OF_SYSTEMS if name in parameters]
    needed = system.inputs
    start = " and ".join(f"a {SHOWN[name]}" for name in needed)
    start += f". Pass {' '.join(INPUTS[name] for name in needed)}"
    for name in OF_SYSTEMS:
        if name not in known and getattr(options, name) is not None:
            raise ValueError(f"Expected no --{name.replace('_', '-')}: {system.name} starts from {start}.")
    if not all(getattr(options, name) for name in needed):
        raise ValueError(f"{system.name} starts from {start}.")
    chosen = {name: getattr(options, name) for name in known if getattr(options, name) is not None}
    if chosen.get("start") == RANDOM_START:
        del chosen["start"]
    return chosen


def new_name(options: Generate) -> str:
    """The name of a new run's folder: SYSTEM-SUBJECT."""
    subject = options.image.stem if options.image else re.sub(r"\W+", "_", options.prompt or "run").strip("_")[:40]
    return f"{os.path.basename(options.system)}-{subject}"
