"""The runs of a study: every variant of every object under every seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hash3d.cache import CacheConfig, Hash3DConfig
from hash3d.diffusion.loading import resolve_folder
from hash3d.files import read_json
from hash3d.recipes.recipe import Recipe
from hash3d.table.objects import InputObject, Job

from .studies import STUDIES
from .study import Study


@dataclass(frozen=True, kw_only=True)
class StudyJob(Job):
    """One run in plain words: a worker looks the variant up again, so that no function is sent to it."""

    variant: str
    system: str
    prior: str
    scale: str
    steps: int | None

    def recipe(self) -> Recipe:
        """What to run."""
        (variant,) = STUDIES[self.study].choose([self.variant])
        assert self.input.image is not None
        return variant.recipe(
            image=self.input.image,
            system=self.system,
            prior=self.prior,
            scale=self.scale,
            seed=self.input.seed(self.seed),
            steps=self.steps,
            **self.input.placed,
        )


def find_jobs(
    study: Study,
    objects: Sequence[InputObject],
    *,
    seeds: Sequence[int] = (0,),
    variants: Sequence[str] = (),
    system: str = "zero123_gs",
    priors: Sequence[str] = ("mini-zero123",),
    scale: str = "mini",
    steps: int | None = None,
) -> list[StudyJob]:
    """Seed by seed, object by object, all variants of an object together: a sweep cut off leaves whole pairs."""
    chosen = study.choose(variants)
    labelled = [
        (_label(prior, variant.name, priors, len(chosen)), prior, variant)
        for prior in priors
        for variant in chosen
        if _has_cut(prior, variant.cache)
    ]
    return [
        StudyJob(
            study=study.name, variant=variant.name, label=label, system=system, prior=prior, scale=scale, input=item,
            seed=seed, steps=steps,
        )
        for seed in seeds
        for item in objects
        for label, prior, variant in labelled
    ]  # fmt: skip


def _has_cut(prior: str, cache: CacheConfig | None) -> bool:
    """Whether the prior's U-Net has the cut of a cache, where it is counted from the first."""
    if not isinstance(cache, Hash3DConfig) or cache.cut < 0:
        return True
    config = read_json(resolve_folder(prior, ["unet"]) / "unet" / "config.json")
    return cache.cut < len(config["block_out_channels"]) * (config["layers_per_block"] + 1)


def _label(prior: str, variant: str, priors: Sequence[str], num_variants: int) -> str:
    """What differs: the variant, the prior, or both."""
    if len(priors) == 1:
        return variant
    names = [Path(each).name for each in priors]
    name = Path(prior).name if len(set(names)) == len(names) else prior
    return name if num_variants == 1 else f"{name} {variant}"
