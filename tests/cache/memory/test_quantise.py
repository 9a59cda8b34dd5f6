"""8-bit features: their error, and their bytes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hash3d.cache import Hash3DConfig
from hash3d.cache.memory.quantise import quantise
from tests.cache.entries import key


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.floats(-6, 6), st.sampled_from([(2, 3), (1, 4, 5, 6), (2, 7, 3, 3)]))
def test_every_number_is_at_most_half_a_step_off(seed, exponent, shape):
    """Channels of very different size. Beyond half a step there is float32's rounding, of numbers up to 127 steps."""
    generator = torch.Generator().manual_seed(seed)
    sizes = 10 ** (exponent * torch.rand(*shape[:2], *[1] * (len(shape) - 2), generator=generator))
    feature = sizes * torch.randn(*shape, generator=generator)
    coded = quantise(feature)
    assert torch.equal(coded.scale, feature.reshape(*shape[:2], -1).abs().amax(-1) / 127)
    steps = coded.scale.reshape(sizes.shape)
    assert ((coded.dequantise() - feature).abs() <= steps * (0.5 + 127 * 2**-22)).all()
    assert coded.codes.abs().reshape(*shape[:2], -1).amax(-1).eq(127).all()


def test_zeros_and_multiples_of_the_scale_are_exact():
    feature = torch.tensor([[[0.0, 0.0], [127.0, -3.0], [-254.0, 8.0]]])
    assert torch.equal(quantise(feature).dequantise(), feature)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_dtype_comes_back(dtype):
    feature = torch.tensor([[[2.0, -1.0]]], dtype=dtype)
    coded = quantise(feature)
    assert coded.dtype == coded.dequantise().dtype == dtype
    assert coded.dequantise().tolist() == [[[2.0, pytest.approx(-64 * 2 / 127, rel=2**-8)]]]  # bfloat16 has 8 bits.
    assert coded.nbytes == 2 + 4


def test_twice_as_many_entries_of_half_precision_fit():
    """By hand: 2 * 4 * 8 * 8 numbers, 2 * 4 scales of 4 bytes, 4 * 8 * 8 latents of 2 bytes."""
    numbers, latents = 2 * 40 * 8 * 8, 4 * 8 * 8
    held = {}
    for storage, size in (("full", 2 * latents + 2 * numbers), ("int8", 2 * latents + numbers + 4 * 2 * 40)):
        cache = Hash3DConfig(storage=storage, max_age=None, max_bytes=100_000).build()
        for step in range(30):
            place = [key(azimuth=20 * (step % 18), elevation=20 * (step // 18))]
            latent, feature = torch.zeros(1, 4, 8, 8).half(), torch.ones(2, 1, 40, 8, 8).half()
            cache.insert(cache.locate(place), latent, feature)
        held[storage] = len(cache.store.entries())
        assert held[storage] == 100_000 // size
        assert cache.summary()["bytes"] == cache.bytes_allocated == held[storage] * size
    assert held == {"full": 9, "int8": 16}
