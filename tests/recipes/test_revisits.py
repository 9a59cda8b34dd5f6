"""Plain tensors in an order that returns to cells: the distribution stays, and a cache hits."""

import pytest
import torch

from hash3d import apply_hash3d
from hash3d.cache import GridConfig, Key
from hash3d.recipes.revisits import Revisits
from tests.tiny_ldm import ldm_inputs, tiny_ldm

GRID = GridConfig(elevation=20.0, azimuth=30.0, timestep=250.0)


def sample(count, generator):
    """Elevations that crowd at the top, and all azimuths."""
    u = torch.rand(4, count, generator=generator)
    timestep = (20 + 960 * u[2]).long()
    return {"elevation": 60 * u[0].sqrt() - 15, "azimuth": 360 * u[1] - 180, "timestep": timestep, "fov": 40 + u[3]}


def cells_of(views):
    rows = zip(views["elevation"].tolist(), views["azimuth"].tolist(), views["timestep"].tolist(), strict=True)
    grid = GRID.build()
    return [grid.cell(Key(elevation=e, azimuth=a, radius=0.0, timestep=t)) for e, a, t in rows]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_each_cell_is_visited_in_turn(batch_size):
    generator = torch.Generator().manual_seed(0)
    order = Revisits(sample, visits_per_cell=3, active_cells=2, grid=GRID)
    turns = [cells_of(order.next(batch_size, generator)) for _ in range(22)]
    for first in (0, 1):
        own = turns[first::2]
        start = 2 if first == 0 else 3  # The first visits have different lengths.
        episodes = [own[:start], *(own[at : at + 3] for at in range(start, len(own), 3))]
        assert all(each == episode[0] for episode in episodes for each in episode)
        assert len({str(episode[0]) for episode in episodes}) > 1


def test_each_view_has_the_samplers_distribution():
    """500 cells of two visits: means within four standard errors, all tensors together."""
    generator, count = torch.Generator().manual_seed(1), 1000
    order = Revisits(sample, visits_per_cell=2, active_cells=1, grid=GRID)
    views = [order.next(1, generator) for _ in range(count)]
    plain = sample(100_000, generator)
    for name in plain:
        ours, theirs = torch.cat([each[name] for each in views]).double(), plain[name].double()
        error = theirs.std() * (2 / count) ** 0.5  # The two of a cell are not independent.
        assert abs(ours.mean() - theirs.mean()) < 4 * error, name


def test_a_range_that_has_left_a_cell_begins_anew():
    low = [0.0]
    order = Revisits(lambda count, g: {"elevation": torch.zeros(count), "azimuth": torch.full((count,), low[0])})
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        order.next(1, generator)
    low[0] = 90.0
    assert {float(order.next(1, generator)["azimuth"]) for _ in range(8)} == {90.0}


def test_a_cache_reuses_all_visits_but_the_first():
    unet, generator = tiny_ldm(channel_mult=(1, 1)), torch.Generator().manual_seed(0)
    cache, order = apply_hash3d(unet), Revisits(sample, visits_per_cell=4, active_cells=1)
    for _ in range(8):
        views = order.next(1, generator)
        with cache.view(
            elevation=views["elevation"], azimuth=views["azimuth"], radius=1.0, timestep=views["timestep"], scope=""
        ):
            unet(**{**ldm_inputs(unet), "timesteps": views["timestep"].repeat(2)})
    assert (cache.statistics.full, cache.statistics.shallow) == (2, 6)
