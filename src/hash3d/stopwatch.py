"""Time the parts of a run."""

import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Accumulates seconds by part, on a GPU by CUDA events: measuring never waits for the device."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._on_gpu = torch.device(device).type == "cuda"
        self._seconds: dict[str, float] = defaultdict(float)
        self._events: deque[tuple[str, torch.cuda.Event, torch.cuda.Event]] = deque()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of this block to part `name`."""
        if not self._on_gpu:
            start = time.perf_counter()
            yield
            self._seconds[name] += time.perf_counter() - start
            return
        while self._events and self._events[0][2].query():
            self._settle_oldest()
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        yield
        last.record()
        self._events.append((name, first, last))

    def seconds(self) -> dict[str, float]:
        """Return the seconds by part so far; waits for the GPU."""
        while self._events:
            self._events[0][2].synchronize()
            self._settle_oldest()
        return dict(self._seconds)

    def _settle_oldest(self) -> None:
        """Count the oldest pair of events, which the GPU has passed."""
        name, first, last = self._events.popleft()
        self._seconds[name] += first.elapsed_time(last) / 1000.0

    def add(self, seconds: dict[str, float]) -> None:
        """Add the seconds of an earlier part of the run."""
        for name, value in seconds.items():
            self._seconds[name] += value
