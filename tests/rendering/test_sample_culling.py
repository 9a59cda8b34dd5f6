"""Sample culling: it changes the time of an image, not the image."""

import math

import pytest
import torch
import torch.nn.functional as F

from hash3d.rendering import volume
from hash3d.rendering.volume import VolumeRendererConfig
from hash3d.representations.occupancy import OccupancyGridConfig
from tests.fields import EXACT, ball, fog, hash_grid_scene, render, view


def test_culling_empty_cells_changes_the_image_by_less_than_their_alpha():
    field, cameras = hash_grid_scene(), view([0.0, 50.0], [0.0, 30.0], size=24)
    renderer = VolumeRendererConfig(samples_per_ray=64, **EXACT).build()
    grid = OccupancyGridConfig(threshold=1e-3).build(0.6)
    grid.update(field, renderer.config.step_length(0.6), torch.Generator().manual_seed(0))
    white = torch.ones(2, 3)
    whole, skipped = renderer(field, cameras, white), renderer(field, cameras, white, occupancy=grid)
    assert len(skipped.samples.weights) < 0.5 * len(whole.samples.weights)
    # At most 64 steps of 1e-3 on a ray go; a cell's random point is not its densest, hence the half.
    for name in ("color", "alpha", "depth"):
        torch.testing.assert_close(getattr(skipped, name), getattr(whole, name), atol=1.5 * 0.064, rtol=0)
    assert (skipped.alpha - whole.alpha).abs().mean() < 0.005


def test_invisible_samples_are_culled_and_the_image_stays():
    field, cameras = hash_grid_scene(blob_scale=100.0), view(size=24)
    white = torch.ones(1, 3)
    whole = render(field, cameras, back=white)
    seen = render(field, cameras, back=white, min_alpha=1e-4, min_transmittance=1e-4)
    assert len(seen.samples.weights) < 0.4 * len(whole.samples.weights)
    for name in ("color", "alpha", "depth"):
        # 64 steps of 1e-4, and 1e-4 of light at the ray's end.
        torch.testing.assert_close(getattr(seen, name), getattr(whole, name), atol=0.0065, rtol=0)


def test_an_opaque_ball_needs_one_step_a_pixel():
    image = render(ball(1e5), view(), 200, min_alpha=0.5, min_transmittance=1e-4)
    pixels = (image.alpha > 0.5).sum().item()
    assert len(image.samples.weights) == pixels > 50


def test_faint_steps_count_where_the_whole_scene_is_faint():
    field = ball(0.05)  # an alpha of 0.003 a step, under min_alpha
    grid = OccupancyGridConfig(resolution=16).build(0.6)
    step = 2 * math.sqrt(3) * 0.6 / 40
    grid.update(field, step, torch.Generator().manual_seed(0))
    alone = render(field, view(), 40, min_alpha=0.01)
    guided = render(field, view(), 40, min_alpha=0.01, occupancy=grid)
    assert alone.alpha.max() == 0
    assert guided.alpha.max().item() == pytest.approx(1 - math.exp(-0.05 * 0.8), rel=0.1)


def test_blocks_of_rays_change_nothing(monkeypatch):
    field, cameras = ball(8.0, normal=lambda points: F.normalize(points, dim=-1)), view([0.0, 80.0], size=9)
    whole = render(field, cameras, normals=True, generator=torch.Generator().manual_seed(4))
    monkeypatch.setattr(volume, "BLOCK_STEPS", 64 * 7)
    parts = render(field, cameras, normals=True, generator=torch.Generator().manual_seed(4))
    for name in ("color", "alpha", "depth", "normal"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name))
    for name, column in vars(whole.samples).items():
        assert column is None or torch.equal(getattr(parts.samples, name), column)


def test_an_empty_scene_shows_the_background_and_can_be_trained():
    field = hash_grid_scene()
    grid = OccupancyGridConfig().build(0.6)
    grid.occupied.fill_(False)
    image = render(field, view(size=4), back=torch.full((1, 3), 0.7), occupancy=grid, normals=True)
    assert torch.equal(image.color, torch.full((1, 4, 4, 3), 0.7))
    assert image.alpha.abs().max() == image.depth.abs().max() == image.normal.abs().max() == 0
    image.color.sum().backward()


def test_a_camera_that_looks_past_the_cube_sees_nothing():
    image = render(fog(9.0, radius=0.01), view(size=2))
    assert image.alpha.abs().max() == 0
    assert len(image.samples.weights) == 0
