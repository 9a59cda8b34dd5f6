"""Guidance by a text, on the tiny model of the real classes."""

import pytest
import torch

from hash3d import Hash3DConfig, apply_hash3d
from hash3d.cameras import Cameras
from hash3d.guidance.base import Guidance
from hash3d.guidance.stable_diffusion import (
    VIEWS,
    StableDiffusionGuidance,
    StableDiffusionGuidanceConfig,
    resize_latents,
    view_index,
    view_prompt,
)
from hash3d.schedules import ramp
from tests.tiny_models import UNETS, tiny_stable_diffusion

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


LAYOUTS = {"1.5": {}, "2.1": {**UNETS["stable_diffusion_21"], "attention_head_dim": (2, 4), "cross_attention_dim": 12}}
"""Changes of the U-Net: convolutional projections and equal heads, or linear projections and heads of equal size."""


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("timesteps", [[400] * 4, [20, 400, 650, 980]], ids=["shared", "each"])
def test_the_loss_is_sds_by_hand(layout, prediction_type, timesteps):
    """Each view's noise is predicted with its own words and weight; the numbers come from the parts of the prior."""
    prior = tiny_stable_diffusion(prediction_type, **LAYOUTS[layout])
    guidance, timesteps = guidance_of(prior, negative_prompt="blue", weighting="sqrt"), torch.tensor(timesteps)
    assert isinstance(guidance, Guidance)
    output = guidance(pictures(), ALL_ROUND, timesteps)
    assert output.metrics == {"timestep": timesteps.double().mean()}
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
        weights = 1 - prior.schedule.alphas_cumprod[timesteps].sqrt()
        expected = 0.5 * (weights[:, None, None, None] * (noise_pred - noise)).square().sum() / 4
    torch.testing.assert_close(output.loss, expected, rtol=1e-4, atol=0)


def test_the_scale_goes_from_the_unconditional_prediction_through_the_conditional():
    """threestudio's c + 100 (c - u) is 101 here."""
    prior, noisy, timesteps = tiny_stable_diffusion(), torch.randn(4, 4, 8, 8), torch.full((4,), 400)
    without, bare, strong = (
        guidance_of(prior, guidance_scale=scale).predict_noise(noisy, timesteps, ALL_ROUND)
        for scale in (0.0, 1.0, 101.0)
    )
    torch.testing.assert_close(strong, bare + 100 * (bare - without), rtol=1e-4, atol=1e-4)


def test_the_bound_of_the_gradient_follows_the_steps():
    """GaussianDreamer's: 1.5 at first, 2 from step 1,000; the gradient on rendered latents is bound / B at most."""
    bound = {"max_gradient": ramp((0, 1.5), (1_000, 2.0)), "guidance_scale": 1e4, "rendered": "latents"}
    guidance = guidance_of(tiny_stable_diffusion(), **bound)
    for step, largest in ((0, 1.5), (500, 1.75), (5_000, 2.0)):
        latents = torch.zeros(4, 8, 8, 4, requires_grad=True)
        guidance(latents, ALL_ROUND, torch.full((4,), 400), step=step).loss.backward()
        assert latents.grad.abs().max() == largest / 4
    with pytest.raises(ValueError, match="Expected the run's step for max_gradient"):
        guidance(latents, ALL_ROUND, torch.full((4,), 400))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_gradient_on_rendered_latents(prediction_type):
    """w(t) (guided - noise) / B exactly: the latents 0 add no rounding, and no encoder stands between."""
    prior, timesteps = tiny_stable_diffusion(prediction_type), torch.tensor([20, 400, 650, 980])
    guidance, again = (guidance_of(prior, rendered="latents") for _ in range(2))
    latents = torch.zeros(4, 8, 8, 4, requires_grad=True)
    guidance(latents, ALL_ROUND, timesteps).loss.backward()
    noise = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        noisy = prior.schedule.add_noise(latents.permute(0, 3, 1, 2), noise, timesteps)
        guided = again.predict_noise(noisy, timesteps, ALL_ROUND)
    weights = (1 - prior.schedule.alphas_cumprod[timesteps])[:, None, None, None]
    assert torch.equal(latents.grad.permute(0, 3, 1, 2), weights * (guided - noise) / 4)


def test_rendered_latents_use_no_encoder_and_share_the_rest():
    """The loss of what the encoder gave is the loss of the picture."""
    prior, timesteps = tiny_stable_diffusion(), torch.full((4,), 400)
    expected = guidance_of(prior)(pictures(), ALL_ROUND, timesteps).loss
    latents = prior.encode(pictures().permute(0, 3, 1, 2) * 2 - 1).detach().permute(0, 2, 3, 1)
    prior.vae = None
    assert torch.equal(guidance_of(prior, rendered="latents")(latents, ALL_ROUND, timesteps).loss, expected)


def test_the_range_of_timesteps_can_jump():
    """SDS+GS: the highest timestep falls from 980 to 500 after step 2,000 (threestudio-3dgs 8c2ab7b)."""
    config = StableDiffusionGuidanceConfig(max_timestep=ramp((2_000, 0.98), (2_001, 0.5)))
    assert [config.timestep_range(step, 1000) for step in (0, 2_000, 2_001)] == [(20, 980), (20, 980), (20, 500)]
    annealed = ramp((0, 0.75), (4, 0.25))
    config = StableDiffusionGuidanceConfig(min_timestep=annealed, max_timestep=annealed)
    assert [config.timestep_range(step, 1000) for step in (0, 2, 9)] == [(750, 750), (500, 500), (250, 250)]


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


@pytest.mark.parametrize("prompt", ["", "  "])
def test_no_prompt(prompt):
    with pytest.raises(ValueError, match="Expected a prompt, but got an empty one"):
        guidance_of(tiny_stable_diffusion(), prompt)


@pytest.mark.parametrize("option", ["weighting", "rendered"])
def test_an_unknown_option(option):
    """Set behind the back of the tests' type checks, which a user does not have."""
    config = StableDiffusionGuidanceConfig()
    object.__setattr__(config, option, "bogus")
    with pytest.raises(ValueError, match=f"Expected {option} to be one of .*, but got 'bogus'. Choose one of these."):
        config.__post_init__()


def test_latents_of_the_right_size_are_the_same_numbers():
    latents = torch.randn(2, 8, 8, 4)
    assert torch.equal(resize_latents(latents, 8).permute(0, 2, 3, 1), latents)


@pytest.mark.parametrize("size", [8, 16, 32, (8, 16)])
def test_a_plane_stays_a_plane(size):
    """Linear interpolation keeps what is linear between pixel centres; the border clamps, so the inside is compared."""
    height, width = size if isinstance(size, tuple) else (size, size)
    rows, columns = torch.meshgrid(
        (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij"
    )
    plane = (rows + 2 * columns)[None, :, :, None] * torch.tensor([1.0, -1.0, 0.5, 3.0])
    rows, columns = torch.meshgrid(*[(torch.arange(16) + 0.5) / 16] * 2, indexing="ij")
    expected = (rows + 2 * columns)[None, None] * torch.tensor([1.0, -1.0, 0.5, 3.0])[None, :, None, None]
    found = resize_latents(plane, 16)
    torch.testing.assert_close(found[:, :, 2:-2, 2:-2], expected[:, :, 2:-2, 2:-2], rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [4, 8, 12, 32])
def test_the_gradient_reaches_every_latent(size):
    """The mean is kept where the sizes divide, so that a step moves a large render as it moves a small one."""
    latents = torch.randn(1, size, size, 4, requires_grad=True)
    resize_latents(latents, 8).sum().backward()
    assert (latents.grad > 0).all()
    assert latents.grad.sum() == pytest.approx(8 * 8 * 4, rel=1e-5)


def test_pictures_are_refused_as_latents():
    with pytest.raises(ValueError, match="Expected rendered latents of 4 channels, but got 3"):
        resize_latents(torch.zeros(1, 8, 8, 3), 8)


def named(elevation: float, azimuth: float) -> str:
    """The nearest of the four sides, unless seen from high above."""
    if elevation > 60:
        return "overhead view"
    distance = {
        "front view": min(abs(azimuth - turn) for turn in range(-720, 721, 360)),
        "back view": min(abs(azimuth - turn) for turn in range(-900, 901, 360)),
    }
    return next((view for view, angle in distance.items() if angle < 45), "side view")


def test_the_index_names_the_side_that_is_seen():
    elevation, azimuth = torch.meshgrid(torch.arange(-80.0, 91.0, 5), torch.arange(-400.0, 401.0, 2.5), indexing="ij")
    elevation, azimuth = elevation.flatten(), azimuth.flatten()
    expected = [named(*angles) for angles in zip(elevation.tolist(), azimuth.tolist(), strict=True)]
    assert [VIEWS[index] for index in view_index(elevation, azimuth).tolist()] == expected
    assert set(expected) == set(VIEWS)


def test_a_prompt_names_its_view():
    assert view_prompt("a red mug", 2) == "a red mug, back view"
