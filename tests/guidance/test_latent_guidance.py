"""What guidances with a latent diffusion model share: how images reach the encoder, and their settings."""

import pytest
import torch

from hash3d.guidance.stable_diffusion import StableDiffusionGuidance, StableDiffusionGuidanceConfig
from hash3d.guidance.zero123 import Zero123GuidanceConfig
from hash3d.schedules import constant, ramp
from tests.tiny_models import tiny_stable_diffusion


@pytest.fixture(scope="module")
def guidance():
    config = StableDiffusionGuidanceConfig(sample_latents=False)
    generator = torch.Generator().manual_seed(0)
    return StableDiffusionGuidance(config, tiny_stable_diffusion(), "a red mug", generator=generator)


def test_the_gradient_reaches_every_pixel_of_a_larger_render(guidance):
    """128 pixels for a model of 32: without antialiasing bilinear weights leave three of four rows without any."""
    image = torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    guidance.encode(image).square().sum().backward()
    assert (image.grad.abs().amax(dim=-1) > 0).all()


def test_a_larger_render_is_encoded_as_its_antialiased_reduction(guidance, monkeypatch):
    """Columns that repeat 1, 0, 0, 0 are an even 1/4 at a quarter of the size, which is -1/2 to the autoencoder."""
    monkeypatch.setattr(guidance.prior, "encode", lambda pixels, _: pixels.expand(-1, 4, -1, -1))
    columns = torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(32)
    found = guidance.encode(columns.expand(1, 128, 128).unsqueeze(-1))[..., 2:-2, 2:-2]
    torch.testing.assert_close(found, torch.full_like(found, -0.5))


def test_timesteps_are_whole_shares_of_the_model_s_and_stay_below_their_number():
    config = Zero123GuidanceConfig(min_timestep=constant(0.02), max_timestep=ramp((0, 1.0), (10, 0.01)))
    assert config.timestep_range(0, 1000) == (20, 999)
    assert config.timestep_range(5, 1000) == (20, 505)
    assert config.timestep_range(10, 1000) == (20, 20), "the highest is never below the lowest"
