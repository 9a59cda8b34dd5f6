"""What `hash3d generate --resume` goes on with, and the folder of a new run."""

import dataclasses
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

from hash3d.files import make_folder
from hash3d.recipes.recipe import Recipe
from hash3d.training.run_folder import RunFolder, without_steps

HONOURED = {"out", "resume", "steps", "checkpoint_every", "device", "engine", "view"}
"""The options that a resumed run takes."""


def names_of(arguments: list[str]) -> set[str]:
    """The names of the options that are given. Raises `ValueError` for an empty --out."""
    if "--out=" in arguments or ["--out", ""] in [arguments[each : each + 2] for each in range(len(arguments))]:
        raise ValueError("Expected --out to name a folder, but got an empty name. Leave it away for a new folder.")
    return {each[2:].partition("=")[0].replace("-", "_") for each in arguments if each.startswith("--")}


def resume_recipe(
    out: Path | None, system: str, names: set[str], build: Callable[[int | None], Recipe], *,
    steps: int | None, every: int | None,
) -> Recipe:  # fmt: skip
    """The recipe of the run in `out`. With a picture or a text all options must agree with it.

    Args:
        out: the run folder; `ValueError` for None.
        system: "" or the run's own; `ValueError` for another.
        names: those of the options that are given; `ValueError` for one that a run cannot change.
        build: makes the options' recipe of a number of steps.
        steps: of the whole run; None keeps them.
        every: steps between checkpoints; None keeps them.
    """
    if out is None:
        raise ValueError("Expected --out with --resume: the folder of the run to go on with.")
    whole = not names.isdisjoint({"image", "prompt"})
    if whole and not RunFolder(out).holds_run:
        return build(steps)
    recipe = RunFolder(out).read_recipe()
    if system not in ("", recipe.system):
        raise ValueError(f"Expected a run of {system} in {out}, but it is one of {recipe.system}.")
    if whole:
        built = [build(each) for each in (recipe.steps, steps)]
        if not any(without_steps(each) == without_steps(recipe) for each in built):
            return built[0]  # The run refuses it, and says in what it differs.
    elif refused := sorted(names - HONOURED):
        raise ValueError(
            f"Expected no --{refused[0].replace('_', '-')} with --resume: the run in {out} keeps its own. Leave it "
            "away, or start another run."
        )
    return dataclasses.replace(
        with_steps(recipe, steps), checkpoint_every=recipe.checkpoint_every if every is None else every
    )


def with_steps(recipe: Recipe, steps: int | None) -> Recipe:
    """A recipe of `steps` in all, by those of its last stage; schedules end where they did. None changes nothing."""
    if steps is None:
        return recipe
    last, before = recipe.stages[-1], recipe.steps - recipe.stages[-1].steps
    return recipe.map_stages(lambda each: dataclasses.replace(each, steps=steps - before) if each is last else each)


def new_folder(name: str) -> Path:
    """Make a folder that was not there: outputs/NAME, or with a number behind it."""
    make_folder(Path("outputs"))
    for number in count(1):
        path = Path("outputs") / (name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError):  # Also if another process has just made it.
            path.mkdir()
            break
    return path
