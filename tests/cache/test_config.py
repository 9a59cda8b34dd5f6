"""Refusals and presets."""

import dataclasses

import pytest

from hash3d.cache import PAPER, PRESETS, RELEASED, DeepCacheConfig, Hash3DConfig, HashTable
from hash3d.cache.stores.last_feature import LastFeature


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reuse_probability": 1.5}, "Expected reuse_probability to be between 0.0 and 1.0, but got 1.5."),
        ({"reuse_probability": -0.1}, "Expected reuse_probability to be between 0.0 and 1.0, but got -0.1."),
        ({"reuse_probability": float("nan")}, "Expected reuse_probability to be between 0.0 and 1.0, but got nan."),
        ({"queue_length": 0}, "Expected queue_length to be at least 1, but got 0."),
        ({"pool_length": 0}, "Expected pool_length to be at least 1, but got 0."),
        ({"max_bytes": 0}, "Expected max_bytes to be at least 1, but got 0."),
        ({"max_age": 0}, "Expected max_age to be at least 1, but got 0."),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the whole message is compared)
        Hash3DConfig(**settings)
    assert str(caught.value) == message


def test_deepcache_refuses_no_interval():
    with pytest.raises(ValueError, match="interval to be at least 1, but got 0"):
        DeepCacheConfig(interval=0)


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_builds_an_empty_cache(name):
    cache = PRESETS[name].build()
    assert (cache.store.entries(), cache.store.num_bytes, cache.statistics.reuse_share) == ([], 0, 0)


def test_the_stores():
    assert isinstance(Hash3DConfig().build().store, HashTable)
    pool = Hash3DConfig(store="pool").build().store
    assert (pool.queue_length, pool.verify, pool.grid.config.num_buckets) == (1000, False, 1)
    assert isinstance(DeepCacheConfig().build().store, LastFeature)


def test_the_settings_arrive():
    cache = Hash3DConfig(reuse_probability=0.3, cut=5, mode="noise", whole_batch=True, max_bytes=77).build()
    assert (cache.reuse_probability, cache.cut, cache.mode, cache.config.whole_batch) == (0.3, 5, "noise", True)
    assert cache.max_bytes == cache.store.max_bytes == 77


def test_paper_and_released():
    assert PAPER.reuse_probability == RELEASED.reuse_probability == 0.1
    assert PAPER.verify
    assert PAPER.grid.periodic
    assert not RELEASED.verify
    assert RELEASED.whole_batch
    assert RELEASED.grid.num_buckets == 200


def test_the_last_cut_is_the_default_s_alone():
    assert {name: preset.build().cut for name, preset in PRESETS.items()} == {
        "default": -1, "paper": -2, "released": -2, "deepcache": -2
    }  # fmt: skip


def test_configurations_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Hash3DConfig().seed = 1
