"""Time the parts of a run."""

import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Mark:
    """A moment: of the host on a CPU, of the stream on a GPU, which may not have come to it yet."""

    def __init__(self, on_gpu: bool) -> None:
        self._event = torch.cuda.Event(enable_timing=True) if on_gpu else None
        if self._event is not None:
            self._event.record()
        self._time = time.perf_counter()

    @property
    def passed(self) -> bool:
        """Whether the device has come to it."""
        return self._event is None or self._event.query()

    def seconds_to(self, later: "Mark") -> float:
        """Seconds until another moment; waits for the GPU to come to it."""
        if self._event is None or later._event is None:
            return later._time - self._time
        later._event.synchronize()
        return float(self._event.elapsed_time(later._event)) / 1000.0


class Stopwatch:
    """Accumulates seconds by part, on a GPU by CUDA events: measuring never waits for the device."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._on_gpu = torch.device(device).type == "cuda"
        self._seconds: dict[str, float] = defaultdict(float)
        self._parts: deque[tuple[str, Mark, Mark]] = deque()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of this block to part `name`."""
        first = Mark(self._on_gpu)
        yield
        self.record(name, first, Mark(self._on_gpu))

    def record(self, name: str, first: Mark, last: Mark) -> None:
        """Count what lies between two moments, as soon as the device has passed them."""
        self._parts.append((name, first, last))
        self._settle(wait=False)

    def seconds(self) -> dict[str, float]:
        """Return the seconds by part so far; waits for the GPU."""
        self._settle(wait=True)
        return dict(self._seconds)

    def _settle(self, *, wait: bool) -> None:
        while self._parts and (wait or self._parts[0][2].passed):
            name, first, last = self._parts.popleft()
            self._seconds[name] += first.seconds_to(last)

    def add(self, seconds: dict[str, float]) -> None:
        """Add the seconds of an earlier part of the run."""
        for name, value in seconds.items():
            self._seconds[name] += value
