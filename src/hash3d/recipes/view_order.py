"""The order in which a run visits cameras and timesteps: independent draws, or returns to a few open cells of a grid.

A feature can be reused only near where it was computed, and independent draws seldom come near each other in a short
run. A cell's first view is a draw of the sampler, and the following views are draws of the sampler given that they lie
in the first one's cell: so every view has the sampler's own distribution, only the order is coherent. Several cells
stand open and are visited in turn, because a scene that sees one side many times running forgets the others.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from hash3d.cache.grid import Cell, GridConfig, Key
from hash3d.cameras import Cameras, CameraSampler, Interval

MAX_TRIES = 100
"""Draws inside a cell until one must not have been rounded over its border."""


@dataclass(frozen=True, kw_only=True)
class DrawOrderConfig:
    """How often a run returns to a cell, and to how many at a time."""

    dwell: int = 1
    """Visits of a cell before another is drawn in its place. 1: independent draws. With k visits, k - 1 of k steps can
    reuse what the first one computed."""
    open_cells: int = 1
    """Cells visited in turn. With 1 the visits of a cell follow each other, which costs shape; more let the features
    of a cell grow older, by `dwell` times `open_cells` steps."""
    cells: GridConfig = field(default_factory=GridConfig)
    """The cells: those of the cache."""
    same_view: bool = False
    """Visits of a cell repeat its first view and timestep exactly. Tells what the variety inside a cell is worth."""

    def __post_init__(self) -> None:
        if self.dwell < 1:
            raise ValueError(f"Expected a dwell of at least 1 step, but got {self.dwell}.")
        if self.open_cells < 1:
            raise ValueError(f"Expected at least 1 open cell, but got {self.open_cells}.")

    def build(self, sampler: CameraSampler) -> "DrawOrder":
        """The order of this configuration."""
        return DrawOrder(self, sampler)


@dataclass
class Stay:
    """The cells of a batch's views, and how many visits are left."""

    cells: list[Cell]
    visits_left: int
    first: list[list[float]] = field(default_factory=list)
    """Elevations, azimuths, radii, fields of view and timesteps of the first visit."""


class DrawOrder:
    """Draws the cameras and timesteps of each step."""

    def __init__(self, config: DrawOrderConfig, sampler: CameraSampler) -> None:
        self.config, self.sampler = config, sampler
        self._grid = config.cells.build()
        # The first stays are shorter by turns: else all cells would be left, and all passes be full, at the same time.
        lengths = [math.ceil(config.dwell * (turn + 1) / config.open_cells) for turn in range(config.open_cells)]
        self._stays = [Stay(cells=[], visits_left=length) for length in lengths]
        self._turn = 0

    def next(
        self, size: int, low: int, high: int, generator: torch.Generator, *, shared_timestep: bool = True
    ) -> tuple[Cameras, Int[Tensor, " B"]]:
        """B square cameras of `size` pixels, and timesteps, each uniform in [low, high].

        `shared_timestep`: all views have the same. A stay also ends when the range has left its cells.
        """
        stay = self._stays[self._turn]
        self._turn = (self._turn + 1) % len(self._stays)
        ranges = [self._timesteps_inside(cell, low, high) for cell in stay.cells]
        if stay.visits_left == 0 or any(first > last for first, last in ranges):
            stay.cells, stay.visits_left, ranges = [], self.config.dwell, []
        stay.visits_left -= 1
        if stay.cells and self.config.same_view:
            elevation, azimuth, radius, fov_y, timestep = torch.tensor(stay.first)
            cameras = Cameras.orbit(elevation=elevation, azimuth=azimuth, radius=radius, fov_y=fov_y, size=size)
            return cameras, timestep.long()
        given = ranges if stay.cells else [(low, high)] * self.sampler.config.batch_size
        drawn = [
            int(torch.randint(first, last + 1, (1,), generator=generator))
            for first, last in (given[:1] if shared_timestep else given)
        ]
        timesteps = torch.tensor(drawn).expand(len(given))
        if stay.cells:
            return self._cameras_inside(stay.cells, size, timesteps.tolist(), generator), timesteps
        cameras = self.sampler.sample(size, generator)
        numbers = (cameras.elevation, cameras.azimuth, cameras.radius, cameras.fov_y, timesteps)
        stay.first = [values.tolist() for values in numbers]
        stay.cells = self._cells(cameras, timesteps.tolist())
        return cameras, timesteps

    def _timesteps_inside(self, cell: Cell, low: int, high: int) -> tuple[int, int]:
        """The first and last timestep of [low, high] inside a cell; the first is larger if there are none."""
        config = self._grid.config
        index = cell[config.order.index("timestep")]
        first, beyond = math.ceil(index * config.timestep), math.ceil((index + 1) * config.timestep)
        return max(low, first), min(high, beyond - 1)

    def _cameras_inside(
        self, cells: list[Cell], size: int, timesteps: list[int], generator: torch.Generator
    ) -> Cameras:
        """A draw of the sampler given the cells."""
        config = self.sampler.config
        elevations = [self._part_inside(cell, "elevation", config.elevation) for cell in cells]
        azimuths = [self._azimuths_inside(cell, view) for view, cell in enumerate(cells)]
        reach = config.radius_range
        radii = None if reach is None else [self._part_inside(cell, "radius", reach) for cell in cells]
        for _ in range(MAX_TRIES):
            cameras = self.sampler.sample_inside(elevations, azimuths, radii, size, generator)
            if self._cells(cameras, timesteps) == cells:
                return cameras
        raise RuntimeError(
            f"Expected cameras inside the cells {cells}, but {MAX_TRIES} draws were rounded out of them."
        )

    def _part_inside(self, cell: Cell, name: str, reach: Interval) -> Interval:
        """The elevations or radii of a range that lie in a cell."""
        config, (low, high) = self._grid.config, reach
        size, index = getattr(config, name), cell[config.order.index(name)]
        return max(low, index * size), min(high, (index + 1) * size)

    def _azimuths_inside(self, cell: Cell, view: int) -> list[Interval]:
        """The azimuths of a view's stratum that lie in a cell: two intervals where the cell lies across +-180."""
        config, (low, high) = self._grid.config, self.sampler.stratum(view)
        index = cell[config.order.index("azimuth")]
        first, last = index * config.azimuth, (index + 1) * config.azimuth
        if not config.periodic:
            return [(max(low, first), min(high, last))]
        last = min(last, 360.0)
        turns = range(math.floor(low / 360.0), math.floor(high / 360.0) + 1)
        pieces = [(max(low, first + 360.0 * turn), min(high, last + 360.0 * turn)) for turn in turns]
        return [(start, end) for start, end in pieces if start <= end]

    def _cells(self, cameras: Cameras, timesteps: list[int]) -> list[Cell]:
        """The cell of each view."""
        places = (cameras.elevation.tolist(), cameras.azimuth.tolist(), cameras.radius.tolist())
        return [
            self._grid.cell(Key(elevation=elevation, azimuth=azimuth, radius=radius, timestep=timestep))
            for elevation, azimuth, radius, timestep in zip(*places, timesteps, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "stays": [[[list(cell) for cell in stay.cells], stay.visits_left, stay.first] for stay in self._stays],
            "turn": self._turn,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on inside the saved stays."""
        self._stays = [
            Stay(cells=[(a, b, c, d) for a, b, c, d in cells], visits_left=left, first=first)
            for cells, left, first in state["stays"]
        ]
        self._turn = state["turn"]
