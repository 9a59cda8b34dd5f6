"""Perp-Neg: the formulas by hand, the geometry, and one cache entry for all branches of a view."""

import math

import pytest
import torch

from hash3d import Hash3DConfig, apply_hash3d, remove_hash3d
from hash3d.cameras import Cameras
from hash3d.guidance.perp_neg import (
    PerpNegConfig,
    negative_weights,
    perp_neg_guidance,
    perpendicular,
    positive_weights,
)
from hash3d.guidance.sds import classifier_free_guidance
from hash3d.guidance.stable_diffusion import StableDiffusionGuidance, StableDiffusionGuidanceConfig
from hash3d.guidance.view_prompts import VIEWS
from hash3d.unet.partial_unet import PartialUNet
from tests.tiny_models import tiny_stable_diffusion, tiny_unet, unet_inputs

ALL_ROUND = Cameras.orbit(
    elevation=[0.0, 30.0, 0.0, 70.0, -10.0],
    azimuth=[10.0, 60.0, 180.0, 0.0, -130.0],
    radius=1.5,
    fov_y=49.1,
    size=32,
)
NO_PUSH = PerpNegConfig(
    front_half_from_front=(0.0, 0.0, 0.0),
    front_half_from_side=(0.0, 0.0, 0.0),
    back_half_from_side=(0.0, 0.0, 0.0),
    back_half_from_front=(0.0, 0.0, 0.0),
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def guidance_of(prior, cache=None, perp_neg=PerpNegConfig(), **settings):  # noqa: B008  (frozen)
    config = StableDiffusionGuidanceConfig(
        **{"guidance_scale": 5.0, "sample_latents": False, "perp_neg": perp_neg, **settings}
    )
    generator = torch.Generator().manual_seed(0)
    return StableDiffusionGuidance(config, prior, "a red mug", generator=generator, cache=cache)


def pictures(count):
    return torch.rand(count, 32, 32, 3, generator=torch.Generator().manual_seed(3))


def weights_by_hand(elevation, azimuth):
    """threestudio's rule, case by case: shares of front, side, back, overhead; weights against front and side."""
    if elevation > 60:
        return [0, 0, 0, 1], [0, 0]
    turned = min(azimuth % 360, 360 - azimuth % 360)
    if turned < 90:
        r = 1 - turned / 90
        against_front, against_side = 4 * math.exp(-0.5 * r) - 2.426, 4 * math.exp(-0.5 * (1 - r)) - 2.426
        return [r, 1 - r, 0, 0], [against_front, against_side]
    r = 2 - turned / 90
    against_front, against_side = math.exp(-0.5 * r) + 0.967, math.exp(-0.5 * r) - 0.606
    return [0, r, 1 - r, 0], [against_front, against_side]


def test_weights_all_round():
    elevation, azimuth = torch.meshgrid(torch.arange(-80.0, 91.0, 10), torch.arange(-400.0, 401.0, 2.5), indexing="ij")
    elevation, azimuth = elevation.flatten(), azimuth.flatten()
    expected = [weights_by_hand(*view) for view in zip(elevation.tolist(), azimuth.tolist(), strict=True)]
    positive, negative = (torch.tensor(rows) for rows in zip(*expected, strict=True))
    torch.testing.assert_close(positive_weights(elevation, azimuth), positive.float(), rtol=0, atol=1e-5)
    torch.testing.assert_close(negative_weights(PerpNegConfig(), elevation, azimuth), negative, rtol=0, atol=1e-5)


def test_weights_do_not_jump_and_spare_the_view_s_own_words():
    azimuth = torch.arange(-180.0, 180.0, 0.1)
    level = torch.zeros_like(azimuth)
    weights = negative_weights(PerpNegConfig(), level, azimuth)
    # The steepest slope is that of f_fs at r = 0, a b / 90 = 0.022 a degree; at the side the halves meet to 1e-3.
    assert weights.diff(dim=0).abs().max() < 0.1 * 0.023 + 1e-3
    front_and_side = negative_weights(PerpNegConfig(), torch.zeros(2), torch.tensor([0.0, 90.0]))
    assert front_and_side.diagonal().abs().max() < 1e-3
    assert positive_weights(level, azimuth).sum(dim=-1) == pytest.approx(torch.ones(len(azimuth)), abs=1e-6)


def test_the_perpendicular_part_is_orthogonal_and_the_rest_parallel():
    vectors, directions = normal(3, 4, 8, 8), normal(3, 4, 8, 8, seed=1) * torch.tensor([1e-3, 1.0, 1e3])[
        :, None, None, None
    ]  # fmt: skip
    part = perpendicular(vectors, directions)
    cosine = torch.cosine_similarity(part.flatten(1), directions.flatten(1))
    torch.testing.assert_close(cosine, torch.zeros(3), rtol=0, atol=1e-6)
    parallel = torch.cosine_similarity((vectors - part).flatten(1), directions.flatten(1)).abs()
    torch.testing.assert_close(parallel, torch.ones(3), rtol=0, atol=1e-5)
    # It depends on the direction's line alone, and a vector along it leaves nothing.
    torch.testing.assert_close(perpendicular(vectors, -7 * directions), part, rtol=0, atol=1e-5)
    assert (perpendicular(3 * directions, directions).abs() < 1e-5 * directions.abs().amax()).all()
    assert torch.equal(perpendicular(vectors, torch.zeros_like(vectors)), vectors)


def test_guidance_by_hand_in_the_plane():
    """Positive along x; the negatives' parts along x do nothing, those along y push the other way."""
    unconditional = torch.tensor([1.0, 1.0]).view(1, 2, 1, 1)
    conditional = unconditional + torch.tensor([2.0, 0.0]).view(1, 2, 1, 1)
    negatives = unconditional + torch.tensor([[5.0, 1.0], [-3.0, -4.0]]).view(2, 1, 2, 1, 1)
    guided = perp_neg_guidance(conditional, unconditional, negatives, torch.tensor([[0.5, 0.25]]), 10.0)
    assert guided.flatten().tolist() == [1 + 10 * 2, 1 + 10 * -(0.5 * 1 + 0.25 * -4)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_with_zero_weights_it_is_classifier_free_guidance(dtype):
    conditional, unconditional = normal(3, 4, 8, 8).to(dtype), normal(3, 4, 8, 8, seed=1).to(dtype)
    guided = perp_neg_guidance(
        conditional, unconditional, normal(2, 3, 4, 8, 8, seed=2).to(dtype), torch.zeros(3, 2), 7.5
    )
    assert guided.dtype == dtype
    assert torch.equal(guided, classifier_free_guidance(conditional, unconditional, 7.5))


def test_a_negative_prompt_along_the_positive_one_does_nothing():
    """What Perp-Neg is for: the words that both prompts share are not pushed away."""
    conditional, unconditional = normal(2, 4, 8, 8), normal(2, 4, 8, 8, seed=1)
    along = unconditional + 0.7 * (conditional - unconditional)
    guided = perp_neg_guidance(conditional, unconditional, torch.stack([along, along]), torch.full((2, 2), 3.0), 7.5)
    expected = classifier_free_guidance(conditional, unconditional, 7.5)
    torch.testing.assert_close(guided, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_guided_noise_by_hand(prediction_type):
    """Each branch predicted alone, turned into noise, and only then combined: a v-prediction may be combined before."""
    prior = tiny_stable_diffusion(prediction_type)
    noisy, timesteps = normal(5, 4, 8, 8), torch.tensor([400, 20, 980, 650, 100])
    guided = guidance_of(prior).predict_noise(noisy, timesteps, ALL_ROUND)
    shares, weights = zip(*map(weights_by_hand, ALL_ROUND.elevation.tolist(), ALL_ROUND.azimuth.tolist()), strict=True)
    with torch.no_grad():
        words = prior.embed([f"a red mug, {view}" for view in VIEWS])
        blends = torch.stack([sum(share * word for share, word in zip(row, words, strict=True)) for row in shares])
        conditional, unconditional, front, side = (
            prior.schedule.to_noise(
                prior.unet(noisy, timesteps, encoder_hidden_states=embeddings).sample, noisy, timesteps
            )
            for embeddings in (blends, *(one.expand_as(blends) for one in (prior.embed([""]), words[0], words[1])))
        )
    for row, (from_front, from_side) in enumerate(weights):
        positive = (conditional - unconditional)[row]

        def push(negative, row=row, positive=positive):
            difference = (negative - unconditional)[row]
            return difference - (difference * positive).sum() / positive.square().sum() * positive

        expected = unconditional[row] + 5.0 * (positive - from_front * push(front) - from_side * push(side))
        torch.testing.assert_close(guided[row], expected, rtol=1e-3, atol=1e-4)


def test_at_the_front_the_prompt_is_the_front_s():
    """Where nothing is blended and nothing pushed, Perp-Neg is the plain guidance."""
    prior = tiny_stable_diffusion()
    noisy, timesteps = normal(1, 4, 8, 8).expand(2, -1, -1, -1), torch.full((2,), 400)
    cameras = Cameras.orbit(elevation=[0.0, 70.0], azimuth=[0.0, 77.0], radius=1.5, fov_y=49.1, size=32)
    plain, still, pushed = (
        guidance_of(prior, perp_neg=perp_neg).predict_noise(noisy, timesteps, cameras)
        for perp_neg in (None, NO_PUSH, PerpNegConfig())
    )
    # Four branches in a batch may choose another kernel than two.
    torch.testing.assert_close(still, plain, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(pushed[1], plain[1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(pushed[0], plain[0], rtol=1e-4, atol=1e-5), "the front is pushed away from the side"


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("branches", [2, 3, 4])
def test_without_reuse_the_hook_changes_no_bit(branches, views):
    unet = tiny_unet()
    inputs = unet_inputs(unet, views=views, branches=branches)
    with torch.no_grad():
        expected = unet(**inputs).sample
        cache = apply_hash3d(unet, Hash3DConfig(reuse_probability=0.0))
        for _ in range(2):
            with cache.view(elevation=0, azimuth=[20.0 * view for view in range(views)], radius=1, timestep=400):
                assert torch.equal(unet(**inputs).sample, expected)
    assert (cache.statistics.full, cache.statistics.shallow) == (2 * views, 0)


@pytest.mark.parametrize("perp_neg", [None, PerpNegConfig()], ids=["pair", "perp-neg"])
@pytest.mark.parametrize("views", [1, 3])
def test_without_reuse_the_guidance_changes_no_bit(views, perp_neg):
    prior = tiny_stable_diffusion()

    def series(cache=None):
        guidance, image = guidance_of(prior, cache, perp_neg), pictures(views).requires_grad_()
        losses = [guidance(image, ALL_ROUND[slice(0, views)], torch.full((views,), 700)).loss for _ in range(3)]
        torch.stack(losses).sum().backward()
        return losses, image.grad

    losses, gradient = series()
    cached_losses, cached_gradient = series(apply_hash3d(prior.unet, Hash3DConfig(reuse_probability=0.0)))
    assert cached_losses == losses
    assert torch.equal(cached_gradient, gradient)
    remove_hash3d(prior.unet)


@torch.no_grad()
def test_the_four_branches_of_a_hit_come_from_one_entry():
    """Two entries in a cell, of which the nearest serves: the prediction is the shallow pass from it, bit for bit."""
    prior = tiny_stable_diffusion()
    shallow = PartialUNet(prior.unet, -1).shallow_pass
    cache = apply_hash3d(prior.unet, Hash3DConfig(aggregation="nearest_key"))
    guidance, timesteps = guidance_of(prior, cache), torch.tensor([400])

    def view(azimuth):
        return Cameras.orbit(elevation=5.0, azimuth=azimuth, radius=1.5, fov_y=49.1, size=32)

    for azimuth in (22.0, 38.0):
        cache.reuse_probability = 0.0  # Both views run in full, and both stay.
        guidance.predict_noise(normal(1, 4, 8, 8, seed=int(azimuth)), timesteps, view(azimuth))
    entries = cache.store.entries()
    assert [len(entry.feature) for entry in entries] == [4, 4]
    cache.reuse_probability = 1.0
    noisy = normal(1, 4, 8, 8, seed=1)
    guided = guidance.predict_noise(noisy, timesteps, view(36.0))
    assert cache.statistics.hits == 1
    inputs = guidance.inputs(noisy, timesteps, view(36.0))
    with torch.no_grad():
        expected = guidance.guide(shallow(entries[1].feature, **inputs).sample.unflatten(0, (4, 1)), view(36.0))
        other = guidance.guide(shallow(entries[0].feature, **inputs).sample.unflatten(0, (4, 1)), view(36.0))
    assert torch.equal(guided, expected)
    assert not torch.allclose(guided, other, rtol=1e-3)


@torch.no_grad()
def test_a_batch_of_hits_and_misses_keeps_the_branches_of_each_view():
    prior = tiny_stable_diffusion()
    noisy, timesteps = normal(3, 4, 8, 8), torch.full((3,), 400)
    expected = guidance_of(prior).predict_noise(noisy, timesteps, ALL_ROUND[slice(0, 3)])
    cache = apply_hash3d(prior.unet, Hash3DConfig())
    guidance = guidance_of(prior, cache)
    guidance.predict_noise(noisy[1:2], timesteps[:1], ALL_ROUND[slice(1, 2)])
    guided = guidance.predict_noise(noisy, timesteps, ALL_ROUND[slice(0, 3)])
    assert (cache.statistics.full, cache.statistics.shallow) == (3, 1)
    # The hit's own feature gives the full pass; other batch sizes may choose other kernels.
    torch.testing.assert_close(guided, expected, rtol=1e-3, atol=1e-4)


def test_perp_neg_without_view_prompts_is_refused():
    with pytest.raises(ValueError, match="Expected view_prompts with perp_neg"):
        StableDiffusionGuidanceConfig(perp_neg=PerpNegConfig(), view_prompts=False)
