"""Estimators: what each is when the entries are the query, and the arithmetic of those that blend."""

import dataclasses

import pytest
import torch

from hash3d.cache import aggregate
from hash3d.cache.grid import Key
from hash3d.cache.store import Entry
from hash3d.experiments import estimates
from hash3d.experiments.estimates import (
    CONDITIONAL,
    ESTIMATORS,
    Situation,
    fit_correction,
    fit_corrections,
    forecast,
    mean_of,
    residuals,
    rolled,
    softmax_of,
)
from hash3d.experiments.residuals import Passes, relative_error
from tests.tiny_models import tiny_zero123

NOISES = 3


@pytest.fixture(scope="module")
def passes():
    return Passes(tiny_zero123(), guidance_scale=3.0, cuts=(3, 5))


@pytest.fixture(scope="module")
def full(passes):
    """Full passes of 2 places with 3 noises each."""

    def full(seed, later=0):
        generator = torch.Generator().manual_seed(0)
        latents = torch.randn(2, 4, 8, 8, generator=generator).repeat_interleave(NOISES, 0)
        with torch.no_grad():
            condition = passes.prior.condition(torch.rand(1, 3, 32, 32, generator=generator)).expand(2 * NOISES)
            noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed))
            timesteps = torch.tensor([300, 700]).repeat_interleave(NOISES) + later
            return passes.full(passes.noisy_views(latents, noise, timesteps, condition, torch.zeros(2 * NOISES, 4)))

    return full


def situation(query, entries, noises=NOISES, **changes):
    corrections = fit_corrections(entries)
    given = Situation(
        query=query, entries=entries, same_noise=query, second=None, grids=None, corrections=corrections, noises=noises
    )  # fmt: skip
    return dataclasses.replace(given, **changes)


def test_the_querys_own_feature_gives_its_own_residual(passes, full):
    query, other = full(1), full(1, later=50)
    heights = torch.linspace(-1, 1, 17)[1::2]
    own = torch.stack([heights.expand(8, 8), heights[:, None].expand(8, 8)], dim=-1).expand(2 * NOISES, 8, 8, 2)
    for cut in passes.partials:
        size = query.joints[cut].feature.shape[-1]
        assert size == 8, "the grid below is of 8 pixels"
        given = situation(query, query, noises=1, second=other, grids={cut: own})
        # The query is its own first entry: no slope is left, whatever the second entry.
        true = passes.residual(query.views, query.prediction)
        found = dict(residuals(passes, given, cut))
        assert set(found) == set(ESTIMATORS)
        for name, residual in found.items():
            limit = 1e-3 if name != CONDITIONAL else None  # float32, and bilinear at pixel centres
            assert limit is None or relative_error(residual, true).max() < limit, name


def test_another_noise_is_not_the_query(passes, full):
    query, entries = full(1), full(2)
    true = passes.residual(query.views, query.prediction)
    found = dict(residuals(passes, situation(query, entries), passes.default_cut))
    errors = {name: float(relative_error(residual, true).mean()) for name, residual in found.items()}
    assert errors[estimates.SAME_NOISE] == 0.0
    assert errors[estimates.NEAREST] > 0.1
    assert errors[estimates.MEAN_3] < errors[estimates.NEAREST], "a mean has less noise"


def test_one_branch_is_kept_exactly(passes, full):
    """Without guidance by the unconditional branch, the unconditional branch's reuse costs nothing."""
    alone = Passes(passes.prior, guidance_scale=1.0, cuts=(5,))
    query, entries = full(1), full(2)
    found = dict(residuals(alone, situation(query, entries), 5))
    true = alone.residual(query.views, query.prediction)
    assert torch.allclose(found[estimates.UNCONDITIONAL], true, atol=1e-6)
    assert torch.allclose(found[estimates.CONDITIONAL], found[estimates.NEAREST], atol=1e-6)


def test_blends_stay_within_their_place():
    entries = torch.arange(12.0)[:, None]  # Both branches of 2 places with 3 noises.
    assert rolled(entries, 3, 1).flatten().tolist() == [1, 2, 0, 4, 5, 3, 7, 8, 6, 10, 11, 9]
    assert mean_of(entries, 3, 8).flatten().tolist() == [1] * 3 + [4] * 3 + [7] * 3 + [10] * 3
    assert mean_of(entries, 3, 2).flatten().tolist()[:3] == [0.5, 1.5, 1.0]


def test_the_blend_is_the_caches(full):
    query, entries = full(1), full(2)
    feature = entries.joints[5].feature
    blended = softmax_of(situation(query, entries), feature, 3).unflatten(0, (2, -1))
    key = Key(elevation=0.0, azimuth=0.0, radius=1.5, timestep=300.0)
    by_branch = feature.unflatten(0, (2, -1))
    stored = [
        Entry(key=key, latents=entries.views.noisy[row], feature=by_branch[:, row], step=0) for row in range(NOISES)
    ]
    for row in range(NOISES):
        wanted = aggregate.blended(query.views.noisy[row], stored)
        assert torch.allclose(blended[:, row], wanted, atol=1e-5)


def test_a_forecast_is_exact_for_what_is_linear_in_time():
    constant, slope = torch.randn(2, 4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([900, 300]), torch.tensor([950, 350]), torch.tensor([999, 400])
    query, one, two = (constant + time.repeat(2)[:, None, None, None] * slope for time in times)
    assert torch.allclose(forecast(one, two, times), query, rtol=1e-4, atol=1e-2)  # values of up to 2000


def test_a_linear_relation_is_found():
    generator = torch.Generator().manual_seed(0)
    truth, skips = torch.randn(5, 3, generator=generator), torch.randn(4, 3, 6, 6, generator=generator)
    features = torch.einsum("cs,bshw->bchw", truth, skips)
    assert torch.allclose(fit_correction(features, skips, penalty=0.0), truth, atol=1e-4)
    assert fit_correction(features, skips, penalty=1e6).abs().max() < 1e-4, "the penalty keeps it small"
