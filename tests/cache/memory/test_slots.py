"""Memory of entries: whatever happens, each that is held has a slot of its own, and the budget is never exceeded."""

import random

import pytest
import torch

from hash3d.cache import DeepCacheConfig, GridConfig, Hash3DConfig
from hash3d.cache.memory.slots import Layout, SlotPool
from tests.cache.entries import entry, key

SIZE = 4 * (1 + 2 * 3)
"""Bytes of an entry of `insert_views`."""
SIZE_IN_8_BITS = 4 + 2 * 3 + 4 * 2 * 3
STORES = {
    "table": Hash3DConfig(max_age=20),
    "short queues": Hash3DConfig(queue_length=1, max_age=None, max_bytes=50 * SIZE),
    "tight": Hash3DConfig(max_bytes=5 * SIZE + 3),
    "one entry": Hash3DConfig(max_bytes=SIZE),
    "less than an entry": Hash3DConfig(max_bytes=SIZE - 1),
    "adaptive": Hash3DConfig(
        grid=GridConfig(azimuth=5.0), other_grids=(GridConfig(azimuth=60.0),), max_bytes=12 * SIZE, max_age=9
    ),
    "pool": Hash3DConfig(store="pool", pool_length=6),
    "deepcache": DeepCacheConfig(interval=3),
    "8 bits": Hash3DConfig(max_age=5, storage="int8"),
}


def insert_views(cache, keys, rows, number):
    """Full passes of the views `rows`, whose features [2, 3] and latents are filled with `number`, ..."""
    values = number + torch.arange(len(rows), dtype=torch.float32)
    latents = torch.zeros(len(keys), 1, 1, 1)
    latents[list(rows), 0, 0, 0] = values
    queries = cache.locate(keys)
    cache.insert([queries[row] for row in rows], latents, values[None, :, None].expand(2, -1, 3))
    return values.tolist()


@pytest.mark.parametrize("name", list(STORES))
def test_every_entry_that_is_held_keeps_its_numbers(name):
    """A thousand calls of 1 to 4 views, of which some miss, with resets and round trips through a state."""
    cache, draw, number, seen = STORES[name].build(), random.Random(0), 1, set()
    for _ in range(1000):
        keys = [key(azimuth=draw.uniform(0, 90), timestep=draw.uniform(0, 200)) for _ in range(draw.randint(1, 4))]
        if hits := [query for query in cache.lookup(keys) if query.reuses]:
            cache.read(hits, torch.zeros(len(keys), 1, 1, 1))
        rows = sorted(draw.sample(range(len(keys)), draw.randint(1, len(keys))))
        number += len(insert_views(cache, keys, rows, number))
        if draw.random() < 0.01:
            cache.reset()
        if draw.random() < 0.02:
            cache.load_state_dict(cache.state_dict())
        held = cache.store.entries()
        for each in held:  # Up to float32's rounding of 127 * (x / 127), if in 8 bits; neighbours differ by 1e-4.
            torch.testing.assert_close(each.values, each.latents.reshape(1, 1).expand(2, 3), rtol=1e-6, atol=0.0)
        assert len({each.latents.item() for each in held}) == len(held)
        assert cache.store.num_bytes == len(held) * (SIZE if cache.config.storage == "full" else SIZE_IN_8_BITS)
        assert cache.bytes_allocated <= cache.max_bytes
        seen.add(len(held))
    assert max(seen) == {
        "one entry": 1, "less than an entry": 0, "tight": 5, "pool": 6, "deepcache": 4
    }.get(name, max(seen)), seen  # fmt: skip


def test_memory_is_allocated_once_while_calls_have_no_more_views_than_the_first():
    cache, allocated = Hash3DConfig(max_age=20, storage="int8").build(), set()
    for number in range(1, 200):
        keys = [key(azimuth=7 * number + 90 * row) for row in range(3)]
        cache.lookup(keys)
        insert_views(cache, keys, range(1 + number % 3), 3 * number)
        allocated.add(cache.bytes_allocated)
    assert allocated == {(20 + 1) * 3 * SIZE_IN_8_BITS}


def test_larger_batches_add_a_block_within_the_budget():
    size = SIZE_IN_8_BITS
    cache = Hash3DConfig(max_age=4, max_bytes=13 * size, storage="int8").build()
    insert_views(cache, [key()], [0], 1)
    assert cache.bytes_allocated == 5 * size
    for number in range(2):
        insert_views(cache, [key(azimuth=40 * row, elevation=40 * number) for row in range(7)], range(7), 10)
    assert cache.bytes_allocated == 13 * size
    assert len(cache.store.entries()) == 13


def test_entries_of_another_shape_start_anew():
    cache = Hash3DConfig().build()
    insert_views(cache, [key()], [0], 1)
    cache.insert(cache.locate([key(azimuth=90)]), torch.zeros(1, 1, 1, 1), torch.ones(2, 1, 5))
    assert [each.feature.shape for each in cache.store.entries()] == [(2, 5)]


def test_another_signature_lets_the_memory_go():
    cache = Hash3DConfig(storage="int8").build()
    cache.match("float32")
    insert_views(cache, [key()], [0], 1)
    assert cache.bytes_allocated == 121 * SIZE_IN_8_BITS
    cache.reset()
    assert cache.bytes_allocated == 121 * SIZE_IN_8_BITS
    cache.match("float16")
    assert cache.bytes_allocated == 0


def test_a_slot_that_was_used_is_used_again_first():
    """So the pages of a CPU's memory that are in use are those of the most entries ever held."""
    entries = [entry(step) for step in range(4)]
    layout = Layout.of(entries[0].latents, entries[0].feature, torch.device("cpu"))
    pool = SlotPool(layout, storage="full", block_slots=10, max_bytes=1000)
    pool.keep(entries[:2])
    place = entries[0].feature.data_ptr()
    pool.free(entries[:1])
    pool.free(entries[3:])  # It never had any.
    assert (len(pool), entries[0] in pool, entries[1] in pool) == (1, False, True)
    pool.keep(entries[2:3])
    assert entries[2].feature.data_ptr() == place
    assert (pool.num_slots, pool.num_bytes) == (10, 10 * entries[0].num_bytes)
