"""The autoencoder by an engine: the moments, the pictures and the gradient of the model's own methods."""

import warnings

import pytest
import torch

from hash3d.fast.autoencoder import RecordedAutoencoder
from tests.distances import apart
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
    monkeypatch.setattr("hash3d.fast.autoencoder.records", lambda engine, device: True)

    def record(*_):
        raise RuntimeError("this device has no graphs")

    monkeypatch.setattr("hash3d.fast.autoencoder.RecordedGradient", record)
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
    monkeypatch.setattr("hash3d.fast.autoencoder.records", lambda engine, device: True)
    monkeypatch.setattr(
        "hash3d.fast.autoencoder.RecordedGradient", lambda function, x: made.append(x.shape) or function
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


def encode(vae, encoding, images, engine="auto"):
    """The moments, and the gradient on the images for one fixed gradient on the moments."""
    images = images.clone().requires_grad_()
    moments = RecordedAutoencoder(vae, engine).moments(images, encoding)
    dy = torch.randn(moments.shape, generator=torch.Generator().manual_seed(3)).to(moments)
    return moments.detach(), torch.autograd.grad(moments, images, dy)[0]


@pytest.fixture
def vae():
    return tiny_zero123().vae.requires_grad_(False)


def pictures(size=32):
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(2)) * 2 - 1


def test_constant_norms_leave_the_latents_as_they_are(vae):
    assert torch.equal(encode(vae, "fixed_norms", pictures())[0], vae.encode(pictures()).latent_dist.parameters)


def test_without_recordings_the_choice_is_the_exact_one(vae):
    for found, expected in zip(encode(vae, "auto", pictures()), encode(vae, "exact", pictures()), strict=True):
        assert torch.equal(found, expected)


def test_a_gradient_with_fixed_norms_is_that_of_lines_for_the_first_level_s_norms(vae):
    """Each normalisation is replaced by weight (x - mean) / std + bias with the mean and std of these pictures."""
    found = encode(vae, "fixed_norms", pictures())[1]

    def line(norm):
        def forward(x):
            groups = x.detach().reshape(len(x), norm.num_groups, -1)
            mean, variance = groups.mean(-1, keepdim=True), groups.var(-1, correction=0, keepdim=True)
            normalised = (x.reshape(groups.shape) - mean) * (variance + norm.eps).rsqrt()
            channels = (-1, *[1] * (x.ndim - 2))
            return normalised.reshape(x.shape) * norm.weight.view(channels) + norm.bias.view(channels)

        return forward

    for module in vae.encoder.down_blocks[0].modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.forward = line(module)
    expected = encode(vae, "exact", pictures())[1]
    assert apart(found, expected) < 1e-5  # Sums in another order, in float32.


@pytest.mark.parametrize("size", [32, 36, 33, 47])
def test_latents_are_as_large_as_the_exact_ones(vae, size):
    exact, _ = encode(vae, "exact", pictures(size))
    moments, gradient = encode(vae, "fixed_norms", pictures(size))
    assert moments.shape == exact.shape
    assert gradient.shape == (2, 3, size, size)
    assert gradient.isfinite().all()


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("encoding", "definition"),
    [("auto", "fixed_norms"), ("exact", "exact"), ("fixed_norms", "fixed_norms")],
)
def test_a_recorded_encoding_is_the_eager_one(vae, encoding, definition):
    images = pictures(64).cuda()
    wanted = encode(vae.cuda(), definition, images, "eager")
    for got, expected in zip(encode(vae, encoding, images, "graph"), wanted, strict=True):
        assert apart(got, expected) < RECORDED
