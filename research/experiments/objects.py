"""Objects to run on, and what a runner needs to know of a run."""

import dataclasses
import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from hash3d.recipes.recipe import Recipe
from hash3d.recipes.serialize import to_plain

Identity = tuple[str, int, str]
"""Object, seed, key: what makes two rows the same run, whichever study asks for it."""


@dataclass(frozen=True, kw_only=True)
class InputObject:
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
class Job(ABC):
    """One run, as the runner and its worker processes see it."""

    study: str
    """What asks for the run."""
    label: str
    """The variant's name in rows and tables; the prior's too if there are several."""
    input: InputObject
    seed: int

    @abstractmethod
    def recipe(self) -> Recipe:
        """What to run."""

    @property
    def identity(self) -> Identity:
        """What the row of this run carries."""
        return self.input.name, self.seed, key_of(self.recipe(), self.input)


def key_of(recipe: Recipe, item: InputObject) -> str:
    """A hash of the recipe. Where files lie does not count: rows travel between machines."""
    priors = {name: Path(prior).name for name, prior in recipe.priors.items()}
    portable = dataclasses.replace(recipe, image=Path(item.name), priors=priors)
    return hashlib.sha256(json.dumps(to_plain(portable), sort_keys=True).encode()).hexdigest()[:16]


def find_objects(folder: Path) -> list[InputObject]:
    """The objects of a folder, by name."""
    if not folder.is_dir():
        raise ValueError(f"Expected a folder of objects, but there is no folder {folder}. Check --objects.")
    objects = [InputObject(path=path) for path in sorted(folder.iterdir())]
    objects = [item for item in objects if item.image.suffix == ".png" and item.image.is_file()]
    if not objects:
        raise ValueError(f"Expected {folder} to hold pictures, or folders with input.png, but it holds none.")
    return objects
