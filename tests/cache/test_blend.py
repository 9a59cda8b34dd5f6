"""Weights and blends by hand."""

import math

import pytest
import torch

from hash3d.cache.blend import blend, softmax_weights
from tests.cache.entries import entry, feature_of


def test_softmax_weights_by_hand():
    """Distances 0, 1 and 5 (a 3-4-5 triangle): weights exp(-d) over their sum."""
    query = torch.zeros(1, 1, 2)
    stored = [torch.zeros(1, 1, 2), torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[3.0, -4.0]]])]
    exponentials = [1, math.exp(-1), math.exp(-5)]
    expected = [value / sum(exponentials) for value in exponentials]
    assert softmax_weights(query, stored).tolist() == pytest.approx(expected)


def test_equal_latents_count_equally():
    latents = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert softmax_weights(latents, [latents, latents, latents]).tolist() == pytest.approx([1 / 3] * 3)


def test_far_latents_do_not_overflow():
    weights = softmax_weights(torch.zeros(4, 64, 64), [torch.full((4, 64, 64), 1e3), torch.full((4, 64, 64), 2e3)])
    assert weights.tolist() == [1, 0]


def test_half_precision_latents_are_measured_in_float32():
    query, far = torch.zeros(4, 64, 64, dtype=torch.float16), torch.full((4, 64, 64), 600.0, dtype=torch.float16)
    weights = softmax_weights(query, [far, far])
    assert weights.dtype == torch.float32
    assert weights.tolist() == [0.5, 0.5]


def test_blend_by_hand():
    features = [torch.full((2, 3), 1.0), torch.full((2, 3), 5.0)]
    assert torch.equal(blend(torch.tensor([0.25, 0.75]), features), torch.full((2, 3), 4.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_one_entry_is_returned_bit_for_bit(dtype):
    only = entry(step=3, dtype=dtype)
    assert torch.equal(feature_of([only]), only.feature)


def test_a_blend_keeps_the_dtype():
    feature = feature_of([entry(1, dtype=torch.float16), entry(3, dtype=torch.float16)])
    assert torch.equal(feature, torch.full((1, 4), 2.0, dtype=torch.float16))


def test_near_entries_count_alone_and_equally_far_ones_equally():
    """Distances of 0 and 1000 leave one entry alone; equal ones leave the mean."""
    near, far = entry(1, latents=0.0), entry(3, latents=1000.0)
    assert feature_of([near, far]).tolist() == [[1.0] * 4]
    assert feature_of([near, far], torch.full((1, 1, 1), 500.0)).tolist() == [[2.0] * 4]


def test_squared_distances_by_hand():
    """Equation 6 of arXiv 2404.06091v1: distances 1 and 2 weigh exp(-1) and exp(-4)."""
    stored = [torch.full((1, 1, 1), 1.0), torch.full((1, 1, 1), 2.0)]
    total = math.exp(-1) + math.exp(-4)
    weights = softmax_weights(torch.zeros(1, 1, 1), stored, squared=True)
    assert weights.tolist() == pytest.approx([math.exp(-1) / total, math.exp(-4) / total])
    far = [entry(1, latents=1.0), entry(3, latents=2.0)]
    assert feature_of(far, squared=True).mean().item() == pytest.approx((math.exp(-1) + 3 * math.exp(-4)) / total)
