"""The runs of a study: every variant of every object under every seed."""

import functools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hash3d.evaluation.truth import load_truth
from hash3d.recipes.recipe import Recipe

from .objects import InputObject, Job
from .studies import STUDIES
from .study import Study

SEEDS_APART = 1000
"""Objects have seeds of their own, this far apart at most: a chance order of views must not be that of all objects."""


@dataclass(frozen=True, kw_only=True)
class StudyJob(Job):
    """One run in plain words: a worker looks the variant up again, so that no function is sent to it."""

    variant: str
    prior: str
    scale: str
    steps: int | None

    def recipe(self) -> Recipe:
        """What to run."""
        (variant,) = STUDIES[self.study].choose([self.variant])
        place = zlib.crc32(self.input.name.encode()) % SEEDS_APART
        seed = SEEDS_APART * self.seed + place
        placed = {"elevation": _reference_elevation(self.input.path)} if self.input.has_truth else {}
        return variant.recipe(
            image=self.input.image, prior=self.prior, scale=self.scale, seed=seed, steps=self.steps, **placed
        )


@functools.cache
def _reference_elevation(folder: Path) -> float:
    return load_truth(folder).reference_elevation


def find_jobs(
    study: Study,
    objects: Sequence[InputObject],
    *,
    seeds: Sequence[int] = (),
    variants: Sequence[str] = (),
    priors: Sequence[str] = ("mini-zero123",),
    scale: str = "mini",
    steps: int | None = None,
) -> list[StudyJob]:
    """Seed by seed, object by object, all variants of an object together: a sweep cut off leaves whole pairs."""
    chosen = study.choose(variants)
    labelled = [
        (_label(prior, variant.name, priors, len(chosen)), prior, variant) for prior in priors for variant in chosen
    ]
    return [
        StudyJob(
            study=study.name, variant=variant.name, label=label, prior=prior, scale=scale, input=item, seed=seed,
            steps=steps,
        )
        for seed in seeds or study.seeds
        for item in objects[:: max(len(objects) // study.num_objects, 1)][: study.num_objects]
        for label, prior, variant in labelled
    ]  # fmt: skip


def _label(prior: str, variant: str, priors: Sequence[str], num_variants: int) -> str:
    """What differs: the variant, the prior, or both."""
    if len(priors) == 1:
        return variant
    return Path(prior).name if num_variants == 1 else f"{Path(prior).name} {variant}"
