"""Guidance by one image, on the tiny model of the real classes."""

import pytest
import torch

from hash3d import Hash3DConfig, apply_hash3d, remove_hash3d
from hash3d.cameras import Cameras, CameraSamplerConfig
from hash3d.guidance.base import Guidance
from hash3d.guidance.zero123 import Zero123Guidance, Zero123GuidanceConfig
from hash3d.recipes.view_order import ViewOrderConfig
from hash3d.schedules import constant
from tests.tiny_models import tiny_zero123


def guidance_of(prior, cache=None, seed=0, **settings):
    reference = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(9)) * 2 - 1
    return Zero123Guidance(
        Zero123GuidanceConfig(**settings),
        prior,
        reference,
        reference_elevation=10.0,
        reference_radius=1.5,
        generator=torch.Generator().manual_seed(seed),
        cache=cache,
    )


def series(guidance, steps=6, views=1, size=32):
    """Losses and image gradients of a run that optimises one image for all views."""
    draws = ViewOrderConfig().build(CameraSamplerConfig(batch_size=views))
    generator = torch.Generator().manual_seed(1)
    image = torch.full((size, size, 3), 0.5, requires_grad=True)
    optimizer = torch.optim.Adam([image], lr=0.05)
    losses, gradients = [], []
    for _ in range(steps):
        optimizer.zero_grad()
        cameras, timesteps = draws.next(size, 500, 980, generator)
        output = guidance(image.expand(views, -1, -1, -1), cameras, timesteps)
        output.loss.backward()
        optimizer.step()
        losses.append(output.loss.item())
        gradients.append(image.grad.clone())
    return losses, gradients


@pytest.mark.parametrize("patches", [True, False], ids=["patches", "pooled"])
@pytest.mark.parametrize("views", [1, 3])
def test_without_reuse_the_losses_are_those_without_a_hook(patches, views):
    prior = tiny_zero123(patches=patches)
    expected, gradients = series(guidance_of(prior), views=views)
    cache = apply_hash3d(prior.unet, Hash3DConfig(reuse_probability=0.0))
    losses, hooked_gradients = series(guidance_of(prior, cache), views=views)
    assert losses == expected
    assert all(torch.equal(one, other) for one, other in zip(gradients, hooked_gradients, strict=True))
    assert cache.statistics.full == 6 * views
    remove_hash3d(prior.unet)
    assert series(guidance_of(prior), views=views)[0] == expected


@pytest.mark.filterwarnings("ignore:A U-Net call ran in full")
def test_with_reuse_the_noise_stays_the_same():
    """Only the predictions differ: after the same calls the generators stand at the same place."""
    prior = tiny_zero123()
    cameras = Cameras.orbit(elevation=0, azimuth=0, radius=1.5, fov_y=49.1, size=32)
    plain = guidance_of(prior)
    cache = apply_hash3d(prior.unet, Hash3DConfig(reuse_probability=1.0))
    reusing = guidance_of(prior, cache)
    image = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(2))
    for guidance in (plain, reusing):
        for _ in range(8):
            guidance(image, cameras, torch.tensor([500]))
    assert torch.equal(plain.generator.get_state(), reusing.generator.get_state())
    assert cache.statistics.hits > 0


def test_the_seed_decides():
    prior = tiny_zero123()
    first, again, other = (series(guidance_of(prior, seed=seed), steps=2)[0] for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("size", [24, 32, 50])
@pytest.mark.parametrize("views", [1, 3])
def test_the_gradient_reaches_every_picture_of_any_size(size, views):
    guidance = guidance_of(tiny_zero123())
    assert isinstance(guidance, Guidance)
    image = torch.rand(views, size, size, 3, generator=torch.Generator().manual_seed(3)).requires_grad_()
    cameras = CameraSamplerConfig(batch_size=views).sample(size, torch.Generator().manual_seed(4))
    output = guidance(image, cameras, torch.full((views,), 500))
    output.loss.backward()
    assert output.loss.shape == ()
    assert torch.isfinite(image.grad).all()
    assert (image.grad.flatten(1).abs().sum(dim=1) > 0).all()


def test_the_loss_is_sds_by_hand():
    """One view, latents the mode: the same numbers from the parts of the prior."""
    prior = tiny_zero123()
    settings = {"sample_latents": False, "guidance_scale": 5.0, "weighting": "sqrt"}
    image = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(3))
    cameras = Cameras.orbit(elevation=40, azimuth=75, radius=1.7, fov_y=49.1, size=32)
    guidance = guidance_of(prior, **settings)
    timestep = torch.tensor([400])
    loss = guidance(image, cameras, timestep).loss
    with torch.no_grad():
        latents = prior.encode(image.permute(0, 3, 1, 2) * 2 - 1)
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
        noisy = prior.schedule.add_noise(latents, noise, timestep)
        inputs = prior.make_guided_inputs(noisy, timestep, guidance.condition, guidance.pose(cameras))
        conditional, unconditional = prior.unet(**inputs).sample.chunk(2)
        velocity = unconditional + 5.0 * (conditional - unconditional)
        noise_pred = prior.schedule.to_noise(velocity, noisy, timestep)
        weight = 1 - prior.schedule.alphas_cumprod[400].sqrt()
        expected = 0.5 * (weight * (noise_pred - noise)).square().sum()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)


def test_poses_are_relative_to_the_reference():
    guidance = guidance_of(tiny_zero123(pose_variant="xl", patches=False))
    pose = guidance.pose(Cameras.orbit(elevation=40, azimuth=90, radius=1.8, fov_y=49.1, size=32))
    torch.testing.assert_close(pose, torch.tensor([[torch.pi * -30 / 180, 1.0, 0.0, 0.3]]))


@pytest.mark.parametrize(
    ("step", "low", "high"), [(0, 700, 980), (50, 700, 980), (125, 500, 890), (200, 300, 800), (5000, 300, 800)]
)
def test_the_range_of_timesteps(step, low, high):
    assert Zero123GuidanceConfig().timestep_range(step, 1000) == (low, high)


def test_timesteps_never_leave_the_model():
    config = Zero123GuidanceConfig(min_timestep=constant(1.0), max_timestep=constant(0.5))
    assert config.timestep_range(0, 1000) == (999, 999)
