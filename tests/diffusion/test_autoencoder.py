"""The autoencoder by an engine: the moments, the pictures and the gradient of the model's own methods."""

import warnings

import pytest
import torch

from hash3d.diffusion.autoencoder import RecordedAutoencoder
from tests.tiny_models import tiny_zero123

RECORDED = 2e-3
"""Relative error of a recording in float32: convolutions may take TF32's 10 bits, and sum in another order."""


def apart(got, wanted):
    return float((got - wanted).detach().norm() / wanted.detach().norm())


def test_moments_gradient_and_pictures_are_the_autoencoders():
    vae = tiny_zero123().vae
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    expected = vae.encode(images).latent_dist.parameters
    moments = RecordedAutoencoder(vae).moments(images)
    assert torch.equal(moments, expected)
    dy = torch.randn_like(moments)
    (got,), (wanted,) = (torch.autograd.grad(result, images, dy) for result in (moments, expected))
    assert torch.equal(got, wanted)
    latents = torch.randn(2, 4, 8, 8)
    assert torch.equal(RecordedAutoencoder(vae).pictures(latents), vae.decode(latents).sample)


def test_what_cannot_be_recorded_says_so_once_and_runs_eagerly(monkeypatch):
    monkeypatch.setattr("hash3d.diffusion.autoencoder.records", lambda engine, device: True)

    def record(*_):
        raise RuntimeError("this device has no graphs")

    monkeypatch.setattr("hash3d.diffusion.autoencoder.RecordedGradient", record)
    vae = tiny_zero123().vae
    autoencoder, images = RecordedAutoencoder(vae), torch.rand(2, 3, 32, 32, requires_grad=True)
    with pytest.warns(UserWarning, match="An autoencoder runs eagerly, .*: RuntimeError: this device has no graphs"):
        moments = autoencoder.moments(images)
    assert torch.equal(moments, vae.encode(images).latent_dist.parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(autoencoder.moments(images), moments)


def test_a_shape_is_recorded_once_though_recording_moves_the_weights(monkeypatch):
    made = []
    monkeypatch.setattr("hash3d.diffusion.autoencoder.records", lambda engine, device: True)
    monkeypatch.setattr(
        "hash3d.diffusion.autoencoder.RecordedGradient", lambda function, x: made.append(x.shape) or function
    )
    autoencoder = RecordedAutoencoder(tiny_zero123().vae)
    for size in (32, 32, 64, 32):
        autoencoder.moments(torch.rand(2, 3, size, size, requires_grad=True))
    assert made == [(2, 3, 32, 32), (2, 3, 64, 64)]


@pytest.mark.gpu
def test_a_recorded_encoder_is_the_eager_one():
    vae = tiny_zero123().vae.cuda()
    recorded, eager = RecordedAutoencoder(vae, "graph"), RecordedAutoencoder(vae, "eager")
    for seed in range(2):
        torch.manual_seed(seed)
        images = torch.rand(2, 3, 64, 64, device="cuda", requires_grad=True)
        moments, wanted = recorded.moments(images), eager.moments(images)
        dy = torch.randn_like(moments)
        (gradient,), (slope,) = (torch.autograd.grad(result, images, dy) for result in (moments, wanted))
        assert apart(moments, wanted) < RECORDED
        assert apart(gradient, slope) < RECORDED
        with torch.no_grad():
            assert apart(recorded.moments(images), wanted) < RECORDED
            latents = torch.randn(2, 4, 8, 8, device="cuda")
            assert apart(recorded.pictures(latents), eager.pictures(latents)) < RECORDED
