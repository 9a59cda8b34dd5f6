"""The view order keeps every marginal distribution, and revisits the cells that it should."""

import functools
import itertools
import json

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp, kstest

from hash3d.cache import GridConfig, Hash3DConfig, Key
from hash3d.cache.config import RELEASED_GRID
from hash3d.cameras import CameraSamplerConfig
from hash3d.recipes import view_order
from hash3d.recipes.stage import revisit_cells
from hash3d.recipes.view_order import ViewOrderConfig
from hash3d.schedules import ramp
from hash3d.systems import sds_gs, zero123_gs
from hash3d.unet import apply_hash3d
from tests.tiny_models import DOWN, UP, tiny_unet, unet_inputs

CELLS = GridConfig(elevation=20.0, azimuth=30.0, radius=0.25, timestep=100.0)
RANGES = {"radius_range": (1.4, 2.1), "fov_y_range": (40.0, 70.0)}
"""The radii lie in four cells, of which the first and the last reach beyond the range."""
NAMES = ("elevation", "azimuth", "radius", "fov_y")


def run(dwell, steps, batch_size=1, shared=True, open_cells=1, ranges=RANGES):
    """Elevations, azimuths, radii, fields of view and timesteps [steps, B] of a run."""
    config = ViewOrderConfig(visits_per_cell=dwell, active_cells=open_cells, grid=CELLS)
    order = config.build(CameraSamplerConfig(batch_size=batch_size, **ranges))
    generator = torch.Generator().manual_seed(0)
    drawn = [order.next(16, 20, 980, generator, shared_timestep=shared) for _ in range(steps)]
    return (
        *(torch.stack([getattr(cameras, name) for cameras, _ in drawn]) for name in NAMES),
        torch.stack([timesteps for _, timesteps in drawn]),
    )


def cells_of(elevation, azimuth, radius, timestep):
    grid = CELLS.build()
    rows = zip(elevation.tolist(), azimuth.tolist(), radius.tolist(), timestep.tolist(), strict=True)
    return [grid.cell(Key(elevation=e, azimuth=a, radius=r, timestep=t)) for e, a, r, t in rows]


def test_a_dwell_of_one_draws_each_view_anew():
    """The first view of a cell is the sampler's, number for number."""
    generator = torch.Generator().manual_seed(0)
    sampler = CameraSamplerConfig(**RANGES)
    *views, timesteps = run(1, 20)
    for step in range(20):
        assert timesteps[step].tolist() == torch.randint(20, 981, (1,), generator=generator).tolist()
        cameras = sampler.sample(16, generator)
        for name, values in zip(NAMES, views, strict=True):
            assert torch.equal(getattr(cameras, name), values[step])


@pytest.mark.parametrize("ranges", [RANGES, {}], ids=["ranges", "fixed"])
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("dwell", [2, 5])
def test_every_dwell_stays_in_one_cell(dwell, batch_size, ranges):
    elevation, azimuth, radius, fov_y, timesteps = run(dwell, 12 * dwell, batch_size, ranges=ranges)
    assert len(radius.unique()) == len(fov_y.unique()) == (radius.numel() if ranges else 1), "one draw a view"
    visited = set()
    for view in range(batch_size):
        cells = cells_of(elevation[:, view], azimuth[:, view], radius[:, view], timesteps[:, view])
        for start in range(0, len(cells), dwell):
            assert len(set(cells[start : start + dwell])) == 1
        visited |= set(cells)
        assert len(set(azimuth[:, view].tolist())) == 12 * dwell, "a camera repeats"
    assert len(visited) > 8


@pytest.mark.parametrize("batch_size", [1, 2])
def test_open_cells_are_visited_in_turn_and_left_one_at_a_time(batch_size):
    """Each of 3 cells gets 6 visits, 3 steps apart; first stays are shorter, so one opens every 4 to 7."""
    dwell, open_cells = 6, 3
    elevation, azimuth, radius, _, timesteps = run(dwell, 20 * dwell * open_cells, batch_size, open_cells=open_cells)
    opened = []
    for turn in range(open_cells):
        first = dwell * (turn + 1) // open_cells
        views = zip(*(values[turn::open_cells] for values in (elevation, azimuth, radius, timesteps)), strict=True)
        cells = [tuple(cells_of(*view)) for view in views]
        starts = [0, *range(first, len(cells), dwell)]
        assert all(len(set(cells[a:b])) == 1 for a, b in itertools.pairwise(starts))
        opened += [turn + open_cells * start for start in starts if start >= first]
    assert set(np.diff(sorted(opened))) == {4, 7}


@functools.cache
def draw_angles(batch_size):
    """The sampler's own elevations and azimuths [3000, B]."""
    sampler = CameraSamplerConfig(batch_size=batch_size)
    generator = torch.Generator().manual_seed(5)
    views = [sampler.sample(8, generator) for _ in range(3000)]
    return torch.stack([cameras.elevation for cameras in views]), torch.stack([cameras.azimuth for cameras in views])


@pytest.mark.parametrize(
    ("batch_size", "shared", "open_cells"), [(1, True, 1), (1, True, 4), (4, True, 4), (4, False, 1)]
)
def test_the_marginals_are_the_samplers(batch_size, shared, open_cells):
    """Kolmogorov-Smirnov on each marginal, of every fourth step of episodes of four: from a cell each.

    Of 300 samples a distribution function that is off by 0.18 anywhere is found at least 99 times of 100: the test
    rejects from 0.113 on, and its statistic falls short of the distance by more than 0.067 = sqrt(ln(100) / 600) once
    in 100 (Dvoretzky-Kiefer-Wolfowitz).
    """
    dwell = 4
    drawn = run(dwell, 300 * dwell, batch_size, shared=shared, open_cells=open_cells)
    places = slice(dwell - 1, None, dwell) if open_cells == 1 else slice(None)
    elevation, azimuth, radius, fov_y, timesteps = (values[places] for values in drawn)
    if open_cells > 1:  # Every step of one of the four turns, each fourth of its visits.
        elevation, azimuth, radius, fov_y, timesteps = (
            torch.cat([values[turn::open_cells][::dwell] for turn in range(open_cells)])
            for values in (elevation, azimuth, radius, fov_y, timesteps)
        )
    expected_elevation, expected_azimuth = draw_angles(batch_size)
    for view in range(batch_size):
        assert ks_2samp(elevation[:, view], expected_elevation[:, view]).pvalue > 1e-3
        assert ks_2samp(azimuth[:, view], expected_azimuth[:, view]).pvalue > 1e-3
        assert kstest(radius[:, view], "uniform", (1.4, 0.7)).pvalue > 1e-3
        assert kstest(fov_y[:, view], "uniform", (40, 30)).pvalue > 1e-3
        assert kstest((timesteps[:, view] - 20 + 0.5) / 961, "uniform").pvalue > 1e-3


def test_inside_a_stay_the_field_of_view_is_free_and_the_radius_fills_its_cell():
    """The field of view forgets the first view's; the place of a radius in its cell's part of the range does too."""
    _, _, radius, fov_y, _ = run(2, 1000)
    low = (radius / 0.25).floor() * 0.25
    low, high = low.clamp(min=1.4), (low + 0.25).clamp(max=2.1)
    for values in (fov_y, (radius - low) / (high - low)):
        first, second = values[0::2, 0], values[1::2, 0]
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.179, "4 / sqrt(500)"


@pytest.mark.parametrize("reach", [(0.7, 0.7), (1.5, 1.5), (1.7, 1.7), (1.4, 1.4 + 1e-7), (1.7 - 1e-7, 1.7 + 1e-7)])
@pytest.mark.parametrize("size", [0.1, 0.05])
def test_radii_that_float32_rounds_over_a_border_find_their_cell(reach, size):
    """In float32 0.7 lies below 7 cells of 0.1, and 1.7 above 17: the radius counts that the camera has."""
    cells = GridConfig(elevation=20.0, azimuth=30.0, radius=size)
    order = ViewOrderConfig(visits_per_cell=4, grid=cells).build(CameraSamplerConfig(batch_size=2, radius_range=reach))
    generator = torch.Generator().manual_seed(0)
    radii = torch.stack([order.next(16, 20, 980, generator)[0].radius for _ in range(200)]).double()
    visited = (radii / size).floor().reshape(50, 4, 2)
    assert torch.equal(visited, visited[:, :1].expand_as(visited))
    assert torch.all((radii - sum(reach) / 2).abs() < 2.5e-7), "half the range and a rounding"


def test_annealed_timesteps_stay_in_the_range_of_their_step_and_fill_it():
    """Each timestep as a share of its own step's range is uniform."""
    top, steps = ramp((0, 0.98), (1600, 0.5)), 1600
    order = ViewOrderConfig(visits_per_cell=4, grid=CELLS).build(CameraSamplerConfig())
    generator = torch.Generator().manual_seed(0)
    shares = []
    for step in range(steps):
        high = int(1000 * top(step))
        _, timesteps = order.next(16, 20, high, generator)
        assert 20 <= int(timesteps) <= high
        shares.append((int(timesteps) - 20 + 0.5) / (high - 19))
    assert kstest(shares[3::4], "uniform").pvalue > 1e-3


@pytest.mark.parametrize("stage", [sds_gs.supplement(), zero123_gs.SCALES["released"]()], ids=["sds_gs", "zero123_gs"])
@pytest.mark.filterwarnings("ignore:cache.view was given another timestep")
def test_the_views_of_a_batch_hit_together_but_for_chance_finds(stage):
    """Through the default cache at full scale. A batch that returns to its cells hits as a whole, unless a view's first
    visit had found an entry of an earlier stay, which has then grown too old (at most 1 return in 20)."""
    returns, opened = hits_by_visit(stage, Hash3DConfig())
    assert sum(hits == 4 for hits in returns) > 0.95 * len(returns)
    assert sum(hits == 0 for hits in opened) > 0.4 * len(opened)
    returns, opened = hits_by_visit(stage, Hash3DConfig(whole_batch=True))
    assert set(returns) | set(opened) == {0, 4}, "and then nothing is mixed"


def hits_by_visit(stage, config, steps=96):
    """Views that hit at each step that returns to its cells, and at each that opens new ones."""
    stage, unet, grid = revisit_cells(stage, config), small_unet(), config.grid.build()
    cache, inputs = apply_hash3d(unet, config), unet_inputs(unet, views=4, branches=1)
    order, generator = stage.view_order.build(stage.cameras), torch.Generator().manual_seed(0)
    returns, opened, seen = [], [], set()
    for step in range(steps):
        low, high = stage.guidance.timestep_range(step, 1000)
        cameras, timesteps = order.next(8, low, high, generator, shared_timestep=stage.guidance.shared_timestep)
        places = {name: getattr(cameras, name).tolist() for name in NAMES[:3]} | {"timestep": timesteps.tolist()}
        before = cache.statistics.shallow
        with torch.no_grad(), cache.view(**places):
            unet(**inputs)
        views = zip(*places.values(), strict=True)
        cells = tuple(grid.cell(Key(**dict(zip(places, view, strict=True)))) for view in views)
        (returns if cells in seen else opened).append(cache.statistics.shallow - before)
        seen.add(cells)
    return returns, opened


def small_unet():
    """One that costs next to nothing."""
    blocks = {"down_block_types": DOWN[3:] * 2, "up_block_types": UP[:1] * 2, "block_out_channels": (4, 4)}
    return tiny_unet(sample_size=4, layers_per_block=1, mid_block_type=None, **blocks)


def test_a_dwell_ends_when_the_range_leaves_its_cell():
    order = ViewOrderConfig(visits_per_cell=100, grid=CELLS).build(CameraSamplerConfig())
    generator = torch.Generator().manual_seed(0)
    assert int(order.next(16, 900, 980, generator)[1]) >= 900
    assert int(order.next(16, 100, 180, generator)[1]) < 200


def numbers(cameras, timesteps):
    """All numbers of a batch, to compare."""
    return *(tuple(getattr(cameras, name).tolist()) for name in NAMES), tuple(timesteps.tolist())


def test_a_state_goes_on_inside_the_dwell():
    config = ViewOrderConfig(visits_per_cell=6, active_cells=3, grid=CELLS)
    sampler = CameraSamplerConfig(batch_size=2, **RANGES)
    generator = torch.Generator().manual_seed(0)
    order = config.build(sampler)
    for _ in range(7):
        order.next(16, 20, 980, generator)
    copy, position = config.build(sampler), generator.get_state()
    copy.load_state_dict(json.loads(json.dumps(order.state_dict())))
    expected = [numbers(*order.next(16, 20, 980, generator)) for _ in range(30)]
    generator.set_state(position)
    assert [numbers(*copy.next(16, 20, 980, generator)) for _ in range(30)] == expected


@pytest.mark.parametrize(("name", "value"), [("visits_per_cell", 0), ("active_cells", -1)])
def test_no_dwell_below_one(name, value):
    with pytest.raises(ValueError, match=f"^Expected {name} at least 1, but got {value}\\.$"):
        ViewOrderConfig(**{name: value})


@pytest.mark.parametrize(
    "grid",
    [GridConfig(azimuth=50.0), GridConfig(azimuth=50.0, periodic=False), GridConfig(azimuth=400.0), RELEASED_GRID],
    ids=["last cell cut at 360", "no period", "one cell", "released"],
)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_views_inside_a_cell_are_sampled_at_once(grid, batch_size, monkeypatch):
    """No sample is rejected: neither where the last cell ends at 360 degrees, nor where 181 and -179 are two places."""
    monkeypatch.setattr(view_order, "MAX_TRIES", 1)
    order = ViewOrderConfig(visits_per_cell=3, grid=grid).build(CameraSamplerConfig(batch_size=batch_size))
    generator = torch.Generator().manual_seed(0)
    azimuths = torch.stack([order.next(16, 20, 980, generator)[0].azimuth for _ in range(240)])
    azimuths = azimuths.reshape(80, 3, batch_size).double()
    if grid.periodic:
        azimuths = azimuths % 360.0
    cells = (azimuths / grid.azimuth).floor()
    assert torch.equal(cells, cells[:, :1].expand_as(cells))
    assert len(cells.unique()) == {50.0: 8, 400.0: 1}.get(grid.azimuth, len(cells.unique()))
