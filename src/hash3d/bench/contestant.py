"""One case in the process: its trainer on modules of its own around the shared weights, and what each step took."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

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
    passes: tuple[tuple[int, int], ...]
    """Full and shallow passes of each U-Net, counted per view."""

    @property
    def full(self) -> int:
        """Full passes of all U-Nets."""
        return sum(full for full, _ in self.passes)

    @property
    def shallow(self) -> int:
        """Shallow passes of all U-Nets."""
        return sum(shallow for _, shallow in self.passes)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All that was measured of one case."""

    case: Case
    note: str
    steps: tuple[Step, ...]
    blocks: tuple[int, ...]
    """Lengths of the blocks of steps."""
    peak_bytes: int | None
    """The most memory of a GPU that the case would take alone; None on a CPU."""
    draws: int
    """A checksum of the random numbers of cameras and noise."""


@dataclass(frozen=True, kw_only=True)
class Models:
    """What all cases run on."""

    priors: Mapping[str, LatentPrior]
    """By the names of their guidances. Their weights are shared; their own modules stay without hooks."""
    picture: FramedPicture | None

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
        models: what all cases run on.
        inputs: of each U-Net, to try the package DeepCache on.
    """

    def __init__(self, case: Case, recipe: Recipe, models: Models, inputs: Sequence[dict[str, Any]] = ()) -> None:
        self.case, self.device = case, models.all[0].device
        self._note, self._steps, self._blocks, self._draws = "", list[Step](), list[int](), 0
        self._memory, self._times = MemoryAccount(self.device), StepTimes(self.device)
        self._memory.begin()
        own, self.packages = models.copies(), list[DeepCachePackage]()
        if case.package:
            try:
                self.packages = install(case, own, inputs)
                self._note = "the package DeepCache 0.1.1"
            except (ImportError, AttributeError, TypeError, KeyError, ValueError) as error:
                own, self._note = models.copies(), f"our own DeepCache on the eager engine, because {error}"
        self.priors, self._shared = own, models.all
        self.trainer = Trainer(
            recipe_of(replace(case, cache=None) if self.packages else case, recipe),
            dict(zip(models.priors, own, strict=True)),
            models.picture,
            stopwatch=self._times,
            engine=case.engine,
        )
        self._memory.end()

    def run(self, steps: int, *, measured: bool) -> None:
        """Run a block of steps, from an idle device to an idle device."""
        self._memory.begin()
        counts = [self._count_passes()]
        for _ in range(steps):
            self._times.mark_step()
            self.trainer.step()
            counts.append(self._count_passes())
        self._times.mark_step()
        times = self._times.take()
        self._memory.end()
        for name in ("cameras", "noise"):
            self._draws = zlib.crc32(self.trainer.generators[name].get_state().numpy().tobytes(), self._draws)
        if not measured:
            return
        self._blocks.append(steps)
        for (ms, parts), before, after in zip(times, counts, counts[1:], strict=False):
            passes = tuple((now[0] - then[0], now[1] - then[1]) for then, now in zip(before, after, strict=True))
            self._steps.append(Step(ms=ms, parts=parts, passes=passes))

    def fill(self, draws: ViewSequence) -> None:
        """Fill the caches with what the first step has left, if the case wants that."""
        self._memory.begin()
        for cache in (guidance.cache for guidance in self.trainer.guidances.values()):
            if self.case.filled and cache is not None:
                assert isinstance(cache.store, HashTable)
                entry, ((identity, _), _) = next(iter(cache.store.places.items()))
                fill(cache, draws, entry.latents.clone()[None], entry.feature.clone()[:, None], identity)
        self._memory.end()

    def result(self) -> Measured:
        """Return what was measured so far."""
        pairs = zip(self.priors, self._shared, strict=True)
        shared = sum(num_bytes(mine) - num_bytes(mine, besides=theirs) for mine, theirs in pairs)
        return Measured(
            case=self.case,
            note=self._note,
            steps=tuple(self._steps),
            blocks=tuple(self._blocks),
            peak_bytes=self._memory.peak(shared),
            draws=self._draws,
        )

    def _count_passes(self) -> list[tuple[int, int]]:
        """Full and shallow passes of each U-Net so far, counted per view."""
        views = self.trainer.stage.cameras.batch_size
        if self.packages:
            return [(views * (each.calls - each.shallow_calls), views * each.shallow_calls) for each in self.packages]
        return [guidance.count_passes() for guidance in self.trainer.guidances.values()]


def install(case: Case, priors: Sequence[LatentPrior], inputs: Sequence[dict[str, Any]]) -> list[DeepCachePackage]:
    """Put the package on each U-Net. Raises what it raises, and `ValueError` if its passes are wrong."""
    config, packages = case.cache, []
    assert isinstance(config, DeepCacheConfig)
    for prior, given in zip(priors, inputs, strict=True):
        skip = PartialUNet(prior.unet, config.cut).skip
        package = DeepCachePackage(prior.unet, interval=config.interval, skip=skip)
        if not works(package, prior.unet, given):
            raise ValueError("the package's shallow pass differs from its full one of the same input")
        packages.append(package)
    return packages
