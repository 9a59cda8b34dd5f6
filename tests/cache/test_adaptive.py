"""The adaptive grid on worlds where the best cell is known."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hash3d.cache import GridConfig, Hash3DConfig
from hash3d.cache.adaptive import AdaptiveTable, mean_cosine
from hash3d.cache.store import Entry
from hash3d.cache.table import HashTable
from tests.cache.entries import LATENTS, entry, key

SIZES = (10.0, 30.0, 90.0)


def build(gamma=0.9, queue_length=3, max_bytes=10**6):
    grids = [GridConfig(elevation=20.0, azimuth=size, radius=1.0, timestep=100.0).build() for size in SIZES]
    tables = [
        HashTable(grid, queue_length=queue_length, aggregation="softmax", verify=True, max_bytes=max_bytes)
        for grid in grids
    ]
    return AdaptiveTable(tables, gamma=gamma)


def direction(angle):
    """A feature [1, 2] that points to an angle in degrees."""
    return torch.stack([torch.tensor(angle).deg2rad().cos(), torch.tensor(angle).deg2rad().sin()])[None]


def run(table, feature_of, steps=400, seed=0):
    """Entries at random azimuths, with the feature that belongs there."""
    draws = random.Random(seed)
    for step in range(steps):
        azimuth = draws.uniform(0, 90)
        feature = direction(feature_of(azimuth, draws))
        table.insert(Entry(key=key(azimuth=azimuth), latents=LATENTS, feature=feature, step=step), 0)


def gap_of(table, azimuth):
    found = table.lookup(key(azimuth=azimuth), LATENTS, 0)
    return max(abs(each.key.azimuth - azimuth) for each in found.entries)


def test_where_features_turn_with_the_view_the_finest_cell_serves():
    table = build()
    run(table, lambda azimuth, _: 4 * azimuth)
    for azimuth in (5.0, 35.0, 71.0):
        fine, middle, coarse = table.similarity(key(azimuth=azimuth))
        assert fine > middle > coarse
        assert gap_of(table, azimuth) < 10


def test_where_a_cell_is_bad_another_serves():
    """In azimuths 0 to 10 the features are random, elsewhere all alike: the coarse cell is better than the fine one."""
    table = build(queue_length=30)
    run(table, lambda azimuth, draws: draws.uniform(0, 360) if azimuth < 10 else 0.0)
    fine, middle, coarse = table.similarity(key(azimuth=5.0))
    assert fine < middle < coarse
    assert gap_of(table, 5.0) > 30


def test_the_running_similarity_by_hand():
    table = build(gamma=0.75)
    for step, angle in enumerate((0.0, 60.0, 90.0)):
        table.insert(Entry(key=key(), latents=LATENTS, feature=direction(angle), step=step), 0)
    first = 0.5  # cos 60
    second = (0.0 + 3**0.5 / 2) / 2  # cos 90, cos 30
    assert table.similarity(key()) == pytest.approx([0.75 * first + 0.25 * second] * 3, abs=1e-6)


def test_a_cell_that_holds_nothing_does_not_serve():
    """The fine cell of 25 is empty, the middle one holds an entry: never compared, it serves all the same."""
    table = build()
    assert table.lookup(key(azimuth=25), LATENTS, 0) is None
    table.insert(entry(3, place=key(azimuth=5)), 0)
    assert table.similarity(key(azimuth=25)) == [None, None, None]
    assert table.lookup(key(azimuth=25), LATENTS, 0).feature.mean() == 3


@settings(max_examples=50, deadline=None)
@given(st.integers(20, 400), st.integers(0, 2**31))
def test_entries_count_once_and_stay_in_the_budget(max_bytes, seed):
    config = Hash3DConfig(grid=GridConfig(azimuth=10.0), other_grids=(GridConfig(azimuth=60.0),), max_bytes=max_bytes)
    store = config.build().store
    draws = random.Random(seed)
    numbers = draws.randint(1, 9)
    for step in range(40):
        store.insert(entry(step, numbers=numbers, place=key(azimuth=draws.uniform(0, 360))), 0)
        assert store.num_bytes <= max_bytes
        assert len({id(item) for item in store.entries()}) == len(store)


def test_a_restored_store_goes_on_identically():
    table, copy = build(), build()
    run(table, lambda azimuth, draws: azimuth * 2, steps=60)
    table.expire(20)
    copy.load_state_dict(table.state_dict())
    for each in (table, copy):
        run(each, lambda azimuth, draws: azimuth * 3, steps=30, seed=1)
    for azimuth in range(0, 90, 7):
        one, other = (each.lookup(key(azimuth=azimuth), LATENTS, 0) for each in (table, copy))
        assert torch.equal(one.feature, other.feature)
        assert table.similarity(key(azimuth=azimuth)) == copy.similarity(key(azimuth=azimuth))


def test_clearing_forgets_the_similarities():
    table = build()
    run(table, lambda azimuth, _: 0.0, steps=20)
    table.clear()
    assert (len(table), table.num_bytes, table.similarity(key())) == (0, 0, [None] * 3)


def test_mean_cosine():
    stored = [direction(angle) for angle in (0.0, 90.0, 180.0)]
    assert mean_cosine(5 * direction(0.0), stored).item() == pytest.approx(0.0, abs=1e-6)
    assert mean_cosine(direction(30.0), stored[:2]).item() == pytest.approx((3**0.5 / 2 + 0.5) / 2)
