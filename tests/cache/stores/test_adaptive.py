"""The adaptive grid on worlds where the best cell is known."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hash3d.cache import GridConfig, Hash3DConfig
from hash3d.cache.running import RunningMean
from hash3d.cache.stores.adaptive import AdaptiveTable, mean_cosine
from hash3d.cache.table import HashTable
from tests.cache.entries import LATENTS, entry, feature_of, insert, key, lookup, make

SIZES = (10.0, 30.0, 90.0)


def of_grids(grids, queue_length, gamma=0.9, max_bytes=10**6):
    options = {"queue_length": queue_length, "nearest": False, "verify": True, "max_bytes": max_bytes}
    return AdaptiveTable([HashTable(grid.build(), **options) for grid in grids], gamma=gamma, max_bytes=max_bytes)


def build(gamma=0.9, queue_length=3):
    grids = [GridConfig(elevation=20.0, azimuth=size, radius=1.0, timestep=100.0) for size in SIZES]
    return of_grids(grids, queue_length, gamma)


def direction(angle):
    """A feature [1, 2] that points to an angle in degrees."""
    return torch.stack([torch.tensor(angle).deg2rad().cos(), torch.tensor(angle).deg2rad().sin()])[None]


def run(table, feature_of, steps=400, seed=0):
    """Entries at random azimuths, with the feature that belongs there."""
    draws = random.Random(seed)
    for step in range(steps):
        azimuth = draws.uniform(0, 90)
        feature = direction(feature_of(azimuth, draws))
        insert(table, make(key(azimuth=azimuth), LATENTS, feature, step))


def similarity(table, place):
    return table.similarity(table.locate(place, 0, ""))


def gap_of(table, azimuth):
    found = lookup(table, key(azimuth=azimuth))
    return max(abs(each.key.azimuth - azimuth) for each in found)


def test_where_features_turn_with_the_view_the_finest_cell_serves():
    table = build()
    run(table, lambda azimuth, _: 4 * azimuth)
    for azimuth in (5.0, 35.0, 71.0):
        fine, middle, coarse = similarity(table, key(azimuth=azimuth))
        assert fine > middle > coarse
        assert gap_of(table, azimuth) < 10


def test_where_a_cell_is_bad_another_serves():
    """In azimuths 0 to 10 the features are random, elsewhere all alike: the coarse cell is better than the fine one."""
    table = build(queue_length=30)
    run(table, lambda azimuth, draws: draws.uniform(0, 360) if azimuth < 10 else 0.0)
    fine, middle, coarse = similarity(table, key(azimuth=5.0))
    assert fine < middle < coarse
    assert gap_of(table, 5.0) > 30


def test_the_running_similarity_by_hand():
    table = build(gamma=0.75)
    for step, angle in enumerate((0.0, 60.0, 90.0)):
        insert(table, make(key(), LATENTS, direction(angle), step))
    first = 0.5  # cos 60
    second = (0.0 + 3**0.5 / 2) / 2  # cos 90, cos 30
    assert similarity(table, key()) == pytest.approx([0.75 * first + 0.25 * second] * 3, abs=1e-6)


def test_a_cell_that_holds_nothing_does_not_serve():
    """The fine cell of 25 is empty, the middle one holds an entry: never compared, it serves all the same."""
    table = build()
    assert lookup(table, key(azimuth=25)) == ()
    insert(table, entry(3, place=key(azimuth=5)))
    assert similarity(table, key(azimuth=25)) == [None, None, None]
    assert feature_of(lookup(table, key(azimuth=25))).mean() == 3


@settings(max_examples=10, deadline=None)
@given(st.integers(20, 400), st.integers(0, 2**31))
def test_entries_count_once_and_stay_in_the_budget(max_bytes, seed):
    config = Hash3DConfig(grid=GridConfig(azimuth=10.0), other_grids=(GridConfig(azimuth=60.0),), max_bytes=max_bytes)
    store = config.build().store
    draws = random.Random(seed)
    numbers = draws.randint(1, 9)
    for step in range(40):
        insert(store, entry(step, numbers=numbers, place=key(azimuth=draws.uniform(0, 360))))
        assert store.num_bytes <= max_bytes
        assert len({id(item) for item in store.entries()}) == len(store.entries())


def test_a_restored_store_goes_on_identically():
    table, copy = build(), build()
    run(table, lambda azimuth, draws: azimuth * 2, steps=60)
    table.expire(20)
    copy.load_state_dict(table.state_dict())
    for each in (table, copy):
        run(each, lambda azimuth, draws: azimuth * 3, steps=30, seed=1)
    for azimuth in range(0, 90, 7):
        one, other = (lookup(each, key(azimuth=azimuth)) for each in (table, copy))
        assert torch.equal(feature_of(one), feature_of(other))
        assert similarity(table, key(azimuth=azimuth)) == similarity(copy, key(azimuth=azimuth))


def test_entries_come_in_the_order_of_insertion_whichever_tables_hold_them():
    """All at one step. The first has left the table of narrow azimuths, but not that of narrow timesteps."""
    grids = [GridConfig(azimuth=10.0, timestep=1000.0), GridConfig(azimuth=360.0, timestep=10.0)]
    table = of_grids(grids, queue_length=2)
    inserted = [
        entry(place=key(azimuth=azimuth, timestep=time)) for azimuth, time in ((5, 5), (99, 5), (5, 995), (5, 500))
    ]
    for each in inserted:
        insert(table, each)
    assert [len(each.entries()) for each in table.tables] == [3, 4]
    assert table.entries() == inserted


def test_a_restored_table_takes_nothing_that_it_had_forgotten():
    """The first table lost the first entry to the second, which is gone too: it has room again, and stays empty."""
    grids = [GridConfig(azimuth=10.0, timestep=1000.0), GridConfig(azimuth=360.0, timestep=10.0)]
    table, copy = (of_grids(grids, queue_length=1) for _ in range(2))
    first, second = (entry(step, place=key(azimuth=5, timestep=500 * step)) for step in range(2))
    insert(table, first)
    insert(table, second)
    table.remove(second)
    copy.load_state_dict(table.state_dict())
    for each in (table, copy):
        assert [[item.step for item in part.entries()] for part in each.tables] == [[], [0]]
        assert (len(each.entries()), each.num_bytes) == (1, 20)


def test_the_budget_counts_an_entry_of_several_tables_once():
    """The oldest leaves all of them."""
    table = of_grids([GridConfig(azimuth=10.0), GridConfig(azimuth=60.0)], queue_length=3, max_bytes=3 * 20)
    for step in range(5):
        insert(table, entry(step, place=key(azimuth=15 * step)))
    assert [item.step for item in table.entries()] == [2, 3, 4]
    assert [[item.step for item in part.entries()] for part in table.tables] == [[2, 3, 4]] * 2


def test_a_lookup_reads_no_similarity_unless_several_tables_hold_something(monkeypatch):
    table = build()
    run(table, lambda azimuth, _: azimuth, steps=20)
    table.expire(20)
    insert(table, entry(20, numbers=2, place=key(azimuth=5)))
    reads = []
    monkeypatch.setattr(RunningMean, "read", lambda running: reads.append(running))
    assert lookup(table, key(azimuth=85))[0].step == 20  # The coarse table alone.
    assert reads == []
    lookup(table, key(azimuth=25))  # The middle one and the coarse one.
    assert len(reads) == 2


def test_when_a_similarity_is_read_does_not_matter():
    often, once = RunningMean(0.9), RunningMean(0.9)
    assert once.read() is None
    for measured in torch.linspace(-1, 1, 9):
        often.add(measured)
        once.add(measured)
        often.read()
    assert often.read() == once.read()


@pytest.mark.gpu
def test_on_a_gpu_nothing_synchronises_and_the_choice_is_that_of_a_cpu():
    """The GPU sleeps before each insert, so that measurements are still on their way when they are asked for."""
    draws = random.Random(0)
    places = [key(azimuth=draws.uniform(0, 90)) for _ in range(100)]
    features = [direction(draws.uniform(0, 360)) for _ in places]
    steps = {}
    for device in ("cpu", "cuda"):
        table, latents, moved = build(), LATENTS.to(device), [feature.to(device) for feature in features]
        steps[device] = []
        torch.cuda.set_sync_debug_mode("error")
        try:
            for step, (place, feature) in enumerate(zip(places, moved, strict=True)):
                found = lookup(table, place)
                steps[device].append([each.step for each in found])
                torch.cuda._sleep(1_000_000)
                insert(table, make(place, latents, feature, step))
        finally:
            torch.cuda.set_sync_debug_mode("default")
        copy = build()
        copy.load_state_dict(table.state_dict())
        for store in (table, copy):
            insert(store, make(places[0], latents, moved[1], 100))
        assert similarity(copy, places[0]) == similarity(table, places[0])
    assert steps["cuda"] == steps["cpu"]


def test_clearing_forgets_the_similarities():
    table = build()
    run(table, lambda azimuth, _: 0.0, steps=20)
    table.clear()
    assert (len(table.entries()), table.num_bytes, similarity(table, key())) == (0, 0, [None] * 3)


def test_mean_cosine():
    stored = [direction(angle) for angle in (0.0, 90.0, 180.0)]
    assert mean_cosine(5 * direction(0.0), stored).item() == pytest.approx(0.0, abs=1e-6)
    assert mean_cosine(direction(30.0), stored[:2]).item() == pytest.approx((3**0.5 / 2 + 0.5) / 2)
