"""Schedules: values that change over the steps of a run."""

import itertools
from bisect import bisect_right
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """A piecewise-linear value over steps, constant before the first and after the last knot."""

    knots: tuple[tuple[float, float], ...]
    """Pairs (step, value) with rising steps."""

    def __post_init__(self) -> None:
        steps = [step for step, _ in self.knots]
        if not steps or any(later <= earlier for earlier, later in itertools.pairwise(steps)):
            raise ValueError(f"Expected at least one knot (step, value) and rising steps, but got {self.knots}.")

    def __call__(self, step: float) -> float:
        """Return the value at `step`."""
        index = bisect_right([knot[0] for knot in self.knots], step)
        if index == 0:
            return self.knots[0][1]
        if index == len(self.knots):
            return self.knots[-1][1]
        (start, low), (end, high) = self.knots[index - 1], self.knots[index]
        return low + (high - low) * (step - start) / (end - start)


def constant(value: float) -> Schedule:
    """Return a schedule of one value."""
    return Schedule(((0.0, value),))


def ramp(*knots: tuple[float, float]) -> Schedule:
    """Return a schedule: `ramp((0, 10.0), (5_000, 1_000.0))` rises from 10 to 1,000 in 5,000 steps and stays there."""
    return Schedule(tuple((float(step), float(value)) for step, value in knots))


def size_at(schedule: Schedule, step: int) -> int:
    """Pixels of the last knot at or before `step`, rounded down: sizes are not interpolated."""
    passed = [value for start, value in schedule.knots if start <= step]
    return int(passed[-1] if passed else schedule.knots[0][1])
