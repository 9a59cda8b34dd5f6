"""The times of each step and of its parts, without a wait between steps: a GPU goes on while the host prepares."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch

from hash3d.stopwatch import Stopwatch


class _Mark:
    """A moment: of the host on a CPU, of the stream on a GPU."""

    def __init__(self, on_gpu: bool) -> None:
        self._event = torch.cuda.Event(enable_timing=True) if on_gpu else None
        if self._event is not None:
            self._event.record()
        self._time = time.perf_counter()

    def ms_to(self, later: "_Mark") -> float:
        """Milliseconds until another moment, which the GPU has passed."""
        if self._event is None or later._event is None:
            return 1000.0 * (later._time - self._time)
        return float(self._event.elapsed_time(later._event))


class StepTimes(Stopwatch):
    """A trainer's stopwatch that keeps the steps apart. Between the marks of `mark_step` lie its parts."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._device, self._gpu = device, device.type == "cuda"
        self._starts: list[_Mark] = []
        self._parts: list[tuple[int, str, _Mark, _Mark]] = []

    def mark_step(self) -> None:
        """A step begins, or the last one has ended."""
        self._starts.append(_Mark(self._gpu))

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of this block to part `name` of the step."""
        first = _Mark(self._gpu)
        yield
        self._parts.append((len(self._starts) - 1, name, first, _Mark(self._gpu)))

    def take(self) -> list[tuple[float, dict[str, float]]]:
        """Milliseconds of each step since the last call, whole and by part; waits for the GPU."""
        if self._gpu:
            torch.cuda.synchronize(self._device)
        steps = [(first.ms_to(last), dict[str, float]()) for first, last in pairwise(self._starts)]
        for step, name, first, last in self._parts:
            parts = steps[step][1]
            parts[name] = parts.get(name, 0.0) + first.ms_to(last)
        self._starts.clear()
        self._parts.clear()
        return steps
