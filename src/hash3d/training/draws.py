"""The order in which a run visits cameras and timesteps: independent draws, or dwells inside one cell of a grid.

A feature can be reused only near where it was computed, and independent draws seldom come near each other in a short
run. A dwell's first view is a draw of the sampler, and the following views are draws of the sampler given that they
lie in the first one's cell: so every view has the sampler's own distribution, only the order is coherent.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from hash3d.cache.grid import Cell, GridConfig, Key
from hash3d.cameras import Cameras, CameraSampler

TRIES_AT_ONCE, MAX_TRIES = 32, 100_000
"""Draws until one must have come into a view's cell; an earlier draw lay there, so it has some probability."""


@dataclass(frozen=True, kw_only=True)
class DrawOrderConfig:
    """How long a run dwells, and where."""

    dwell: int = 1
    """Steps in one cell before the next cell is drawn. 1: independent draws."""
    cells: GridConfig = field(default_factory=GridConfig)
    """The cells to dwell in: those of the cache."""

    def __post_init__(self) -> None:
        if self.dwell < 1:
            raise ValueError(f"Expected a dwell of at least 1 step, but got {self.dwell}.")

    def build(self, sampler: CameraSampler) -> "DrawOrder":
        """The order of this configuration."""
        return DrawOrder(self, sampler)


class DrawOrder:
    """Draws the cameras and timesteps of each step."""

    def __init__(self, config: DrawOrderConfig, sampler: CameraSampler) -> None:
        self.config, self.sampler = config, sampler
        self._grid = config.cells.build()
        self._radius = float(torch.tensor(sampler.config.radius))  # Rounded as the cameras' is.
        self._cells: list[Cell] = []
        """Where the views of the present dwell stay."""
        self._steps_left = 0

    def next(
        self, size: int, low: int, high: int, generator: torch.Generator, *, shared_timestep: bool = True
    ) -> tuple[Cameras, Int[Tensor, " B"]]:
        """B square cameras of `size` pixels, and timesteps, each uniform in [low, high].

        `shared_timestep`: all views have the same. A dwell also ends when the range has left its cells.
        """
        count = self.sampler.config.batch_size
        ranges = [self._timesteps_inside(cell, low, high) for cell in self._cells]
        if self._steps_left == 0 or any(first > last for first, last in ranges):
            self._cells, self._steps_left, ranges = [], self.config.dwell, [(low, high)] * count
        drawn = [
            int(torch.randint(first, last + 1, (1,), generator=generator))
            for first, last in (ranges[:1] if shared_timestep else ranges)
        ]
        timesteps = torch.tensor(drawn).expand(count)
        cameras = self._cameras_inside(size, drawn, generator) if self._cells else self.sampler.sample(size, generator)
        if not self._cells:
            views = zip(cameras.elevation.tolist(), cameras.azimuth.tolist(), timesteps.tolist(), strict=True)
            self._cells = [self._cell(*view) for view in views]
        self._steps_left -= 1
        return cameras, timesteps

    def _timesteps_inside(self, cell: Cell, low: int, high: int) -> tuple[int, int]:
        """The first and last timestep of [low, high] inside a cell; the first is larger if there are none."""
        config = self._grid.config
        index = cell[config.order.index("timestep")]
        first, beyond = math.ceil(index * config.timestep), math.ceil((index + 1) * config.timestep)
        return max(low, first), min(high, beyond - 1)

    def _cameras_inside(self, size: int, timesteps: list[int], generator: torch.Generator) -> Cameras:
        """A draw of the sampler given the cells: each view is the first of many draws that lies in its cell."""
        count = len(self._cells)
        chosen: dict[int, tuple[float, float]] = {}
        for _ in range(MAX_TRIES // TRIES_AT_ONCE):
            angles = self.sampler.angles(TRIES_AT_ONCE, generator)
            for elevations, azimuths in zip(*(each.tolist() for each in angles), strict=True):
                for view in set(range(count)) - set(chosen):
                    place = elevations[view], azimuths[view]
                    if self._cell(*place, timesteps[view % len(timesteps)]) == self._cells[view]:
                        chosen[view] = place
            if len(chosen) == count:
                elevation, azimuth = torch.tensor([chosen[view] for view in range(count)]).unbind(-1)
                return self.sampler.cameras(elevation, azimuth, size)
        raise RuntimeError(f"Expected a camera inside the cells {self._cells}, but {MAX_TRIES} draws gave none.")

    def _cell(self, elevation: float, azimuth: float, timestep: float) -> Cell:
        """The cell of one view."""
        key = Key(elevation=elevation, azimuth=azimuth, radius=self._radius, timestep=timestep)
        return self._grid.cell(key)

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"cells": [list(cell) for cell in self._cells], "steps_left": self._steps_left}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on inside the saved dwell."""
        self._cells = [(a, b, c, d) for a, b, c, d in state["cells"]]
        self._steps_left = state["steps_left"]
