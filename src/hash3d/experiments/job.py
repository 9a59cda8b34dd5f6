"""The runs of a study: every variant of every object under every seed."""

import dataclasses
import functools
import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hash3d.export.truth import load_truth
from hash3d.training.recipe import Recipe
from hash3d.training.serialize import to_plain

from .studies import STUDIES
from .study import Study

Identity = tuple[str, int, str]
"""Object, seed, key: what makes two rows the same run, whichever study asks for it."""
SEEDS_APART = 1000
"""Objects have seeds of their own, this far apart at most: a chance order of views must not be that of all objects."""


@dataclass(frozen=True, kw_only=True)
class Thing:
    """An object: a folder with input.png, views.json and true views, or a picture without truth."""

    path: Path

    @property
    def name(self) -> str:
        """As the rows have it."""
        return self.path.name if self.path.is_dir() else self.path.stem

    @property
    def image(self) -> Path:
        """The one picture that a run is given."""
        return self.path / "input.png" if self.path.is_dir() else self.path

    @property
    def has_truth(self) -> bool:
        """Whether there are views to compare with."""
        return (self.path / "views.json").is_file()


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run in plain words: a worker looks the variant up again, so that no function is sent to it."""

    study: str
    variant: str
    label: str
    """The variant's name in rows and tables; the prior's too if there are several."""
    prior: str
    scale: str
    thing: Thing
    seed: int
    steps: int | None

    def recipe(self) -> Recipe:
        """What to run."""
        (variant,) = STUDIES[self.study].choose([self.variant])
        place = zlib.crc32(self.thing.name.encode()) % SEEDS_APART
        seed = SEEDS_APART * self.seed + place
        placed = {"elevation": _reference_elevation(self.thing.path)} if self.thing.has_truth else {}
        return variant.recipe(
            image=self.thing.image, prior=self.prior, scale=self.scale, seed=seed, steps=self.steps, **placed
        )

    @property
    def identity(self) -> Identity:
        """What the row of this run carries."""
        return self.thing.name, self.seed, key_of(self.recipe(), self.thing)


def key_of(recipe: Recipe, thing: Thing) -> str:
    """A hash of the recipe. Where files lie does not count: rows travel between machines."""
    portable = dataclasses.replace(recipe, image=Path(thing.name), prior=Path(recipe.prior).name)
    return hashlib.sha256(json.dumps(to_plain(portable), sort_keys=True).encode()).hexdigest()[:16]


@functools.cache
def _reference_elevation(folder: Path) -> float:
    return load_truth(folder).reference_elevation


def find_things(folder: Path) -> list[Thing]:
    """The objects of a folder, by name."""
    if not folder.is_dir():
        raise ValueError(f"Expected a folder of objects, but there is no folder {folder}. Check --objects.")
    things = [Thing(path=path) for path in sorted(folder.iterdir())]
    things = [thing for thing in things if thing.image.suffix == ".png" and thing.image.is_file()]
    if not things:
        raise ValueError(f"Expected {folder} to hold pictures, or folders with input.png, but it holds none.")
    return things


def find_jobs(
    study: Study,
    things: Sequence[Thing],
    *,
    seeds: Sequence[int] = (),
    variants: Sequence[str] = (),
    priors: Sequence[str] = ("mini-zero123",),
    scale: str = "mini",
    steps: int | None = None,
) -> list[Job]:
    """Seed by seed, object by object, all variants of an object together: a sweep cut off leaves whole pairs."""
    chosen = study.choose(variants)
    labelled = [
        (_label(prior, variant.name, priors, len(chosen)), prior, variant) for prior in priors for variant in chosen
    ]
    return [
        Job(
            study=study.name, variant=variant.name, label=label, prior=prior, scale=scale, thing=thing, seed=seed,
            steps=steps,
        )
        for seed in seeds or study.seeds
        for thing in things[:: max(len(things) // study.num_objects, 1)][: study.num_objects]
        for label, prior, variant in labelled
    ]  # fmt: skip


def _label(prior: str, variant: str, priors: Sequence[str], num_variants: int) -> str:
    """What differs: the variant, the prior, or both."""
    if len(priors) == 1:
        return variant
    return Path(prior).name if num_variants == 1 else f"{Path(prior).name} {variant}"
