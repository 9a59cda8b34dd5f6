"""The order of views for a loop with cameras of its own: plain tensors that come back to a few cells."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hash3d.cache import GridConfig
from hash3d.cache.grid import FIELDS
from hash3d.ranges import expect_range

Views = dict[str, Tensor]
POOL, MOST_POOLS = 1024, 64
"""Samples in which each view looks for one of its cell, and how many times before the cell counts as left."""


@dataclass
class _Visit:
    """The cells [B, 4] of a batch's views, and how often they are still to be seen."""

    cells: Tensor
    visits_left: int


class Revisits:
    """Independent samples in another order: after its first view a cell is seen again before another takes its place.

    As in `ViewOrderConfig`, each view has the distribution of `sample`: the later ones are samples given their cell.

    Args:
        sample: `sample(count, generator)` gives independent views: "elevation" and "azimuth" in degrees, and whatever
            else a view has ("radius", "timestep", a field of view), as tensors [count, ...] on the CPU. It may change
            over a run, as a range of timesteps does.
        visits_per_cell: with k visits, k - 1 of k calls can reuse.
        active_cells: cells visited in turn.
        grid: the cache's grid.

    Example:
        >>> def sample(count, generator):
        ...     u = torch.rand(3, count, generator=generator)
        ...     return {"elevation": 60 * u[0] - 15, "azimuth": 360 * u[1] - 180, "timestep": (20 + 960 * u[2]).long()}
        >>> revisits, generator = Revisits(sample), torch.Generator().manual_seed(0)
        >>> views = revisits.next(4, generator)
    """

    def __init__(
        self,
        sample: Callable[[int, torch.Generator], Views],
        *,
        visits_per_cell: int = 4,
        active_cells: int = 8,
        grid: GridConfig | None = None,
    ) -> None:
        self.sample, self.visits_per_cell, self.active_cells = sample, visits_per_cell, active_cells
        expect_range(self, "visits_per_cell active_cells", at_least=1)
        self.grid = (grid or GridConfig()).build()
        self._visits: list[_Visit | None] = [None] * active_cells
        self._turn = 0

    def next(self, batch_size: int, generator: torch.Generator) -> Views:
        """The next B views, tensors [B, ...]. A batch of another size than the last of its turn begins anew."""
        turn = self._turn
        self._turn = (turn + 1) % self.active_cells
        visit = self._visits[turn]
        if visit is not None and visit.visits_left and len(visit.cells) == batch_size:
            visit.visits_left -= 1
            if found := self._find(visit.cells, generator):
                return found
        # The first visits have different lengths, so that not all cells are left at once.
        first = self._visits[turn] is None
        length = -(-self.visits_per_cell * (turn + 1) // self.active_cells) if first else self.visits_per_cell
        views = self.sample(batch_size, generator)
        self._visits[turn] = _Visit(self._cells(views), length - 1)
        return views

    def _find(self, cells: Tensor, generator: torch.Generator) -> Views | None:
        """A sample of each cell, each view from a part of the pool that is its own."""
        count, missing = len(cells), torch.ones(len(cells), dtype=torch.bool)
        found: Views = {}
        for _ in range(MOST_POOLS):
            pool = self.sample(POOL * count, generator)
            fits = (self._cells(pool).view(POOL, count, -1) == cells).all(dim=-1)
            rows = fits.int().argmax(dim=0) * count + torch.arange(count)
            new = fits.any(dim=0) & missing
            for name, values in pool.items():
                found.setdefault(name, values[:count].clone())[new] = values[rows[new]]
            missing &= ~new
            if not missing.any():
                return found
        return None

    def _cells(self, views: Views) -> Tensor:
        """The cells [B, 4] of views, as the grid has them; a field that they lack is the same for all."""
        like = torch.zeros_like(views["azimuth"]).double()
        fields = {name: views[name].double() if name in views else like for name in FIELDS}
        return torch.stack(self.grid.scale(fields), dim=1).floor().long()
