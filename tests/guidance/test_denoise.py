"""The picture that a render is drawn towards, on the tiny models of the real classes."""

import pytest
import torch
from diffusers import DDIMScheduler

from hash3d import DeepCacheConfig, GridConfig, Hash3DConfig, apply_hash3d
from hash3d.cameras import Cameras
from hash3d.diffusion.noise import NoiseSchedule
from hash3d.guidance.base import Guidance
from hash3d.guidance.denoise import DenoiseGuidance, DenoiseGuidanceConfig, ddim_step, denoise, shared_timestep
from hash3d.guidance.latent_guidance import resize
from hash3d.guidance.stable_diffusion import StableDiffusionGuidance, StableDiffusionGuidanceConfig
from hash3d.guidance.zero123 import Zero123Guidance, Zero123GuidanceConfig
from hash3d.schedules import constant, ramp
from tests.tiny_models import tiny_stable_diffusion, tiny_zero123

CAMERAS = Cameras.orbit(elevation=[10.0, 40.0], azimuth=[0.0, 75.0], radius=1.5, fov_y=49.1, size=32)


def guidance_of(prior, cache=None, **settings) -> DenoiseGuidance:
    reference = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(9)) * 2 - 1
    config = DenoiseGuidanceConfig(**settings)
    inner = Zero123Guidance(
        config.guidance,
        prior,
        reference,
        reference_elevation=10.0,
        reference_radius=1.5,
        generator=torch.Generator().manual_seed(0),
        cache=cache,
    )
    return DenoiseGuidance(config, inner)


def pictures(count=2, size=32, seed=3) -> torch.Tensor:
    return torch.rand(count, size, size, 3, generator=torch.Generator().manual_seed(seed))


def start(guidance, step=0, count=2) -> torch.Tensor:
    low, high = guidance.config.timestep_range(step, guidance.guidance.prior.schedule.num_timesteps)
    assert low == high
    return torch.full((count,), low)


def target_of(guidance, image, cameras, timesteps) -> torch.Tensor:
    path = guidance.path(shared_timestep(timesteps))
    return resize(denoise(guidance.guidance, image, cameras, path), image.shape[1:3])


def ddim(prior) -> DDIMScheduler:
    return DDIMScheduler(**prior.schedule.config, clip_sample=False, set_alpha_to_one=False, steps_offset=1)


def test_a_smaller_target_is_an_antialiased_reduction(monkeypatch):
    """Decoded columns that repeat 1, -1, -1, -1 are an even 1/4 at 8 of 32 pixels."""
    guidance = guidance_of(tiny_zero123())
    columns = torch.tensor([1.0, -1.0, -1.0, -1.0]).repeat(8)
    monkeypatch.setattr(guidance.guidance.prior, "decode", lambda latents: columns.expand(len(latents), 3, 32, 32))
    target = target_of(guidance, pictures(size=8), CAMERAS, start(guidance))
    torch.testing.assert_close(target[:, :, 2:-2], torch.full_like(target[:, :, 2:-2], 0.25), atol=0.05, rtol=0)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_a_step_is_that_of_diffusers(prediction_type):
    schedule = NoiseSchedule(prediction_type=prediction_type)
    reference = DDIMScheduler(**schedule.config, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    reference.set_timesteps(50)
    generator = torch.Generator().manual_seed(0)
    for timestep in (981, 501, 21, 1):
        prediction, noisy = torch.randn(2, 3, 4, 8, 8, generator=generator)
        expected = reference.step(prediction, timestep, noisy).prev_sample
        timesteps = torch.full((3,), timestep)
        found = ddim_step(schedule, schedule.to_noise(prediction, noisy, timesteps), noisy, timestep, 20)
        # At 981 the signal is 0.07 of the noise: rounding errors of float32 grow fifteenfold.
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("step", "index"), [(0, 40), (20, 43), (50, 47), (500, 47)])
def test_the_start_is_dreamgaussian_s(step, index):
    reference = ddim(tiny_zero123())
    reference.set_timesteps(50)
    expected = int(reference.timesteps[index])
    assert DenoiseGuidanceConfig().timestep_range(step, 1000) == (expected, expected)
    assert DenoiseGuidanceConfig().shared_timestep


@pytest.mark.parametrize("strength", [0.0, 0.6, 0.9])
def test_the_picture_is_that_of_a_loop_over_diffusers_scheduler(strength):
    prior = tiny_zero123()
    settings = Zero123GuidanceConfig(guidance_scale=5.0, sample_latents=False)
    guidance = guidance_of(prior, guidance=settings, num_steps=10, strength=constant(strength))
    image, timesteps = pictures(), start(guidance, step=0)
    found = target_of(guidance, image, CAMERAS, timesteps)
    scheduler = ddim(prior)
    scheduler.set_timesteps(10)
    kept = scheduler.timesteps[int(10 * strength) :]
    assert kept[0] == timesteps[0]
    with torch.no_grad():
        latents = prior.encode(image.permute(0, 3, 1, 2) * 2 - 1)
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
        latents = scheduler.add_noise(latents, noise, kept[:1])
        inner = guidance.guidance
        for timestep in kept:
            inputs = prior.make_guided_inputs(
                latents, timestep.expand(2), inner.condition.expand(2), inner.pose(CAMERAS)
            )
            conditional, unconditional = prior.unet(**inputs).sample.chunk(2)
            prediction = unconditional + 5.0 * (conditional - unconditional)
            latents = scheduler.step(prediction, timestep, latents).prev_sample
        expected = (prior.decode(latents) * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_the_loss_is_the_mean_squared_error_and_its_gradient_ends_at_the_picture():
    """A render of another size: the target comes at the render's size."""
    guidance = guidance_of(tiny_zero123())
    assert isinstance(guidance, Guidance)
    image = pictures(size=50).requires_grad_()
    output = guidance(image, CAMERAS, start(guidance), step=0)
    output.loss.backward()
    target = target_of(guidance_of(tiny_zero123()), image, CAMERAS, start(guidance))
    assert target.shape == image.shape
    assert not target.requires_grad
    torch.testing.assert_close(output.loss, (image - target).square().mean())
    torch.testing.assert_close(image.grad, 2 * (image - target).detach() / image.numel())
    assert output.metrics == {"timestep": 181.0}
    assert output.passes == 20, "ten steps of two views"


def mid_block_calls(prior) -> list[int]:
    """Fills with the rows of each call of the U-Net's middle, which only a full pass has."""
    rows: list[int] = []
    prior.unet.mid_block.resnets[0].register_forward_hook(lambda module, inputs, output: rows.append(len(inputs[0])))
    return rows


@pytest.mark.parametrize(("interval", "full"), [(1, 7), (3, 3), (4, 2), (20, 1)])
def test_deepcache_is_full_at_the_first_pass_of_every_picture_and_every_interval_after(interval, full):
    """7 steps of denoising for each of three pictures."""
    prior = tiny_zero123()
    cache = apply_hash3d(prior.unet, DeepCacheConfig(interval=interval))
    guidance = guidance_of(prior, cache, num_steps=10, strength=constant(0.3))
    rows = mid_block_calls(prior)
    for number in range(1, 4):
        output = guidance(pictures(seed=number), CAMERAS, start(guidance))
        assert output.passes == 14
        assert rows == [4] * full * number, "two views, two branches"
        assert cache.statistics.full == 2 * full * number
        assert cache.statistics.shallow == 2 * (7 - full) * number


def test_deepcache_takes_nothing_over_from_the_last_picture():
    """The second picture is the same whatever came first."""
    found = []
    for first in (4, 5):
        prior = tiny_zero123()
        cache = apply_hash3d(prior.unet, DeepCacheConfig(interval=20))
        guidance = guidance_of(prior, cache, num_steps=10, strength=constant(0.5))
        guidance(pictures(seed=first), CAMERAS, start(guidance))
        found.append(target_of(guidance, pictures(seed=6), CAMERAS, start(guidance)))
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("config", "same"),
    [
        (DeepCacheConfig(interval=1), True),
        (Hash3DConfig(reuse_probability=0.0), True),
        (DeepCacheConfig(interval=3), False),
        (Hash3DConfig(grid=GridConfig(timestep=500)), False),
    ],
    ids=["interval_1", "no_reuse", "interval_3", "hash3d"],
)
def test_a_cache_changes_the_picture_only_by_reuse(config, same):
    settings = {"num_steps": 10, "strength": constant(0.5)}
    plain = guidance_of(tiny_zero123(), **settings)
    expected = target_of(plain, pictures(), CAMERAS, start(plain))
    prior = tiny_zero123()
    cache = apply_hash3d(prior.unet, config)
    guidance = guidance_of(prior, cache, **settings)
    found = target_of(guidance, pictures(), CAMERAS, start(guidance))
    assert torch.equal(found, expected) == same
    assert (cache.statistics.hits == 0) == same
    assert torch.equal(plain.guidance.generator.get_state(), guidance.guidance.generator.get_state())


def test_hash3d_keeps_features_from_picture_to_picture():
    prior = tiny_zero123()
    cache = apply_hash3d(prior.unet, Hash3DConfig(grid=GridConfig(timestep=20), max_age=None))
    guidance = guidance_of(prior, cache, num_steps=10, strength=constant(0.5))
    for _ in range(2):
        guidance(pictures(), CAMERAS, start(guidance))
    assert (cache.statistics.full, cache.statistics.hits) == (10, 10), "the second picture's five steps of two views"


def test_guidance_by_a_text():
    config = DenoiseGuidanceConfig(
        guidance=StableDiffusionGuidanceConfig(guidance_scale=7.5), num_steps=10, strength=ramp((0, 0.7))
    )
    prior = tiny_stable_diffusion()
    cache = apply_hash3d(prior.unet, DeepCacheConfig(interval=2))
    generator = torch.Generator().manual_seed(0)
    inner = StableDiffusionGuidance(config.guidance, prior, "a red mug", generator=generator, cache=cache)
    guidance = DenoiseGuidance(config, inner)
    image = pictures().requires_grad_()
    guidance(image, CAMERAS, start(guidance), step=0).loss.backward()
    assert image.grad.abs().sum() > 0
    assert (cache.statistics.full, cache.statistics.shallow) == (4, 2)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"less than 1\.0, but got 1\.0"):
        DenoiseGuidanceConfig(strength=constant(1.0))
    with pytest.raises(ValueError, match="at least 1 step of denoising, but got 0"):
        DenoiseGuidanceConfig(num_steps=0)
    with pytest.raises(ValueError, match="fewer than 1000 steps"):
        guidance_of(tiny_zero123(), num_steps=1000)
    with pytest.raises(ValueError, match="rendered pictures"):
        DenoiseGuidanceConfig(guidance=StableDiffusionGuidanceConfig(rendered="latents"))
    with pytest.raises(ValueError, match="one timestep for all views"):
        guidance_of(tiny_zero123())(pictures(), CAMERAS, torch.tensor([181, 161]))


def test_at_scale_1_a_target_of_one_step_is_the_conditional_prediction_of_the_image():
    """x0 = (z_t - sigma eps(z_t, condition)) / alpha with the noise of timestep 0, decoded; one row a view."""
    prior = tiny_zero123()
    inner = guidance_of(prior).guidance
    rows = []
    prior.unet.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(kwargs["sample"])), with_kwargs=True
    )
    found = denoise(inner, pictures(), CAMERAS, [500], guidance_scale=1.0)
    assert rows == [2]
    inner.generator.manual_seed(0)
    latents = inner.encode(pictures())
    noise, timesteps = torch.randn(latents.shape, generator=inner.generator), torch.full((2,), 500)
    noisy = prior.schedule.add_noise(latents, noise, timesteps)
    conditional = prior.unet(**inner.inputs(noisy, timesteps, CAMERAS)).sample[:2]
    conditional = prior.schedule.to_noise(conditional, noisy, timesteps)
    clean = prior.schedule.to_latents(conditional, noisy, timesteps)
    expected = inner.decode(prior.schedule.add_noise(clean, conditional, torch.zeros_like(timesteps)))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
