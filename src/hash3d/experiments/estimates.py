"""Estimates of a query's deep feature from stored entries, and of its SDS residual.

A batch is a grid of G places (a view and a timestep) with N noises each, B = G N. A place has as many entries as
queries; query n begins with entry n, and takes the next ones, round and round, where it needs several.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hash3d.cache.aggregate import softmax_weights

from .residuals import FullPass, Passes, by_view
from .warp import warp

NEAREST = "nearest entry"
ONE_FOR_ALL = "nearest entry, one for all noises"
SOFTMAX = "softmax blend of 3"
MEAN_3, MEAN_8 = "mean of 3", "mean of 8"
FORECAST = "forecast from two later entries"
RIDGE = "nearest entry, corrected by the skip"
BY_LATENTS = "nearest entry, corrected by the latents"
MEAN_BY_LATENTS = "mean of 8, corrected by the latents"
WARPED = "nearest entry, warped by depth"
SAME_NOISE = "entry with the query's noise"
UNCONDITIONAL = "unconditional branch only"
CONDITIONAL = "conditional branch alone, scale 1"
PREDICTION = "predicted noise"
PENALTY = 1e-3
"""Of the ridge regression, relative to the mean variance of the skip's channels."""

ESTIMATORS = (
    NEAREST, ONE_FOR_ALL, SOFTMAX, MEAN_3, MEAN_8, BY_LATENTS, MEAN_BY_LATENTS, FORECAST, RIDGE, WARPED,
    SAME_NOISE, UNCONDITIONAL, CONDITIONAL, PREDICTION,
)  # fmt: skip
COSTS = {UNCONDITIONAL: (0.5, 0.5), CONDITIONAL: (0.0, 0.5), PREDICTION: (0.0, 0.0)}
"""Full and shallow passes, of both branches of a view, that an estimate takes; the others take one shallow pass."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What the estimators may use of a batch of queries. All passes have the same views in the same order."""

    query: FullPass
    entries: FullPass
    """Full passes with noise of their own."""
    same_noise: FullPass
    """The entries, had they had the queries' noise."""
    second: FullPass | None
    """Entries with the noise of `entries` at yet another timestep; None if those are of the query's timestep."""
    grids: dict[int, Float[Tensor, "B h w 2"]] | None
    """By cut where the query's surfaces lie in the entries' views (`warp_grid`); None if the views are the same."""
    corrections: dict[int, Float[Tensor, "2 C S"]]
    """By cut what a change of the skip tells of the feature, for each branch (`fit_correction`)."""
    noises: int
    """N, noises of a place."""


def rolled(paired: Float[Tensor, "P *shape"], noises: int, by: int) -> Float[Tensor, "P *shape"]:
    """The entries of each place moved on by a number; P = 2 B rows, or B."""
    return paired.unflatten(0, (-1, noises)).roll(-by, 1).flatten(0, 1)


def mean_of(paired: Float[Tensor, "P *shape"], noises: int, count: int) -> Float[Tensor, "P *shape"]:
    """The plain mean of `count` entries, or of all if there are fewer."""
    count = min(count, noises)
    return torch.stack([rolled(paired, noises, by) for by in range(count)]).mean(0)


def softmax_of(situation: Situation, feature: Float[Tensor, "P C h w"], count: int) -> Float[Tensor, "P C h w"]:
    """`count` entries blended as the cache blends them, by softmax of minus the distance of the noisy latents."""
    noises = situation.noises
    count = min(count, noises)
    stored = torch.stack([rolled(situation.entries.views.noisy, noises, by) for by in range(count)], dim=1)
    queries = situation.query.views.noisy
    weights = torch.stack([softmax_weights(query, list(each)) for query, each in zip(queries, stored, strict=True)])
    features = torch.stack([rolled(feature, noises, by) for by in range(count)], dim=1).unflatten(0, (2, -1))
    return torch.einsum("bm,sbm...->sb...", weights.to(feature), features).flatten(0, 1)


def forecast(
    first: Float[Tensor, "P C h w"],
    second: Float[Tensor, "P C h w"],
    times: tuple[Int[Tensor, " B"], Int[Tensor, " B"], Int[Tensor, " B"]],
) -> Float[Tensor, "P C h w"]:
    """f(t) = f(t1) + (f(t1) - f(t2)) (t1 - t) / (t2 - t1), for `times` (t, t1, t2): linear in the timestep."""
    query, one, two = times
    slope = ((one - query) / (two - one)).to(first).repeat(2)[:, None, None, None]
    return first + (first - second) * slope


def fit_correction(
    features: Float[Tensor, "M C h w"], skips: Float[Tensor, "M S h w"], penalty: float = PENALTY
) -> Float[Tensor, "C S"]:
    """Ridge regression over all pixels: B minimises sum ||f - B s||^2 + penalty mean(s^2) pixels ||B||^2, in float32.

    With features and skips that are differences of two passes, B s is what a change of the skip tells of the feature.
    """
    f, s = (each.float().movedim(1, -1).flatten(0, -2) for each in (features, skips))
    gram = s.T @ s
    ridge = penalty * gram.diagonal().mean() * torch.eye(len(gram)).to(gram)
    return torch.linalg.solve(gram + ridge, s.T @ f).T


def fit_corrections(earlier: FullPass) -> dict[int, Float[Tensor, "2 C S"]]:
    """By cut, for each branch, from earlier full passes whose first half has the places of the second, in order."""
    corrections = {}
    for cut, joint in earlier.joints.items():
        pairs = [by_view(each).unflatten(0, (2, -1)) for each in (joint.feature, joint.skip)]
        f, s = (pair[0] - pair[1] for pair in pairs)
        corrections[cut] = torch.stack([fit_correction(f[:, branch], s[:, branch]) for branch in range(2)])
    return corrections


def corrected(situation: Situation, cut: int) -> Float[Tensor, "P C h w"]:
    """f_a + B (s - s_a): the nearest entry's feature, moved as the skip has moved."""
    joint, query = situation.entries.joints[cut], situation.query.joints[cut]
    moved = (query.skip - joint.skip).float().unflatten(0, (2, -1))
    change = torch.einsum("kcs,kbshw->kbchw", situation.corrections[cut], moved).flatten(0, 1)
    return (joint.feature.float() + change).to(joint.feature)


def corrected_by_latents(
    prediction: Float[Tensor, "P C h w"],
    true: Float[Tensor, "P C h w"],
    gap: Float[Tensor, "B C h w"],
    timesteps: Int[Tensor, " B"],
) -> Float[Tensor, "P C h w"]:
    """prediction + k gap: to first order what the stored feature does not know of today's latents.

    k of a query is fitted to the other queries of its timestep, by least squares.
    """
    missing, moved = (true - prediction).float().unflatten(0, (2, -1)).flatten(2), gap.float().flatten(1)
    products, squares = torch.einsum("kbn,bn->kb", missing, moved), moved.square().sum(1)
    others = (timesteps[:, None] == timesteps[None]).fill_diagonal_(False).to(moved)
    factors = (products @ others) / (squares @ others).clamp(min=torch.finfo(moved.dtype).tiny)
    return prediction + factors.flatten().to(prediction)[:, None, None, None] * gap.repeat(2, 1, 1, 1)


def features(situation: Situation, cut: int) -> Iterator[tuple[str, Float[Tensor, "P C h w"]]]:
    """Each estimator's name and its feature."""
    noises, nearest = situation.noises, situation.entries.joints[cut].feature
    yield NEAREST, nearest
    yield ONE_FOR_ALL, nearest.unflatten(0, (-1, noises))[:, :1].expand(-1, noises, -1, -1, -1).flatten(0, 1)
    yield SOFTMAX, softmax_of(situation, nearest, 3)
    yield MEAN_3, mean_of(nearest, noises, 3)
    yield MEAN_8, mean_of(nearest, noises, 8)
    yield RIDGE, corrected(situation, cut)
    if situation.second is not None:
        passes = (situation.query, situation.entries, situation.second)
        times = tuple(each.views.timesteps for each in passes)
        yield FORECAST, forecast(nearest, situation.second.joints[cut].feature, (times[0], times[1], times[2]))
    if situation.grids is not None:
        yield WARPED, warp(nearest, situation.grids[cut].repeat(2, 1, 1, 1))
    yield SAME_NOISE, situation.same_noise.joints[cut].feature


def residuals(passes: Passes, situation: Situation, cut: int) -> Iterator[tuple[str, Float[Tensor, "B 4 h w"]]]:
    """Each estimator's name and the SDS residual that it gives."""
    views = situation.query.views
    for name, feature in features(situation, cut):
        prediction = passes.shallow(views, cut, feature)
        yield name, passes.residual(views, prediction)
        if name in (NEAREST, MEAN_8):
            stored, (true, times) = situation.entries.views.noisy, (situation.query.prediction, views.timesteps)
            gap = views.noisy - (stored if name == NEAREST else mean_of(stored, situation.noises, 8))
            exact = corrected_by_latents(prediction, true, gap, times)
            yield BY_LATENTS if name == NEAREST else MEAN_BY_LATENTS, passes.residual(views, exact)
        if name == NEAREST:
            true = situation.query.prediction.chunk(2)[0]
            yield UNCONDITIONAL, passes.residual(views, torch.cat([true, prediction.chunk(2)[1]]))
            yield CONDITIONAL, passes.residual(views, prediction, guidance_scale=1.0)
    yield PREDICTION, passes.residual(views, situation.entries.prediction)
