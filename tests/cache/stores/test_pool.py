"""The queue without keys."""

import torch

from hash3d.cache.stores.pool import Pool
from tests.cache.entries import entry, feature_of, key


def held(pool):
    return [item.step for item in pool.entries()]


def test_an_empty_pool_finds_nothing():
    assert Pool(length=3, max_bytes=1000).lookup(key(), 0) is None


def test_the_key_does_not_matter():
    pool = Pool(length=3, max_bytes=1000)
    for step in (0, 4):
        pool.insert(entry(step, place=key(azimuth=90 * step)), 0)
    assert torch.equal(feature_of(pool.lookup(key(elevation=80), 0)), torch.full((1, 4), 2.0))


def test_length_and_bytes_are_never_exceeded_and_the_oldest_leaves():
    pool = Pool(length=3, max_bytes=1000)
    for step in range(10):
        pool.insert(entry(step), 0)
        assert len(pool) <= 3
    assert held(pool) == [7, 8, 9]
    tight = Pool(length=100, max_bytes=45)
    for step in range(10):
        tight.insert(entry(step), 0)
        assert tight.num_bytes <= 45
    assert held(tight) == [8, 9]


def test_an_entry_beyond_the_budget_pushes_nothing_out():
    pool = Pool(length=1, max_bytes=20)
    pool.insert(entry(0, numbers=4), 0)
    pool.insert(entry(1, numbers=5), 0)
    assert held(pool) == [0]


def test_clearing_and_restoring():
    pool = Pool(length=2, max_bytes=1000)
    pool.insert(entry(1), 0)
    pool.insert(entry(2), 0)
    state = pool.state_dict()
    pool.clear()
    assert (len(pool), pool.num_bytes) == (0, 0)
    pool.load_state_dict(state)
    assert pool.state_dict() == state
    assert len(pool) == 2
