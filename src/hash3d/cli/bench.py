"""`hash3d bench SYSTEM`."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from hash3d.cache import Hash3DConfig
from hash3d.systems import SystemInfo

from .options import choose_cache, find_system, runs_mini
from .parsing import Advanced, Maybe, expect_image, parse_options
from .streams import print_table, say

if TYPE_CHECKING:
    import torch

    from hash3d.bench.measure import Models
    from hash3d.recipes.recipe import Recipe

RANDOM = "random"
PROMPT = "a red mug"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measure a system's first stage with and without reuse, step by step. --help-all shows the cache's options too.

    At full scale the cache's cut is -2 by default (i = 10), and a cell has at most 2 visits: the cheaper last layer and
    more visits are proven at mini scale only.
    """

    system: tyro.conf.Positional[str] = ""
    """The system; `hash3d systems` lists them."""
    prior: Maybe[str] = None
    """A diffusers folder, an embedded prior, or a hub name; by default the system's embedded one. "random": full size,
    in the published layout, with random weights, in ~/.cache/hash3d/random: no image, but real times and memory."""
    text_prior: Maybe[str] = None
    """The Stable Diffusion of Magic-123, named like --prior."""
    image: Maybe[Path] = None
    """An image; by default a red disc."""
    scale: Maybe[Literal["mini", "supplement", "released"]] = None
    """The recipe's settings: by default mini for an embedded prior, else the supplement's."""
    sizes: Literal["last", "schedule"] = "last"
    """Images as large as at the end of the recipe's schedule throughout, or as the schedule has them."""
    device: Maybe[Literal["cpu", "cuda"]] = None
    """Where to run; by default the GPU if there is one."""
    cache: Advanced[Hash3DConfig] = field(default_factory=Hash3DConfig)
    """Our feature reuse."""
    steps: int = 64
    """Measured steps of each case."""
    warm_up: int = 32
    """Steps before, which are not measured: kernels are built, and cells are first visited."""


def main(arguments: list[str]) -> int:
    """Measure and print. Returns the exit code."""
    options = parse(arguments)
    if "image" in find_system(options.system).inputs:
        expect_image(options.image)
    from hash3d.bench.measure import measure
    from hash3d.bench.summary import HEADS, summarize

    with load(options) as (recipe, models):
        told = partial(say, error=True)
        results = measure(recipe, models, steps=options.steps, warm_up=options.warm_up, say=told)
    print_table(HEADS, [row.cells for row in summarize(results)])
    return 0


@contextmanager
def load(options: Bench) -> "Iterator[tuple[Recipe, Models]]":
    """Build what the options describe, while the block is open. Raises `ValueError` with one sentence for a mistake."""
    from hash3d.pictures import load_picture
    from hash3d.recipes.limits import check_numbers
    from hash3d.training.guide import load_priors
    from hash3d.training.run import frame_reference

    from .host import choose_device, limit_threads

    check_numbers(options)
    if options.warm_up < 1:
        raise ValueError(f"Expected --warm-up of at least 1 step, but got {options.warm_up}.")
    device = choose_device(options.device)
    limit_threads(device.type)
    with tempfile.TemporaryDirectory() as temporary:
        recipe = build_recipe(options, Path(temporary), device)
        priors = load_priors(recipe, device)
        main, image = next(iter(priors.values())), recipe.image
        picture = None if image is None else frame_reference(recipe, main, load_picture(image))
        yield recipe, (priors, picture)


def parse(arguments: list[str]) -> Bench:
    """Parse the options; at full scale the cache has other defaults, so that they are parsed with those again."""

    def read(default: Bench) -> Bench:
        return parse_options(Bench, "bench", arguments, default=default)

    options = read(Bench())
    if runs_mini(options.prior, options.scale):
        return options
    cache = choose_cache(options.system, "default", mini=False)
    assert isinstance(cache, Hash3DConfig)
    return read(Bench(cache=cache))


def build_recipe(options: Bench, folder: Path, device: "torch.device") -> "Recipe":
    """Build the system's recipe on inputs of our own where none are given; `folder` is for those that are written."""
    from hash3d.bench.measure import make_ball, make_disc, steady

    system = find_system(options.system)
    if options.image is not None and "image" not in system.inputs:
        raise ValueError(f"Expected no --image: {system.name} starts from {' and '.join(system.inputs)} alone.")
    two = system.inputs == ("image", "prompt")
    if options.text_prior is not None and not two:
        raise ValueError(f"Expected no --text-prior: {system.name} asks one diffusion model.")
    given: dict[str, Any] = {
        name: options.image or make_disc(folder) if name == "image" else PROMPT for name in system.inputs
    }
    if "start" in system.others and not runs_mini(options.prior, options.scale):
        given["start"] = make_ball(folder)
    names = [options.prior or system.embedded]
    if two:
        names.append(options.text_prior or (RANDOM if options.prior == RANDOM else "mini-sd"))
    folders = [random_prior(system, place, device) if name == RANDOM else name for place, name in enumerate(names)]
    if two:
        given["text_prior"] = folders[1]
    recipe = system.recipe(prior=folders[0], cache=options.cache, scale=options.scale, seed=0, **given)
    return replace(recipe, stage=steady(recipe.stage)) if options.sizes == "last" else recipe


def random_prior(system: SystemInfo, place: int, device: "torch.device") -> str:
    """Return the folder of a full-size prior with random weights; one that is there from before is taken."""
    from hash3d.diffusion.loading import cache_folder
    from hash3d.diffusion.random_weights import LAYOUTS, write_random_prior

    name = LAYOUTS[system.inputs][place]
    folder = cache_folder() / "random" / name
    write_random_prior(name, folder, device=device.type)
    return str(folder)
