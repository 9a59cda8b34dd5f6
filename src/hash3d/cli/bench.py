"""`hash3d bench SYSTEM`."""

import inspect
import json
import os
import shlex
import stat
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table

from hash3d.bench.cases import each_stage, steady, with_size
from hash3d.bench.contestant import Models
from hash3d.bench.inputs import make_ball, make_disc
from hash3d.bench.measure import Measurement, Plan, measure
from hash3d.bench.page import HEADS, as_json, cells, page_lines
from hash3d.bench.summary import summarize
from hash3d.cache import Hash3DConfig
from hash3d.diffusion.random_weights import LAYOUTS, write_random_prior
from hash3d.evaluation.provenance import describe_machine, require_device, with_measured, write_measured
from hash3d.fast.engine import Engine, records
from hash3d.files import write_text
from hash3d.pictures import load_picture
from hash3d.recipes.limits import check_numbers
from hash3d.recipes.recipe import Recipe
from hash3d.scenes.build import build_model
from hash3d.systems import SystemInfo
from hash3d.training.guide import load_priors
from hash3d.training.run import frame_reference, versions

from .full_scale import choose_cache, runs_mini
from .generate import find_system
from .host import limit_threads
from .parsing import parse_options

RANDOM = "random"
PROMPT = "a red mug"
WIDTH = 240
"""Characters of the table, also where the terminal is narrower: a row stays a line."""
QUESTION = "How long does a step take without reuse, with DeepCache, with the released code's reuse, and with ours?"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measure a system with and without reuse, step by step, with its Amdahl limit and its roofline."""

    system: tyro.conf.Positional[str] = ""
    """The system; `hash3d systems` lists them."""
    prior: str | None = None
    """A diffusers folder, an embedded prior, or a hub name; by default the system's embedded one. "random": full size,
    in the published layout, with random weights, in the temporary folder: no image, but real times and memory."""
    text_prior: str | None = None
    """The Stable Diffusion of Magic-123, named like --prior."""
    image: Path | None = None
    """An image; by default a red disc."""
    prompt: str | None = None
    """A text; by default "a red mug"."""
    start: Path | None = None
    """A PLY of points, a mesh, or a Shap-E folder from which Gaussians start; by default at full scale a ball."""
    scale: Literal["mini", "supplement", "released"] | None = None
    """The recipe's settings: by default mini for an embedded prior, else the supplement's."""
    stage: int = 1
    """Which stage; a second one starts from the untrained start of the first."""
    sizes: Literal["last", "schedule"] = "last"
    """Images as large as at the end of the recipe's schedule throughout, or as the schedule has them."""
    batch_size: int | None = None
    """Views a step; by default the recipe's."""
    device: Literal["cpu", "cuda"] | None = None
    """Where to run; by default the GPU if there is one."""
    engine: Engine = "auto"
    """Engine of the cases on the fast path."""
    cache: Hash3DConfig = field(default_factory=Hash3DConfig)
    """Our feature reuse. At full scale its cut is -2 by default (i = 10), and a cell has at most 2 visits: the cheaper
    last layer and more visits are proven at mini scale only."""
    dwell: int | None = None
    """Visits of a cell of the cache's grid before another is sampled; by default the recipe's."""
    seed: int = 0
    """Makes cameras, noise, initialisation and the cache's random choices."""
    steps: int = 64
    """Measured steps of each case."""
    warm_up: int = 32
    """Steps before, which are not measured: kernels are built, and cells are first visited."""
    block: int = 8
    """Steps of a case before the next has its turn."""
    commit: str | None = None
    """Commit for the page; by default what git says."""
    json: Path | None = None
    """A file for all numbers."""
    out: Path | None = None
    """A page PAGE.md for the tables; text around them stays."""


def main(arguments: list[str]) -> int:
    """Measure, print, write. Returns the exit code."""
    options = parse(arguments)
    check_numbers(options)
    check(options)
    limit_threads(device_of(options))
    console = Console(stderr=True, highlight=False)
    with tempfile.TemporaryDirectory() as temporary:
        recipe = build_recipe(options, Path(temporary))
        models = load_models(options, recipe)
        wanted = Plan(steps=options.steps, warm_up=options.warm_up, block=options.block, engine=options.engine)
        number = options.stage - 1
        measurement = measure(recipe, number, models, wanted, say=lambda line: console.print(line, markup=False))
    show(options, arguments, measurement, recipe)
    return 0


def parse(arguments: list[str]) -> Bench:
    """Parse the options; at full scale the cache has other defaults, so that they are parsed with those again."""

    def read(default: Bench) -> Bench:
        return parse_options(Bench, "bench", arguments, default=default, config=(tyro.conf.FlagCreatePairsOff,))

    options = read(Bench())
    if runs_mini(options.prior, options.scale):
        return options
    cache = choose_cache(options.system, "default", mini=False)
    assert isinstance(cache, Hash3DConfig)
    return read(Bench(cache=cache))


def check(options: Bench) -> None:
    """Raise `ValueError` for a mistake that would show only after the measurement, or not at all."""
    for name, least in (("steps", 2), ("warm_up", 1), ("block", 1), ("batch_size", 1), ("dwell", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise ValueError(f"Expected --{name.replace('_', '-')} to be at least {least}, but got {value}.")
    require_device(device_of(options))
    records(options.engine, torch.device(device_of(options)))
    if options.out is not None and options.out.suffix != ".md":
        raise ValueError(f"Expected --out to be a page that ends in .md, but got {options.out}.")
    if options.out is not None and options.out.exists():
        with_measured(options.out.read_text(), "")
    for path in (options.out, options.json):
        if path is not None and not path.absolute().parent.is_dir():
            raise ValueError(f"Expected {path} to lie in an existing folder. Make {path.absolute().parent} first.")


def device_of(options: Bench) -> str:
    """The device's name."""
    return options.device or ("cuda" if torch.cuda.is_available() else "cpu")


def build_recipe(options: Bench, folder: Path) -> Recipe:
    """The recipe of the system, on inputs of our own where none are given; `folder` is for a drawn picture."""
    system = find_system(options.system)
    for name in ("image", "prompt"):
        if getattr(options, name) is not None and name not in system.inputs:
            raise ValueError(f"Expected no --{name}: {system.name} starts from {' and '.join(system.inputs)} alone.")
    two = system.inputs == ("image", "prompt")
    if options.text_prior is not None and not two:
        raise ValueError(f"Expected no --text-prior: {system.name} asks one diffusion model.")
    given: dict[str, Any] = {
        name: getattr(options, name) or (make_disc(folder) if name == "image" else PROMPT) for name in system.inputs
    }
    given |= choose_start(options, system, folder)
    names = [options.prior or system.embedded, *([options.text_prior or default_text(options)] if two else [])]
    folders = [
        random_prior(system, place, device_of(options)) if name == RANDOM else name for place, name in enumerate(names)
    ]
    if two:
        given["text_prior"] = folders[1]
    recipe = system.recipe(prior=folders[0], cache=options.cache, scale=options.scale, seed=options.seed, **given)
    if not 1 <= options.stage <= len(recipe.stages):
        raise ValueError(f"Expected --stage to be 1 to {len(recipe.stages)} for this recipe, but got {options.stage}.")
    if options.sizes == "last":
        recipe = each_stage(recipe, steady)
    return each_stage(recipe, lambda stage: with_size(stage, options.batch_size, options.dwell))


def choose_start(options: Bench, system: SystemInfo, folder: Path) -> dict[str, Any]:
    """Where Gaussians start, for a system that says; without a shape they do at mini scale as their recipe has it."""
    if "start" not in inspect.signature(system.recipe).parameters:
        if options.start is not None:
            raise ValueError(f"Expected no --start: {system.name} does not start from a shape.")
        return {}
    if options.start is None and runs_mini(options.prior, options.scale):
        return {}
    return {"start": options.start or make_ball(folder)}


def default_text(options: Bench) -> str:
    """The second diffusion model: of the first one's kind."""
    return RANDOM if options.prior == RANDOM else "mini-sd"


def random_prior(system: SystemInfo, place: int, device: str) -> str:
    """The folder of a full-size prior with random weights; one that is there from before is taken."""
    name = LAYOUTS[system.inputs][place]
    folder = Path(tempfile.gettempdir()) / f"hash3d-random-priors-{os.getuid()}" / name
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    state = folder.parent.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid() or state.st_mode & 0o077:
        raise ValueError(f"Expected {folder.parent} to be a folder of yours alone, but it is not. Remove it.")
    write_random_prior(name, folder, device=device)
    return str(folder)


def load_models(options: Bench, recipe: Recipe) -> Models:
    """The diffusion models in memory, the picture in their framing, and the start of a second stage."""
    device = torch.device(device_of(options))
    priors = load_priors(recipe, device)
    main, previous = next(iter(priors.values())), None
    if options.stage == 2:
        generator = torch.Generator().manual_seed(recipe.seed)
        previous = build_model(recipe, 0, None, generator).to(device)
    return Models(
        priors=priors,
        picture=None if recipe.image is None else frame_reference(recipe, main, load_picture(recipe.image)),
        previous=previous,
    )


def show(options: Bench, arguments: list[str], measurement: Measurement, recipe: Recipe) -> None:
    """Print the table, and write the files that are wanted."""
    rows = summarize(measurement)
    table = Table(*HEADS, box=None)
    for column in table.columns:
        column.no_wrap = True
    for row in rows:
        table.add_row(*cells(row))
    console = Console(highlight=False, width=WIDTH)
    console.print(table)
    for row in rows:
        if row.note:
            console.print(f"{row.name}: {row.note}.", markup=False)
    account = describe_run(options, arguments, recipe)
    if options.json:
        write_text(options.json, json.dumps(as_json(account, measurement, rows), indent=1) + "\n")
    if options.out:
        title = f"hash3d bench {options.system}"
        write_measured(options.out.with_suffix(""), title, QUESTION, page_lines(account, measurement, rows))


def describe_run(options: Bench, arguments: list[str], recipe: Recipe) -> dict[str, Any]:
    """Where, when and how it was measured."""
    machine = describe_machine(Path(), device_of(options), commit=options.commit or commit()).account()
    stage = recipe.stages[options.stage - 1]
    sizes = ", ".join(sorted({f"{value:.0f}" for _, value in stage.size.knots}))
    about = (
        f"Stage {options.stage} of {recipe.system}, batches of {stage.cameras.batch_size} at {sizes} pixels, "
        f"{torch.get_num_threads()} CPU threads, seed {options.seed}, fast cases on the engine {options.engine!r}."
    )
    command = shlex.join(["hash3d", "bench", *arguments])
    return {**machine, "command": command, "about": about, "versions": versions(), "system": recipe.system}


def commit() -> str:
    """Return the commit of the working copy that this code lies in, "unknown" outside one."""
    asked = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
