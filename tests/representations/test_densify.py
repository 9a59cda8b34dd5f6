"""Densification: what one round adds and removes, and Adam's moments."""

import math
from contextlib import nullcontext

import pytest
import torch

from hash3d.cameras import Cameras
from hash3d.export.points import read_ply, write_ply
from hash3d.rendering.splat import SplatRendererConfig, render_gaussians, screen_probe
from hash3d.representations.densify import (
    DensifyConfig,
    clone,
    prune,
    rotate,
    select_largest,
    select_useless,
    split,
)
from hash3d.representations.gaussians import PARAMETER_NAMES, Gaussians, GaussiansConfig


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def trained() -> tuple[Gaussians, torch.optim.Adam]:
    """Six Gaussians after one Adam step, so that every row has moments of its own."""
    gaussians = GaussiansConfig(num_points=6).build(seeded())
    optimizer = gaussians.build_optimizer()
    sum((getattr(gaussians, name) * (1.0 + torch.arange(6.0).view(-1, 1))).sum() for name in PARAMETER_NAMES).backward()
    optimizer.step()
    return gaussians, optimizer


def moments(gaussians, optimizer, name="means"):
    return optimizer.state[getattr(gaussians, name)]["exp_avg"]


def test_a_clone_doubles_the_density_and_leaves_positions(trained):
    gaussians, optimizer = trained
    means, old = gaussians.means.detach().clone(), moments(gaussians, optimizer).clone()
    chosen = torch.tensor([True, False, False, True, False, False])
    assert clone(gaussians, optimizer, chosen) == 2
    assert torch.equal(gaussians.means[:6], means)
    for name in PARAMETER_NAMES:
        values = getattr(gaussians, name)
        assert torch.equal(values[6:], values[:6][chosen]), name
    assert torch.equal(moments(gaussians, optimizer)[:6], old)
    assert torch.equal(moments(gaussians, optimizer)[6:], torch.zeros(2, 3))


def test_a_split_replaces_one_by_two_smaller_ones(trained):
    gaussians, optimizer = trained
    chosen = torch.tensor([False, True, False, False, False, True])
    scales, old = gaussians.log_scales.detach()[chosen].exp(), moments(gaussians, optimizer, "sh0").clone()
    assert split(gaussians, optimizer, chosen, seeded()) == 2
    assert len(gaussians) == 6 - 2 + 4
    torch.testing.assert_close(gaussians.log_scales.detach()[4:].exp(), scales.repeat(2, 1) / 1.6)
    assert torch.equal(moments(gaussians, optimizer, "sh0")[:4], old[~chosen])
    assert torch.equal(moments(gaussians, optimizer, "sh0")[4:], torch.zeros(4, 3))


def test_split_positions_follow_the_parents_covariance():
    half = math.radians(30.0) / 2
    gaussians = GaussiansConfig(num_points=1).build(seeded())
    gaussians.log_scales.data = torch.tensor([[0.5, 0.1, 0.02]]).log()
    gaussians.quats.data = 3.0 * torch.tensor([[math.cos(half), 0.0, 0.0, math.sin(half)]])
    mean = gaussians.means.detach().clone()
    split(gaussians, gaussians.build_optimizer(), torch.tensor([True]), seeded(), parts=50_000)
    c, s = math.cos(2 * half), math.sin(2 * half)
    rotation = torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    expected = rotation @ torch.diag(torch.tensor([0.25, 0.01, 0.0004])) @ rotation.T
    # Standard errors: 0.5 / sqrt(50,000) = 0.0022 for the mean, 0.25 * sqrt(2 / 50,000) = 0.0016 for the variance.
    torch.testing.assert_close(gaussians.means.detach().mean(dim=0), mean[0], atol=0.009, rtol=0)
    torch.testing.assert_close(gaussians.means.detach().T.cov(), expected, atol=0.0064, rtol=0)


def test_pruning_removes_exactly_the_chosen_rows(trained):
    gaussians, optimizer = trained
    before = {name: getattr(gaussians, name).detach().clone() for name in PARAMETER_NAMES}
    old = {name: moments(gaussians, optimizer, name).clone() for name in PARAMETER_NAMES}
    chosen = torch.tensor([True, False, True, False, False, False])
    assert prune(gaussians, optimizer, chosen) == 2
    for name in PARAMETER_NAMES:
        assert torch.equal(getattr(gaussians, name), before[name][~chosen]), name
        assert torch.equal(moments(gaussians, optimizer, name), old[name][~chosen]), name
    assert len(optimizer.state) == 5


def test_training_goes_on_with_the_new_rows_while_an_old_graph_is_alive(trained):
    gaussians, optimizer = trained
    old_graph = gaussians.gaussians().means.sum()
    clone(gaussians, optimizer, torch.ones(6, dtype=torch.bool))
    gaussians.gaussians().means.square().sum().backward()
    before = gaussians.means.detach().clone()
    optimizer.step()
    assert old_graph.requires_grad
    assert (gaussians.means != before).any(dim=-1).all()


def test_mean_gradients_are_in_half_images_over_the_views_that_saw_them():
    gradients = DensifyConfig().build(3, seeded())
    gradients.add(torch.tensor([[[3.0, 0.0], [0.0, 0.0], [0.0, 2.0]], [[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]]), (8, 4))
    assert gradients.mean_gradients().tolist() == [8.0, 0.0, 4.0]
    assert gradients.views.tolist() == [2.0, 0.0, 1.0]


def test_the_largest_gradients_come_first_when_room_is_short():
    values = torch.tensor([0.5, 3.0, 2.0, 0.1])
    assert select_largest(values, 0.4, 2).tolist() == [False, True, True, False]
    assert select_largest(values, 0.4, 9).tolist() == [True, True, True, False]
    assert not select_largest(values, 0.4, 0).any()
    assert select_largest(values, 0.5, 9)[0], "the threshold itself counts"


def round_of(seed: int, **config: float) -> tuple[Gaussians, object]:
    gaussians = GaussiansConfig(num_points=40, max_points=50).build(seeded())
    gaussians.log_scales.data.fill_(math.log(0.05))
    gaussians.log_scales.data[::2] = math.log(0.1)
    gaussians.opacity_logits.data[5] = -9.0
    densifier = DensifyConfig(split_scale=0.09, grad_threshold=1.0, **config).build(40, seeded(seed))
    densifier.add(torch.linspace(0.0, 2.0, 40).view(1, 40, 1).expand(1, 40, 2), (2, 2))
    return gaussians, densifier.after_step(100, gaussians, gaussians.build_optimizer())


def test_a_round_counts_what_it_does_and_keeps_the_limit():
    gaussians, report = round_of(1)
    assert report == (5, 5, 1)
    assert len(gaussians) == 40 + 5 + 5 - 1


def test_a_round_is_a_function_of_its_seed():
    first, second, other = (round_of(seed, max_points=80)[0] for seed in (1, 1, 2))
    assert torch.equal(first.means, second.means)
    assert not torch.equal(first.means, other.means)


@pytest.mark.parametrize(
    ("name", "value"),
    [("opacity_logits", -9.0), ("log_scales", math.log(0.5))]
    + [(name, value) for name in PARAMETER_NAMES for value in (math.nan, math.inf)],
)
def test_a_faint_a_large_and_a_not_finite_gaussian_are_useless(name, value):
    gaussians = GaussiansConfig(num_points=4).build(seeded())
    gaussians.log_scales.data.fill_(math.log(0.1))
    config = DensifyConfig(prune_opacity=0.01, prune_scale=0.4)
    assert not select_useless(gaussians, config).any()
    getattr(gaussians, name).data[2].view(-1)[-1] = value  # One number of a row is enough.
    with nullcontext() if math.isfinite(value) else pytest.warns(UserWarning, match="^1 Gaussians are not finite"):
        assert select_useless(gaussians, config).tolist() == [False, False, True, False]


def test_without_a_limit_no_finite_gaussian_is_too_large():
    gaussians = GaussiansConfig(num_points=2).build(seeded())
    gaussians.log_scales.data = torch.tensor([[1e6] * 3, [0.5, 0.1, 0.1]]).log()
    assert not select_useless(gaussians, DensifyConfig(prune_scale=None)).any()
    assert select_useless(gaussians, DensifyConfig(prune_scale=0.6)).tolist() == [True, False]


def test_pruning_all_gaussians_warns_and_the_empty_scene_still_works(tmp_path):
    """It renders the background, trains, is written and read, and loads from a checkpoint; nothing is pruned twice."""
    gaussians = GaussiansConfig(num_points=50).build(seeded())
    optimizer = gaussians.build_optimizer()
    gaussians.opacity_logits.data.fill_(-9.0)
    densifier = DensifyConfig(every=1, start=0).build(50, seeded())
    with pytest.warns(UserWarning, match="pruned all 50 Gaussians: each was fainter than prune_opacity 0.01,"):
        assert densifier.after_step(1, gaussians, optimizer) == (0, 0, 50)
    cameras = Cameras.orbit(elevation=0, azimuth=[0, 90], radius=2.0, fov_y=40.0, size=8)
    background = torch.rand(2, 3, generator=seeded(), requires_grad=True)
    for backend in ("numba", "torch"):
        probe = screen_probe(gaussians, cameras)
        config = SplatRendererConfig(backend=backend)
        render = render_gaussians(gaussians, cameras, background, means2d_probe=probe, config=config)
        torch.testing.assert_close(render.color, background[:, None, None].expand(2, 8, 8, 3))
        assert not render.alpha.any()
        render.color.sum().backward()
        densifier.add(probe.grad, (8, 8))
    optimizer.step()
    assert densifier.after_step(2, gaussians, optimizer) == (0, 0, 0)
    assert all(len(values) == 0 for values in read_ply(write_ply(tmp_path / "none.ply", gaussians)).values())
    resumed = GaussiansConfig(num_points=3).build(seeded())
    resumed.load_state_dict(gaussians.state_dict())
    assert len(resumed) == 0


def test_rounds_happen_on_their_steps_only():
    config = DensifyConfig(every=100, start=200, stop=500)
    assert [step for step in range(0, 1000, 50) if config.is_due(step)] == [200, 300, 400, 500]


def test_a_stored_densifier_goes_on_where_it_was():
    densifier = DensifyConfig().build(3, seeded(7))
    densifier.add(torch.ones(1, 3, 2), (4, 4))
    resumed = DensifyConfig().build(1, seeded(0))
    resumed.load_state_dict(densifier.state_dict())
    assert torch.equal(resumed.mean_gradients(), densifier.mean_gradients())
    assert torch.equal(torch.rand(3, generator=resumed.generator), torch.rand(3, generator=densifier.generator))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": 0}, "Expected every at least 1, but got 0"),
        ({"prune_opacity": 1.0}, r"Expected prune_opacity at least 0 and below 1, but got 1\.0"),
    ],
)
def test_impossible_configurations_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DensifyConfig(**settings)


def test_vectors_turn_as_their_quaternion_says():
    quarter = torch.tensor([[math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5)]])
    turned = rotate(5.0 * quarter, torch.tensor([[1.0, 0.0, 2.0]]))
    torch.testing.assert_close(turned, torch.tensor([[0.0, 1.0, 2.0]]))
