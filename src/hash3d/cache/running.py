"""Running means on the host of numbers that are measured on a GPU."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


class RunningMean:
    """s <- gamma s + (1 - gamma) m as a host number, of measurements m that may lie on a GPU; the first m is s.

    `add` starts the copy of m to the host and waits for nothing. `read` waits for the copies that are still on their
    way, and for nothing that the GPU was given after them.
    """

    def __init__(self, gamma: float) -> None:
        self.gamma = gamma
        self._value: float | None = None
        self._total, self._count = 0.0, 0
        self._pending: list[tuple[Float[Tensor, ""], torch.cuda.Event | None]] = []

    def add(self, measured: Float[Tensor, ""]) -> None:
        """Count one measurement."""
        while self._pending and (self._pending[0][1] is None or self._pending[0][1].query()):
            self._settle_oldest()
        copy = measured.to("cpu", non_blocking=True)  # Into pinned memory, if it comes from a GPU.
        copied = torch.cuda.current_stream(measured.device).record_event() if measured.is_cuda else None
        self._pending.append((copy, copied))

    def read(self) -> float | None:
        """The present s; None before the first measurement."""
        self._settle()
        return self._value

    @property
    def mean(self) -> float | None:
        """The plain mean of all measurements; None before the first."""
        self._settle()
        return self._total / self._count if self._count else None

    def _settle(self) -> None:
        while self._pending:
            self._settle_oldest()

    def _settle_oldest(self) -> None:
        copy, copied = self._pending.pop(0)
        if copied is not None:
            copied.synchronize()
        measured = float(copy)
        self._value = measured if self._value is None else self.gamma * self._value + (1 - self.gamma) * measured
        self._total += measured
        self._count += 1

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        self._settle()
        return {"value": self._value, "total": self._total, "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self._pending.clear()
        self._value, self._total, self._count = state["value"], state["total"], state["count"]
