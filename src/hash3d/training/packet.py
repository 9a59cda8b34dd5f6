"""A step's numbers in memory that stays where it is, for CUDA graphs, and how many samples these take."""

import math
import operator
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

ROOM, STEP = 1.1, 2048
"""New memory is for ROOM times as many rows, rounded up to a multiple of STEP."""
WASTE = 4_000_000
"""Rows that were not needed, of all steps since memory was new, that cost what new recordings cost: 0.1 s."""


class Packet:
    """The numbers of a step by name: written on the host, and copied to the device at once.

    Buffers take turns, each waited for before it is written again; by then that copy is long over.

    Args:
        shapes: of the numbers, all in float32.
        device: where they are read.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], device: torch.device, turns: int = 3) -> None:
        self.shapes, self._on_gpu, self._turn = dict(shapes), device.type == "cuda", 0
        size = sum(torch.Size(shape).numel() for shape in shapes.values())
        self._host = [torch.zeros(size, pin_memory=self._on_gpu) for _ in range(turns)]
        self._copied = [torch.cuda.Event() if self._on_gpu else None for _ in range(turns)]
        self._device = torch.zeros(size, device=device)
        self._slices = [self._split(flat) for flat in self._host]
        self.numbers = self._split(self._device)
        """Where they are read; they stay in place."""

    def _split(self, flat: Float[Tensor, " n"]) -> dict[str, Tensor]:
        sizes = [torch.Size(shape).numel() for shape in self.shapes.values()]
        parts = zip(self.shapes.items(), flat.split(sizes), strict=True)
        return {name: part.view(shape) for (name, shape), part in parts}

    def send(self, numbers: Mapping[str, Tensor]) -> None:
        """Send numbers on their way; those that are not given are what they were in this buffer."""
        self._turn = (self._turn + 1) % len(self._host)
        copied = self._copied[self._turn]
        if copied is not None:
            copied.synchronize()
        for name, value in numbers.items():
            self._slices[self._turn][name].copy_(value)
        self._device.copy_(self._host[self._turn], non_blocking=True)
        if copied is not None:
            copied.record()


class Capacities:
    """Chooses how many rows a step's graphs take: no more than they need, unless making others would cost more."""

    def __init__(self) -> None:
        self._wasted = 0.0

    def choose(self, counts: list[int], known: list[tuple[int, ...]]) -> tuple[int, ...]:
        """The least of the `known` capacities that hold so many rows, or new ones."""
        fitting = [each for each in known if all(map(operator.ge, each, counts))]
        if fitting:
            least = min(fitting, key=sum)
            self._wasted += max(0.0, sum(least) - ROOM * sum(counts) - STEP * len(counts))
            if self._wasted <= WASTE:
                return least
        self._wasted = 0.0
        return tuple(STEP * math.ceil(max(ROOM * count, 1) / STEP) for count in counts)
