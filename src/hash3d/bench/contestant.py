"""One case in the process: its trainer on modules of its own around the shared weights, and what each step took."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from hash3d.cache import DeepCacheConfig
from hash3d.cache.table import HashTable
from hash3d.diffusion.latent_prior import LatentPrior
from hash3d.pictures import FramedPicture
from hash3d.recipes.recipe import Recipe
from hash3d.training.trainer import Trainer
from hash3d.unet.partial_unet import PartialUNet

from .cases import Case, recipe_of
from .deepcache import DeepCachePackage, works
from .reuse_share import ViewSequence, fill
from .sharing import MemoryAccount, num_bytes, with_shared_weights
from .step_times import StepTimes


@dataclass(frozen=True, kw_only=True)
class Step:
    """One measured step."""

    ms: float
    """From its start to the next one's: on a GPU of the device, which may still work on the step before meanwhile."""
    parts: dict[str, float]
    """Milliseconds by part of the trainer's stopwatch."""
    full: int
    """U-Net passes, counted per view."""
    shallow: int


@dataclass(frozen=True, kw_only=True)
class Models:
    """What all cases run on."""

    priors: Mapping[str, LatentPrior]
    """By the names of their guidances. Their weights are shared; their own modules stay without hooks."""
    picture: FramedPicture | None
    previous: nn.Module | None
    """What the stage before has made."""

    @property
    def all(self) -> list[LatentPrior]:
        """The diffusion models, the main one first."""
        return list(self.priors.values())

    def copies(self) -> list[LatentPrior]:
        """Copy them, each into modules of its own."""
        return [with_shared_weights(prior) for prior in self.all]


class Contestant:
    """Runs a case.

    Args:
        case: what to run.
        recipe: of all cases.
        number: which stage.
        models: what all cases run on.
        inputs: of each U-Net, to try the package DeepCache on.
    """

    def __init__(
        self, case: Case, recipe: Recipe, number: int, models: Models, inputs: Sequence[dict[str, Any]] = ()
    ) -> None:
        self.case, self.device = case, models.all[0].device
        self.note, self.steps, self.blocks = "", list[Step](), list[int]()
        self.draws = 0
        """A checksum of all random numbers of cameras and noise."""
        self._memory, self._times = MemoryAccount(self.device), StepTimes(self.device)
        self._memory.begin()
        own, self.packages = models.copies(), list[DeepCachePackage]()
        if case.package:
            try:
                self.packages = install(case, own, inputs)
                self.note = "the package DeepCache 0.1.1"
            except (ImportError, AttributeError, TypeError, KeyError, ValueError) as error:
                own, self.note = models.copies(), f"our own DeepCache on the eager engine, because {error}"
        self.priors, self._shared = own, models.all
        cache = None if self.packages else case.cache
        self.trainer = Trainer(
            recipe_of(replace(case, cache=cache), recipe),
            dict(zip(models.priors, own, strict=True)),
            models.picture,
            number=number,
            previous=models.previous,
            stopwatch=self._times,
            engine=case.engine,
        )
        self._memory.end()

    def run(self, steps: int, *, measured: bool) -> None:
        """A block of steps, from an idle device to an idle device."""
        self._memory.begin()
        counts = [self.passes()]
        for _ in range(steps):
            self._times.mark_step()
            self.trainer.step()
            counts.append(self.passes())
        self._times.mark_step()
        times = self._times.take()
        self._memory.end()
        for name in ("cameras", "noise"):
            self.draws = zlib.crc32(self.trainer.generators[name].get_state().numpy().tobytes(), self.draws)
        if not measured:
            return
        self.blocks.append(steps)
        for (ms, parts), before, after in zip(times, counts, counts[1:], strict=False):
            full, shallow = (
                sum(now[kind] - then[kind] for then, now in zip(before, after, strict=True)) for kind in (0, 1)
            )
            self.steps.append(Step(ms=ms, parts=parts, full=full, shallow=shallow))

    def fill(self, draws: ViewSequence) -> None:
        """Fill the caches with what the first step has left, if the case wants that."""
        self._memory.begin()
        for cache in (guidance.cache for guidance in self.trainer.guidances.values()):
            if self.case.filled and cache is not None:
                assert isinstance(cache.store, HashTable)
                entry, ((identity, _), _) = next(iter(cache.store.places.items()))
                fill(cache, draws, entry.latents.clone()[None], entry.values.clone()[:, None], identity)
        self._memory.end()

    def passes(self) -> list[tuple[int, int]]:
        """Full and shallow passes of each U-Net so far, counted per view."""
        views = self.trainer.stage.cameras.batch_size
        if self.packages:
            return [(views * (each.calls - each.shallow_calls), views * each.shallow_calls) for each in self.packages]
        return [guidance.count_passes() for guidance in self.trainer.guidances.values()]

    @property
    def peak_bytes(self) -> int | None:
        """The most memory of a GPU that the case would take alone; None on a CPU."""
        pairs = zip(self.priors, self._shared, strict=True)
        return self._memory.peak(sum(num_bytes(mine) - num_bytes(mine, besides=shared) for mine, shared in pairs))

    def close(self) -> None:
        """Take the caches off."""
        self.trainer.close()


def install(case: Case, priors: Sequence[LatentPrior], inputs: Sequence[dict[str, Any]]) -> list[DeepCachePackage]:
    """The package on each U-Net. Raises what it raises, and `ValueError` if its passes are wrong."""
    config, packages = case.cache, []
    assert isinstance(config, DeepCacheConfig)
    for prior, given in zip(priors, inputs, strict=True):
        skip = PartialUNet(prior.unet, config.cut).skip
        package = DeepCachePackage(prior.unet, interval=config.interval, skip=skip)
        if not works(package, prior.unet, given):
            raise ValueError("the package's shallow pass differs from its full one of the same input")
        packages.append(package)
    return packages
