"""Memory of entries: whatever happens, each that is held has numbers of its own, and the budget is never exceeded."""

import random

import pytest
import torch

from hash3d.cache import DeepCacheConfig, GridConfig, Hash3DConfig
from tests.cache.entries import key

SIZE = 4 * (1 + 2 * 3)
"""Bytes of an entry of `insert_views`."""
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
@pytest.mark.filterwarnings("ignore:max_bytes=.* holds")
def test_every_entry_that_is_held_keeps_its_numbers(name):
    """Three hundred calls of 1 to 4 views, of which some miss, with resets and round trips through a state."""
    cache, draw, number, seen = STORES[name].build(), random.Random(0), 1, set()
    for _ in range(300):
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
        for each in held:
            assert each.feature.shape == (2, 3)
            assert (each.feature == each.latents.item()).all()
        assert len({each.latents.item() for each in held}) == len(held)
        assert cache.store.num_bytes == len(held) * SIZE <= cache.max_bytes
        seen.add(len(held))
    assert max(seen) == {
        "one entry": 1, "less than an entry": 0, "tight": 5, "pool": 6, "deepcache": 4
    }.get(name, max(seen)), seen  # fmt: skip


def test_entries_of_another_shape_start_anew():
    cache = Hash3DConfig().build()
    insert_views(cache, [key()], [0], 1)
    cache.insert(cache.locate([key(azimuth=90)]), torch.zeros(1, 1, 1, 1), torch.ones(2, 1, 5))
    assert [each.feature.shape for each in cache.store.entries()] == [(2, 5)]


def test_what_was_found_can_be_read_after_it_has_left():
    """The queue of one entry drops it at the next insert; the query still holds it."""
    cache = Hash3DConfig(queue_length=1, max_age=None).build()
    insert_views(cache, [key()], [0], 1)
    queries = cache.lookup([key()])
    insert_views(cache, [key()], [0], 5)
    assert cache.read(queries, torch.zeros(1, 1, 1, 1)).mean() == 1


def test_a_cache_prints_its_account_as_a_table():
    cache = Hash3DConfig().build()
    insert_views(cache, [key(azimuth=2.0)], [0], 1)
    for azimuth in (32.0, 5.0, 8.0, 11.0):
        cache.statistics.record(cache.lookup([key(azimuth=azimuth)]), cache.step)
    heads, _, row = ([cell.strip() for cell in line.strip("|").split("|")] for line in str(cache).splitlines())
    cells = dict(zip(heads, row, strict=True))
    assert (cells["passes"], cells["reused"], cells["share"], cells["azimuth apart"]) == ("4", "3", "75.0%", "6")


@pytest.mark.parametrize(("like", "held"), [((), 1), ((slice(1),), 0), ((..., slice(2)), 0)])
def test_loaded_entries_of_other_branches_or_sizes_are_forgotten_at_the_first_call(like, held):
    saved, cache, sample = (
        Hash3DConfig(mode="noise").build(),
        Hash3DConfig(mode="noise").build(),
        torch.zeros(2, 3, 4, 4),
    )
    saved.insert(saved.locate([key()]), sample[:1], sample[:, None])
    cache.load_state_dict(saved.state_dict())
    with cache.view(elevation=0, azimuth=0, radius=1):
        cache.check_batch(cache.current_view, sample[like], 2)  # Entries have the conditioning channels too.
    assert len(cache.store.entries()) == held
