"""Cells and buckets, computed by hand."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hash3d.cache import GridConfig, Key
from hash3d.cache.config import PRIMES, RELEASED_GRID
from hash3d.cache.grid import FIELDS

GRID = GridConfig(elevation=20.0, azimuth=20.0, radius=0.1, timestep=100.0).build()


def key(**changes):
    return Key(**{"elevation": 10.0, "azimuth": 30.0, "radius": 1.5, "timestep": 500.0} | changes)


@pytest.mark.parametrize(("one", "other"), [(-1, 359), (-180, 180), (-1e-20, 0), (360, 0), (725, 5), (-725, -5)])
def test_the_azimuth_is_periodic(one, other):
    assert GRID.cell(key(azimuth=float(one))) == GRID.cell(key(azimuth=float(other)))


def test_without_period_it_is_not():
    grid = GridConfig(periodic=False).build()
    assert grid.cell(key(azimuth=-1.0)) != grid.cell(key(azimuth=359.0))


@given(st.floats(-1e6, 1e6))
def test_every_azimuth_has_one_of_the_cells(azimuth):
    assert 0 <= GRID.cell(key(azimuth=azimuth))[1] < 18


def test_a_cell_by_hand():
    assert GRID.cell(Key(elevation=-0.5, azimuth=45.0, radius=1.56, timestep=980.0)) == (-1, 2, 15, 9)


def test_cells_are_half_open():
    assert GRID.cell(key(elevation=19.99)) == GRID.cell(key(elevation=0.0))
    assert GRID.cell(key(elevation=20.0)) != GRID.cell(key(elevation=19.99))


@pytest.mark.parametrize("one", FIELDS)
@pytest.mark.parametrize("other", FIELDS)
def test_swapping_two_named_fields_changes_the_cell(one, other):
    """The values differ so much that no two fields of the key have the same index."""
    values = {"elevation": 50.0, "azimuth": 130.0, "radius": 1.5, "timestep": 850.0}
    swapped = {**values, one: values[other], other: values[one]}
    assert (GRID.cell(Key(**values)) == GRID.cell(Key(**swapped))) == (one == other)


def test_order_permutes_the_cell():
    order = ("timestep", "radius", "azimuth", "elevation")
    reordered = dataclasses.replace(GRID.config, order=order)
    assert reordered.build().cell(key()) == GRID.cell(key())[::-1]


@pytest.mark.parametrize("cell", [(0, 0, 0, 0), (1, 2, 3, 4), (-1, 0, 0, 0), (-3, 17, -20, 9), (-1, -1, -1, -1)])
@pytest.mark.parametrize("num_buckets", [1, 7, 200, 2**31 - 1])
def test_the_bucket_is_the_listing_s_formula(cell, num_buckets):
    i, j, k, l = cell  # noqa: E741
    expected = (i + 73856093 * j + 19349669 * k + 83492791 * l) % num_buckets
    bucket = GridConfig(num_buckets=num_buckets).build().bucket(cell)
    assert bucket == expected
    assert 0 <= bucket < num_buckets
    assert PRIMES == (73856093, 19349669, 83492791)


def test_the_released_arithmetic():
    """Keys [t, elevation, azimuth, distance] over cell sizes [20, 20, 0.1, 10], 200 buckets, no wrap."""
    grid = RELEASED_GRID.build()
    for t, elevation, azimuth, distance in [(623, 33.2, -147.33, 1.5), (20, -9.0, 179.95, 3.8), (980, 0.0, 0.05, 1.0)]:
        values, sizes = (t, elevation, azimuth, distance), (20, 20, 0.1, 10)
        cell = tuple(math.floor(value / size) for value, size in zip(values, sizes, strict=True))
        bucket = (cell[0] + cell[1] * 73856093 + cell[2] * 19349669 + cell[3] * 83492791) % 200
        own = Key(elevation=elevation, azimuth=azimuth, radius=distance, timestep=float(t))
        assert grid.cell(own) == cell
        assert grid.bucket(grid.cell(own)) == bucket


def test_released_views_meet_only_twenty_degrees_apart():
    """200 buckets of 0.1 degree, and a prime that shares no factor with 200."""
    grid = RELEASED_GRID.build()
    buckets = [grid.bucket(grid.cell(key(azimuth=tenth / 10 + 0.05))) for tenth in range(400)]
    assert len(set(buckets[:200])) == 200
    assert buckets[:200] == buckets[200:]


@pytest.mark.parametrize(
    ("one", "other", "gap"), [(350, 10, 20), (-10, 10, 20), (0, 180, 180), (0, 270, 90), (725, 5, 0)]
)
def test_gaps_go_the_short_way_round(one, other, gap):
    assert key(azimuth=float(one)).gaps(key(azimuth=float(other)))["azimuth"] == pytest.approx(gap)


def test_distance_is_in_cells():
    other = key(elevation=30.0, azimuth=-10.0 + 360.0, radius=1.7)
    assert GRID.distance(key(), other) == pytest.approx(math.sqrt(1 + 4 + 4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"azimuth": 0.0}, "cell size azimuth between 0.001 and 1,000,000, but got 0"),
        ({"timestep": -1.0}, "cell size timestep between 0.001 and 1,000,000, but got -1"),
        ({"radius": math.inf}, "cell size radius between 0.001 and 1,000,000, but got inf"),
        ({"radius": math.nan}, "cell size radius between 0.001 and 1,000,000, but got nan"),
        ({"num_buckets": 0}, "at least one bucket, but got num_buckets=0"),
        ({"order": ("azimuth", "azimuth", "radius", "timestep")}, "once each"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(ValueError, match=message):
        GridConfig(**settings)
