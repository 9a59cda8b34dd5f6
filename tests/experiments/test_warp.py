"""The warp leads to where the same surface lies in another view."""

import torch

from hash3d.cameras import Cameras
from hash3d.experiments.warp import warp, warp_grid
from hash3d.rendering.base import Render

SIZE = 16


def orbit(azimuth, size=SIZE):
    return Cameras.orbit(elevation=[20.0, -5.0], azimuth=[azimuth, azimuth + 50.0], radius=1.5, fov_y=49.1, size=size)


def sphere(cameras, radius=0.4):
    """Depth along z and hit points of a sphere about the origin; rays that miss have no alpha."""
    eyes, directions = cameras.rays()
    nearest = -(eyes * directions).sum(-1)
    half = radius**2 - (eyes + nearest[..., None] * directions).square().sum(-1)
    hit = half > 0
    points = eyes + (nearest - half.clamp(min=0).sqrt())[..., None] * directions
    depth = torch.einsum("bi,bhwi->bhw", cameras.c2w[:, :3, 2], points - eyes)
    alpha = 0.5 * hit[..., None].float()
    color = torch.ones(*hit.shape, 3)
    return Render(color=color, alpha=alpha, depth=alpha * depth[..., None]), points, hit


def test_without_a_turn_nothing_moves():
    cameras = orbit(30.0)
    features = torch.randn(2, 5, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    moved = warp(features, warp_grid(sphere(cameras)[0], cameras, cameras, (SIZE, SIZE)))
    assert torch.allclose(moved, features, atol=1e-4)  # float32 places of 16 pixels


def test_the_grid_leads_to_the_same_point():
    cameras, stored = orbit(30.0), orbit(45.0)
    render, points, hit = sphere(cameras)
    grid = warp_grid(render, cameras, stored, (SIZE, SIZE))
    ahead = points - stored.eyes[:, None, None]
    local = torch.einsum("bij,bhwi->bhwj", stored.c2w[:, :3, :3], ahead)
    half = torch.tan(torch.deg2rad(torch.tensor(49.1 / 2)))
    wanted = local[..., :2] / local[..., 2:] / half  # [-1, 1] spans the field of view.
    assert hit.sum() > 50
    assert torch.allclose(grid[hit], wanted[hit], atol=1e-5)


def test_what_has_no_surface_counts_as_far_as_the_centre():
    cameras, stored = orbit(0.0), orbit(20.0)
    empty = torch.zeros(2, SIZE, SIZE, 1)
    nothing = Render(color=torch.ones(2, SIZE, SIZE, 3), alpha=empty, depth=empty)
    plane = Render(color=nothing.color, alpha=empty + 1.0, depth=empty + 1.5)
    assert torch.equal(*(warp_grid(render, cameras, stored, (8, 8)) for render in (nothing, plane)))


def test_coarse_features_use_the_mean_depth():
    cameras, stored = orbit(0.0, size=32), orbit(10.0, size=32)
    grid = warp_grid(sphere(cameras)[0], cameras, stored, (8, 8))
    fine = warp_grid(sphere(cameras)[0], cameras, stored, (32, 32)).unflatten(1, (8, 4)).unflatten(3, (8, 4))
    middle = slice(3, 5)
    assert torch.allclose(grid[:, middle, middle], fine.mean((2, 4))[:, middle, middle], atol=0.02)  # a pixel is 0.06
