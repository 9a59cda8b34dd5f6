"""The table against a model of a few lines."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hash3d.cache import GridConfig, HashTable
from tests.cache.entries import LATENTS, entry, key

OPERATIONS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(1, 12)),  # azimuth cell, timestep cell, numbers
    max_size=60,
)
SHAPES = {
    "num_buckets": st.sampled_from([1, 3, 7, 2**31 - 1]),
    "queue_length": st.integers(1, 4),
    "verify": st.booleans(),
    "max_bytes": st.integers(10, 300),
    "max_age": st.integers(1, 60),
}


def build(num_buckets=2**31 - 1, queue_length=3, verify=True, max_bytes=10**6, aggregation="softmax", **cells):
    sizes = {"elevation": 20.0, "azimuth": 20.0, "radius": 0.1, "timestep": 100.0, **cells}
    grid = GridConfig(num_buckets=num_buckets, **sizes).build()
    return HashTable(grid, queue_length=queue_length, aggregation=aggregation, verify=verify, max_bytes=max_bytes)


class Model:
    """What the table should hold: one list, oldest first."""

    def __init__(self, table):
        self.grid, self.queue_length, self.verify = table.grid, table.queue_length, table.verify
        self.max_bytes, self.places = table._entries.max_bytes, []

    @property
    def held(self):
        return [held for held, _ in self.places]

    def queue(self, cell):
        return [place for place in self.places if self.grid.bucket(place[1]) == self.grid.bucket(cell)]

    def insert(self, new):
        if new.num_bytes > self.max_bytes:
            return
        cell = self.grid.cell(new.key)
        if len(queue := self.queue(cell)) == self.queue_length:
            self.places.remove(queue[0])
        while sum(held.num_bytes for held in self.held) + new.num_bytes > self.max_bytes:
            del self.places[0]
        self.places.append((new, cell))

    def expire(self, first_step):
        self.places = [place for place in self.places if place[0].step >= first_step]

    def candidates(self, query):
        cell = self.grid.cell(query)
        return [held for held, place in self.queue(cell) if not self.verify or place == cell]


def steps(entries):
    return [item.step for item in entries]


@settings(max_examples=150, deadline=None)
@given(OPERATIONS, *SHAPES.values())
def test_the_table_is_the_model(operations, num_buckets, queue_length, verify, max_bytes, max_age):
    table = build(num_buckets=num_buckets, queue_length=queue_length, verify=verify, max_bytes=max_bytes)
    model = Model(table)
    for step, (azimuth, time, numbers) in enumerate(operations):
        place = key(azimuth=20 * azimuth + step % 20, timestep=100 * time + step)
        table.expire(step - max_age)
        model.expire(step - max_age)
        assert steps(table.candidates(place)) == steps(model.candidates(place))
        new = entry(step, numbers, place=place)
        table.insert(new, 0)
        model.insert(new)
        assert [item.step for item in table.entries()] == steps(model.held)
        assert table.num_bytes == sum(held.num_bytes for held in model.held) <= max_bytes
        assert len(table) == len(model.held)
        assert all(0 < len(queue) <= queue_length for queue in table._buckets.values())


@pytest.mark.parametrize("verify", [True, False])
def test_thousands_of_lookups_blend_the_model_s_candidates(verify):
    """All latents are equal, so that a blend is the mean of the steps in the bucket."""
    draw = random.Random(0)
    table = build(num_buckets=5, queue_length=4, verify=verify, max_bytes=20 * 12)
    model = Model(table)
    hits = 0
    for step in range(1500):
        place = key(azimuth=draw.uniform(-180, 180), elevation=draw.choice([0, 30]))
        found, expected = table.lookup(place, LATENTS, 0), model.candidates(place)
        assert (found is None) == (not expected)
        if found is not None:
            hits += 1
            assert steps(found.entries) == steps(expected)
            assert found.feature.mean().item() == pytest.approx(sum(steps(expected)) / len(expected), rel=1e-5)
        new = entry(step, 4, place=place)
        table.insert(new, 0)
        model.insert(new)
    assert 200 < hits < 1500


def test_the_oldest_of_a_full_queue_leaves():
    table = build(queue_length=2)
    for step in range(4):
        table.insert(entry(step), 0)
    assert steps(table.candidates(key())) == [2, 3]


def test_the_oldest_of_all_leaves_a_full_budget():
    table = build(max_bytes=3 * 20)
    for step in range(5):
        table.insert(entry(step, place=key(azimuth=20 * step)), 0)
        assert table.num_bytes <= 60
    assert [item.step for item in table.entries()] == [2, 3, 4]


def test_an_entry_beyond_the_budget_pushes_nothing_out():
    table = build(queue_length=1, max_bytes=20)
    table.insert(entry(0, numbers=4), 0)
    table.insert(entry(1, numbers=5), 0)
    assert steps(table.candidates(key())) == [0]


def test_colliding_cells_are_told_apart_only_if_verified():
    for verify, found in ((True, []), (False, [0])):
        table = build(num_buckets=1, verify=verify)
        table.insert(entry(0, place=key(azimuth=100)), 0)
        assert steps(table.candidates(key())) == found


def test_nearest_key_takes_the_nearest_and_of_equals_the_newest():
    table = build(aggregation="nearest_key", azimuth=360.0)
    for step, azimuth in enumerate((10, 100, 100, 200)):
        table.insert(entry(step, place=key(azimuth=azimuth)), 0)
    found = table.lookup(key(azimuth=120), LATENTS, 0)
    assert steps(found.entries) == [2]
    assert torch.equal(found.feature, torch.full((1, 4), 2.0))


def test_softmax_prefers_near_latents():
    table = build()
    table.insert(entry(0, latents=0.0), 0)
    table.insert(entry(1, latents=10.0), 0)
    near = table.lookup(key(), torch.full((1, 1, 1), 10.0), 0)
    assert near.feature.mean().item() == pytest.approx(1, abs=1e-3)


def test_clearing_and_restoring():
    table = build()
    for step in range(3):
        table.insert(entry(step, place=key(azimuth=20 * step)), 0)
    state = table.state_dict()
    table.clear()
    assert (len(table), table.num_bytes, table.candidates(key())) == (0, 0, [])
    table.load_state_dict(state)
    assert table.state_dict() == state
    assert len(table) == 3
