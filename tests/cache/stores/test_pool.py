"""The queue without keys."""

import torch

from hash3d.cache.state import load_store, save_store
from tests.cache.entries import entry, feature_of, insert, key, lookup, make_pool


def held(pool):
    return [item.step for item in pool.entries()]


def test_an_empty_pool_finds_nothing():
    assert lookup(make_pool(length=3, max_bytes=1000), key()) == ()


def test_the_key_does_not_matter():
    pool = make_pool(length=3, max_bytes=1000)
    for step in (0, 4):
        insert(pool, entry(step, place=key(azimuth=90 * step)))
    assert torch.equal(feature_of(lookup(pool, key(elevation=80))), torch.full((1, 4), 2.0))


def test_length_and_bytes_are_never_exceeded_and_the_oldest_leaves():
    pool = make_pool(length=3, max_bytes=1000)
    for step in range(10):
        insert(pool, entry(step))
        assert len(pool.entries()) <= 3
    assert held(pool) == [7, 8, 9]
    tight = make_pool(length=100, max_bytes=45)
    for step in range(10):
        insert(tight, entry(step))
        assert tight.num_bytes <= 45
    assert held(tight) == [8, 9]


def test_an_entry_beyond_the_budget_pushes_nothing_out():
    pool = make_pool(length=1, max_bytes=20)
    insert(pool, entry(0, numbers=4))
    insert(pool, entry(1, numbers=5))
    assert held(pool) == [0]


def test_clearing_and_restoring():
    pool = make_pool(length=2, max_bytes=1000)
    insert(pool, entry(1))
    insert(pool, entry(2))
    state = save_store(pool)
    pool.clear()
    assert (len(pool.entries()), pool.num_bytes) == (0, 0)
    load_store(pool, state)
    assert save_store(pool) == state
    assert len(pool.entries()) == 2
