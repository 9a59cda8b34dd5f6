"""Conventions of cameras, and the sampler."""

import math

import pytest
import torch

from hash3d.cameras import Cameras, CameraSamplerConfig

POLES = Cameras.orbit(elevation=[90.0, -90.0], azimuth=[30.0, 200.0], radius=2.0, fov_y=40.0, size=8)


def orbit(**changes):
    elevations, azimuths = torch.linspace(-80, 80, 7), torch.linspace(-170, 350, 7)
    return Cameras.orbit(
        **{"elevation": elevations, "azimuth": azimuths, "radius": 1.5, "fov_y": 49.1, "size": 6} | changes
    )


@pytest.mark.parametrize(
    ("elevation", "azimuth", "eye"),
    [
        (0, 0, (0, 0, 2)),
        (0, 90, (2, 0, 0)),
        (0, 180, (0, 0, -2)),
        (0, -90, (-2, 0, 0)),
        (90, 40, (0, 2, 0)),
        (30, 0, (0, 1, math.sqrt(3))),
    ],
)
def test_eyes(elevation, azimuth, eye):
    cameras = Cameras.orbit(elevation=elevation, azimuth=azimuth, radius=2.0, fov_y=40.0, size=8)
    assert cameras.eyes[0].tolist() == pytest.approx(eye, abs=1e-6)


def test_orbit_broadcasts_and_indexing_keeps_the_batch():
    cameras = Cameras.orbit(elevation=10, azimuth=[0, 120, 240], radius=1.5, fov_y=49.1, size=8)
    assert len(cameras) == 3
    assert cameras.elevation.tolist() == [10, 10, 10]
    assert cameras[1].azimuth.tolist() == [120]
    assert cameras[1:].azimuth.tolist() == [120, 240]


@pytest.mark.parametrize("cameras", [orbit(), POLES], ids=["orbit", "poles"])
def test_viewmats_invert_c2w(cameras):
    identity = torch.eye(4).expand(len(cameras), 4, 4)
    torch.testing.assert_close(cameras.c2w @ cameras.viewmats, identity, rtol=0, atol=1e-5)


@pytest.mark.parametrize("cameras", [orbit(), POLES], ids=["orbit", "poles"])
def test_axes_are_right_handed_and_look_at_the_origin(cameras):
    rotation = cameras.c2w[:, :3, :3]
    right, down, forward = rotation.unbind(-1)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(len(cameras)))
    torch.testing.assert_close(torch.linalg.cross(right, down), forward, rtol=0, atol=1e-6)
    torch.testing.assert_close(cameras.eyes + cameras.radius[:, None] * forward, torch.zeros(len(cameras), 3))
    assert right[:, 1].abs().max() == 0, "the horizon is level"
    assert down[:, 1].max() < 1e-6, "down is down"


def project(cameras, points):
    """Pixels (column, row) [B, N, 2] of world points [B, N, 3]."""
    local = torch.einsum("bij,bnj->bni", cameras.viewmats[:, :3, :3], points) + cameras.viewmats[:, None, :3, 3]
    pixels = torch.einsum("bij,bnj->bni", cameras.K, local)
    return pixels[..., :2] / pixels[..., 2:]


def test_the_origin_lies_in_the_middle():
    cameras = orbit(size=50)
    torch.testing.assert_close(project(cameras, torch.zeros(7, 1, 3)), torch.full((7, 1, 2), 25.0))


def test_the_field_of_view_ends_at_the_border():
    """A point at height radius * tan(fov / 2) above the origin, seen horizontally, lies on the upper border."""
    cameras = Cameras.orbit(elevation=0, azimuth=[0, 77], radius=1.5, fov_y=49.1, size=64)
    top = torch.tensor([0.0, 1.5 * math.tan(math.radians(49.1 / 2)), 0.0]).expand(2, 1, 3)
    torch.testing.assert_close(project(cameras, top)[:, 0], torch.tensor([[32.0, 0.0]] * 2), rtol=0, atol=1e-4)


def test_what_lies_at_plus_x_is_on_the_right_from_the_front():
    cameras = Cameras.orbit(elevation=0, azimuth=0, radius=1.5, fov_y=49.1, size=64)
    assert project(cameras, torch.tensor([[[0.2, 0.0, 0.0]]]))[0, 0, 0] > 32


@pytest.mark.parametrize("cameras", [orbit(), POLES], ids=["orbit", "poles"])
def test_rays_hit_what_projects_to_their_pixel(cameras):
    origins, directions = cameras.rays()
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(directions.shape[:-1]))
    points = (origins + 1.3 * directions).flatten(1, 2)
    size = cameras.width
    centres = torch.arange(size) + 0.5
    expected = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1).flatten(0, 1)
    torch.testing.assert_close(project(cameras, points), expected.expand(len(cameras), -1, -1), rtol=0, atol=1e-4)


def draws(count=2000, **settings):
    sampler = CameraSamplerConfig(**settings).build()
    generator = torch.Generator().manual_seed(0)
    return [sampler.sample(8, generator) for _ in range(count)]


def test_draws_lie_in_their_ranges_and_fill_them():
    cameras = draws(elevation=(-10, 60), azimuth=(-60, 120), radius=2.0, fov_y=30.0)
    elevation = torch.cat([item.elevation for item in cameras])
    azimuth = torch.cat([item.azimuth for item in cameras])
    assert -10.001 <= elevation.min() < -8
    assert 58 < elevation.max() <= 60.001
    assert -60 <= azimuth.min() < -58
    assert 118 < azimuth.max() <= 120
    assert {item.radius.item() for item in cameras} == {2.0}
    assert {item.fov_y.item() for item in cameras} == {30.0}


def test_marginals():
    """Half of the elevations are uniform in degrees, half in the sine; the azimuth is uniform."""
    cameras = draws(4000, elevation=(0, 90), azimuth=(0, 360))
    elevation = torch.cat([item.elevation for item in cameras])
    azimuth = torch.cat([item.azimuth for item in cameras])
    share_below_30 = (elevation < 30).float().mean().item()
    assert share_below_30 == pytest.approx((1 / 3 + 1 / 2) / 2, abs=0.03)
    assert azimuth.mean().item() == pytest.approx(180, abs=6)
    assert azimuth.std().item() == pytest.approx(360 / math.sqrt(12), abs=3)


def test_each_stratum_of_the_azimuth_has_one_view():
    for cameras in draws(50, azimuth=(-180, 180), batch_size=4):
        assert ((cameras.azimuth + 180) // 90).tolist() == [0, 1, 2, 3]


def test_the_generator_alone_decides():
    before = torch.get_rng_state()
    first, second = draws(5, batch_size=3), draws(5, batch_size=3)
    assert torch.equal(torch.get_rng_state(), before)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.elevation, other.elevation)
        assert torch.equal(one.azimuth, other.azimuth)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "at least 1, but got 0"),
        ({"elevation": (10.0, -10.0)}, r"elevation range in rising order, but got \(10\.0, -10\.0\)"),
        ({"azimuth": (10.0, -10.0)}, "azimuth range in rising order"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(ValueError, match=message):
        CameraSamplerConfig(**settings)
