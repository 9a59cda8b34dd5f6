"""Compositing along rays against a loop over the samples."""

import math

import pytest
import torch

from hash3d.rendering.composite import composite, is_visible
from hash3d.rendering.march import Steps
from tests.fields import DTYPE

COUNTS = [3, 0, 1, 5]
"""Samples of each ray."""


def samples():
    generator = torch.Generator().manual_seed(0)
    count = sum(COUNTS)
    density, lengths = (torch.rand(count, generator=generator, dtype=DTYPE) * factor for factor in (8.0, 0.3))
    rays = torch.repeat_interleave(torch.arange(len(COUNTS)), torch.tensor(COUNTS))
    values = torch.randn(count, 2, generator=generator, dtype=DTYPE)
    return density, values, Steps(rays, torch.zeros(count, dtype=DTYPE), lengths, torch.zeros(count, 3, dtype=DTYPE))


def loop(density, steps):
    """Transmittance and alpha of each sample, one after the other."""
    found, left, ray = [], 1.0, -1
    for sigma, length, number in zip(density.tolist(), steps.lengths.tolist(), steps.rays.tolist(), strict=True):
        left, ray = (left, ray) if number == ray else (1.0, number)
        alpha = 1.0 - math.exp(-sigma * length)
        found.append((left, alpha))
        left *= 1.0 - alpha
    return torch.tensor(found, dtype=DTYPE).unbind(-1)


def test_weights_and_sums_are_those_of_a_loop():
    density, values, steps = samples()
    transmittance, alphas = loop(density, steps)
    weights, sums = composite(density, values, steps, len(COUNTS))
    torch.testing.assert_close(weights, transmittance * alphas)
    for ray in range(len(COUNTS)):
        mine = steps.rays == ray
        torch.testing.assert_close(sums[ray], (weights[mine, None] * values[mine]).sum(dim=0))


def test_gradients_agree_with_finite_differences():
    density, values, steps = samples()
    inputs = (density.requires_grad_(), values.requires_grad_())
    assert torch.autograd.gradcheck(lambda *each: composite(*each, steps, len(COUNTS)), inputs)


@pytest.mark.parametrize(("min_alpha", "min_transmittance"), [(0.0, 0.0), (0.4, 0.0), (0.0, 0.5), (0.3, 0.3)])
def test_a_sample_is_visible_if_it_is_not_too_faint_and_not_behind_too_much(min_alpha, min_transmittance):
    density, _, steps = samples()
    transmittance, alphas = loop(density, steps)
    least = torch.tensor(min_alpha, dtype=DTYPE)
    expected = (alphas >= min_alpha) & (transmittance >= min_transmittance)
    assert torch.equal(is_visible(density, steps, len(COUNTS), least, min_transmittance), expected)
    assert expected.all() == (min_alpha == min_transmittance == 0.0)


def test_a_very_thick_sample_lets_nothing_through_and_keeps_its_gradient_finite():
    density = torch.tensor([1e4, 1.0], dtype=DTYPE, requires_grad=True)
    steps = Steps(torch.zeros(2, dtype=torch.int64), torch.zeros(2), torch.ones(2, dtype=DTYPE), torch.zeros(2, 3))
    weights, _ = composite(density, torch.ones(2, 1, dtype=DTYPE), steps, 1)
    assert weights.tolist() == [1.0, 0.0]
    weights.sum().backward()
    assert density.grad.isfinite().all()
