import math

import pytest
import torch

from hash3d.cameras import Cameras
from prior_training.world import sample_objects, sdf
from prior_training.world.assembly import Assembly
from prior_training.world.materials import plain
from prior_training.world.objects import COLUMN, ELLIPSOID, Objects
from prior_training.world.render import render, render_torch
from prior_training.world.streams import RandomStreams


def camera(azimuth, size=32, elevation=0.0):
    return Cameras.orbit(elevation=elevation, azimuth=azimuth, radius=1.5, fov_y=49.1, size=size)


def one_part(kind, size, centre, **options) -> Objects:
    rng = RandomStreams(torch.tensor([3]), seed=0)
    shape = Assembly(1, torch.device("cpu"), torch.zeros(1, dtype=torch.long))
    shape.add(kind, "body", plain(rng, torch.tensor([[0.8, 0.1, 0.1]])), size, centre, **options)
    return shape.objects(torch.zeros(1, 4), torch.tensor([[0.6, 0.0, 0.0, 1.0, 0.0, 0.0]]))


def test_an_object_depends_on_its_number_and_the_seed_alone():
    many = sample_objects(torch.arange(64))
    few = sample_objects(torch.tensor([41, 7]))
    other = sample_objects(torch.tensor([41, 7]), seed=1)
    for name in (
        "kind",
        "centre",
        "size",
        "colors",
        "numbers",
        "light",
        "profile",
        "noun",
        "role",
        "relation",
        "other",
    ):
        assert torch.equal(getattr(many, name)[[41, 7]], getattr(few, name))
    assert not torch.equal(few.centre, other.centre)


def test_objects_lie_inside_their_bounding_sphere_and_reach_it():
    objects = sample_objects(torch.arange(128))
    directions = torch.nn.functional.normalize(
        torch.randn(1, 256, 3, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    outside = sdf.distance(objects, 0.52 * directions.expand(128, -1, -1))
    assert (outside > 0).float().mean() > 0.9995
    reach = objects.outline()[(objects.kind > 0) & (objects.operation == 0)].norm(dim=-1)
    assert reach.max() <= 0.4901


def test_a_sphere_covers_the_analytic_disc():
    radius, size = 0.4, 96
    alpha = render_torch(one_part(ELLIPSOID, radius, 0.0), camera(30.0, size), samples=1)[0, ..., 3] > 127
    focal = 0.5 * size / math.tan(math.radians(49.1) / 2)
    disc = focal * math.tan(math.asin(radius / 1.5))
    line = torch.arange(size) + 0.5 - size / 2
    distance = (line[:, None] ** 2 + line[None] ** 2).sqrt()
    assert bool(alpha[distance < disc - 1].all())
    assert not bool(alpha[distance > disc + 1].any())


@pytest.mark.parametrize(("azimuth", "column"), [(0.0, "right"), (90.0, "middle"), (180.0, "left")])
def test_an_object_at_positive_x(azimuth, column):
    alpha = render_torch(one_part(COLUMN, 0.1, (0.35, 0.0, 0.0)), camera(azimuth), samples=1)[0, ..., 3].float()
    centre = (alpha.sum(0) * (torch.arange(32) + 0.5)).sum() / alpha.sum() / 32
    assert {"right": centre > 0.6, "middle": abs(centre - 0.5) < 0.02, "left": centre < 0.4}[column]


def test_subtraction_leaves_a_hole():
    rng, shape = (
        RandomStreams(torch.tensor([3]), seed=0),
        Assembly(1, torch.device("cpu"), torch.zeros(1, dtype=torch.long)),
    )
    shape.add(ELLIPSOID, "body", plain(rng), 0.4)
    shape.add(COLUMN, "", plain(rng), (0.1, 1.0, 0.1), corner=1.0, operation=1)
    objects = shape.objects(torch.zeros(1, 4), torch.zeros(1, 6))
    inside = sdf.distance(objects, torch.tensor([[[0.0, 0.0, 0.0], [0.2, 0.0, 0.0]]]))[0]
    assert inside[0] > 0 > inside[1]


def test_shading_is_that_of_the_evaluation_set():
    pixels = render_torch(one_part(ELLIPSOID, 0.4, 0.0), camera(0.0, 33), samples=1)[0].float()
    assert pixels[16, 16, :3] / 255 == pytest.approx(torch.tensor([0.8, 0.1, 0.1]), abs=0.01)
    assert pixels[0, 0].tolist() == [255, 255, 255, 0]


@pytest.mark.gpu
def test_the_kernel_equals_the_definition():
    objects = sample_objects(torch.arange(72))
    assert set(objects.kind.unique().tolist()) == {0, 1, 2, 3, 4, 5}
    assert len(objects.pattern.unique()) == 14
    cameras = Cameras.orbit(
        elevation=torch.linspace(-20, 75, 72), azimuth=torch.arange(72) * 15.0, radius=1.5, fov_y=49.1, size=64
    )
    expected = render_torch(objects, cameras, samples=1).int()
    found = render(objects.to("cuda"), cameras, samples=1).cpu().int()
    # A ray that grazes an edge may fall on the other side.
    assert ((expected - found).abs() > 2).float().mean() < 1e-3
