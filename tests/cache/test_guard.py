"""The guard: warm-up, spot checks at their rate, and a bound that switches reuse off and on."""

import pytest
import torch

from hash3d.cache import GuardConfig, Hash3DConfig
from hash3d.cache.guard import Guard
from hash3d.cache.running import RunningMean
from tests.cache.entries import key

LATENTS = torch.zeros(1, 1, 1, 1)
PREDICTION = torch.full((2, 1, 1, 1, 1), 2.0)


def call(cache, error=0.0):
    """One guidance call as the hook makes it, with spot checks of a given relative error. Returns what happened."""
    (query,) = cache.lookup([key()])
    cache.statistics.record([query], cache.step)
    if query.reuses:
        return "reuse"
    if query.spot_check:
        cache.check(PREDICTION * (1 + error), PREDICTION)
    cache.insert([query], LATENTS, torch.ones(2, 1, 3))
    return "check" if query.spot_check else "full"


def build(**guard):
    return Hash3DConfig(reuse_probability=1.0, max_age=None, guard=GuardConfig(**guard)).build()


def test_without_settings_it_lets_everything_pass():
    cache = build()
    assert [call(cache) for _ in range(5)] == ["full"] + ["reuse"] * 4
    assert cache.summary()["guard"] == {"audits": 0, "mean_error": None, "held_back": 0}


def test_the_warm_up_runs_in_full():
    cache = build(warm_up=3)
    assert [call(cache) for _ in range(6)] == ["full"] * 3 + ["reuse"] * 3


def test_every_third_hit_is_checked_and_counts_as_full():
    cache = build(audit_every=3)
    assert [call(cache, error=0.25) for _ in range(7)] == ["full", "reuse", "reuse", "check", "reuse", "reuse", "check"]
    assert (cache.statistics.full, cache.statistics.shallow, cache.statistics.hits) == (3, 4, 4)
    assert cache.summary()["guard"] == {"audits": 2, "mean_error": pytest.approx(0.25), "held_back": 0}


def test_the_bound_switches_reuse_off_and_on():
    """By hand, memory 0.5: the running error is 0.8, then 0.4, 0.2, 0.1; the bound is 0.3."""
    cache = build(audit_every=2, max_error=0.3, memory=0.5)
    errors = iter([0.0, 0.0, 0.8] + [0.0] * 9)
    happened = [call(cache, error=next(errors)) for _ in range(12)]
    off = ["full", "check"] * 2  # 0.8 -> 0.4 -> 0.2
    assert happened == ["full", "reuse", "check", *off, "reuse", "check", "reuse", "check", "reuse"]
    assert cache.guard.error == pytest.approx(0.8 * 0.5**4)
    assert cache.summary()["guard"]["held_back"] == 2


def test_views_that_are_checked_together_are_not_held_back():
    cache = Hash3DConfig(max_age=None, whole_batch=True, guard=GuardConfig(audit_every=3, max_error=0.1)).build()
    keys = [key(azimuth=90.0 * number) for number in range(3)]
    cache.insert(cache.lookup(keys), LATENTS.expand(3, 1, 1, 1), torch.ones(2, 3, 3))
    cache.check(2 * PREDICTION, PREDICTION)  # An error of 1: reuse is off.
    assert all(query.spot_check and query.entries for query in cache.lookup(keys))
    assert cache.summary()["guard"]["held_back"] == 0


def test_the_error_is_that_of_all_branches_together():
    guard = Guard(GuardConfig(audit_every=1))
    full = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    guard.record(full + torch.tensor([[0.0, 0.0], [3.0, 4.0]]), full)
    assert guard.error == pytest.approx(5.0 / 5.0)


def test_a_state_goes_on_where_it_was():
    one, other = (build(audit_every=2, max_error=0.3, memory=0.5) for _ in range(2))
    for error in (0.0, 0.0, 0.8, 0.0):
        call(one, error)
    other.load_state_dict(one.state_dict())
    assert [call(one) for _ in range(8)] == [call(other) for _ in range(8)]
    assert one.summary() == other.summary()


def test_a_running_mean_by_hand():
    running = RunningMean(0.75)
    assert (running.read(), running.mean) == (None, None)
    for value in (1.0, 3.0, 5.0):
        running.add(torch.tensor(value))
    assert running.read() == 0.75 * (0.75 * 1 + 0.25 * 3) + 0.25 * 5
    assert running.mean == 3.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warm_up": -1}, "warm-up of at least 0 calls, but got -1"),
        ({"audit_every": 0}, "audit_every to be at least 1, but got 0"),
        ({"max_error": 0.5}, "with spot checks, but got 0.5 and audit_every=None"),
        ({"max_error": -1.0, "audit_every": 5}, "max_error above 0"),
        ({"memory": 1.0}, "less than 1.0, but got 1.0"),
    ],
)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GuardConfig(**options)
