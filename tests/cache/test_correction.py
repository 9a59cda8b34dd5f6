"""The correction in a world where it is exact, and what it learns by hand.

The linear world: a full pass is A z + k z for each branch, and a shallow one with the feature of z_a is A z + k z_a.
"""

import pytest
import torch

from hash3d.cache import GridConfig, GuardConfig, Hash3DConfig
from hash3d.cache.correction import LatentCorrection
from hash3d.cache.store import Found
from tests.cache.entries import key

SHAPE = (2, 3, 4)
FACTORS = torch.tensor([0.7, -0.3, 0.05])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class LinearWorld:
    """Three branches with a matrix A and a factor k each."""

    def __init__(self, factors=FACTORS):
        self.factors = factors
        self.matrices = torch.randn(len(factors), 24, 24, generator=seeded(9)) / 24**0.5

    def reused(self, latents, stored):
        """[S, C, h, w]: today's latents in the shallow layers, yesterday's in the feature."""
        return (self.matrices @ latents.flatten()).unflatten(1, SHAPE) + self.factors[:, None, None, None] * stored

    def full(self, latents):
        return self.reused(latents, latents)


def latents_of(seed):
    return torch.randn(SHAPE, generator=seeded(seed))


def learn_in_the_world(correction, world, timestep, seed=0):
    """One audit."""
    now, stored = latents_of(seed), latents_of(seed + 1000)
    correction.learn(world.reused(now, stored), world.full(now), now - stored, timestep)


def learn(correction, differences, gap, timestep=0.0):
    """An audit whose full prediction is `differences` off in each branch, everywhere, over a constant gap."""
    zeros = torch.zeros(len(differences), *SHAPE)
    full = zeros + torch.tensor(differences)[:, None, None, None]
    correction.learn(zeros, full, torch.full(SHAPE, gap), timestep)


def test_in_a_linear_world_one_audit_makes_every_later_prediction_exact():
    world, correction = LinearWorld(), LatentCorrection(width=100.0, memory=0.7)
    learn_in_the_world(correction, world, 450.0)
    torch.testing.assert_close(correction.factors(450.0), FACTORS)
    for seed in range(1, 6):
        now, stored = latents_of(seed), latents_of(seed + 50)
        reused, full = world.reused(now, stored), world.full(now)
        assert ((reused - full).flatten(1).norm(dim=1) > 0.05).all(), "there is something to correct in each branch"
        torch.testing.assert_close(correction.apply(reused, now - stored, 480.0), full)


def test_the_factor_has_the_least_error_of_all_and_by_how_much():
    """E(k) is a parabola: E(k + d) - E(k) = d^2 sum ||gap||^2 at its bottom alone, for every d and each branch."""
    correction, memory = LatentCorrection(width=100.0, memory=0.5), 0.5
    audits = [torch.randn(3, 3, *SHAPE, generator=seeded(seed)) for seed in range(4)]
    gaps = [latents_of(seed + 10) * (1 + seed) for seed in range(4)]
    weights = [memory ** (3 - number) for number in range(4)]
    for (reused, unknown, _), gap in zip(audits, gaps, strict=True):
        correction.learn(reused, reused + unknown + 0.4 * gap, gap, 0.0)
    factors = correction.factors(0.0).double()

    def summed_error(factors):
        """[S]: the latest audit counts 1, the one before half, ..."""
        total = torch.zeros(3, dtype=torch.float64)
        for weight, (_, unknown, _), gap in zip(weights, audits, gaps, strict=True):
            missing = (unknown + 0.4 * gap).double() - factors[:, None, None, None] * gap.double()
            total += weight * missing.square().flatten(1).sum(dim=1)
        return total

    sizes = sum(weight * gap.double().square().sum() for weight, gap in zip(weights, gaps, strict=True))
    for step in (-1.0, -0.01, 0.01, 1.0):
        rise = summed_error(factors + step) - summed_error(factors)
        torch.testing.assert_close(rise, (step**2 * sizes).expand(3), rtol=1e-3, atol=0.0)


def test_the_running_sums_by_hand():
    """Memory 0.5: <difference, gap> and <gap, gap>, over 24 numbers each; the 24 cancels."""
    correction = LatentCorrection(width=100.0, memory=0.5)
    learn(correction, [2.0, -1.0], gap=1.0)
    torch.testing.assert_close(correction.factors(0.0), torch.tensor([2.0, -1.0]))
    learn(correction, [2.0, 3.0], gap=2.0)
    torch.testing.assert_close(correction.factors(0.0), torch.tensor([1 + 4, -0.5 + 6]) / (0.5 + 4))
    learn(correction, [0.0, 1.0], gap=-3.0)
    torch.testing.assert_close(correction.factors(0.0), torch.tensor([2.5, 2.75 - 3]) / (2.25 + 9))


def test_without_memory_the_last_audit_alone_counts():
    correction = LatentCorrection(width=100.0, memory=0.0)
    for difference in (5.0, 0.25):
        learn(correction, [difference], gap=1.0)
    assert correction.factors(0.0).tolist() == [0.25]


def test_a_bin_is_known_by_itself_and_the_nearest_serves():
    """The bins 1 (100 to 199) and 7 (700 to 799) are known."""
    correction = LatentCorrection(width=100.0, memory=0.7)
    learn(correction, [1.0], gap=1.0, timestep=150.0)
    learn(correction, [7.0], gap=1.0, timestep=700.0)
    asked = {0.0: 1, 99.9: 1, 100.0: 1, 199.9: 1, 200.0: 1, 399.9: 1, 500.0: 7, 700.0: 7, 799.9: 7, 999.0: 7}
    assert {timestep: correction.factors(timestep).item() for timestep in asked} == asked
    known = [timestep for timestep in asked if correction.knows(timestep)]
    assert known == [100.0, 199.9, 700.0, 799.9]
    learn(correction, [4.0], gap=1.0, timestep=450.0)
    assert correction.factors(399.9).item() == correction.factors(500.0).item() == 4
    assert correction.factors(150.0).item() == 1, "a bin learns nothing from its neighbours"


def test_where_nothing_is_known_nothing_changes():
    correction = LatentCorrection(width=100.0, memory=0.7)
    reused = torch.randn(2, *SHAPE, generator=seeded())
    assert correction.factors(5.0) is None
    assert not correction.knows(5.0)
    assert torch.equal(correction.apply(reused, latents_of(1), 5.0), reused)


def test_equal_latents_teach_and_change_nothing():
    """z = z_a says nothing of k: it is 0, not 0 / 0; and any k times z - z_a is 0."""
    correction = LatentCorrection(width=100.0, memory=0.7)
    learn(correction, [3.0], gap=0.0)
    assert correction.factors(0.0).tolist() == [0.0]
    learn(correction, [3.0], gap=1.0)
    assert correction.factors(0.0).item() == pytest.approx(3.0)
    reused = torch.randn(1, *SHAPE, generator=seeded())
    assert torch.equal(correction.apply(reused, torch.zeros(SHAPE), 0.0), reused)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_predictions_keep_their_dtype_and_the_sums_are_float32(dtype):
    """A gap of 200 squared and summed is 960,000: beyond float16."""
    correction = LatentCorrection(width=100.0, memory=0.7)
    gap, zeros = torch.full(SHAPE, 200.0, dtype=dtype), torch.zeros(1, *SHAPE, dtype=dtype)
    correction.learn(zeros, zeros + 50.0, gap, 0.0)
    corrected = correction.apply(zeros, gap, 0.0)
    assert corrected.dtype == dtype
    assert torch.equal(corrected, zeros + 50.0)


def test_a_state_goes_on_where_it_was(tmp_path):
    one, other = (LatentCorrection(width=100.0, memory=0.6) for _ in range(2))
    learn(other, [9.0, 9.0], gap=1.0, timestep=950.0)  # To be forgotten.
    for seed, timestep in enumerate((120.0, 480.0, 130.0)):
        learn_in_the_world(one, LinearWorld(FACTORS[:2] + 0.1 * seed), timestep, seed)
    torch.save(one.state_dict(), tmp_path / "correction.pt")
    other.load_state_dict(torch.load(tmp_path / "correction.pt", weights_only=True))
    assert [other.knows(timestep) for timestep in (120.0, 480.0, 950.0)] == [True, True, False]
    for correction in (one, other):
        learn_in_the_world(correction, LinearWorld(FACTORS[:2]), 490.0, seed=7)
    for timestep in (0.0, 450.0, 999.0):
        assert torch.equal(one.factors(timestep), other.factors(timestep))


def build(**settings):
    return Hash3DConfig(max_age=None, grid=GridConfig(timestep=1000.0), **settings).build()


def call(cache, world, timestep, seed, condition=None):
    """One guidance call of one view as the hook makes it, in fresh noise. What happened, and the relative error."""
    latents, now = latents_of(seed)[None], key(timestep=timestep)
    sample = latents if condition is None else torch.cat([latents, condition[None]], dim=1)
    (found,), full = cache.lookup([now], sample), world.full(latents[0])[:, None]
    happened, prediction = "full", full
    if found is not None:  # The feature of one entry, or the blend of several: linear in the latents.
        reused = world.reused(latents[0], found.latents[: SHAPE[0]])[:, None]
        happened = "audit" if found.audit else "reuse"
        if found.audit:
            cache.audit([now], [found], sample, reused, full)
        else:
            prediction = cache.correct([now], [found], sample, reused)
    if happened != "reuse":
        cache.insert([now], [0], sample, torch.zeros(3, 1, 1))
    return happened, ((prediction - full).norm() / full.norm()).item()


def test_the_first_find_of_each_bin_is_audited_and_no_later_one():
    cache, world = build(), LinearWorld()
    timesteps = [450, 450, 470, 410, 350, 399, 460, 300, 990, 0, 0, 905]
    happened, errors = zip(*(call(cache, world, float(t), seed) for seed, t in enumerate(timesteps)), strict=True)
    expected = ["full", "audit", "reuse", "reuse", "audit", "reuse", "reuse", "reuse", "audit", "audit", "reuse"]
    assert list(happened) == [*expected, "reuse"]
    assert max(errors) < 1e-5, "and in the linear world each reuse is exact"
    assert (cache.statistics.full, cache.statistics.shallow) == (5, 7)
    assert cache.summary()["guard"]["audits"] == 4


def test_without_a_correction_nothing_is_audited_and_reuse_is_not_exact():
    cache, world = build(correction=False), LinearWorld()
    happened, errors = zip(*(call(cache, world, 450.0, seed) for seed in range(4)), strict=True)
    assert happened == ("full", "reuse", "reuse", "reuse")
    assert min(errors[1:]) > 0.1


def test_the_guard_sees_the_error_of_corrected_predictions():
    """The first audit is before anything is known, so its error does not count; then all is exact."""
    cache, world = build(guard=GuardConfig(audit_every=1, memory=0.0)), LinearWorld()
    call(cache, world, 450.0, 0)
    errors = [(call(cache, world, 450.0, seed)[0], cache.guard.error) for seed in (1, 2)]
    assert [happened for happened, _ in errors] == ["audit", "audit"]
    assert errors[0][1] is None
    assert errors[1][1] < 1e-5
    assert cache.summary()["guard"]["audits"] == 2


def test_a_batch_audits_one_view_of_a_new_bin():
    """Three views of two bins, all found: one audit each bin."""
    cache, latents = build(), torch.zeros(3, *SHAPE)
    keys = [key(timestep=each, azimuth=azimuth) for each, azimuth in ((410.0, 0.0), (420.0, 90.0), (510.0, 180.0))]
    assert cache.lookup(keys, latents) == [None] * 3
    cache.insert(keys, [0, 1, 2], latents, torch.zeros(2, 3, *SHAPE))
    assert [item.audit for item in cache.lookup(keys, latents)] == [True, False, True]


def test_a_condition_beside_the_latents_is_ignored():
    """Zero123's U-Net has 8 channels and predicts 4: a condition that changes changes no correction."""
    still, changing = build(), build()
    world, condition = LinearWorld(), torch.randn(2, *SHAPE[1:], generator=seeded(3))
    for seed in range(3):
        for cache, scale in ((still, 1.0), (changing, 10.0 * seed)):
            # One entry of which to reuse, so that the search by similarity, which sees the condition, has no choice.
            if seed == 2:
                cache.store.expire(2)
            happened, error = call(cache, world, 450.0, seed, condition=scale * condition)
            assert happened == ("full", "audit", "reuse")[seed]
            assert error < 1e-5
    assert torch.equal(still.correction.factors(450.0), changing.correction.factors(450.0))


def test_views_of_one_batch_have_their_own_gaps_and_timesteps():
    cache, world = build(), LinearWorld()
    for timestep, shift in ((150.0, 0.0), (450.0, 0.5)):
        learn_in_the_world(cache.correction, LinearWorld(FACTORS + shift), timestep)
    now, stored = (torch.stack([latents_of(seed) for seed in seeds]) for seeds in ((1, 2, 3), (4, 5, 6)))
    found = [Found(feature=torch.zeros(3, 1), latents=each, entries=()) for each in stored]
    reused = torch.stack([world.reused(*each) for each in zip(now, stored, strict=True)], dim=1)
    corrected = cache.correct([key(timestep=t) for t in (150, 450, 199)], found, now, reused)
    factors = torch.stack([FACTORS, FACTORS + 0.5, FACTORS], dim=1)[:, :, None, None, None]
    torch.testing.assert_close(corrected, reused + factors * (now - stored))


@pytest.mark.parametrize("how", ["reset", "scope", "signature"])
def test_a_cache_that_starts_anew_forgets(how):
    cache, world = build(), LinearWorld()
    with cache.view(elevation=0, azimuth=0, radius=1, scope="a cat"):
        cache.match("float32")
        assert [call(cache, world, 450.0, seed)[0] for seed in range(3)] == ["full", "audit", "reuse"]
    if how == "reset":
        cache.reset()
    with cache.view(elevation=0, azimuth=0, radius=1, scope="a dog" if how == "scope" else "a cat"):
        cache.match("float16" if how == "signature" else "float32")
        assert not cache.correction.knows(450.0)
        assert [call(cache, world, 450.0, seed)[0] for seed in range(3)] == ["full", "audit", "reuse"]


def test_a_resumed_cache_knows_what_it_knew(tmp_path):
    one, other, world = build(), build(), LinearWorld()
    for seed in range(3):
        call(one, world, 450.0, seed)
    torch.save(one.state_dict(), tmp_path / "cache.pt")
    other.load_state_dict(torch.load(tmp_path / "cache.pt", weights_only=True))
    happened, error = call(other, world, 450.0, 5)
    assert happened == "reuse"
    assert error < 1e-5
