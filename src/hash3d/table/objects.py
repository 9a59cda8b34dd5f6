"""Objects to run on, where runs are made and judged, and what a runner needs to know of a run."""

import dataclasses
import datetime
import functools
import hashlib
import json
import os
import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hash3d.diffusion.loading import EMBEDDED
from hash3d.evaluation.truth import load_truth
from hash3d.files import read_lines
from hash3d.model_files import embedded_folder
from hash3d.pictures.loading import PICTURES
from hash3d.recipes.recipe import Recipe
from hash3d.recipes.serialize import to_plain
from hash3d.training.run import versions

Identity = tuple[str, int, str]
"""Object, seed, key: what makes two rows the same run, whichever study asks for it."""


SEEDS_APART = 1000
"""Inputs have seeds of their own, this far apart at most: a chance order of views must not be that of all of them."""


@dataclass(frozen=True, kw_only=True)
class InputObject:
    """What a run starts from: a folder with input.png, views.json and true views, a picture without truth, or a text.

    A folder may hold a prompt.txt too, for a system that wants a text beside the picture.
    """

    path: Path | None = None
    text: str | None = None
    """A prompt, in place of a path."""

    @property
    def name(self) -> str:
        """As the rows have it: another for each input of a table."""
        if self.path is None:
            text = self.text or ""
            name = re.sub(r"\W+", "_", text).strip("_")[:60]
            return name if name.replace("_", " ") == text else f"{name}-{zlib.crc32(text.encode()):08x}"
        alone = self.path.suffix == ".png" and not self.path.with_suffix("").is_dir()
        return self.path.stem if alone else self.path.name

    @property
    def image(self) -> Path | None:
        """The one picture that a run is given."""
        return self.path / "input.png" if self.path and self.path.is_dir() else self.path

    @property
    def truth(self) -> Path | None:
        """The folder of the views to compare with, if there are any."""
        return self.path if self.path and (self.path / "views.json").is_file() else None

    @property
    def prompt(self) -> str:
        """The text, or what a picture shows: its prompt.txt, else its name."""
        if self.text is not None:
            return self.text
        path = self.path or Path()
        if (path / "prompt.txt").is_file():
            return (path / "prompt.txt").read_text(encoding="utf-8-sig").strip()
        return (path.name if path.is_dir() else path.stem).replace("_", " ")

    @property
    def placed(self) -> dict[str, float]:
        """The elevation that a recipe is told, where the true views say it."""
        return {"elevation": _reference_elevation(self.truth)} if self.truth else {}

    def seed(self, number: int) -> int:
        """The recipe's seed of this input under a seed of the study."""
        return SEEDS_APART * number + zlib.crc32(self.name.encode()) % SEEDS_APART


@functools.cache
def _reference_elevation(folder: Path) -> float:
    return load_truth(folder).reference_elevation


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
        return self.input.name, self.seed, key_of(self.recipe(), self.input.truth)


def key_of(recipe: Recipe, truth: Path | None = None) -> str:
    """A hash of the recipe and of what its picture, priors and true views hold; not of where they lie."""
    priors = {name: _digest_prior(prior) for name, prior in recipe.priors.items()}
    plain = to_plain([dataclasses.replace(recipe, priors=priors, checkpoint_every=1), truth])

    def read(part: dict[str, Any]) -> Any:
        return _digest(Path(part["path"])) if part.get("type") == "Path" else part

    portable = json.loads(json.dumps(plain), object_hook=read)
    return hashlib.sha256(json.dumps(portable, sort_keys=True).encode()).hexdigest()[:16]


@functools.cache
def _digest_prior(name: str) -> str:
    """What the files of a prior hold; of one on the hub its whole name."""
    path = Path(name).expanduser()
    if not path.exists() and name in EMBEDDED:
        path = embedded_folder(name)
    return _digest(path) if path.exists() else name


def _digest(path: Path) -> str:
    """A digest of a file, or of the files in a folder and its subfolders; hidden ones do not count."""
    files = [*path.glob("[!.]*"), *path.glob("[!.]*/[!.]*")] if path.is_dir() else [path]
    found = hashlib.sha256()
    for file in sorted(filter(Path.is_file, files)):
        with file.open("rb") as content:
            found.update(repr(str(file.relative_to(path))).encode() + hashlib.file_digest(content, "sha256").digest())
    return found.hexdigest()


def find_objects(folder: Path) -> list[InputObject]:
    """The objects of a folder, by name; or one picture."""
    if folder.is_file():
        return [InputObject(path=folder)]
    if not folder.is_dir():
        raise ValueError(f"Expected a folder of objects, but there is no folder {folder}. Check --objects.")
    objects = [InputObject(path=path) for path in sorted(folder.glob("[!.]*"))]
    objects = [item for item in objects if (it := item.image) and it.suffix.lower() in PICTURES and it.is_file()]
    if not objects:
        raise ValueError(f"Expected {folder} to hold pictures, or folders with input.png, but it holds none.")
    return objects


def read_prompts(file: Path) -> list[InputObject]:
    """The prompts of a text file, one a line; empty lines and those that begin with # do not count."""
    if not file.is_file():
        raise ValueError(f"Expected a file of prompts, but there is no file {file}. Check --prompts.")
    prompts = [InputObject(text=line) for line in dict.fromkeys(line for _, line in read_lines(file))]
    if not prompts:
        raise ValueError(f"Expected prompts in {file}, one a line, but it holds none.")
    return prompts


Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where runs are made and kept."""

    runs: Path
    """Folder of the rows and the strips of views."""
    device: str = "cpu"
    workers: int = 1
    """Runs at a time; on several GPUs they share them evenly."""
    threads: int = 1
    """CPU threads of each."""
    hardware: str = "unknown"
    commit: str = "unknown"
    metrics: tuple[str, ...] = ()
    """Of `hash3d.evaluation.perceptual`, besides those that need nothing."""
    weights: Path | None = None
    """A folder of their weights."""

    def account(self) -> Row:
        """What a row says of how it was made."""
        own = {name: getattr(self, name) for name in ("device", "hardware", "workers", "threads", "commit")}
        known = {name: version for name, version in versions().items() if name in ("hash3d", "torch", "diffusers")}
        return own | {"date": str(datetime.date.today())} | known

    def strip(self, identity: Identity) -> Path:
        """Where the views of a run are."""
        return self.runs / "views" / f"{'-'.join(map(str, identity))}.jpg"


def name_hardware(device: str) -> str:
    """Name the GPUs, or count the CPU cores."""
    if device == "cuda" and torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"{os.cpu_count() or 1} CPU cores"


def describe_machine(
    out: Path, device: str, *, workers: int = 1, threads: int | None = None, hardware: str | None = None, **others: Any
) -> Machine:
    """Where a measurement is made: by default the cores are shared evenly, and the hardware is what the machine says.

    `others` are fields of `Machine`.
    """
    if workers < 1:
        raise ValueError(f"Expected at least 1 worker, but got {workers}.")
    threads, hardware = threads or max((os.cpu_count() or 1) // workers, 1), hardware or name_hardware(device)
    return Machine(runs=out, device=device, workers=workers, threads=threads, hardware=hardware, **others)


def provenance(rows: Sequence[Row]) -> str:
    """On what, from what and when rows were made."""
    found = [all_of(rows, name) for name in ("device", "hardware", "commit", "date")]
    return "device {}, {}; commit {}; {}".format(*found)


def all_of(rows: Sequence[Row], name: str) -> str:
    """The values that rows have."""
    return ", ".join(sorted({str(row[name]) for row in rows}))
