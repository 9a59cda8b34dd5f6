"""From steps to metrics: means and spreads, shares of reuse, speed-ups."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from .cases import OFF_EAGER, RELEASED_EAGER
from .contestant import Measured, Step

PARTS = {"render": ("render",), "encode": ("encode", "decode"), "U-Net": ("unet",), "backward": ("backward",)}
"""Parts of a step, and which of the stopwatch's each sums up; what is left of the step is "other"."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Mean, median and quartiles of numbers."""

    mean: float
    median: float
    first_quartile: float
    third_quartile: float


def spread(values: Sequence[float]) -> Spread:
    """Return mean, median and quartiles."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return Spread(mean=statistics.fmean(values), median=median, first_quartile=low, third_quartile=high)


@dataclass(frozen=True, kw_only=True)
class CaseSummary:
    """A row of the table."""

    name: str
    note: str
    engine: str
    steps: int
    ms: Spread
    """Milliseconds of a step."""
    parts: dict[str, float]
    """Mean milliseconds a step; their sum is the mean step."""
    reused: float
    """Share of the passes."""
    over_off: Spread
    """Speed-up against `off, eager`, from block to block; `mean` is that of the mean steps."""
    over_same_engine: Spread
    """Against the run without a cache on the same engine."""
    over_released: Spread
    """Against `released, eager`."""
    peak_bytes: int | None


def summarize(results: Sequence[Measured]) -> list[CaseSummary]:
    """Return a row for each case."""
    by_name = {each.case.name: each for each in results}
    return [
        CaseSummary(
            name=each.case.name,
            note=each.note,
            engine=each.case.engine,
            steps=len(each.steps),
            ms=spread([step.ms for step in each.steps]),
            parts=mean_parts(each.steps),
            reused=share_reused(each.steps),
            over_off=speed_up(each, by_name[OFF_EAGER]),
            over_same_engine=speed_up(each, by_name[each.case.unreused]),
            over_released=speed_up(each, by_name[RELEASED_EAGER]),
            peak_bytes=each.peak_bytes,
        )
        for each in results
    ]


def share_reused(steps: Sequence[Step]) -> float:
    """Return the share of shallow passes."""
    full, shallow = sum(step.full for step in steps), sum(step.shallow for step in steps)
    return shallow / max(full + shallow, 1)


def mean_parts(steps: Sequence[Step]) -> dict[str, float]:
    """Return mean milliseconds by part; "other" is what is left of the steps."""
    means = {
        name: statistics.fmean(sum(step.parts.get(part, 0.0) for part in of) for step in steps)
        for name, of in PARTS.items()
    }
    return {**means, "other": statistics.fmean(step.ms for step in steps) - sum(means.values())}


def speed_up(case: Measured, other: Measured) -> Spread:
    """How many times as fast a case is as another, from block to block of the same steps; its mean over all steps."""
    ours, theirs = (block_means(each) for each in (case, other))
    blocks = spread([slow / fast for fast, slow in zip(ours, theirs, strict=True)])
    whole = sum(step.ms for step in other.steps) / sum(step.ms for step in case.steps)
    return Spread(**{**asdict(blocks), "mean": whole})


def block_means(case: Measured) -> list[float]:
    """Return the mean milliseconds of each block's steps."""
    steps = iter(case.steps)
    return [statistics.fmean(next(steps).ms for _ in range(length)) for length in case.blocks]
