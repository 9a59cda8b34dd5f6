import math

import pytest
import torch

from prior_training.world import sample_objects, sdf
from prior_training.world.assembly import Assembly
from prior_training.world.materials import paint
from prior_training.world.objects import COLUMN, LATHE, STAR, star, turned
from prior_training.world.render import FACTOR
from prior_training.world.streams import RandomStreams


def one_part(kind, size, **options):
    rng, shape = (
        RandomStreams(torch.tensor([3]), seed=0),
        Assembly(1, torch.device("cpu"), torch.zeros(1, dtype=torch.long)),
    )
    shape.add(kind, "body", paint(rng), size, **options)
    return shape.objects(torch.zeros(1, 4), torch.tensor([[0.6, 0.0, 0.0, 1.0] + [0.0] * 8]))


PROFILE = (0.5, 0.9, 1.0, 0.3, 0.2, 0.6)


def test_a_lathe_passes_through_its_radii():
    lathe = one_part(LATHE, (0.4, 0.5, 0.2), profile=PROFILE)
    for place, radius in enumerate(PROFILE[1:5], start=1):
        height = 0.5 * (0.4 * place - 1)
        for angle in (0.0, 0.7, 2.0):
            point = torch.tensor([[[0.4 * radius * math.cos(angle), height, 0.2 * radius * math.sin(angle)]]])
            assert float(sdf.distance(lathe, point)) == pytest.approx(0.0, abs=1e-4)
            assert float(sdf.distance(lathe, point * torch.tensor([0.9, 1.0, 0.9]))) < 0
            assert float(sdf.distance(lathe, point * torch.tensor([1.1, 1.0, 1.1]))) > 0


def test_a_straight_profile_stays_straight():
    profile = torch.linspace(0.2, 0.7, 6)
    place = torch.linspace(0, 5, 50)
    assert turned(profile, place) == pytest.approx(0.2 + 0.1 * place, abs=1e-5)


@pytest.mark.parametrize(("points", "inner"), [(5, 0.45), (7, 0.6), (6, 0.0), (3, 0.0), (12, 0.8)])
def test_a_star_has_its_tips_and_dents(points, inner):
    badge = one_part(STAR, (0.4, 0.4, 0.1), profile=star(float(points), inner))
    ratio = inner or math.cos(math.pi / points)
    for tip in range(points):
        for angle, radius in ((2 * tip, 0.4), (2 * tip + 1, 0.4 * ratio)):
            turn = math.pi * angle / points
            point = torch.tensor([math.sin(turn), math.cos(turn), 0.0]) * radius
            near, far = (float(sdf.distance(badge, (scale * point)[None, None])) for scale in (0.97, 1.03))
            # The polynomial arctangent is good to 3e-4 radians.
            assert float(sdf.distance(badge, point[None, None])) == pytest.approx(0.0, abs=5e-4)
            assert near < 0 < far


def test_a_square_is_the_box():
    square = one_part(STAR, (0.4, 0.4, 0.1), profile=star(4.0))
    points = torch.rand(1, 500, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    x, y, z = points[0].T
    u, v = (x + y).abs() / math.sqrt(2) - 0.4 / math.sqrt(2), (x - y).abs() / math.sqrt(2) - 0.4 / math.sqrt(2)
    gaps = torch.stack([u, v, z.abs() - 0.1])
    box = gaps.clamp(min=0).norm(dim=0) + gaps.amax(0).clamp(max=0)
    outside = box > 0
    assert sdf.distance(square, points)[0][outside] == pytest.approx(box[outside], abs=1e-3)


def test_the_angle_from_up():
    angle = torch.linspace(0, math.pi, 1000)
    assert sdf.angle_from_up(3 * angle.sin(), 3 * angle.cos()) == pytest.approx(angle, abs=3e-4)
    assert sdf.angle_from_up(-angle.sin(), angle.cos()) == pytest.approx(angle, abs=3e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"kind": LATHE, "size": (0.4, 0.5, 0.4), "profile": PROFILE},
        {"kind": LATHE, "size": (0.4, 0.5, 0.2), "profile": PROFILE},
        {"kind": STAR, "size": (0.4, 0.4, 0.1), "profile": star(5.0, 0.4)},
        {"kind": STAR, "size": (0.4, 0.25, 0.1), "profile": star(8.0, 0.7)},
    ],
)
def test_a_step_never_goes_through_the_surface(options):
    shape = one_part(options["kind"], options["size"], profile=options["profile"])
    generator = torch.Generator().manual_seed(0)
    eyes = torch.nn.functional.normalize(torch.randn(1, 300, 3, generator=generator), dim=-1) * 0.8
    lengths = sdf.distance(shape, eyes)
    assert lengths.min() > 0
    ways = torch.nn.functional.normalize(torch.randn(1, 300, 3, generator=generator) - eyes, dim=-1)
    for share in torch.linspace(0.05, 1.0, 20):
        assert sdf.distance(shape, eyes + share * FACTOR * lengths[..., None] * ways).min() > 0


def test_few_steps_of_whole_objects_go_through_a_surface():
    objects = sample_objects(torch.arange(100))
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(100, 200, 3, generator=generator) - 0.5
    lengths = sdf.distance(objects, points)
    ways = torch.nn.functional.normalize(torch.randn(100, 200, 3, generator=generator), dim=-1)
    ends = sdf.distance(objects, points + FACTOR * lengths[..., None] * ways)
    # Flat ellipsoids and subtractions are not strict bounds.
    assert ((lengths > 0) & (ends < -1e-3)).float().mean() < 0.003


def test_a_rounded_side_lies_where_its_size_says():
    bar = one_part(COLUMN, (0.4, 0.1, 0.3), corner=1.0, rounding=0.09, bulge=0.1, taper=0.1)
    # Half a width without the rounding, bulged, and the rounding.
    reach = (0.4 - 0.09) * 1.1 + 0.09
    inside, at, outside = sdf.distance(bar, torch.tensor([[[0.95, 0, 0], [1.0, 0, 0], [1.05, 0, 0]]]) * reach)[0]
    assert inside < 0 < outside
    assert float(at) == pytest.approx(0.0, abs=1e-5)
