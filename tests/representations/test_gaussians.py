import copy
import math
import re

import pytest
import torch

from hash3d.representations.gaussians import (
    PARAMETER_NAMES,
    SH_DEGREE_0,
    Gaussians,
    GaussiansConfig,
    neighbour_distances,
    sample_ball,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_start_is_a_near_grey_ball_of_the_configured_opacity():
    tensors = GaussiansConfig(num_points=2000, radius=0.5, opacity=0.1).build(seeded()).gaussians()
    assert tensors.means.norm(dim=-1).max() <= 0.5
    assert (tensors.colors - 0.5).min() >= 0
    assert (tensors.colors - 0.5).max() <= SH_DEGREE_0 / 255 + 1e-6
    torch.testing.assert_close(tensors.opacities, torch.full((2000,), 0.1))
    assert torch.equal(tensors.scales[:, 0], tensors.scales[:, 2])


def test_points_are_uniform_in_the_volume():
    radii = sample_ball(20_000, 2.0, seeded()).norm(dim=-1)
    # The share within r is (r / R)^3; four standard errors of a share are below 0.015.
    for radius in (0.5, 1.0, 1.5):
        assert (radii < radius).float().mean().item() == pytest.approx((radius / 2.0) ** 3, abs=0.015)


def test_scales_are_root_mean_squares_of_three_neighbour_distances():
    points = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 3.0], [0.0, 0.0, -9.0]])
    assert neighbour_distances(points)[0].item() == pytest.approx(math.sqrt((1 + 4 + 9) / 3))


def test_coinciding_and_lone_points_get_a_small_positive_scale():
    torch.testing.assert_close(neighbour_distances(torch.zeros(5, 3)), torch.full((5,), math.sqrt(1e-7)))
    assert neighbour_distances(torch.zeros(1, 3)).tolist() == [pytest.approx(0.01)]


def test_a_point_cloud_keeps_its_colours_and_places():
    points, colors = torch.randn(8, 3, generator=seeded()), torch.rand(8, 3, generator=seeded(1))
    tensors = Gaussians(GaussiansConfig(), points, colors).gaussians()
    assert torch.equal(tensors.means.detach(), points)
    torch.testing.assert_close(tensors.colors.detach(), colors)


def test_the_same_seed_gives_the_same_start():
    first, second = GaussiansConfig(num_points=9).build(seeded()), GaussiansConfig(num_points=9).build(seeded())
    assert all(torch.equal(getattr(first, name), getattr(second, name)) for name in PARAMETER_NAMES)


def test_positions_learn_log_linearly_then_constantly():
    gaussians = GaussiansConfig(num_points=4, means_lr=(1e-2, 1e-4), lr_steps=100).build(seeded())
    rates = [gaussians.learning_rates(step)["means"] for step in (0, 50, 100, 1000)]
    assert rates == pytest.approx([1e-2, 1e-3, 1e-4, 1e-4])
    optimizer = gaussians.build_optimizer()
    gaussians.update_learning_rate(optimizer, 50)
    found = {group["name"]: group["lr"] for group in optimizer.param_groups}
    expected = {"means": 1e-3, "sh0": 0.01, "opacity_logits": 0.05, "log_scales": 0.005, "quats": 0.001}
    assert found == pytest.approx(expected)


def test_colours_learn_log_linearly_then_constantly_or_always_alike():
    config = GaussiansConfig(num_points=4, sh0_lr=(0.04, 0.0025), lr_steps=40)
    gaussians = config.build(seeded())
    rates = [gaussians.learning_rates(step)["sh0"] for step in (0, 10, 20, 30, 40, 41)]
    assert rates == pytest.approx([0.04, 0.02, 0.01, 0.005, 0.0025, 0.0025]), "a quarter of the way halves the rate"
    optimizer = gaussians.build_optimizer()
    by_name = {group["name"]: group for group in optimizer.param_groups}
    assert by_name["sh0"]["lr"] == pytest.approx(0.04)
    gaussians.update_learning_rate(optimizer, 20)
    assert (by_name["sh0"]["lr"], by_name["means"]["lr"]) == pytest.approx((0.01, math.sqrt(1e-3 * 2e-5)))
    steady = GaussiansConfig(num_points=4, lr_steps=40).build(seeded())
    assert [steady.learning_rates(step)["sh0"] for step in (0, 20, 99)] == pytest.approx([0.01] * 3)


def test_a_checkpoint_of_another_count_loads_and_its_optimizer_goes_on():
    stored = GaussiansConfig(num_points=11).build(seeded())
    optimizer = stored.build_optimizer()
    stored.gaussians().means.square().sum().backward()
    optimizer.step()
    resumed = GaussiansConfig(num_points=4).build(seeded(1))
    resumed_optimizer = resumed.build_optimizer()
    resumed.load_state_dict(stored.state_dict())
    resumed_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for gaussians, adam in ((stored, optimizer), (resumed, resumed_optimizer)):
        adam.zero_grad()
        gaussians.gaussians().means.square().sum().backward()
        adam.step()
    assert len(resumed) == 11
    assert torch.equal(resumed.means, stored.means)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_points": 0}, "num_points at least 1 and at most 500000, but got 0"),
        ({"opacity": 1.0}, "opacity above 0 and below 1, but got 1.0"),
        ({"radius": 0.0}, "radius above 0, but got 0.0"),
        ({"means_lr": (0.0, 1.0)}, "means_lr above 0, but got (0.0, 1.0)"),
        ({"sh0_lr": (1.0, 0.0)}, "sh0_lr above 0, but got (1.0, 0.0)"),
        ({"lr_steps": 0}, "lr_steps at least 1, but got 0"),
    ],
)
def test_impossible_configurations_are_refused(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        GaussiansConfig(**wrong)
