"""Carving balls of which the silhouettes are known."""

import math

import pytest
import torch

from hash3d.cameras import Cameras
from hash3d.representations.visual_hull import carve, grid_points, project, visual_hull


def around(count: int = 24, size: int = 96) -> Cameras:
    """Cameras all over the sphere of directions."""
    steps = torch.arange(count) + 0.5
    elevation = torch.rad2deg(torch.asin(1.0 - 2.0 * steps / count))
    return Cameras.orbit(elevation=elevation, azimuth=steps * 137.5, radius=2.0, fov_y=40.0, size=size)


def silhouettes(cameras: Cameras, center: tuple[float, float, float], radius: float) -> torch.Tensor:
    """Rays that pass closer to a ball's centre than its radius, "V H W"."""
    origins, directions = cameras.rays()
    offsets = torch.tensor(center) - origins
    along = (offsets * directions).sum(dim=-1, keepdim=True)
    return (offsets - along * directions).norm(dim=-1) < radius


@pytest.mark.parametrize("center", [(0.0, 0.0, 0.0), (0.1, 0.15, -0.05)])
def test_a_ball_keeps_its_volume_and_place(center):
    cameras = around()
    cells = carve(silhouettes(cameras, center, 0.3), cameras, 48, 0.5)
    found = grid_points(48, 0.5)[cells]
    volume = float(cells.sum()) * (1.0 / 48) ** 3
    # A hull of 24 views is a little larger than the ball; a pixel, 0.015 wide, is right to half.
    assert volume == pytest.approx(4 / 3 * math.pi * 0.3**3, rel=0.08)
    torch.testing.assert_close(found.mean(dim=0), torch.tensor(center), atol=0.005, rtol=0)
    distances = (found - torch.tensor(center)).norm(dim=-1)
    assert distances.max() < 0.3 + 0.04
    every = (grid_points(48, 0.5) - torch.tensor(center)).norm(dim=-1)
    assert cells[every < 0.3 - 0.01].all()


def test_fewer_views_carve_less():
    cameras = around()
    masks = silhouettes(cameras, (0.0, 0.0, 0.0), 0.3)
    few, all_views = carve(masks[:3], cameras[:3], 32, 0.5), carve(masks, cameras, 32, 0.5)
    assert few.sum() > all_views.sum()
    assert (few | ~all_views).all()


def test_points_are_projected_to_the_pixels_whose_rays_hit_them():
    cameras = around(5, size=32)
    origins, directions = cameras.rays()
    for view in range(5):
        points = (origins[view] + 1.7 * directions[view]).reshape(-1, 3)
        pixels, depths, seen = project(points, cameras[view])
        assert seen.all()
        assert torch.equal(pixels, torch.arange(32 * 32))
        forward = cameras.c2w[view, :3, 2]
        torch.testing.assert_close(depths, (points - cameras.eyes[view]) @ forward, atol=1e-5, rtol=0)
    behind = cameras.eyes[:1] * 2.0
    assert not project(behind, cameras[0])[2].any()


def test_the_surface_has_the_colours_that_the_views_see():
    # The ball's true colour at each place is the place itself.
    cameras, radius = around(32), 0.3
    masks = silhouettes(cameras, (0.0, 0.0, 0.0), radius)
    origins, directions = cameras.rays()
    along = -(origins * directions).sum(dim=-1, keepdim=True)
    gap = (radius**2 - (origins + along * directions).square().sum(dim=-1, keepdim=True)).clamp(min=0.0)
    images = origins + (along - gap.sqrt()) * directions + 0.5
    start = visual_hull(images, masks, cameras, resolution=40)
    assert ((start.points.norm(dim=-1) - radius).abs() < 0.05).all(), "only the surface"
    assert len(start) > 2 * math.pi * radius**2 * 40**2, "the first and the last cell of each column"
    # Views disagree by the parallax of the hull over the ball; the far side would be off by 0.6.
    assert (start.colors - 0.5 - start.points).abs().mean() < 0.03
    assert (start.colors - 0.5 - start.points).norm(dim=-1).max() < 0.2


def test_a_point_that_no_view_sees_has_the_colour_of_its_pixels():
    camera = Cameras.orbit(elevation=0.0, azimuth=0.0, radius=2.0, fov_y=40.0, size=64)
    masks = silhouettes(camera, (0.0, 0.0, 0.0), 0.3)
    start = visual_hull(torch.full((1, 64, 64, 3), 0.25), masks, camera, resolution=16)
    assert start.points[:, 2].min() < -0.4, "one view says nothing of depth"
    torch.testing.assert_close(start.colors, torch.full_like(start.colors, 0.25))


def test_what_lies_beside_the_pictures_is_carved():
    cameras = Cameras.orbit(elevation=0.0, azimuth=[0.0, 90.0], radius=2.0, fov_y=20.0, size=32)
    cells = carve(torch.ones(2, 32, 32, dtype=torch.bool), cameras, 24, 0.5)
    edge = grid_points(24, 0.5)[cells].abs().amax()
    # At depth 2 +- 0.5 half a picture of 20 degrees is between 0.26 and 0.44.
    assert 0.26 < edge < 0.44


def test_silhouettes_without_a_common_part_and_masks_of_another_shape():
    cameras = around(4, size=32)
    empty = torch.zeros(4, 32, 32, dtype=torch.bool)
    with pytest.raises(ValueError, match="nothing in common"):
        visual_hull(torch.zeros(4, 32, 32, 3), empty, cameras, resolution=8)
    with pytest.raises(ValueError, match="match the cameras"):
        carve(empty[:, :16], cameras, 8, 0.5)
