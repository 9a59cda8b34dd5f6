"""From steps to metrics: means and spreads, speed-ups, the Amdahl limit of reuse, the roofline of the machine."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from .cases import OFF_EAGER, RELEASED_EAGER
from .contestant import Step
from .measure import Measured, Measurement
from .operations import Work
from .rates import Rates

PARTS = {"render": ("render",), "encode": ("encode", "decode"), "U-Net": ("unet",), "backward": ("backward",)}
"""Parts of a step, and which of the stopwatch's each sums up; what is left of the step is "other"."""


def amdahl_limit(reused: float, unet_share: float, shallow_cost: float) -> float:
    """The most that reuse can speed up a run: 1 / (1 - p u (1 - q)).

    Args:
        reused: share p of passes that are reused.
        unet_share: share u of a step without reuse that the U-Net takes.
        shallow_cost: cost q of a shallow pass over that of a full one.
    """
    return 1.0 / (1.0 - reused * unet_share * (1.0 - shallow_cost))


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Mean, median and quartiles of numbers."""

    mean: float
    median: float
    first_quartile: float
    third_quartile: float


def spread(values: Sequence[float]) -> Spread:
    """Mean, median and quartiles."""
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
    """Share p of the passes."""
    unet_share: float
    """Share of the U-Net in the mean step."""
    shallow_cost: float
    """Cost q of an eager shallow pass at the case's cut, over that of a full one."""
    own_shallow_cost: float | None
    """The cost in the case's own steps, whatever the engine, with lookups and inserts; None without both kinds."""
    amdahl_limit: float
    """With the U-Net's share of `off, eager`: what this reuse could gain on the eager engine."""
    own_amdahl_limit: float | None
    """With the U-Net's share of the run without a cache on the same engine, and the own cost."""
    over_off: Spread
    """Speed-up against `off, eager`, from block to block; `mean` is that of the mean steps."""
    over_same_engine: Spread
    """Against the run without a cache on the same engine."""
    over_released: Spread
    """Against `released, eager`."""
    roofline_ms: dict[str, float]
    """The least milliseconds of a step's U-Net and encoder at the machine's rates, and their sum, "total"."""
    operations: float
    """Floating-point operations of a step's U-Net and encoder."""
    bytes: float
    """Bytes that they read and write at the least."""
    peak_bytes: int | None


def summarize(measurement: Measurement) -> list[CaseSummary]:
    """A row for each case."""
    by_name = {each.case.name: each for each in measurement.cases}
    off, released = by_name[OFF_EAGER], by_name[RELEASED_EAGER]
    return [row(each, off, by_name[each.case.unreused], released, measurement) for each in measurement.cases]


def row(case: Measured, off: Measured, same: Measured, released: Measured, measurement: Measurement) -> CaseSummary:
    """The metrics of a case beside those it is compared with."""
    parts = mean_parts(case.steps)
    full, shallow = (sum(counts[kind] for counts in case.per_unet) for kind in (0, 1))
    reused = shallow / max(full + shallow, 1)
    seconds = [sum(passes.seconds[kind] for passes in case.passes) for kind in (0, 1)]
    cost, own_cost = seconds[1] / seconds[0], cost_in_steps(case.steps)
    rooflines, work = roofline(case, measurement.encoders, measurement.rates)
    return CaseSummary(
        name=case.case.name,
        note=case.note,
        engine=case.case.engine,
        steps=len(case.steps),
        ms=spread([step.ms for step in case.steps]),
        parts=parts,
        reused=reused,
        unet_share=share_of_unet(case),
        shallow_cost=cost,
        own_shallow_cost=own_cost,
        amdahl_limit=amdahl_limit(reused, share_of_unet(off), cost),
        own_amdahl_limit=None if own_cost is None else amdahl_limit(reused, share_of_unet(same), own_cost),
        over_off=speed_up(case, off),
        over_same_engine=speed_up(case, same),
        over_released=speed_up(case, released),
        roofline_ms=rooflines,
        operations=work.operations,
        bytes=work.bytes,
        peak_bytes=case.peak_bytes,
    )


def mean_parts(steps: Sequence[Step]) -> dict[str, float]:
    """Mean milliseconds by part; "other" is what is left of the steps."""
    means = {
        name: statistics.fmean(sum(step.parts.get(part, 0.0) for part in of) for step in steps)
        for name, of in PARTS.items()
    }
    return {**means, "other": statistics.fmean(step.ms for step in steps) - sum(means.values())}


def share_of_unet(case: Measured) -> float:
    """The U-Net's share of a case's time."""
    return mean_parts(case.steps)["U-Net"] / statistics.fmean(step.ms for step in case.steps)


def cost_in_steps(steps: Sequence[Step]) -> float | None:
    """U-Net time of the steps that were all shallow over that of those that were all full: medians."""
    shallow = [step.parts["unet"] for step in steps if step.full == 0]
    full = [step.parts["unet"] for step in steps if step.shallow == 0]
    return statistics.median(shallow) / statistics.median(full) if shallow and full else None


def speed_up(case: Measured, other: Measured) -> Spread:
    """How many times as fast a case is as another, from block to block of the same steps; its mean over all steps."""
    ours, theirs = (block_means(each) for each in (case, other))
    blocks = spread([slow / fast for fast, slow in zip(ours, theirs, strict=True)])
    whole = sum(step.ms for step in other.steps) / sum(step.ms for step in case.steps)
    return Spread(**{**asdict(blocks), "mean": whole})


def block_means(case: Measured) -> list[float]:
    """Mean milliseconds of each block's steps."""
    means, begin = [], 0
    for length in case.blocks:
        means.append(statistics.fmean(step.ms for step in case.steps[begin : begin + length]))
        begin += length
    return means


def roofline(case: Measured, encoders: Sequence[Work], rates: Rates) -> tuple[dict[str, float], Work]:
    """The least milliseconds of a mean step's U-Net and encoder, and what they do in it."""
    calls = case.views * len(case.steps)
    done = [
        (count / calls, work)
        for passes, counts in zip(case.passes, case.per_unet, strict=True)
        for count, work in zip(counts, (passes.full, passes.shallow), strict=True)
    ]
    unet = 1000.0 * sum(count * work.seconds(rates) for count, work in done)
    encode = 1000.0 * sum(work.seconds(rates) for work in encoders)
    done += [(1.0, work) for work in encoders]
    total = Work(
        operations=sum(count * work.operations for count, work in done),
        bytes=sum(count * work.bytes for count, work in done),
    )
    return {"U-Net": unet, "encoder": encode, "total": unet + encode}, total
