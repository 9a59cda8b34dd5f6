"""The five cases step by step in one process: built on one diffusion model, then run in blocks in a rotating order."""

import gc
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from hash3d.recipes.recipe import Recipe

from .cases import Case, plan, sample_views
from .contestant import Contestant, Measured, Models
from .deepcache import record_inputs

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long to measure."""

    steps: int
    """Measured steps of each case."""
    warm_up: int
    """Steps before, which are not measured."""
    block: int = 8
    """Steps of a case before the next case has its turn."""


def measure(recipe: Recipe, models: Models, wanted: Plan, say: Say = lambda _: None) -> list[Measured]:
    """Run the five cases of a recipe's first stage; the one without a cache and engine is the first."""
    steps = range(wanted.warm_up, wanted.warm_up + wanted.steps)
    draws = sample_views(recipe, num_timesteps=models.all[0].schedule.num_timesteps, steps=steps)
    contestants = start(plan(recipe, draws), recipe, models)
    for contestant in contestants:
        contestant.fill(draws)
    try:
        run_blocks(contestants, wanted.warm_up - 1, wanted.block, measured=False, say=say)
        gc.collect()
        run_blocks(contestants, wanted.steps, wanted.block, measured=True, say=say)
    finally:
        for contestant in contestants:
            contestant.trainer.close()
    results = [contestant.result() for contestant in contestants]
    assert len({result.draws for result in results}) == 1, "The cases saw other cameras or other noise."
    return results


def start(cases: Sequence[Case], recipe: Recipe, models: Models) -> list[Contestant]:
    """Run every case's first step; what the first case's U-Nets get in it, the package DeepCache is tried on."""
    first = Contestant(cases[0], recipe, models)
    with ExitStack() as stack:
        seen = [stack.enter_context(record_inputs(prior.unet)) for prior in first.priors]
        first.run(1, measured=False)
    others = [Contestant(case, recipe, models, seen) for case in cases[1:]]
    for other in others:
        other.run(1, measured=False)
    return [first, *others]


def run_blocks(contestants: Sequence[Contestant], steps: int, block: int, *, measured: bool, say: Say) -> None:
    """Run `steps` steps of each, in blocks whose order rotates, so that a drift of the machine meets all alike."""
    for turn, begin in enumerate(range(0, steps, block)):
        shift = turn % len(contestants)
        length = min(block, steps - begin)
        say(f"{'step' if measured else 'warm-up'} {begin + length}/{steps} of each case")
        for contestant in (*contestants[shift:], *contestants[:shift]):
            contestant.run(length, measured=measured)
