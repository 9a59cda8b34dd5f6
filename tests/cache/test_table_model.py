"""Thousands of random operations on each store, beside the brute force of `brute_force.py`: equal at every step.

The operations are insert, lookup, expire, clear, and a round trip through `state_dict`. The configurations come from
hypothesis, the operations of a configuration from a generator with a seed.
"""

import random
from collections import Counter

import jaxtyping
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from hash3d.cache import GridConfig, HashTable, Key
from hash3d.cache.state import load_store, save_store
from hash3d.cache.stores.adaptive import AdaptiveTable
from hash3d.cache.stores.last_feature import LastFeature
from tests.cache import brute_force
from tests.cache.entries import feature_of, insert, lookup, make, make_pool

OPERATIONS = {"insert": 46, "lookup": 45, "expire": 5, "round trip": 3.7, "clear": 0.3}
"""In per cent."""
AZIMUTHS = (-1e-20, -0.0, 0.0, 1e-20, 359.9, 360.0, -360.0, 180.0, -180.0, 540.0, -1.0)
DTYPES = (torch.float16, torch.float32, torch.float64)
GRIDS = st.builds(
    GridConfig,
    azimuth=st.sampled_from([20.0, 50.0, 90.0, 360.0]),
    elevation=st.sampled_from([20.0, 60.0, 180.0]),
    radius=st.sampled_from([0.5, 2.0]),
    timestep=st.sampled_from([300.0, 1000.0]),
    num_buckets=st.sampled_from([1, 2, 5, 11, 2**31 - 1]),
    periodic=st.booleans(),
    order=st.permutations(brute_force.FIELDS).map(tuple),
)
TABLES = {
    "queue_length": st.integers(1, 5),
    "nearest": st.booleans(),
    "verify": st.booleans(),
    "max_bytes": st.integers(20, 1200),
}
SEEDS = st.integers(0, 2**32)


def streams(number):
    """So many configurations, the same in every run. A failure is told as it is: there is no use in shrinking it."""
    return settings(max_examples=number, deadline=None, database=None, derandomize=True, phases=[Phase.generate])


@pytest.fixture(autouse=True)
def no_shape_checks(monkeypatch):
    """They would take most of the time; the other tests have them."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


class Watched(dict):
    """The places of a table. At the very moment an entry enters, it looks at all that is held."""

    def __init__(self, max_bytes):
        super().__init__()
        self.max_bytes = max_bytes

    def __setitem__(self, entry, place):
        super().__setitem__(entry, place)
        assert brute_force.num_bytes(self) <= self.max_bytes


def watched(store):
    store.places = Watched(store.max_bytes)
    return store


def random_key(draw):
    """A place of few cells, so that many operations meet, or one anywhere."""
    azimuth = draw.choice((draw.choice(AZIMUTHS), draw.uniform(-720, 720)))
    elevation, radius = draw.choice((-10.0, 0.0, 30.0, draw.uniform(-90, 90))), draw.choice((1.0, 1.2, 3.0))
    return Key(elevation=elevation, azimuth=azimuth, radius=radius, timestep=float(draw.randrange(1000)))


def random_feature(draw, numbers, dtype):
    """Random numbers [1, numbers]."""
    return torch.tensor([[draw.uniform(-3, 3) for _ in range(numbers)]], dtype=dtype)


def random_signs(draw, dtype):
    """-1 or 1, [2, 2]: a cosine of two such is a multiple of 1/2, which no rounding touches."""
    return torch.tensor([[draw.choice((-1, 1)) for _ in range(2)] for _ in range(2)], dtype=dtype)


def same(entries, expected):
    """Whether these are the same entries in the same order. A round trip makes new records of the same tensors."""
    return len(entries) == len(expected) and all(
        (one.latents is other.latents and one.feature is other.feature and one.key == other.key)
        and one.step == other.step
        for one, other in zip(entries, expected, strict=True)
    )


def same_found(found, latents, expected):
    """Whether a lookup gave the same entries, and the same bits."""
    if not found or expected is None:
        return not found and expected is None
    entries, feature = expected
    own = feature_of(found, latents)
    same_type = own.dtype == feature.dtype and own.shape == feature.shape
    return same(found, entries) and same_type and own.numpy().tobytes() == feature.numpy().tobytes()


def run(build, model, feature_of, max_bytes, *, seed, operations):
    """Do the same random operations with a store and its model; count what happened."""
    draw = random.Random(seed)
    store, counts, step = build(), Counter(), 0
    places = [random_key(draw) for _ in range(10)]
    for _ in range(operations):
        operation = draw.choices(list(OPERATIONS), OPERATIONS.values())[0]
        key, row, step = draw.choice((*places, random_key(draw))), draw.randrange(3), step + draw.randrange(2)
        before = len(model.held)
        if operation == "insert":
            numbers = 500 if draw.random() < 0.02 else 2  # 500: more than any budget.
            latents = torch.tensor([draw.uniform(-1, 1) for _ in range(numbers)]).reshape(1, 1, -1)
            entry = make(key, latents, feature_of(draw, key), step)
            insert(store, entry, row)
            model.insert(entry, row)
            counts["pushed out"] += before + 1 - len(model.held)
        elif operation == "lookup":
            latents = torch.tensor([[[draw.uniform(-1, 1), draw.uniform(-1, 1)]]])
            expected = model.lookup(key, latents, row)
            assert same_found(lookup(store, key, row), latents, expected)
            counts["found"] += expected is not None
            counts["blended"] += expected is not None and len(expected[0]) > 1
        elif operation == "expire":
            first_step = step - draw.randrange(40)
            store.expire(first_step)
            model.expire(first_step)
            counts["expired"] += before - len(model.held)
        elif operation == "clear":
            store.clear()
            model.clear()
        else:
            state, store = save_store(store), draw.choice((store, build()))
            load_store(store, state)
        counts["operations"] += 1
        held = model.held
        assert same(store.entries(), held)
        assert store.num_bytes == brute_force.num_bytes(held) <= max_bytes
        if hasattr(store, "similarity"):
            assert store.similarity(store.locate(key, row, "")) == model.similarity(key)
    return counts


@pytest.mark.parametrize("operations", [1_000, pytest.param(10_000, marks=pytest.mark.nightly)])
def test_20_streams_of_operations_on_the_table(operations):
    """Sizes differ: from bucket to bucket where a lookup blends a bucket's features, else from entry to entry."""
    total = Counter()

    @streams(20)
    @given(GRIDS, st.fixed_dictionaries(TABLES), SEEDS)
    def stream(grid, options, seed):
        def feature_of(draw, key):
            kind = brute_force.bucket(grid, key) if not options["nearest"] else draw.randrange(12)
            return random_feature(draw, numbers=1 + kind % 4, dtype=DTYPES[kind % 3])

        model = brute_force.BruteForceTable(grid, **options)
        build = lambda: watched(HashTable(grid.build(), **options))  # noqa: E731
        total.update(run(build, model, feature_of, options["max_bytes"], seed=seed, operations=operations))

    stream()
    assert total["operations"] >= 20 * operations
    assert min(total[name] for name in ("found", "blended", "pushed out", "expired")) > 150, total


def test_5_000_operations_on_the_adaptive_table():
    total = Counter()

    @streams(20)
    @given(st.lists(GRIDS, min_size=1, max_size=3), st.fixed_dictionaries(TABLES), st.floats(0, 0.99), SEEDS)
    def stream(grids, options, gamma, seed):
        def feature_of(draw, key):
            return random_signs(draw, torch.float32 if not options["nearest"] else draw.choice(DTYPES))

        def build():
            tables = [watched(HashTable(grid.build(), **options)) for grid in grids]
            return AdaptiveTable(tables, gamma=gamma, max_bytes=options["max_bytes"])

        tables = [brute_force.BruteForceTable(grid, **options) for grid in grids]
        budget = options["max_bytes"]
        model = brute_force.BruteForceAdaptiveTable(tables, gamma=gamma, max_bytes=budget)
        total.update(run(build, model, feature_of, budget, seed=seed, operations=250))

    stream()
    assert total["operations"] >= 5_000
    assert all(total[name] > 0 for name in ("found", "pushed out", "expired")), total


def test_10_000_operations_on_the_pool():
    total = Counter()

    @streams(10)
    @given(st.integers(1, 12), st.integers(20, 300), SEEDS)
    def stream(length, max_bytes, seed):
        def feature_of(draw, key):
            return random_feature(draw, numbers=3, dtype=torch.float32)

        options = {"length": length, "max_bytes": max_bytes}
        model = brute_force.BruteForcePool(**options)
        total.update(
            run(lambda: watched(make_pool(**options)), model, feature_of, max_bytes, seed=seed, operations=1_000)
        )

    stream()
    assert total["operations"] >= 10_000
    assert all(total[name] > 0 for name in ("found", "blended", "pushed out", "expired")), total


def test_10_000_operations_on_the_last_feature():
    total = Counter()

    @streams(10)
    @given(st.integers(1, 5), st.integers(20, 100), SEEDS)
    def stream(interval, max_bytes, seed):
        def feature_of(draw, key):
            return random_feature(draw, numbers=draw.randint(1, 8), dtype=draw.choice(DTYPES))

        options = {"interval": interval, "max_bytes": max_bytes}
        model = brute_force.BruteForceLastFeature(**options)
        total.update(run(lambda: LastFeature(**options), model, feature_of, max_bytes, seed=seed, operations=1_000))

    stream()
    assert total["operations"] >= 10_000
    assert all(total[name] > 0 for name in ("found", "pushed out", "expired")), total
