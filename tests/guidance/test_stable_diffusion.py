"""Guidance by a text, on the tiny model of the real classes."""

import pytest
import torch

from hash3d import Hash3DConfig, apply_hash3d
from hash3d.cameras import Cameras
from hash3d.guidance.sds import Guidance
from hash3d.guidance.stable_diffusion import StableDiffusionGuidance, StableDiffusionGuidanceConfig
from hash3d.guidance.view_prompts import VIEWS
from tests.tiny_models import tiny_stable_diffusion

PROMPT = "a red mug"
ALL_ROUND = Cameras.orbit(
    elevation=[0.0, 0.0, 0.0, 70.0], azimuth=[10.0, 90.0, 180.0, 0.0], radius=1.5, fov_y=49.1, size=32
)
"""Front, side, back, overhead."""


def guidance_of(prior, prompt=PROMPT, cache=None, seed=0, negative_prompt="", **settings):
    config = StableDiffusionGuidanceConfig(**{"guidance_scale": 5.0, "sample_latents": False, **settings})
    generator = torch.Generator().manual_seed(seed)
    return StableDiffusionGuidance(
        config, prior, prompt, negative_prompt=negative_prompt, generator=generator, cache=cache
    )


def pictures(count=4):
    return torch.rand(count, 32, 32, 3, generator=torch.Generator().manual_seed(3))


def test_the_loss_is_sds_by_hand():
    """Each view's noise is predicted with its own words; the numbers come from the parts of the prior."""
    prior = tiny_stable_diffusion()
    guidance, timesteps = guidance_of(prior, negative_prompt="blue", weighting="sqrt"), torch.full((4,), 400)
    assert isinstance(guidance, Guidance)
    loss = guidance(pictures(), ALL_ROUND, timesteps).loss
    with torch.no_grad():
        latents = prior.encode(pictures().permute(0, 3, 1, 2) * 2 - 1)
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
        noisy = prior.schedule.add_noise(latents, noise, timesteps)
        words = [f"{PROMPT}, {view}" for view in VIEWS]
        conditional, unconditional = (
            prior.unet(noisy, timesteps, encoder_hidden_states=prior.embed(prompts)).sample
            for prompts in (words, ["blue"] * 4)
        )
        guided = unconditional + 5.0 * (conditional - unconditional)
        noise_pred = prior.schedule.to_noise(guided, noisy, timesteps)
        weight = 1 - prior.schedule.alphas_cumprod[400].sqrt()
        expected = 0.5 * (weight * (noise_pred - noise)).square().sum() / 4
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)


def test_without_view_prompts_every_view_has_the_bare_prompt():
    prior = tiny_stable_diffusion()
    assert set(guidance_of(prior, view_prompts=False).prompts) == {PROMPT}
    noisy, timesteps = torch.randn(1, 4, 8, 8).expand(4, -1, -1, -1), torch.full((4,), 400)
    bare, named = (
        guidance_of(prior, view_prompts=worded).predict_noise(noisy, timesteps, ALL_ROUND) for worded in (False, True)
    )
    torch.testing.assert_close(bare, bare[:1].expand_as(bare))
    assert not torch.allclose(named[0], named[2])


@pytest.mark.parametrize("views", [1, 4])
def test_without_reuse_nothing_changes(views):
    prior = tiny_stable_diffusion()
    timesteps = torch.full((views,), 700)

    def series(cache):
        guidance = guidance_of(prior, cache=cache)
        return [guidance(pictures(views), ALL_ROUND[slice(0, views)], timesteps).loss.item() for _ in range(3)]

    expected = series(None)
    assert series(apply_hash3d(prior.unet, Hash3DConfig(reuse_probability=0.0))) == expected


def test_another_prompt_starts_the_cache_anew():
    prior = tiny_stable_diffusion()
    cache = apply_hash3d(prior.unet, Hash3DConfig(reuse_probability=1.0))
    timesteps = torch.full((4,), 700)
    for prompt, hits in ((PROMPT, 0), (PROMPT, 4), ("a green tree", 4), ("a green tree", 8)):
        guidance_of(prior, prompt, cache=cache)(pictures(), ALL_ROUND, timesteps)
        assert cache.statistics.hits == hits


def test_a_prompt_that_is_too_long():
    with pytest.raises(ValueError, match="prompt of at most 77 tokens"):
        guidance_of(tiny_stable_diffusion(), "red " * 90)
