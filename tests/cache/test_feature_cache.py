"""When a feature is reused, the account of it, and going on after a stop."""

import inspect
import random

import pytest
import torch

from hash3d.cache import DeepCacheConfig, GridConfig, GuardConfig, Hash3DConfig
from hash3d.cache.calls import View
from tests.cache.entries import key


def call(cache, keys):
    """One guidance call as the hook makes it; returns which views reused a feature."""
    latents = torch.tensor([key.azimuth for key in keys]).reshape(-1, 1, 1, 1)
    queries = cache.lookup(keys)
    cache.statistics.record(queries, cache.step)
    full = [query for query in queries if not query.reuses]
    if checked := [query for query in full if query.spot_check]:
        prediction = torch.full((2, len(checked), 1, 1, 1), float(cache.step))
        cache.check(0.5 * prediction, prediction)
    if full:
        cache.insert(full, latents, torch.full((2, len(full), 3), float(cache.step)))
    return [query.reuses for query in queries]


def keep(cache, feature, place=None, latents=0.0):
    """Keep a feature [2, 3] of one view."""
    cache.insert(cache.locate([place or key()]), torch.full((1, 1, 1, 1), latents), feature.expand(2, 1, 3))


def random_calls(cache, count, seed, views=2):
    draw = random.Random(seed)
    keys = [
        [key(azimuth=draw.uniform(0, 90), timestep=draw.uniform(0, 200)) for _ in range(views)] for _ in range(count)
    ]
    return [call(cache, item) for item in keys]


def test_it_draws_from_its_own_generator(monkeypatch):
    def draw():
        raise AssertionError("the global generator was asked")

    monkeypatch.setattr(random, "random", draw)  # Its state cannot be compared: the type checker draws from it too.
    before = torch.get_rng_state()
    random_calls(Hash3DConfig(reuse_probability=0.5).build(), 20, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_seed_decides():
    runs = [random_calls(Hash3DConfig(reuse_probability=0.5, seed=seed).build(), 30, seed=0) for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


def test_probability_zero_never_hits():
    cache = Hash3DConfig(reuse_probability=0.0).build()
    assert not any(hit for hits in random_calls(cache, 50, seed=0) for hit in hits)
    assert (cache.statistics.lookups, cache.statistics.hits, cache.statistics.full) == (0, 0, 100)
    assert cache.statistics.reuse_share == 0


def test_the_share_of_lookups_is_the_probability():
    cache = Hash3DConfig(reuse_probability=0.3).build()
    random_calls(cache, 1000, seed=0)
    assert cache.statistics.lookups / 2000 == pytest.approx(0.3, abs=0.04)


def test_probability_one_hits_at_every_return():
    cache = Hash3DConfig(reuse_probability=1.0).build()
    assert [call(cache, [key()])[0] for _ in range(4)] == [False, True, True, True]


def test_statistics_by_hand():
    """Two full passes in one cell, 4 apart in azimuth and 1 in age; then a hit that is made of both."""
    cache = Hash3DConfig(reuse_probability=1.0).build()
    first, second, third = key(azimuth=2), key(azimuth=6), key(azimuth=10, elevation=5, timestep=50)
    cache.step = 1
    keep(cache, torch.zeros(1), first)
    cache.step = 2
    keep(cache, torch.ones(1), second)
    assert call(cache, [third, key(azimuth=200)]) == [True, False]
    summary = cache.summary()
    assert (summary["lookups"], summary["hits"]) == (2, 1)
    assert summary["mean_gap"] == {"elevation": 5, "azimuth": (8 + 4) / 2, "radius": 0, "timestep": 50}
    assert summary["mean_age_steps"] == (2 + 1) / 2
    size = 4 * (1 + 6)
    assert summary["bytes"] == summary["peak_bytes"] == 3 * size
    assert summary["bytes_limit"] == 2**31
    assert cache.statistics.reuse_share == 0.5


def test_a_hit_is_the_blend_of_equally_far_latents():
    cache = Hash3DConfig(reuse_probability=1.0).build()
    for value in (1.0, 4.0):
        keep(cache, torch.tensor([value]))
    assert torch.equal(cache.read(cache.lookup([key()]), torch.zeros(1, 1, 1, 1)), torch.full((2, 1, 3), 2.5))


def test_whole_batch_one_miss_makes_all_run_in_full():
    cache = Hash3DConfig(reuse_probability=1.0, whole_batch=True).build()
    call(cache, [key(), key(azimuth=100)])
    assert call(cache, [key(), key(azimuth=200)]) == [False, False]
    assert call(cache, [key(), key(azimuth=200)]) == [True, True]


def test_whole_batch_tosses_one_coin_a_call():
    cache = Hash3DConfig(reuse_probability=0.5, whole_batch=True).build()
    hits = [call(cache, [key(), key()]) for _ in range(60)]
    assert {tuple(item) for item in hits} == {(True, True), (False, False)}


def test_insert_copies():
    cache = Hash3DConfig(reuse_probability=1.0).build()
    features, latents = torch.ones(2, 1, 3), torch.zeros(1, 1, 1, 1)
    cache.insert(cache.locate([key()]), latents, features)
    features.zero_()
    latents.fill_(9)
    entry = cache.store.entries()[0]
    assert entry.feature.mean() == 1
    assert entry.latents.mean() == 0


def test_copies_are_dense_and_channels_last_as_a_unet_leaves_features():
    """Of a batch of three views: the feature is a part of the tensor that has the skip beside it."""
    joined = torch.randn(2 * 3, 7, 4, 4).to(memory_format=torch.channels_last)
    latents = torch.randn(3, 8, 4, 4).to(memory_format=torch.channels_last)
    cache = Hash3DConfig().build()
    queries = cache.locate([key(azimuth=90 * row) for row in range(3)])
    cache.insert([queries[0], queries[2]], latents, joined[:, :5].unflatten(0, (2, 3))[:, [0, 2]])
    entries = cache.store.entries()
    size = 4 * (8 * 16 + 2 * 5 * 16)
    assert sum(entry.latents.untyped_storage().nbytes() for entry in entries) == 2 * 4 * 8 * 16
    assert sum(entry.feature.untyped_storage().nbytes() for entry in entries) == 2 * 4 * 2 * 5 * 16
    assert cache.store.num_bytes == 2 * size
    assert all(entry.feature.is_contiguous(memory_format=torch.channels_last) for entry in entries)
    assert torch.equal(entries[1].feature, joined[[2, 5], :5])


CONFIGS = {
    "table": Hash3DConfig(reuse_probability=0.6, seed=3),
    "guarded": Hash3DConfig(reuse_probability=0.6, seed=3, guard=GuardConfig(audit_every=2)),
    "pool": Hash3DConfig(reuse_probability=0.6, store="pool", pool_length=5),
    "tight": Hash3DConfig(reuse_probability=0.6, max_bytes=100),
    "deepcache": DeepCacheConfig(interval=3),
    "adaptive": Hash3DConfig(
        reuse_probability=0.6, grid=GridConfig(azimuth=5.0), other_grids=(GridConfig(azimuth=40.0),), max_age=9
    ),
}


@pytest.mark.parametrize("name", list(CONFIGS))
@pytest.mark.filterwarnings("ignore:max_bytes=100 holds 3")
def test_a_resumed_cache_goes_on_identically(name, tmp_path):
    cache, resumed = CONFIGS[name].build(), CONFIGS[name].build()
    random_calls(cache, 30, seed=1)
    assert cache.statistics.hits > 0
    torch.save(cache.state_dict(), tmp_path / "cache.pt")
    resumed.load_state_dict(torch.load(tmp_path / "cache.pt", weights_only=True))
    assert random_calls(resumed, 30, seed=2) == random_calls(cache, 30, seed=2)
    assert resumed.summary() == cache.summary()
    assert resumed.step == cache.step == 60
    for one, other in zip(cache.store.entries(), resumed.store.entries(), strict=True):
        assert (one.key, one.step) == (other.key, other.step)
        assert torch.equal(one.feature, other.feature)


def test_a_state_has_memory_of_its_own_and_is_refused_without_a_version():
    cache = Hash3DConfig().build()
    call(cache, [key()])
    state = cache.state_dict()
    (saved,) = state["storage"]["entries"]
    assert saved["feature"].untyped_storage().nbytes() == saved["feature"].nbytes
    cache.store.entries()[0].feature.zero_()
    assert saved["feature"].mean() == 1
    del state["version"]
    with pytest.raises(ValueError, match=r"state of version 6, but got version None\. Start anew"):
        Hash3DConfig().build().load_state_dict(state)


@pytest.mark.parametrize("other", [
    Hash3DConfig(cut=-2), Hash3DConfig(mode="noise"), Hash3DConfig(store="pool"), DeepCacheConfig(cut=-1),
    Hash3DConfig(grid=GridConfig(azimuth=5.0)), Hash3DConfig(other_grids=(GridConfig(azimuth=40.0),)),
])  # fmt: skip
def test_a_state_whose_entries_are_something_else_is_refused(other):
    """Sizes may fit: a feature of another layer would be reused, or one of a cell that has the same number."""
    with pytest.raises(ValueError, match="with entries of cut=-1, mode=feature, store=table, grid="):
        Hash3DConfig().build().load_state_dict(other.build().state_dict())


def test_views_name_the_keys():
    cache = Hash3DConfig().build()
    assert cache.current_view is None
    with cache.view(elevation=[1, 2], azimuth=torch.tensor([3.0, 4.0]), radius=1.5, timestep=torch.tensor(7)):
        assert cache.current_view.keys(999) == [key(1, 3, 1.5, 7), key(2, 4, 1.5, 7)]
    assert cache.current_view is None


@pytest.mark.parametrize("order", ["grouped", "interleaved"])
@pytest.mark.parametrize("timestep", [300, torch.tensor(300), torch.tensor([300]), [300, 300, 300, 300]])
def test_without_a_timestep_the_call_s_own_is_taken(timestep, order):
    """The U-Net is called with one for all, or one for each row of each branch."""
    cache = Hash3DConfig().build()
    with cache.view(elevation=0, azimuth=[10, 20], radius=1, branch_order=order):
        assert cache.current_view.keys(timestep) == [key(0, 10, 1, 300), key(0, 20, 1, 300)]


def test_timesteps_of_each_row_are_read_in_the_order_of_the_branches():
    cache = Hash3DConfig().build()
    for order, timesteps in {"grouped": [100, 200, 100, 200], "interleaved": [100, 100, 200, 200]}.items():
        with cache.view(elevation=0, azimuth=0, radius=[1, 2], branch_order=order):
            assert [key.timestep for key in cache.current_view.keys(timesteps)] == [100, 200]


def test_an_unknown_order_of_branches_is_refused():
    parse = inspect.unwrap(View.parse)  # Else the type checker of the tests would refuse it first.
    with pytest.raises(ValueError, match="'grouped' or 'interleaved', but got 'mixed'"):
        parse(View, {"azimuth": 0}, None, None, "mixed")


def test_views_do_not_nest():
    cache = Hash3DConfig().build()
    with cache.view(elevation=0, azimuth=0, radius=1):
        with pytest.raises(RuntimeError, match="entered inside another"), cache.view(elevation=0, azimuth=0, radius=1):
            pass
        assert cache.current_view


def test_an_error_inside_closes_the_view():
    cache = Hash3DConfig().build()
    with pytest.raises(ZeroDivisionError), cache.view(elevation=0, azimuth=0, radius=1):
        raise ZeroDivisionError
    assert not cache.current_view


@pytest.mark.parametrize("wrong", ["elevation", "radius", "timestep"])
def test_counts_that_do_not_fit_are_refused_and_leave_no_view_open(wrong):
    cache = Hash3DConfig().build()
    numbers = {"elevation": 0, "azimuth": [0, 1, 2], "radius": 1, "timestep": 5} | {wrong: [1, 2]}
    with pytest.raises(ValueError, match=f"Expected 1 or 3 values of {wrong}, .* but got 2"), cache.view(**numbers):
        pass
    with cache.view(elevation=0, azimuth=0, radius=1):
        assert len(cache.current_view.places) == 1


def test_a_new_signature_starts_anew():
    cache = Hash3DConfig(reuse_probability=1.0).build()
    for signature, held in (("float32", 1), ("float32", 2), ("float16", 1)):
        cache.match(signature)
        keep(cache, torch.zeros(1))
        assert len(cache.store.entries()) == held


@pytest.mark.parametrize("name", ["table", "pool", "deepcache", "adaptive"])
def test_features_of_two_identities_never_meet_and_do_not_push_each_other_out(name):
    """Whatever the store: each of two prompts in turn finds its own feature."""
    config = CONFIGS[name]
    cache = config.build()
    cache.reuse_probability = 1.0
    for value, identity in ((1.0, "cat"), (2.0, "dog")):
        (query,) = cache.lookup([key()], [identity])
        assert not query.reuses
        cache.insert([query], torch.zeros(1, 1, 1, 1), torch.full((2, 1, 3), value))
    for value, identity in ((1.0, "cat"), (2.0, "dog")):
        queries = cache.lookup([key()], [identity])
        assert cache.read(queries, torch.zeros(1, 1, 1, 1)).mean() == value


def test_pools_of_two_identities_are_as_long_as_one():
    cache = Hash3DConfig(store="pool", pool_length=2).build()
    for _ in range(5):
        for identity in ("cat", "dog"):
            cache.insert(cache.locate([key()], [identity]), torch.zeros(1, 1, 1, 1), torch.zeros(2, 1, 3))
    assert len(cache.store.entries()) == 4


@pytest.mark.parametrize("store", ["table", "pool"])
def test_an_entry_serves_for_max_age_calls(store):
    """Stored at call 1, found at calls 2 to 1 + max_age, gone at the next, which stores anew."""
    cache = Hash3DConfig(reuse_probability=1.0, max_age=3, store=store).build()
    hits = [call(cache, [key()])[0] for _ in range(10)]
    assert hits == [False, True, True, True, False, True, True, True, False, True]
    assert cache.statistics.summary()["mean_age_steps"] == pytest.approx((1 + 2 + 3 + 1 + 2 + 3 + 1) / 7)
