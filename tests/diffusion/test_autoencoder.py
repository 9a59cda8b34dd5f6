"""The autoencoder by an engine: the moments, the pictures and the gradient of the model's own methods."""

import warnings

import pytest
import torch
from diffusers import AutoencoderKL

from hash3d.diffusion.autoencoder import RecordedAutoencoder
from tests.distances import apart
from tests.gpus import needs_eight_bits
from tests.tiny_models import tiny_zero123

RECORDED = 2e-3
"""Relative error of a recording in float32: convolutions may take TF32's 10 bits, and sum in another order."""


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


@pytest.mark.gpu
@needs_eight_bits
def test_a_recording_in_eight_bits_is_the_eager_one_whatever_is_done_with_other_memory():
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
    vae = AutoencoderKL(block_out_channels=(128, 256, 128), layers_per_block=1, **blocks)
    vae = vae.cuda().half().eval().requires_grad_(False)
    recorded, eager = RecordedAutoencoder(vae, "graph"), RecordedAutoencoder(vae, "eager")
    for seed in range(2):
        images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed)).cuda().half().requires_grad_()
        results = [each.moments(images, "eight_bits") for each in (recorded, eager)]
        dy = torch.randn_like(results[0])
        gradient, slope = (torch.autograd.grad(result, images, dy)[0] for result in results)
        assert apart(*results) < 5e-3  # Half precision through some twenty layers.
        # And the next number of eight bits where those differ: each at most 2^-3 of itself.
        assert torch.cosine_similarity(gradient.float().flatten(), slope.float().flatten(), dim=0) > 0.998
        torch.full((2**28,), float("nan"), device="cuda")
        [torch.full((2**size,), float("nan"), device="cuda") for size in range(10, 24)]
