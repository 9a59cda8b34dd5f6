import dataclasses
import math

import pytest
import torch

from hash3d.cameras import Cameras
from prior_training.world import sample_objects, sdf, textures
from prior_training.world.assembly import Assembly
from prior_training.world.materials import material, paint, plain
from prior_training.world.objects import COLUMN, ELLIPSOID, NONE, Objects
from prior_training.world.render import render, render_torch, shade
from prior_training.world.streams import RandomStreams
from prior_training.world.textures import noise


def camera(azimuth, size=32, elevation=0.0):
    return Cameras.orbit(elevation=elevation, azimuth=azimuth, radius=1.5, fov_y=49.1, size=size)


def one_part(kind, size, centre, **options) -> Objects:
    return two_parts((kind, size, centre), **options)


def two_parts(*parts, **options) -> Objects:
    """One object of red parts; the options are the last one's."""
    rng = RandomStreams(torch.tensor([3]), seed=0)
    shape = Assembly(1, torch.device("cpu"), torch.zeros(1, dtype=torch.long))
    for number, (kind, size, centre) in enumerate(parts, start=1):
        red = paint(rng, base=torch.tensor([[0.8, 0.1, 0.1]]))
        shape.add(kind, "body", red, size, centre, corner=1.0, **(options if number == len(parts) else {}))
    return shape.objects(torch.zeros(1, 4), torch.tensor([[0.6, 0.0, 0.0, 1.0] + [0.0] * 8]))


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
        "count",
    ):
        assert torch.equal(getattr(many, name)[[41, 7]], getattr(few, name))
    assert not torch.equal(few.centre, other.centre)


def test_objects_lie_inside_their_bounding_sphere_and_reach_it():
    objects = sample_objects(torch.arange(96))
    directions = torch.nn.functional.normalize(
        torch.randn(1, 256, 3, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    outside = sdf.distance(objects, 0.52 * directions.expand(96, -1, -1))
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
    objects = shape.objects(torch.zeros(1, 4), torch.zeros(1, 12))
    inside = sdf.distance(objects, torch.tensor([[[0.0, 0.0, 0.0], [0.2, 0.0, 0.0]]]))[0]
    assert inside[0] > 0 > inside[1]


def test_shading_is_that_of_the_evaluation_set():
    pixels = render_torch(one_part(ELLIPSOID, 0.4, 0.0), camera(0.0, 33), samples=1)[0].float()
    assert pixels[16, 16, :3] / 255 == pytest.approx(torch.tensor([0.8, 0.1, 0.1]), abs=0.01)
    assert pixels[0, 0].tolist() == [255, 255, 255, 0]


def lit(objects, **amounts):
    """The same objects with a lamp above, and amounts of the rest of `Objects.light`."""
    names = ("ambient", "share", "x", "y", "z", "specular", "occlusion", "shadow", "above", "warm", "second", "grain")
    usual = {"ambient": 0.2, "share": 1.0, "y": 1.0, **amounts}
    return dataclasses.replace(objects, light=torch.tensor([[usual.get(name, 0.0) for name in names]]))


def light_at(objects, point, towards=(0.0, 0.0, 1.0)):
    """Grey of a point of a body of the colour (0.8, 0.1, 0.1), over that colour's."""
    shaded = shade(objects, torch.tensor([[point]]), torch.tensor([[towards]]))[0, 0]
    return float(shaded[0] / 0.8)


def test_a_hollow_is_darker_than_a_top_and_the_open_is_not_occluded():
    cup = two_parts((COLUMN, (0.3, 0.3, 0.3), 0.0), (COLUMN, (0.2, 0.3, 0.2), (0.0, 0.1, 0.0)), operation=1)
    rim, floor = (0.25, 0.3, 0.0), (0.17, -0.2, 0.0)
    assert light_at(lit(cup), floor) == pytest.approx(light_at(lit(cup), rim), abs=0.02)
    assert light_at(lit(cup, occlusion=1.0), rim) == pytest.approx(1.0, abs=0.02)
    assert light_at(lit(cup, occlusion=1.0), floor) < 0.7


def test_a_shadow_falls_below_a_cap_and_nowhere_else():
    mushroom = two_parts((COLUMN, (0.4, 0.02, 0.4), (0.0, 0.4, 0.0)), (COLUMN, (0.3, 0.1, 0.3), 0.0))
    under, above = (0.25, 0.1, 0.0), (0.3, 0.42, 0.0)
    assert light_at(lit(mushroom), under) == pytest.approx(1.0, abs=0.02)
    assert light_at(lit(mushroom, shadow=1.0), under) < 0.3  # The ambient share is 0.2.
    assert light_at(lit(mushroom, shadow=1.0), above) == pytest.approx(1.0, abs=0.02)


def test_warm_light_is_red_and_its_second_light_blue():
    ball = one_part(ELLIPSOID, 0.4, 0.0)
    white = dataclasses.replace(
        lit(ball, z=1.0, y=0.0, ambient=0.0, warm=0.1, second=0.5), colors=torch.ones_like(ball.colors)
    )
    front = shade(white, torch.tensor([[[0.2, 0.0, 0.3464]]]), torch.tensor([[[0.0, 0.0, 1.0]]]))[0, 0]
    back = shade(white, torch.tensor([[[0.0, 0.0, -0.4]]]), torch.tensor([[[0.0, 0.0, -1.0]]]))[0, 0]
    assert front[0] > front[1] > front[2]
    assert back[2] > back[1] > back[0] > 0.4


def test_noise_is_smooth_and_fills_its_range():
    place = torch.linspace(-9, 9, 4001)
    found = noise(place, 0.3 * place, 2.7 - place)
    assert found.min() >= 0
    assert found.max() <= 1
    assert found.diff().abs().max() < 0.02  # At most 1.5 a coordinate and unit; a step is 0.0045.
    assert found.std() > 0.12


def test_no_half_lies_behind():
    """The second colour of a gradient or of halves is at the side or above, so that front and back are alike."""
    found = material(RandomStreams(torch.arange(300), seed=0), {textures.SPLIT: 0.5, textures.GRADIENT: 0.5})
    assert bool((found.axis[:, 2] == 0).all())
    assert len(found.axis.unique(dim=0)) > 50


@pytest.mark.gpu
def test_the_kernel_equals_the_definition(upright):
    """On eight objects of each pattern."""
    rows = [((upright.pattern == each) & (upright.kind != NONE)).any(1).nonzero()[:8, 0] for each in range(18)]
    objects = upright[torch.cat(rows)]
    assert len(objects) > 110
    assert set(objects.kind.unique().tolist()) == {0, 1, 2, 3, 4, 5}
    assert bool((objects.light != 0).any(0).all())
    elevation = torch.linspace(-20, 80, len(objects))
    cameras = Cameras.orbit(
        elevation=elevation, azimuth=torch.arange(len(objects)) * 15.0, radius=1.5, fov_y=49.1, size=64
    )
    expected = render_torch(objects, cameras, samples=1).int()
    found = render(objects.to("cuda"), cameras, samples=1).cpu().int()
    # A ray that grazes an edge may fall on the other side.
    assert ((expected - found).abs() > 2).float().mean() < 1e-3
