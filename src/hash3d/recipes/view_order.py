"""The order in which a run visits cameras and timesteps: independent samples, or revisits of a few active cells.

A feature can be reused only near where it was computed, and independent samples seldom come near each other in a short
run. A cell's first view is a sample of the camera sampler, and the following views are samples of it given that they
lie in the first one's cell: so every view has the sampler's own distribution, only the order is coherent. Several
cells are active and visited in turn, because a scene that sees one side many times running forgets the others.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from hash3d.cache import GridConfig, Key
from hash3d.cache.grid import Cell
from hash3d.cameras import Cameras, CameraSamplerConfig, Interval
from hash3d.ranges import expect_range

MAX_TRIES = 100
"""Samples inside a cell, of which one must not be rounded over its border."""


@dataclass(frozen=True, kw_only=True)
class ViewOrderConfig:
    """How often a run returns to a cell, and to how many at a time.

    Args:
        visits_per_cell: Visits of a cell before another takes its place. 1: independent samples. With k visits, k - 1
            of k steps can reuse what the first one computed.
        active_cells: Cells visited in turn. With 1 the visits of a cell follow each other, which costs shape; more let
            the features of a cell grow older, by `visits_per_cell` times `active_cells` steps.
        grid: The cells: the cache's grid.
    """

    visits_per_cell: int = 1
    active_cells: int = 1
    grid: GridConfig = field(default_factory=GridConfig)

    def __post_init__(self) -> None:
        expect_range(self, "visits_per_cell active_cells", at_least=1)

    def build(self, sampler: CameraSamplerConfig) -> "ViewOrder":
        """The order of this configuration."""
        return ViewOrder(self, sampler)


@dataclass
class Episode:
    """The visits of the cells of one batch's views."""

    cells: list[Cell]
    visits_left: int


def make_keys(cameras: Cameras, timesteps: Sequence[float]) -> list[Key]:
    """The cache's keys of B views."""
    views = (cameras.elevation.tolist(), cameras.azimuth.tolist(), cameras.radius.tolist())
    return [
        Key(elevation=elevation, azimuth=azimuth, radius=radius, timestep=timestep)
        for elevation, azimuth, radius, timestep in zip(*views, timesteps, strict=True)
    ]


class ViewOrder:
    """Samples the cameras and timesteps of each step."""

    def __init__(self, config: ViewOrderConfig, sampler: CameraSamplerConfig) -> None:
        self.config, self.sampler = config, sampler
        self._grid = config.grid.build()
        # The first episodes have different lengths: else all cells would be left, and all passes be full, at once.
        visits, active = config.visits_per_cell, config.active_cells
        lengths = [math.ceil(visits * (turn + 1) / active) for turn in range(active)]
        self._episodes = [Episode(cells=[], visits_left=length) for length in lengths]
        self._turn = 0

    def next(
        self, size: int, low: int, high: int, generator: torch.Generator, *, shared_timestep: bool = True
    ) -> tuple[Cameras, Int[Tensor, " B"]]:
        """B square cameras of `size` pixels, and timesteps, each uniform in [low, high].

        `shared_timestep`: all views have the same. An episode also ends when the range has left its cells.
        """
        episode = self._episodes[self._turn]
        self._turn = (self._turn + 1) % len(self._episodes)
        ranges = [self._timesteps_inside(cell, low, high) for cell in episode.cells]
        if episode.visits_left == 0 or any(first > last for first, last in ranges):
            episode.cells, episode.visits_left, ranges = [], self.config.visits_per_cell, []
        episode.visits_left -= 1
        ranges = ranges or [(low, high)] * self.sampler.batch_size
        sampled = [
            int(torch.randint(first, last + 1, (1,), generator=generator))
            for first, last in (ranges[:1] if shared_timestep else ranges)
        ]
        timesteps = torch.tensor(sampled).expand(len(ranges))
        if episode.cells:
            return self._cameras_inside(episode.cells, size, timesteps.tolist(), generator), timesteps
        cameras = self.sampler.sample(size, generator)
        episode.cells = self._cells(cameras, timesteps.tolist())
        return cameras, timesteps

    def _timesteps_inside(self, cell: Cell, low: int, high: int) -> tuple[int, int]:
        """The first and last timestep of [low, high] inside a cell; the first is larger if there are none."""
        first, beyond = map(math.ceil, self._bounds(cell, "timestep"))
        return max(low, first), min(high, beyond - 1)

    def _bounds(self, cell: Cell, name: str) -> Interval:
        """Where a cell begins and ends in one of the grid's dimensions."""
        size, index = getattr(self._grid.config, name), cell[self._grid.config.order.index(name)]
        return index * size, (index + 1) * size

    def _cameras_inside(
        self, cells: list[Cell], size: int, timesteps: Sequence[float], generator: torch.Generator
    ) -> Cameras:
        """A sample of the camera sampler given the cells."""
        config = self.sampler
        elevations = [self._part_inside(cell, "elevation", config.elevation) for cell in cells]
        azimuths = [self._azimuths_inside(cell, view) for view, cell in enumerate(cells)]
        reach = config.radius_range
        radii = None if reach is None else [self._part_inside(cell, "radius", reach) for cell in cells]
        for _ in range(MAX_TRIES):
            cameras = self.sampler.sample_inside(elevations, azimuths, radii, size, generator)
            if self._cells(cameras, timesteps) == cells:
                return cameras
        raise RuntimeError(
            f"Expected cameras inside the cells {cells}, but {MAX_TRIES} samples were rounded out of them."
        )

    def _part_inside(self, cell: Cell, name: str, reach: Interval) -> Interval:
        """The elevations or radii of a range that lie in a cell."""
        first, last = self._bounds(cell, name)
        return max(reach[0], first), min(reach[1], last)

    def _azimuths_inside(self, cell: Cell, view: int) -> list[Interval]:
        """The azimuths of a view's stratum that lie in a cell: two intervals where the cell lies across +-180."""
        (low, high), (first, last) = self.sampler.stratum(view), self._bounds(cell, "azimuth")
        if not self._grid.config.periodic:
            return [(max(low, first), min(high, last))]
        last = min(last, 360.0)
        turns = range(math.floor(low / 360.0), math.floor(high / 360.0) + 1)
        pieces = [(max(low, first + 360.0 * turn), min(high, last + 360.0 * turn)) for turn in turns]
        return [(start, end) for start, end in pieces if start <= end]

    def _cells(self, cameras: Cameras, timesteps: Sequence[float]) -> list[Cell]:
        """The cell of each view."""
        return [self._grid.cell(key) for key in make_keys(cameras, timesteps)]

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        episodes = [[[list(cell) for cell in each.cells], each.visits_left] for each in self._episodes]
        return {"episodes": episodes, "turn": self._turn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue inside the saved episodes. Raises `RuntimeError` if a cell is out of the sampler's reach."""
        self._episodes = [
            Episode(cells=[(int(a), int(b), int(c), int(d)) for a, b, c, d in cells], visits_left=int(left))
            for cells, left in state["episodes"]
        ]
        for cells in (each.cells for each in self._episodes if each.cells):  # Of another order: told now, not later.
            timesteps = [sum(self._bounds(cell, "timestep")) / 2.0 for cell in cells]
            self._cameras_inside(cells, 1, timesteps, torch.Generator())
        self._turn = int(state["turn"]) % len(self._episodes)
