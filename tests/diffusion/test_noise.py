"""The noise schedule's mathematics."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler

from hash3d.diffusion.noise import NoiseSchedule

GENERATOR = torch.Generator().manual_seed(0)
TIMESTEPS = torch.tensor([0, 20, 500, 980, 999])
CONFIGS = {
    "stable_diffusion": {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"},
    "ddpm": {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"},
}


def normal(count=5, size=8):
    return torch.randn(count, 4, size, size, generator=GENERATOR)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_alphas_are_those_of_diffusers(name):
    schedule, reference = NoiseSchedule(**CONFIGS[name]), DDPMScheduler(**CONFIGS[name])
    # Ours are cumulated in float64, theirs in float32.
    torch.testing.assert_close(schedule.alphas_cumprod, reference.alphas_cumprod, rtol=1e-5, atol=0)
    latents, noise = normal(), normal()
    torch.testing.assert_close(
        schedule.add_noise(latents, noise, TIMESTEPS),
        reference.add_noise(latents, noise, TIMESTEPS),
        rtol=1e-5,
        atol=1e-5,
    )


def test_variance_is_preserved():
    signal, sigma = NoiseSchedule().coefficients(torch.arange(1000), torch.zeros(1000, 1))
    torch.testing.assert_close(signal**2 + sigma**2, torch.ones(1000, 1))
    assert (signal.diff(dim=0) < 0).all()
    noisy = NoiseSchedule().add_noise(normal(5, 64), normal(5, 64), TIMESTEPS)
    assert noisy.var(dim=(1, 2, 3)).tolist() == pytest.approx([1] * 5, abs=0.05)


def test_velocity_gives_noise_and_latents_back():
    """In float64: at t = 999 the latents are divided by sqrt(abar) = 0.07."""
    schedule = NoiseSchedule(prediction_type="v_prediction")
    latents, noise = normal().double(), normal().double()
    schedule.alphas_cumprod = schedule.alphas_cumprod.double()
    noisy = schedule.add_noise(latents, noise, TIMESTEPS)
    signal, sigma = schedule.coefficients(TIMESTEPS, latents)
    found = schedule.to_noise(signal * noise - sigma * latents, noisy, TIMESTEPS)
    torch.testing.assert_close(found, noise)
    torch.testing.assert_close(schedule.to_latents(found, noisy, TIMESTEPS), latents)


def test_an_epsilon_prediction_is_the_noise():
    prediction = normal()
    assert NoiseSchedule().to_noise(prediction, normal(), TIMESTEPS) is prediction


def test_coefficients_follow_the_latents_dtype():
    signal, sigma = NoiseSchedule().coefficients(TIMESTEPS, normal().half())
    assert signal.dtype == sigma.dtype == torch.float16
    assert signal.shape == (5, 1, 1, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_one_view_has_the_numbers_of_several(dtype):
    """They are no tensors of the latents' device, but the same to the last bit."""
    schedule, latents, noise = NoiseSchedule(), normal(1).to(dtype), normal(1).flip(-1).to(dtype)
    for timestep in (0, 500, 999):
        alone, several = torch.tensor([timestep]), torch.tensor([timestep, 3])
        assert [each.shape for each in schedule.coefficients(alone, latents)] == [(), ()]
        found = schedule.add_noise(latents, noise, alone)
        expected = schedule.add_noise(latents.repeat(2, 1, 1, 1), noise.repeat(2, 1, 1, 1), several)
        assert found.dtype == dtype
        assert torch.equal(found[0], expected[0])


@pytest.mark.parametrize(("weighting", "value"), [("sds", 0.75), ("sqrt", 0.5), ("uniform", 1.0)])
def test_weights_where_abar_is_a_quarter(weighting, value):
    schedule = NoiseSchedule()
    schedule.alphas_cumprod = torch.tensor([0.25])
    assert schedule.weights(torch.tensor([0, 0]), weighting).tolist() == [value, value]


def test_a_scheduler_folder(tmp_path):
    DDPMScheduler(**CONFIGS["ddpm"], prediction_type="v_prediction").save_pretrained(tmp_path)
    schedule = NoiseSchedule.load(tmp_path)
    assert schedule.prediction_type == "v_prediction"
    assert torch.equal(schedule.alphas_cumprod, NoiseSchedule(**CONFIGS["ddpm"]).alphas_cumprod)
    schedule.save(tmp_path / "again")
    again = NoiseSchedule.load(tmp_path / "again")
    assert again.config == schedule.config
    assert torch.equal(again.alphas_cumprod, schedule.alphas_cumprod)


def test_a_malformed_scheduler_is_refused_by_name(tmp_path):
    (tmp_path / "scheduler_config.json").write_text('{"num_train_timesteps": "x"}')
    with pytest.raises(ValueError, match=r"scheduler_config\.json cannot be used"):
        NoiseSchedule.load(tmp_path)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (DDIMScheduler(trained_betas=[0.1, 0.2, 0.3]), "beta_schedule alone, but got trained_betas"),
        (DDIMScheduler(rescale_betas_zero_snr=True), "beta_schedule alone, but got rescale_betas_zero_snr"),
        (FlowMatchEulerDiscreteScheduler(), "a beta_schedule, but FlowMatchEulerDiscreteScheduler has none"),
    ],
)
def test_a_scheduler_of_other_alphas_is_refused(scheduler, message, tmp_path):
    scheduler.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        NoiseSchedule.load(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prediction_type": "sample"}, "epsilon or v_prediction, but got 'sample'"),
        ({"beta_schedule": "cosine"}, "scaled_linear or linear, but got 'cosine'"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(ValueError, match=message):
        NoiseSchedule(**settings)
