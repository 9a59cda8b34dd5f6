"""Running means on the host of numbers that are measured on a GPU."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


class LateNumbers:
    """Numbers or lists of them on their way from a GPU to the host, in order, with labels. `send` waits for nothing."""

    def __init__(self) -> None:
        self._pending: list[tuple[Tensor, torch.cuda.Event | None, Any]] = []

    def send(self, number: Tensor, label: Any = None) -> None:
        """Start the copy of a number [], or of a list [N], to the host."""
        copy = number.to("cpu", non_blocking=True)  # Into pinned memory, if it comes from a GPU.
        copied = torch.cuda.current_stream(number.device).record_event() if number.is_cuda else None
        self._pending.append((copy, copied, label))

    def arrived(self, *, wait: bool = False) -> Iterator[tuple[Any, Any]]:
        """The numbers that have come since, with their labels; with `wait` all, but nothing the GPU got after them."""
        while self._pending:
            copy, copied, label = self._pending[0]
            if copied is not None and not copied.query():
                if not wait:
                    return
                copied.synchronize()
            del self._pending[0]
            yield copy.tolist(), label

    def clear(self) -> None:
        """Forget those that are on their way."""
        self._pending.clear()


class RunningMean:
    """s <- gamma s + (1 - gamma) m as a host number, of measurements m that may lie on a GPU; the first m is s.

    `add` starts the copy of m to the host and waits for nothing. `read` waits for the copies that are still on their
    way, and for nothing that the GPU was given after them. A measurement that is not finite counts for nothing.
    """

    def __init__(self, gamma: float) -> None:
        self.gamma = gamma
        self._value: float | None = None
        self._total, self._count = 0.0, 0
        self._late = LateNumbers()

    def add(self, measured: Float[Tensor, ""]) -> None:
        """Count one measurement."""
        self._settle(wait=False)
        self._late.send(measured)

    def read(self) -> float | None:
        """The present s; None before the first measurement."""
        self._settle()
        return self._value

    @property
    def mean(self) -> float | None:
        """The plain mean of all measurements; None before the first."""
        self._settle()
        return self._total / self._count if self._count else None

    def _settle(self, *, wait: bool = True) -> None:
        for measured, _ in self._late.arrived(wait=wait):
            if math.isfinite(measured):
                self._value = (
                    measured if self._value is None else self.gamma * self._value + (1 - self.gamma) * measured
                )
                self._total += measured
                self._count += 1

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        self._settle()
        return {"value": self._value, "total": self._total, "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self._late.clear()
        self._value = None if state["value"] is None else float(state["value"])
        self._total, self._count = float(state["total"]), int(state["count"])
