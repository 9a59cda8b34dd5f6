"""The five cases step by step in one process: built on one diffusion model, then run in blocks in a rotating order."""

import gc
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from hash3d.fast.engine import Engine
from hash3d.recipes.recipe import Recipe

from .cases import Case, plan, sample_views
from .contestant import Contestant, Models, Step
from .operations import SeenInputs, Work, encoder_work, pass_seconds, pass_work, seeing
from .rates import Rates, measure_rates

Say = Callable[[str], None]
GPU_REPEATS, CPU_REPEATS = 20, 5
"""How often the eager passes are timed alone."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long to measure, and on which engine."""

    steps: int
    """Measured steps of each case."""
    warm_up: int
    """Steps before, which are not measured."""
    block: int
    """Steps of a case before the next case has its turn."""
    engine: Engine
    """The engine of the fast cases."""

    @property
    def measured(self) -> range:
        """Which steps of a run count."""
        return range(self.warm_up, self.warm_up + self.steps)


@dataclass(frozen=True, kw_only=True)
class Passes:
    """A full and a shallow U-Net pass at one cut, of all views of a step."""

    full: Work
    shallow: Work
    seconds: tuple[float, float]
    """Seconds of an eager full pass and of an eager shallow one."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All that was measured of one case."""

    case: Case
    note: str
    steps: tuple[Step, ...]
    blocks: tuple[int, ...]
    """Lengths of the blocks of steps."""
    views: int
    """Views of a step."""
    per_unet: tuple[tuple[int, int], ...]
    """Full and shallow passes of each U-Net in the measured steps, counted per view."""
    passes: tuple[Passes, ...]
    """The passes of each U-Net at the case's reuse layer."""
    peak_bytes: int | None
    draws: int
    """A checksum of the random numbers of cameras and noise."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What was measured of all cases; the one without a cache and engine is first."""

    cases: tuple[Measured, ...]
    rates: Rates
    encoders: tuple[Work, ...]
    """Each diffusion model's encoder in a step."""


def measure(recipe: Recipe, number: int, models: Models, wanted: Plan, say: Say = lambda _: None) -> Measurement:
    """Run the five cases of a stage."""
    rates = measure_rates(models.all[0].device)
    timesteps = models.all[0].schedule.num_timesteps
    draws = sample_views(recipe, number, num_timesteps=timesteps, steps=wanted.measured)
    cases = plan(recipe, draws, wanted.engine)
    contestants, seen = start(cases, recipe, number, models)
    for contestant in contestants:
        contestant.fill(draws)
    try:
        run_blocks(contestants, wanted.warm_up - 1, wanted.block, measured=False, say=say)
        gc.collect()
        before = [contestant.passes() for contestant in contestants]
        run_blocks(contestants, wanted.steps, wanted.block, measured=True, say=say)
        after = [contestant.passes() for contestant in contestants]
    finally:
        for contestant in contestants:
            contestant.close()
    assert len({contestant.draws for contestant in contestants}) == 1, "The cases saw other cameras or other noise."
    say("operations of the passes")
    at_cut = {cut: passes_at(cut, models, seen) for cut in {cut_of(case) for case in cases}}
    return Measurement(
        cases=tuple(
            account(contestant, differences(*counts), at_cut[cut_of(contestant.case)])
            for contestant, *counts in zip(contestants, before, after, strict=True)
        ),
        rates=rates,
        encoders=tuple(encoder_work(prior, each) for prior, each in zip(models.all, seen, strict=True)),
    )


def start(
    cases: Sequence[Case], recipe: Recipe, number: int, models: Models
) -> tuple[list[Contestant], list[SeenInputs]]:
    """Every case after its first step, and what the first case's diffusion models were asked in it."""
    first = Contestant(cases[0], recipe, number, models)
    with ExitStack() as stack:
        seen = [stack.enter_context(seeing(prior)) for prior in first.priors]
        first.run(1, measured=False)
    others = [Contestant(case, recipe, number, models, [each.unet for each in seen]) for case in cases[1:]]
    for other in others:
        other.run(1, measured=False)
    return [first, *others], seen


def run_blocks(contestants: Sequence[Contestant], steps: int, block: int, *, measured: bool, say: Say) -> None:
    """`steps` steps of each, in blocks whose order rotates, so that a drift of the machine meets all alike."""
    for turn, begin in enumerate(range(0, steps, block)):
        shift = turn % len(contestants)
        length = min(block, steps - begin)
        say(f"{'step' if measured else 'warm-up'} {begin + length}/{steps} of each case")
        for contestant in (*contestants[shift:], *contestants[:shift]):
            contestant.run(length, measured=measured)


def cut_of(case: Case) -> int:
    """Where a case's U-Net is cut; without a cache it is not, and any cut does."""
    return -1 if case.cache is None else case.cache.cut


def passes_at(cut: int, models: Models, seen: Sequence[SeenInputs]) -> tuple[Passes, ...]:
    """The passes of each U-Net for what it was asked."""
    device = models.all[0].device
    repeats = GPU_REPEATS if device.type == "cuda" else CPU_REPEATS
    found = []
    for prior, each in zip(models.all, seen, strict=True):
        full, shallow = pass_work(prior.unet, each.unet, cut)
        seconds = pass_seconds(prior.unet, each.unet, cut, device, repeats=repeats)
        found.append(Passes(full=full, shallow=shallow, seconds=seconds))
    return tuple(found)


def differences(before: list[tuple[int, int]], after: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Full and shallow passes of each U-Net between two counts."""
    return tuple((now[0] - then[0], now[1] - then[1]) for then, now in zip(before, after, strict=True))


def account(contestant: Contestant, counts: tuple[tuple[int, int], ...], passes: tuple[Passes, ...]) -> Measured:
    """What was measured of a case."""
    return Measured(
        case=contestant.case,
        note=contestant.note,
        steps=tuple(contestant.steps),
        blocks=tuple(contestant.blocks),
        views=contestant.trainer.stage.cameras.batch_size,
        per_unet=counts,
        passes=passes,
        peak_bytes=contestant.peak_bytes,
        draws=contestant.draws,
    )
