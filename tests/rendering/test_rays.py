"""Ray marching: steps fill each ray's chord of the cube, and occupancy culls those in empty cells."""

import math

import pytest
import torch

from hash3d.rendering.rays import Rays, Steps, camera_rays, composite, is_visible, march
from hash3d.representations.occupancy import OccupancyGridConfig
from tests.fields import DTYPE, view


def one_ray(origin, direction, shift=0.5):
    direction = torch.nn.functional.normalize(torch.tensor([direction], dtype=DTYPE), dim=-1)
    origins = torch.tensor([origin], dtype=DTYPE)
    return Rays(torch.zeros(1, dtype=torch.int64), origins, direction, torch.tensor([shift], dtype=DTYPE))


@pytest.mark.parametrize("shift", [0.0, 0.25, 1.0])
def test_a_ray_is_cut_into_steps_and_the_last_ends_at_the_face(shift):
    steps = march(one_ray((0.0, 0.0, 3.0), (0.0, 0.0, -1.0), shift), 1.0, 0.75)
    assert steps.lengths.tolist() == [0.75, 0.75, 0.5]
    starts = torch.tensor([2.0, 2.75, 3.5], dtype=DTYPE)
    assert torch.equal(steps.distances, starts + shift * steps.lengths)
    assert torch.equal(steps.points[:, 2], 3.0 - steps.distances)


def test_a_ray_from_inside_begins_at_its_origin():
    steps = march(one_ray((0.5, 0.0, 0.0), (1.0, 0.0, 0.0)), 1.0, 1.0)
    assert steps.lengths.tolist() == [0.5]
    assert steps.distances.tolist() == [0.25]


@pytest.mark.parametrize(
    ("origin", "direction"),
    [((0.0, 0.0, 3.0), (0.0, 0.0, 1.0)), ((0.0, 1.5, 3.0), (0.0, 0.0, -1.0)), ((1.0, 0.0, 3.0), (0.0, 0.0, -1.0))],
    ids=["behind", "beside", "in a face"],
)
def test_a_ray_that_does_not_enter_the_cube_has_no_steps(origin, direction):
    assert len(march(one_ray(origin, direction), 1.0, 0.1)) == 0


def test_steps_are_sorted_by_ray_and_cover_each_chord():
    rays = camera_rays(view([0.0, 70.0], [0.0, 40.0], size=9), torch.zeros(1, dtype=DTYPE), None)
    steps = march(rays, 0.6, 0.05)
    order = steps.rays * 100.0 + steps.distances
    assert (order.diff() > 0).all()
    chords = torch.zeros(len(rays), dtype=DTYPE).index_add(0, steps.rays, steps.lengths)
    crossings = torch.stack([-0.6 - rays.origins, 0.6 - rays.origins]) / rays.directions
    expected = (crossings.amax(dim=0).amin(dim=-1) - crossings.amin(dim=0).amax(dim=-1)).clamp(min=0.0)
    torch.testing.assert_close(chords, expected)
    assert chords.max() < 0.6 * 2 * math.sqrt(3)
    assert torch.equal(steps.bounds(len(rays)), torch.searchsorted(steps.rays, torch.arange(len(rays) + 1)))


def test_occupancy_culls_the_samples_in_empty_cells():
    rays = camera_rays(view(20.0, 30.0, size=9), torch.zeros(1, dtype=DTYPE), torch.Generator().manual_seed(0))
    grid = OccupancyGridConfig(resolution=4).build(0.6)
    grid.occupied = torch.rand(64, generator=torch.Generator().manual_seed(1)) < 0.5
    whole, culled = march(rays, 0.6, 0.05), march(rays, 0.6, 0.05, grid)
    kept = grid.contains(whole.points)
    assert 0 < kept.sum() < len(kept)
    assert torch.equal(culled.points, whole.points[kept])
    assert torch.equal(culled.rays, whole.rays[kept])


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
