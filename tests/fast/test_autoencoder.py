"""The autoencoder engine: the moments, the images and the gradient of the model's own methods."""

import warnings

import pytest
import torch

from hash3d.fast.autoencoder import AutoencoderEngine
from tests.distances import apart
from tests.tiny_models import tiny_zero123

ROUNDING = 2e-3
"""Relative error of a CUDA graph in float32: convolutions may take TF32's 10 bits, and sum in another order."""


def test_moments_gradient_and_images_are_the_autoencoders():
    vae = tiny_zero123().vae
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    expected = vae.encode(images).latent_dist.parameters
    moments = AutoencoderEngine(vae).encode(images)
    assert torch.equal(moments, expected)
    dy = torch.randn_like(moments)
    (got,), (wanted,) = (torch.autograd.grad(result, images, dy) for result in (moments, expected))
    assert torch.equal(got, wanted)
    latents = torch.randn(2, 4, 8, 8)
    assert torch.equal(AutoencoderEngine(vae).decode(latents), vae.decode(latents).sample)


def test_what_cannot_be_captured_warns_once_and_runs_eagerly(monkeypatch):
    monkeypatch.setattr("hash3d.fast.autoencoder.records", lambda engine, device: True)

    def record(*_):
        raise RuntimeError("this device has no graphs")

    monkeypatch.setattr("hash3d.fast.autoencoder.RecordedGradient", record)
    vae = tiny_zero123().vae
    autoencoder, images = AutoencoderEngine(vae), torch.rand(2, 3, 32, 32, requires_grad=True)
    with pytest.warns(UserWarning, match="An autoencoder runs eagerly, .*: RuntimeError: this device has no graphs"):
        moments = autoencoder.encode(images)
    assert torch.equal(moments, vae.encode(images).latent_dist.parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(autoencoder.encode(images), moments)


def test_a_shape_is_captured_once_though_capturing_moves_the_weights(monkeypatch):
    made = []
    monkeypatch.setattr("hash3d.fast.autoencoder.records", lambda engine, device: True)
    monkeypatch.setattr(
        "hash3d.fast.autoencoder.RecordedGradient", lambda function, x: made.append(x.shape) or function
    )
    autoencoder = AutoencoderEngine(tiny_zero123().vae)
    for size in (32, 32, 64, 32):
        autoencoder.encode(torch.rand(2, 3, size, size, requires_grad=True))
    assert made == [(2, 3, 32, 32), (2, 3, 64, 64)]


@pytest.mark.gpu
def test_a_captured_encoder_is_the_eager_one():
    vae = tiny_zero123().vae.cuda()
    captured, eager = AutoencoderEngine(vae, "graph"), AutoencoderEngine(vae, "eager")
    for seed in range(2):
        torch.manual_seed(seed)
        images = torch.rand(2, 3, 64, 64, device="cuda", requires_grad=True)
        moments, wanted = captured.encode(images), eager.encode(images)
        dy = torch.randn_like(moments)
        (gradient,), (expected,) = (torch.autograd.grad(result, images, dy) for result in (moments, wanted))
        assert apart(moments, wanted) < ROUNDING
        assert apart(gradient, expected) < ROUNDING
        with torch.no_grad():
            assert apart(captured.encode(images), wanted) < ROUNDING
            latents = torch.randn(2, 4, 8, 8, device="cuda")
            assert apart(captured.decode(latents), eager.decode(latents)) < ROUNDING
