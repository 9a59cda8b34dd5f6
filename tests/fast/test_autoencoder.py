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


def encode(vae, encoding, images, engine="auto"):
    """The moments, and the gradient on the images for one fixed gradient on the moments."""
    images = images.clone().requires_grad_()
    moments = AutoencoderEngine(vae, engine).encode(images, encoding)
    dy = torch.randn(moments.shape, generator=torch.Generator().manual_seed(3)).to(moments)
    return moments.detach(), torch.autograd.grad(moments, images, dy)[0]


@pytest.fixture
def vae():
    return tiny_zero123().vae.requires_grad_(False)


def random_images(size=32):
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(2)) * 2 - 1


def test_constant_norms_leave_the_latents_as_they_are(vae):
    assert torch.equal(
        encode(vae, "fixed_norms", random_images())[0], vae.encode(random_images()).latent_dist.parameters
    )


def test_without_cuda_graphs_auto_is_exact(vae):
    for found, expected in zip(
        encode(vae, "auto", random_images()), encode(vae, "exact", random_images()), strict=True
    ):
        assert torch.equal(found, expected)


def test_fixed_norms_have_the_gradient_of_affine_maps_in_the_first_level(vae):
    """Each normalisation is replaced by weight (x - mean) / std + bias with the mean and std of these images."""
    found = encode(vae, "fixed_norms", random_images())[1]

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
    expected = encode(vae, "exact", random_images())[1]
    assert apart(found, expected) < 1e-5  # Sums in another order, in float32.


@pytest.mark.parametrize("size", [32, 36, 33, 47])
def test_latents_are_as_large_as_the_exact_ones(vae, size):
    exact, _ = encode(vae, "exact", random_images(size))
    moments, gradient = encode(vae, "fixed_norms", random_images(size))
    assert moments.shape == exact.shape
    assert gradient.shape == (2, 3, size, size)
    assert gradient.isfinite().all()


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("encoding", "reference"),
    [("auto", "fixed_norms"), ("exact", "exact"), ("fixed_norms", "fixed_norms")],
)
def test_a_captured_encoding_is_the_eager_one(vae, encoding, reference):
    images = random_images(64).cuda()
    wanted = encode(vae.cuda(), reference, images, "eager")
    for got, expected in zip(encode(vae, encoding, images, "graph"), wanted, strict=True):
        assert apart(got, expected) < ROUNDING
