"""Losses by hand."""

import math

import pytest
import torch

from hash3d.rendering.volume import RaySamples, VolumeRendererConfig
from hash3d.representations.dmtet import grid_vertices, marching_tetrahedra
from hash3d.representations.mesh import Mesh
from hash3d.scenes.losses import (
    color_loss,
    mask_entropy_loss,
    mask_loss,
    normal_consistency_loss,
    normal_image,
    normal_smoothness_3d_loss,
    normal_smoothness_loss,
    opacity_loss,
    opaque_entropy_loss,
    opaque_loss,
    orientation_loss,
    position_loss,
    scale_loss,
    scale_sum_loss,
    sparsity_loss,
    total_variation_loss,
)
from tests.fields import ball, view
from tests.shapes import cube, surface, torus


def image(*values: float) -> torch.Tensor:
    """Four pixels in a square."""
    return torch.tensor(values, dtype=torch.float64).view(1, 2, 2, 1)


def test_means_of_squares():
    assert color_loss(torch.full((1, 2, 2, 3), 0.5), torch.zeros(1, 2, 2, 3)) == 0.25
    assert mask_loss(torch.ones(1, 2, 2, 1), torch.zeros(1, 2, 2, 1)) == 1


def test_opaque_loss_is_zero_at_both_ends_and_a_quarter_between():
    assert opaque_loss(image(0.0, 1.0, 0.5, 0.5)) == 0.125


def test_opaque_entropy_is_ln_2_for_a_coin_and_nearly_nothing_at_the_ends():
    end = -1e-3 * math.log(1e-3) - 0.999 * math.log(0.999)
    alpha = image(0.0, 1.0, 0.5, 0.5).requires_grad_()
    assert opaque_entropy_loss(alpha).item() == pytest.approx((2 * end + 2 * math.log(2)) / 4, rel=1e-12)
    alpha = image(0.2, 0.8, 0.0, 1.0).requires_grad_()
    opaque_entropy_loss(alpha).backward()
    # d/da of the entropy is ln((1 - a) / a): towards the nearer end; nothing moves beyond the clamp.
    assert alpha.grad.flatten().tolist() == pytest.approx([math.log(4) / 4, -math.log(4) / 4, 0, 0])


def test_mask_entropy_is_the_surprise_of_the_mask():
    alpha, target = image(0.25, 0.25, 0.0, 1.0), image(1.0, 0.0, 1.0, 1.0)
    # The clamp keeps a pixel that is wholly wrong at ln 1e5.
    expected = (math.log(4) + math.log(4 / 3) + math.log(1e5) - math.log(1 - 1e-5)) / 4
    assert mask_entropy_loss(alpha, target).item() == pytest.approx(expected, rel=1e-9)


def test_sparsity_is_a_tenth_for_nothing_and_grows_with_alpha():
    assert sparsity_loss(image(0.0, 0.0, 0.0, 0.0)).item() == pytest.approx(0.1)
    assert sparsity_loss(image(1.0, 0.0, 1.0, 0.0)).item() == pytest.approx((0.1 + math.sqrt(1.01)) / 2)


def test_total_variation_counts_steps_down_and_across():
    # Down: 1 and 2, across: 0 and 3; each mean over both.
    assert total_variation_loss(image(0.0, 0.0, 1.0, -2.0)).item() == pytest.approx(2 * ((1 + 4) / 2 + 9 / 2))
    rows = torch.arange(4.0).view(1, 4, 1, 1).expand(2, 4, 3, 5)
    assert total_variation_loss(rows) == 2  # one a row, nothing across, whatever the size, batch and channels
    assert total_variation_loss(rows.transpose(1, 2)) == 2


def test_normal_smoothness_of_two_halves_is_their_seam():
    up, front = torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    normal = torch.stack([up, front]).repeat_interleave(2, dim=0).expand(1, 6, 4, 3)
    seam = 2 / 3 / 3  # a squared step of 2 over 3 channels, on 1 of 3 steps across
    assert normal_smoothness_loss(normal).item() == pytest.approx(seam)
    whole = normal_image(normal, torch.ones(1, 6, 4, 1))
    assert whole[0, 0, 0].tolist() == [0.5, 1.0, 0.5]
    assert normal_smoothness_loss(whole).item() == pytest.approx(seam / 4)
    assert normal_image(normal, torch.zeros(1, 6, 4, 1)).abs().max() == 0


def test_normals_beside_each_other_differ_by_their_mean_distance_an_axis():
    normals = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    beside = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
    assert normal_smoothness_3d_loss(normals, beside).item() == pytest.approx(2 / 6)
    assert normal_smoothness_3d_loss(normals[:0], beside[:0]) == 0
    for counted, expected in (([True, True], 2 / 6), ([False, True], 2 / 3), ([True, False], 0), ([False] * 2, 0)):
        found = normal_smoothness_3d_loss(normals, beside, torch.tensor(counted))
        assert found.item() == pytest.approx(expected)


def samples(normals: torch.Tensor | None, weights: torch.Tensor) -> RaySamples:
    """Samples of rays along +z."""
    count = len(weights)
    directions = torch.tensor([0.0, 0.0, 1.0]).expand(count, 3)
    views, points = torch.zeros(count, dtype=torch.long), torch.zeros(count, 3)
    return RaySamples(views=views, points=points, directions=directions, weights=weights, normals=normals)


def test_orientation_counts_normals_that_look_away_on_rays_that_hit():
    normals = torch.tensor([[0.0, 0.6, 0.8], [0.0, 0.0, -1.0], [0.0, 0.0, 1.0]], requires_grad=True)
    weights = torch.tensor([0.5, 0.9, 0.1], requires_grad=True)
    alpha = torch.tensor([0.5, 1.0, 0.0, 0.0]).view(1, 2, 2, 1)
    loss = orientation_loss(samples(normals, weights), alpha)
    assert loss.item() == pytest.approx((0.5 * 0.64 + 0.1) / 2)
    loss.backward()
    assert weights.grad is None  # else a scene would hide its normals instead of turning them
    torch.testing.assert_close(normals.grad, torch.tensor([[0, 0, 0.4], [0, 0, 0], [0, 0, 0.1]]))
    assert orientation_loss(samples(normals[:0], weights[:0]), torch.zeros(1, 2, 2, 1)) == 0
    with pytest.raises(ValueError, match=r"Expected samples with normals, but got none\. Render with normals=True\."):
        orientation_loss(samples(None, weights), alpha)


def test_the_front_of_a_solid_ball_looks_at_the_eye():
    renderer = VolumeRendererConfig(samples_per_ray=200, min_alpha=0.0, min_transmittance=0.0).build()
    background = torch.zeros(1, 3, dtype=torch.float64)
    solid, fog = (
        renderer(ball(density, normal=torch.nn.functional.normalize), view(20.0, 30.0), background, normals=True)
        for density in (500.0, 0.5)
    )
    assert orientation_loss(solid.samples, solid.alpha) < 1e-3  # its back is hidden
    assert orientation_loss(fog.samples, fog.alpha) > 1e-3


def test_normal_consistency_of_a_plane_and_of_a_fold():
    corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    assert normal_consistency_loss(Mesh(vertices=corners, faces=torch.tensor([[0, 1, 2], [0, 2, 3]]))) == 0
    assert normal_consistency_loss(cube()) > 0.1


def test_normal_consistency_leaves_out_what_only_fills_rows():
    plain = surface(torus, 8)
    vertices = 2 * grid_vertices(8).double() - 1
    filled = marching_tetrahedra(vertices, torus(vertices), (len(plain.vertices) + 9, 3 * len(plain)))
    torch.testing.assert_close(normal_consistency_loss(filled), normal_consistency_loss(plain))


def test_scale_loss_counts_the_excess_of_the_longest_axis():
    scales = torch.tensor([[0.1, 0.01, 0.01], [0.2, 0.3, 0.1]])
    torch.testing.assert_close(scale_loss(scales, 0.1), torch.tensor((0.0 + 2.0**2) / 2))


def test_sums_and_means_of_gaussians():
    means = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    assert position_loss(means) == 2.5
    position_loss(means).backward()
    torch.testing.assert_close(means.grad, torch.tensor([[0.3, 0.4, 0.0], [0.0, 0.0, 0.0]]))
    scales = torch.tensor([[1.0, 2.0, 2.0], [0.0, 3.0, 4.0]], requires_grad=True)
    assert scale_sum_loss(scales) == 12
    opacities = torch.tensor([0.5, 0.1], requires_grad=True)
    loss = opacity_loss(scales, opacities)
    assert loss.item() == pytest.approx(3 * 0.5 + 5 * 0.1)
    loss.backward()
    assert opacities.grad.tolist() == [3, 5]
    assert scales.grad is None
