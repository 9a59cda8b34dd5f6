"""Conventions of cameras, and the sampler."""

import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import kstest

from hash3d.cameras import Cameras, CameraSamplerConfig, Lattice

POLES = Cameras.orbit(elevation=[90.0, -90.0], azimuth=[30.0, 200.0], radius=2.0, fov_y=40.0, size=8)
WIDE = replace(POLES, width=12)


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
    cameras = Cameras.orbit(elevation=10, azimuth=[0, 120, 240], radius=1.5, fov_y=torch.tensor([40, 50, 60]), size=8)
    assert len(cameras) == 3
    assert cameras.elevation.tolist() == [10, 10, 10]
    assert cameras.radius.tolist() == [1.5, 1.5, 1.5]
    assert cameras[1:].fov_y.tolist() == [50, 60]
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


def test_the_origin_lies_in_the_middle():
    cameras = orbit(size=50)
    pixels, depths = cameras.project(torch.zeros(1, 3))
    torch.testing.assert_close(pixels, torch.full((7, 1, 2), 25.0))
    torch.testing.assert_close(depths, cameras.radius[:, None])


def test_the_field_of_view_ends_at_the_border():
    """A point at height radius * tan(fov / 2) above the origin, seen horizontally, lies on the upper border."""
    cameras = Cameras.orbit(elevation=0, azimuth=[0, 77], radius=1.5, fov_y=49.1, size=64)
    top = torch.tensor([0.0, 1.5 * math.tan(math.radians(49.1 / 2)), 0.0])
    torch.testing.assert_close(cameras.project(top[None])[0][:, 0], torch.tensor([[32.0, 0.0]] * 2), rtol=0, atol=1e-4)


def test_what_lies_at_plus_x_is_on_the_right_from_the_front():
    cameras = Cameras.orbit(elevation=0, azimuth=0, radius=1.5, fov_y=49.1, size=64)
    assert cameras.project(torch.tensor([[0.2, 0.0, 0.0]]))[0][0, 0, 0] > 32


@pytest.mark.parametrize(
    "cameras",
    [orbit(), POLES, orbit(radius=torch.linspace(1.2, 4.0, 7), fov_y=torch.linspace(20, 70, 7)), WIDE],
    ids=["orbit", "poles", "ranges", "wide"],
)
def test_rays_meet_what_projects_to_their_pixel(cameras):
    """Each view's points, 1.3 along its rays, project to its pixel centres, at 1.3 times the cosine to its axis."""
    origins, directions = cameras.rays()
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(directions.shape[:-1]))
    points = (origins + 1.3 * directions).flatten(1, 2)
    axes = cameras.c2w[:, None, :3, 2]
    columns, rows = torch.arange(cameras.width) + 0.5, torch.arange(cameras.height) + 0.5
    centres = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).flatten(0, 1)
    for view in range(len(cameras)):
        pixels, depths = cameras.project(points[view])
        torch.testing.assert_close(pixels[view], centres, rtol=0, atol=1e-4)
        expected = 1.3 * (directions.flatten(1, 2) * axes).sum(dim=-1)
        torch.testing.assert_close(depths[view], expected[view], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("stride", "column", "row"), [(1, 0, 0), (2, 1, 0), (3, 0, 2)])
def test_a_lattice_sees_every_so_many_pixels(stride, column, row):
    cameras, pixels = orbit(size=12), Lattice(stride, column, row)
    for whole, some in zip(cameras.rays(), pixels.cameras(cameras)[:].rays(), strict=True):
        torch.testing.assert_close(some, whole[:, row::stride, column::stride])
        assert torch.equal(pixels.images(whole), whole[:, row::stride, column::stride])


def test_lattices_lie_anywhere_and_hold_all_pixels_of_sizes_that_do_not_divide():
    generator = torch.Generator().manual_seed(0)
    assert {Lattice.draw(6, 2, generator) for _ in range(40)} == {Lattice(2, x, y) for x in (0, 1) for y in (0, 1)}
    state = generator.get_state()
    assert {Lattice.draw(7, 2, generator), Lattice.draw(6, 1, generator)} == {Lattice()}
    assert torch.equal(generator.get_state(), state)


def test_what_lies_behind_has_no_positive_depth():
    cameras = orbit()
    _, depths = cameras.project(2.0 * cameras.eyes)
    torch.testing.assert_close(depths.diagonal(), -cameras.radius)


def draws(count=2000, **settings):
    sampler = CameraSamplerConfig(**settings)
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


RANGES = {"radius_range": (1.5, 2.0), "fov_y_range": (40.0, 70.0)}


def test_distances_and_fields_of_view_are_uniform_in_their_ranges_and_one_a_view():
    cameras = draws(1500, batch_size=2, radius=9.0, fov_y=9.0, **RANGES)
    radius, fov_y = (torch.stack([getattr(item, name) for item in cameras]) for name in ("radius", "fov_y"))
    for values, (low, high) in [(radius, RANGES["radius_range"]), (fov_y, RANGES["fov_y_range"])]:
        assert kstest(values.flatten(), "uniform", (low, high - low)).pvalue > 1e-3
    together = torch.corrcoef(torch.cat([radius, fov_y], dim=1).T) - torch.eye(4)
    assert together.abs().max() < 0.1, "four independent columns: 4 / sqrt(1500) is 0.1"


@pytest.mark.parametrize("batch_size", [1, 3])
def test_without_a_range_nothing_more_is_drawn(batch_size):
    """The generator is where two numbers a view and a coin left it; with both ranges, it gave two more a view."""
    for ranges, more in [({}, 0), (RANGES, 2)]:
        sampler = CameraSamplerConfig(batch_size=batch_size, **ranges)
        generator, twin = (torch.Generator().manual_seed(0) for _ in range(2))
        cameras = sampler.sample(8, generator)
        torch.rand(2 * batch_size + 1, generator=twin)
        torch.rand(more * batch_size, generator=twin, dtype=torch.float64)
        assert torch.equal(generator.get_state(), twin.get_state())
        assert len(cameras) == batch_size


def test_the_generator_alone_decides():
    before = torch.get_rng_state()
    first, second = draws(5, batch_size=3, **RANGES), draws(5, batch_size=3, **RANGES)
    assert torch.equal(torch.get_rng_state(), before)
    for one, other in zip(first, second, strict=True):
        for name in ("elevation", "azimuth", "radius", "fov_y"):
            assert torch.equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size at least 1, but got 0"),
        ({"elevation": (10.0, -10.0)}, r"elevation in rising order, but got \(10\.0, -10\.0\)"),
        ({"azimuth": (10.0, -10.0)}, "azimuth in rising order"),
        ({"radius_range": (2.0, 1.5)}, r"radius_range in rising order, but got \(2\.0, 1\.5\)"),
        ({"fov_y_range": (70.0, 40.0)}, "fov_y_range in rising order"),
        ({"radius_range": (0.0, 1.5)}, r"radius_range above 0, but got \(0\.0, 1\.5\)"),
        ({"radius": -1.0, "radius_range": (1.0, 2.0)}, r"radius above 0, but got -1\.0"),
        ({"fov_y_range": (90.0, 180.0)}, r"fov_y_range above 0 and below 180, but got \(90\.0, 180\.0\)"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(ValueError, match=message):
        CameraSamplerConfig(**settings)
