"""The times of each step and of its parts, without a wait between steps: a GPU goes on while the host prepares."""

from itertools import pairwise

import torch

from hash3d.stopwatch import Mark, Stopwatch


class StepTimes(Stopwatch):
    """A trainer's stopwatch that keeps the steps apart. Between the marks of `mark_step` lie its parts."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._starts: list[Mark] = []
        self._of_steps: list[tuple[int, str, Mark, Mark]] = []

    def mark_step(self) -> None:
        """A step begins, or the last one has ended."""
        self._starts.append(Mark(self._on_gpu))

    def record(self, name: str, first: Mark, last: Mark) -> None:
        """Count what lies between two moments as a part of the step."""
        self._of_steps.append((len(self._starts) - 1, name, first, last))

    def take(self) -> list[tuple[float, dict[str, float]]]:
        """Milliseconds of each step since the last call, whole and by part; waits for the GPU."""
        steps = [(1000.0 * first.seconds_to(last), dict[str, float]()) for first, last in pairwise(self._starts)]
        for step, name, first, last in self._of_steps:
            parts = steps[step][1]
            parts[name] = parts.get(name, 0.0) + 1000.0 * first.seconds_to(last)
        self._starts.clear()
        self._of_steps.clear()
        return steps
