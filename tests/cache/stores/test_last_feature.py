"""DeepCache's store."""

from hash3d.cache.state import load_store, save_store
from hash3d.cache.stores.last_feature import LastFeature
from tests.cache.entries import entry, insert, key, lookup


def run(store, calls, row=0, start=0):
    """The pattern of a run: F where a call finds nothing and stores, else the step of what it found."""
    pattern = []
    for step in range(start, start + calls):
        found = lookup(store, key(azimuth=50 * step), row)
        if not found:
            insert(store, entry(step), row)
        pattern.append(found[0].step if found else "F")
    return pattern


def test_every_nth_call_finds_nothing():
    assert run(LastFeature(interval=3, max_bytes=1000), 7) == ["F", 0, 0, "F", 3, 3, "F"]
    assert run(LastFeature(interval=1, max_bytes=1000), 3) == ["F", "F", "F"]


def test_rows_do_not_share():
    store = LastFeature(interval=3, max_bytes=1000)
    assert run(store, 2, row=0) == ["F", 0]
    assert run(store, 2, row=1, start=10) == ["F", 10]
    assert store.num_bytes == 40


def test_the_budget():
    store = LastFeature(interval=3, max_bytes=30)
    insert(store, entry(0), 0)
    insert(store, entry(1), 1)
    assert store.num_bytes == 20
    insert(store, entry(2), 0)
    assert [item.step for item in store.entries()] == [2]


def test_a_restored_store_goes_on_counting():
    store = LastFeature(interval=3, max_bytes=1000)
    run(store, 2)
    copy = LastFeature(interval=3, max_bytes=1000)
    load_store(copy, save_store(store))
    assert run(copy, 3, start=2) == run(store, 3, start=2) == [0, "F", 3]
    copy.clear()
    assert copy.num_bytes == 0
    assert lookup(copy, key()) == ()


def test_expiry():
    store = LastFeature(interval=100, max_bytes=1000)
    for step, row in ((0, 0), (5, 1)):
        insert(store, entry(step), row)
    store.expire(5)
    assert [item.step for item in store.entries()] == [5]
