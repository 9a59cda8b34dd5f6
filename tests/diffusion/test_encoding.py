"""The encodings: their latents and gradients against the exact ones, and a tiny autoencoder's."""

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny

from hash3d.diffusion.autoencoder import RecordedAutoencoder
from hash3d.diffusion.encoding import encoded_moments
from hash3d.diffusion.fused_layers import fixed_norms
from hash3d.diffusion.residual import ResidualBlock
from tests.distances import apart
from tests.tiny_models import tiny_stable_diffusion, tiny_tiny_autoencoder, tiny_zero123

RECORDED = 2e-3
"""Relative error of a recording in float32: convolutions may take TF32's 10 bits, and sum in another order."""


def encoded(vae, encoding, images, engine="auto"):
    """The moments, and a gradient on the pictures."""
    images = images.clone().requires_grad_()
    moments = encoded_moments(RecordedAutoencoder(vae, engine), images, encoding)
    dy = torch.randn(moments.shape, generator=torch.Generator().manual_seed(3)).to(moments)
    return moments.detach(), torch.autograd.grad(moments, images, dy)[0]


@pytest.fixture
def vae():
    return tiny_zero123().vae.requires_grad_(False)


@pytest.fixture
def tiny_folder(tmp_path):
    tiny_tiny_autoencoder().save_pretrained(tmp_path / "taesd")
    return tmp_path / "taesd"


def pictures(size=32):
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(2)) * 2 - 1


@pytest.mark.parametrize("encoding", ["exact", "fixed_norms", "half_gradient"])
def test_some_have_the_autoencoder_s_own_latents(vae, encoding):
    assert torch.equal(encoded(vae, encoding, pictures())[0], vae.encode(pictures()).latent_dist.parameters)


def test_the_exact_gradient_is_the_autoencoder_s(vae):
    images = pictures().requires_grad_()
    expected = vae.encode(images).latent_dist.parameters
    dy = torch.randn(expected.shape, generator=torch.Generator().manual_seed(3))
    assert torch.equal(encoded(vae, "exact", pictures())[1], torch.autograd.grad(expected, images, dy)[0])


def test_without_recordings_the_choice_is_the_exact_one(vae):
    for found, expected in zip(encoded(vae, "auto", pictures()), encoded(vae, "exact", pictures()), strict=True):
        assert torch.equal(found, expected)


def test_half_is_the_latents_of_a_smaller_picture_enlarged(vae):
    smaller = F.interpolate(pictures(), scale_factor=0.5, mode="bilinear", antialias=True)
    expected = F.interpolate(vae.encode(smaller).latent_dist.parameters, scale_factor=2, mode="bilinear")
    assert torch.equal(encoded(vae, "half", pictures())[0], expected)


def test_a_half_gradient_is_that_of_half(vae):
    assert torch.equal(encoded(vae, "half_gradient", pictures())[1], encoded(vae, "half", pictures())[1])


def test_a_gradient_with_fixed_norms_is_that_of_lines_for_the_first_level_s_norms(vae):
    """Each normalisation is replaced by weight (x - mean) / std + bias with the mean and std of these pictures."""
    found = encoded(vae, "fixed_norms", pictures())[1]

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
    expected = encoded(vae, "exact", pictures())[1]
    assert apart(found, expected) < 1e-5  # Sums in another order, in float32.


def test_a_gradient_in_eight_bits_has_fixed_norms_and_rounds_the_blocks_of_all_levels_but_the_last(vae):
    exact, gradient = encoded(vae, "eight_bits", pictures())
    assert apart(exact, encoded(vae, "exact", pictures())[0]) < 1e-6
    assert apart(gradient, encoded(vae, "fixed_norms", pictures())[1]) > 1e-3
    with fixed_norms(vae.encoder.down_blocks[0]):
        for block in [block for level in vae.encoder.down_blocks[:-1] for block in level.resnets]:
            block.forward = ResidualBlock(block, eight_bits=True, fixed=block in vae.encoder.down_blocks[0].resnets)
        expected = encoded(vae, "exact", pictures())[1]
    # Float32 in another order; a tie may fall to the next number of eight bits.
    assert apart(gradient, expected) < 1e-3


def test_without_a_gradient_nothing_is_encoded_twice(vae):
    calls = []
    vae.encoder.register_forward_hook(lambda *_: calls.append(1))
    encodings = ("exact", "fixed_norms", "eight_bits", "half", "half_gradient")
    for encoding in encodings:
        encoded_moments(RecordedAutoencoder(vae), pictures(), encoding)
    assert len(calls) == len(encodings)


@pytest.mark.parametrize("size", [32, 36, 33, 47])
@pytest.mark.parametrize("encoding", ["fixed_norms", "eight_bits", "half", "half_gradient"])
def test_latents_are_as_large_as_the_exact_ones(vae, encoding, size):
    exact, _ = encoded(vae, "exact", pictures(size))
    moments, gradient = encoded(vae, encoding, pictures(size))
    assert moments.shape == exact.shape
    assert gradient.shape == (2, 3, size, size)
    assert gradient.isfinite().all()


def test_a_tiny_autoencoder_gives_the_latents_themselves(tiny_folder):
    """In diffusers' convention pictures lie in [-1, 1], and taesd's latents are scaled already."""
    prior = tiny_stable_diffusion()
    prior.load_tiny(str(tiny_folder))
    with torch.no_grad():
        expected = AutoencoderTiny.from_pretrained(tiny_folder).encode(pictures()).latents
        latents = prior.encode(pictures(), torch.Generator().manual_seed(0), "tiny")
    assert torch.allclose(latents, expected, atol=1e-6)
    assert latents.shape == prior.encode(pictures()).shape
    images = pictures().requires_grad_()
    (gradient,) = torch.autograd.grad(prior.encode(images, encoding="tiny").sum(), images)
    assert gradient.abs().sum() > 0
    prior.use_engine("eager")
    with torch.no_grad():
        assert torch.equal(prior.encode(pictures(), encoding="tiny"), latents)


def test_without_a_tiny_autoencoder_there_is_no_tiny_encoding():
    with pytest.raises(ValueError, match="Expected a tiny autoencoder for 'tiny', but there is none"):
        tiny_stable_diffusion().encode(pictures(), encoding="tiny")


def test_a_tiny_autoencoder_of_other_latents_is_refused(tiny_folder, tmp_path):
    tiny_tiny_autoencoder(levels=4).save_pretrained(tmp_path / "eighths")
    prior = tiny_stable_diffusion()
    with pytest.raises(ValueError, match=r"of 4 channels, each of 4 pixels a side, but .*eighths has 4 channels of 8"):
        prior.load_tiny(str(tmp_path / "eighths"))
    with pytest.raises(FileNotFoundError, match="the tiny autoencoder to be an existing folder, or a hub name"):
        prior.load_tiny("nowhere")
    (tiny_folder / "config.json").unlink()
    with pytest.raises(ValueError, match=r"to hold taesd/config.json, but it is missing"):
        prior.load_tiny(str(tiny_folder))


def test_a_folder_of_another_autoencoder_is_refused(tmp_path, vae):
    vae.save_pretrained(tmp_path / "vae")
    with pytest.raises(ValueError, match="does not fit its configuration"):
        tiny_stable_diffusion().load_tiny(str(tmp_path / "vae"))


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("encoding", "definition"),
    [("auto", "fixed_norms"), *((each, each) for each in ("exact", "fixed_norms", "half", "half_gradient"))],
)
def test_a_recorded_encoding_is_the_eager_one(vae, encoding, definition):
    images = pictures(64).cuda()
    wanted = encoded(vae.cuda(), definition, images, "eager")
    for got, expected in zip(encoded(vae, encoding, images, "graph"), wanted, strict=True):
        assert apart(got, expected) < RECORDED


@pytest.mark.gpu
def test_a_recorded_tiny_autoencoder_is_the_eager_one():
    tiny = tiny_tiny_autoencoder().cuda().requires_grad_(False)
    results = []
    for engine in ("graph", "eager"):
        images = pictures(64).cuda().requires_grad_()
        latents = RecordedAutoencoder(tiny, engine).latents(images)
        results.append((latents, torch.autograd.grad(latents, images, torch.ones_like(latents))[0]))
    for got, wanted in zip(*results, strict=True):
        assert apart(got, wanted) < RECORDED
