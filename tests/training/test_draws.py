"""The order of draws keeps every marginal distribution, and stays where it should."""

import pytest
import torch
from scipy.stats import ks_2samp, kstest

from hash3d.cache.grid import GridConfig, Key
from hash3d.cameras import CameraSamplerConfig
from hash3d.schedules import ramp
from hash3d.training.draws import DrawOrderConfig

CELLS = GridConfig(elevation=20.0, azimuth=30.0, timestep=100.0)


def run(dwell, steps, batch_size=1, seed=0, low=20, high=980, shared=True, cells=CELLS):
    """Elevations, azimuths and timesteps [steps, B] of a run."""
    order = DrawOrderConfig(dwell=dwell, cells=cells).build(CameraSamplerConfig(batch_size=batch_size).build())
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


def test_a_dwell_of_one_is_the_sampler():
    """Without a dwell the cameras are the sampler's own, number for number."""
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


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("shared", [True, False])
def test_the_marginals_are_the_samplers(batch_size, shared):
    """Kolmogorov-Smirnov on each marginal, of the last steps of many dwells: they are independent of each other."""
    dwell = 4
    elevation, azimuth, timesteps = (
        values[dwell - 1 :: dwell] for values in run(dwell, 700 * dwell, batch_size, shared=shared)
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


def test_a_state_goes_on_inside_the_dwell():
    config, sampler = DrawOrderConfig(dwell=6, cells=CELLS), CameraSamplerConfig(batch_size=2).build()
    generator = torch.Generator().manual_seed(0)
    order = config.build(sampler)
    for _ in range(3):
        order.next(16, 20, 980, generator)
    copy, position = config.build(sampler), generator.get_state()
    copy.load_state_dict(order.state_dict())
    expected = [order.next(16, 20, 980, generator)[1].tolist() for _ in range(9)]
    generator.set_state(position)
    assert [copy.next(16, 20, 980, generator)[1].tolist() for _ in range(9)] == expected


def test_no_dwell_below_one():
    with pytest.raises(ValueError, match="dwell of at least 1 step, but got 0"):
        DrawOrderConfig(dwell=0)
