"""The table by hand; `test_table_model.py` has it beside a brute force."""

import pytest
import torch

from hash3d.cache import GridConfig, HashTable
from hash3d.cache.state import load_store, save_store
from tests.cache.entries import entry, feature_of, insert, key, lookup


def build(num_buckets=2**31 - 1, queue_length=3, verify=True, max_bytes=10**6, nearest=False, **cells):
    sizes = {"elevation": 20.0, "azimuth": 20.0, "radius": 0.1, "timestep": 100.0, **cells}
    grid = GridConfig(num_buckets=num_buckets, **sizes).build()
    return HashTable(grid, queue_length=queue_length, nearest=nearest, verify=verify, max_bytes=max_bytes)


def steps(entries):
    return [item.step for item in entries]


def test_the_oldest_of_a_full_queue_leaves():
    table = build(queue_length=2)
    for step in range(4):
        insert(table, entry(step))
    assert steps(lookup(table, key())) == [2, 3]


def test_the_oldest_of_all_leaves_a_full_budget():
    table = build(max_bytes=3 * 20)
    for step in range(5):
        insert(table, entry(step, place=key(azimuth=20 * step)))
        assert table.num_bytes <= 60
    assert [item.step for item in table.entries()] == [2, 3, 4]


def test_an_entry_beyond_the_budget_pushes_nothing_out():
    table = build(queue_length=1, max_bytes=20)
    insert(table, entry(0, numbers=4))
    insert(table, entry(1, numbers=5))
    assert steps(lookup(table, key())) == [0]


def test_colliding_cells_are_told_apart_only_if_verified():
    for verify, found in ((True, []), (False, [0])):
        table = build(num_buckets=1, verify=verify)
        insert(table, entry(0, place=key(azimuth=100)))
        assert steps(lookup(table, key())) == found


def test_nearest_key_takes_the_nearest_and_of_equals_the_newest():
    table = build(nearest=True, azimuth=360.0)
    for step, azimuth in enumerate((10, 100, 100, 200)):
        insert(table, entry(step, place=key(azimuth=azimuth)))
    found = lookup(table, key(azimuth=120))
    assert steps(found) == [2]
    assert torch.equal(feature_of(found), torch.full((1, 4), 2.0))


def test_softmax_prefers_near_latents():
    table = build()
    insert(table, entry(0, latents=0.0))
    insert(table, entry(1, latents=10.0))
    near = feature_of(lookup(table, key()), torch.full((1, 1, 1), 10.0))
    assert near.mean().item() == pytest.approx(1, abs=1e-3)


def test_clearing_and_restoring():
    table = build()
    for step in range(3):
        insert(table, entry(step, place=key(azimuth=20 * step)))
    state = save_store(table)
    table.clear()
    assert (len(table.entries()), table.num_bytes, lookup(table, key())) == (0, 0, ())
    load_store(table, state)
    assert save_store(table) == state
    assert len(table.entries()) == 3
