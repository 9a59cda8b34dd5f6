"""From steps to the table: means and spreads, shares of reuse, speed-ups."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .measure import OFF_EAGER, Measured, Step

PARTS = {"render": ("render",), "encode": ("encode", "decode"), "U-Net": ("unet",), "backward": ("backward",)}
"""Parts of a step, and which of the stopwatch's each sums up; what is left of the step is "other"."""
HEADS = (
    "case", "steps", "reused", "ms a step", "median (quartiles)", "device ms", *PARTS, "other",
    "times off, eager", "times off, same engine",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Mean, median and quartiles of numbers."""

    mean: float
    median: float
    first_quartile: float
    third_quartile: float

    def show(self, middle: float, digits: int) -> str:
        """Format a number and the quartiles around it."""
        return f"{middle:.{digits}f} ({self.first_quartile:.{digits}f}-{self.third_quartile:.{digits}f})"


def spread(values: Sequence[float]) -> Spread:
    """Return mean, median and quartiles."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return Spread(mean=statistics.fmean(values), median=median, first_quartile=low, third_quartile=high)


@dataclass(frozen=True, kw_only=True)
class CaseSummary:
    """A row of the table."""

    name: str
    steps: int
    ms: Spread
    """Milliseconds of a step."""
    device_ms: float | None
    """Of these, those in which the GPU works."""
    parts: dict[str, float]
    """Mean milliseconds a step; their sum is the mean step."""
    reused: float
    """Share of the passes."""
    over_off: Spread
    """Speed-up against `off, eager`, from block to block; `mean` is that of the mean steps."""
    over_same_engine: Spread
    """Against the run without a cache on the same engine."""

    @property
    def cells(self) -> list[str]:
        """One line of the table."""
        speed_ups = (self.over_off, self.over_same_engine)
        return [
            self.name, str(self.steps), f"{self.reused:.0%}", f"{self.ms.mean:.1f}", self.ms.show(self.ms.median, 1),
            "-" if self.device_ms is None else f"{self.device_ms:.1f}", *(f"{ms:.1f}" for ms in self.parts.values()),
            *(each.show(each.mean, 2) for each in speed_ups),
        ]  # fmt: skip


def summarize(results: Sequence[Measured]) -> list[CaseSummary]:
    """Return a row for each case."""
    by_name = {each.case.name: each for each in results}
    return [
        CaseSummary(
            name=each.case.name,
            steps=len(each.steps),
            ms=spread([step.ms for step in each.steps]),
            device_ms=each.device_ms,
            parts=mean_parts(each.steps),
            reused=share_reused(each.steps),
            over_off=speed_up(each, by_name[OFF_EAGER]),
            over_same_engine=speed_up(each, by_name[each.case.unreused]),
        )
        for each in results
    ]


def share_reused(steps: Sequence[Step]) -> float:
    """Return the share of shallow passes."""
    full, shallow = (sum(each[kind] for step in steps for each in step.passes) for kind in (0, 1))
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
    whole = sum(step.ms for step in other.steps) / sum(step.ms for step in case.steps)
    return replace(spread([slow / fast for fast, slow in zip(ours, theirs, strict=True)]), mean=whole)


def block_means(case: Measured) -> list[float]:
    """Return the mean milliseconds of each block's steps."""
    steps = iter(case.steps)
    return [statistics.fmean(next(steps).ms for _ in range(length)) for length in case.blocks]
