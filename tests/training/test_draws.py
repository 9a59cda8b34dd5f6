"""The order of draws keeps every marginal distribution, and stays where it should."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp, kstest

from hash3d.cache.grid import GridConfig, Key
from hash3d.cameras import CameraSamplerConfig
from hash3d.schedules import ramp
from hash3d.training.draws import DrawOrderConfig

CELLS = GridConfig(elevation=20.0, azimuth=30.0, timestep=100.0)


def run(dwell, steps, batch_size=1, seed=0, low=20, high=980, shared=True, cells=CELLS, open_cells=1):
    """Elevations, azimuths and timesteps [steps, B] of a run."""
    config = DrawOrderConfig(dwell=dwell, open_cells=open_cells, cells=cells)
    order = config.build(CameraSamplerConfig(batch_size=batch_size).build())
    generator = torch.Generator().manual_seed(seed)
    drawn = [order.next(16, low, high, generator, shared_timestep=shared) for _ in range(steps)]
    return (
        torch.stack([cameras.elevation for cameras, _ in drawn]),
        torch.stack([cameras.azimuth for cameras, _ in drawn]),
        torch.stack([timesteps for _, timesteps in drawn]),
    )


def cells_of(elevation, azimuth, timestep, cells=CELLS):
    grid = cells.build()
    rows = zip(elevation.tolist(), azimuth.tolist(), timestep.tolist(), strict=True)
    return [grid.cell(Key(elevation=e, azimuth=a, radius=1.5, timestep=t)) for e, a, t in rows]


def test_a_dwell_of_one_draws_each_view_anew():
    """The first view of a cell is the sampler's, number for number."""
    generator = torch.Generator().manual_seed(0)
    sampler = CameraSamplerConfig().build()
    elevation, azimuth, timesteps = run(1, 20)
    for step in range(20):
        assert timesteps[step].tolist() == torch.randint(20, 981, (1,), generator=generator).tolist()
        cameras = sampler.sample(16, generator)
        assert torch.equal(cameras.elevation, elevation[step])
        assert torch.equal(cameras.azimuth, azimuth[step])


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("dwell", [2, 5])
def test_every_dwell_stays_in_one_cell(dwell, batch_size):
    elevation, azimuth, timesteps = run(dwell, 12 * dwell, batch_size)
    visited = set()
    for view in range(batch_size):
        cells = cells_of(elevation[:, view], azimuth[:, view], timesteps[:, view])
        for start in range(0, len(cells), dwell):
            assert len(set(cells[start : start + dwell])) == 1
        visited |= set(cells)
        assert len(set(azimuth[:, view].tolist())) == 12 * dwell, "a camera repeats"
    assert len(visited) > 8


@pytest.mark.parametrize("batch_size", [1, 2])
def test_open_cells_are_visited_in_turn_and_left_one_at_a_time(batch_size):
    """Each of 3 cells gets 6 visits, 3 steps apart; first stays are shorter, so one opens every 4 to 7."""
    dwell, open_cells = 6, 3
    elevation, azimuth, timesteps = run(dwell, 20 * dwell * open_cells, batch_size, open_cells=open_cells)
    opened = []
    for turn in range(open_cells):
        first = dwell * (turn + 1) // open_cells
        views = zip(elevation[turn::open_cells], azimuth[turn::open_cells], timesteps[turn::open_cells], strict=True)
        cells = [tuple(cells_of(*view)) for view in views]
        starts = [0, *range(first, len(cells), dwell)]
        assert all(len(set(cells[a:b])) == 1 for a, b in itertools.pairwise(starts))
        opened += [turn + open_cells * start for start in starts if start >= first]
    assert set(np.diff(sorted(opened))) == {4, 7}


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("open_cells", [1, 4])
def test_the_marginals_are_the_samplers(batch_size, shared, open_cells):
    """Kolmogorov-Smirnov on each marginal, of every fourth step of stays of four: from a cell each."""
    dwell = 4
    drawn = run(dwell, 700 * dwell, batch_size, shared=shared, open_cells=open_cells)
    places = slice(dwell - 1, None, dwell) if open_cells == 1 else slice(None)
    elevation, azimuth, timesteps = (values[places] for values in drawn)
    if open_cells > 1:  # Every step of one of the four turns, each fourth of its visits.
        elevation, azimuth, timesteps = (
            torch.cat([values[turn::open_cells][::dwell] for turn in range(open_cells)])
            for values in (elevation, azimuth, timesteps)
        )
    sampler = CameraSamplerConfig(batch_size=batch_size).build()
    expected_elevation, expected_azimuth = sampler.angles(20_000, torch.Generator().manual_seed(5))
    for view in range(batch_size):
        assert ks_2samp(elevation[:, view], expected_elevation[:, view]).pvalue > 1e-3
        assert ks_2samp(azimuth[:, view], expected_azimuth[:, view]).pvalue > 1e-3
        assert kstest((timesteps[:, view] - 20 + 0.5) / 961, "uniform").pvalue > 1e-3


def test_annealed_timesteps_stay_in_the_range_of_their_step_and_fill_it():
    """Each timestep as a share of its own step's range is uniform."""
    top, steps = ramp((0, 0.98), (4000, 0.5)), 4000
    order = DrawOrderConfig(dwell=4, cells=CELLS).build(CameraSamplerConfig().build())
    generator = torch.Generator().manual_seed(0)
    shares = []
    for step in range(steps):
        high = int(1000 * top(step))
        _, timesteps = order.next(16, 20, high, generator)
        assert 20 <= int(timesteps) <= high
        shares.append((int(timesteps) - 20 + 0.5) / (high - 19))
    assert kstest(shares[3::4], "uniform").pvalue > 1e-3


def test_a_dwell_ends_when_the_range_leaves_its_cell():
    order = DrawOrderConfig(dwell=100, cells=CELLS).build(CameraSamplerConfig().build())
    generator = torch.Generator().manual_seed(0)
    assert int(order.next(16, 900, 980, generator)[1]) >= 900
    assert int(order.next(16, 100, 180, generator)[1]) < 200


def test_the_same_view_is_the_first_of_each_stay():
    """The first visits are those of an order that repeats nothing; the cells' turns are the same."""
    config = DrawOrderConfig(dwell=5, open_cells=2, cells=CELLS, same_view=True)
    order = config.build(CameraSamplerConfig(batch_size=3).build())
    generator = torch.Generator().manual_seed(0)
    drawn = [order.next(16, 20, 980, generator, shared_timestep=False) for _ in range(100)]
    seen = [(tuple(view.elevation.tolist()), tuple(view.azimuth.tolist()), tuple(t.tolist())) for view, t in drawn]
    first = config.dwell * 1 // 2 + 1  # The first stay of the first of two turns: 5 / 2, rounded up.
    assert set(seen[0 : 2 * first : 2]) == {seen[0]}
    assert set(seen[1 : 2 * config.dwell : 2]) == {seen[1]}
    assert seen[2 * first] != seen[0]
    counts = [seen.count(view) for view in set(seen)]
    assert sum(count == config.dwell for count in counts) >= len(counts) - 3, "5 visits each but at the two ends"
    assert all(timesteps.dtype == torch.int64 for _, timesteps in drawn)


@pytest.mark.parametrize("same_view", [False, True])
def test_a_state_goes_on_inside_the_dwell(same_view):
    config = DrawOrderConfig(dwell=6, open_cells=3, cells=CELLS, same_view=same_view)
    sampler = CameraSamplerConfig(batch_size=2).build()
    generator = torch.Generator().manual_seed(0)
    order = config.build(sampler)
    for _ in range(7):
        order.next(16, 20, 980, generator)
    copy, position = config.build(sampler), generator.get_state()
    copy.load_state_dict(order.state_dict())
    expected = [order.next(16, 20, 980, generator)[1].tolist() for _ in range(30)]
    generator.set_state(position)
    assert [copy.next(16, 20, 980, generator)[1].tolist() for _ in range(30)] == expected


@pytest.mark.parametrize(("name", "value"), [("dwell", 0), ("open_cells", -1)])
def test_no_dwell_below_one(name, value):
    with pytest.raises(ValueError, match=f"at least 1 .*but got {value}"):
        DrawOrderConfig(**{name: value})
