"""Lambert's law, and where and how often the light is drawn."""

import math
import re

import pytest
import torch
import torch.nn.functional as F

from hash3d.cameras import Cameras
from hash3d.rendering.shading import Shading, ShadingConfig

ORIGIN = torch.zeros(1, 3)
UP = torch.tensor([[0.0, 1.0, 0.0]])
ALBEDO = torch.tensor([[0.8, 0.4, 0.2]])
FIRST = torch.zeros(1, dtype=torch.long)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cameras(count: int = 1) -> Cameras:
    angles = torch.linspace(0, 300, count)
    return Cameras.orbit(elevation=torch.linspace(-20, 60, count), azimuth=angles, radius=1.5, fov_y=49.1, size=8)


@pytest.mark.parametrize("degrees", [0.0, 30.0, 60.0, 90.0, 150.0])
def test_light_falls_with_the_cosine_and_ambient_light_stays(degrees):
    angle = math.radians(degrees)
    lights = 2 * torch.tensor([[math.sin(angle), math.cos(angle), 0.0]])
    expected = 0.1 + 0.9 * max(0.0, math.cos(angle))
    lit = Shading(kind="lambertian", lights=lights)(ALBEDO, ORIGIN, UP, FIRST)
    torch.testing.assert_close(lit, expected * ALBEDO)
    plain = Shading(kind="textureless", lights=lights)(ALBEDO, ORIGIN, UP, FIRST)
    torch.testing.assert_close(plain, torch.full((1, 3), expected))


def test_albedo_needs_no_normals_and_the_others_do():
    shading = Shading(kind="albedo", lights=UP)
    assert not shading.needs_normals
    assert torch.equal(shading(ALBEDO, ORIGIN, None, FIRST), ALBEDO)
    for kind in ("textureless", "lambertian"):
        lit = Shading(kind=kind, lights=UP)
        assert lit.needs_normals
        with pytest.raises(ValueError, match="Expected normals"):
            lit(ALBEDO, ORIGIN, None, FIRST)


def test_each_view_has_its_own_light_and_light_comes_from_its_place():
    shading = Shading(kind="textureless", lights=torch.tensor([[0.0, 2.0, 0.0], [0.0, -2.0, 0.0]]), ambient=0.0)
    points = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    views = torch.tensor([0, 1, 0, 0])
    found = shading(torch.ones(4, 3), points, UP.expand(4, 3), views)[:, 0]
    assert found.tolist() == pytest.approx([0.9, 0.0, 0.9 * math.sqrt(0.5), 0.0])


def test_gradients_agree_with_finite_differences():
    shading = Shading(kind="lambertian", lights=torch.tensor([[0.3, 2.0, 0.4]], dtype=torch.float64))
    inputs = [torch.rand(4, 3, generator=seeded(seed), dtype=torch.float64, requires_grad=True) for seed in range(3)]
    assert torch.autograd.gradcheck(lambda a, p, n: shading(a, p, n, torch.zeros(4, dtype=torch.long)), inputs)


def test_before_its_step_there_is_no_light_and_later_each_kind_has_its_share():
    config, generator = ShadingConfig(albedo_until=100), seeded()
    assert {config.draw(99, cameras(), generator).kind for _ in range(50)} == {"albedo"}
    view = cameras()
    kinds = [config.draw(100, view, generator).kind for _ in range(2000)]
    # threestudio: 25 % albedo, 37.5 % each of the others; the deviation of a share of 2000 is 0.011.
    for kind, share in {"albedo": 0.25, "textureless": 0.375, "lambertian": 0.375}.items():
        assert kinds.count(kind) / 2000 == pytest.approx(share, abs=0.035)


def test_the_light_uses_as_many_random_numbers_with_as_without():
    generators = seeded(), seeded()
    for step, generator in zip((0, 5000), generators, strict=True):
        ShadingConfig().draw(step, cameras(2), generator)
    assert torch.equal(*(generator.get_state() for generator in generators))


def test_soft_light_is_split_between_ambient_and_diffuse():
    generator = seeded()
    drawn = [ShadingConfig(soft=True).draw(5000, cameras(), generator) for _ in range(300)]
    assert all(shading.ambient + shading.diffuse == pytest.approx(1.0) for shading in drawn)
    diffuse = torch.tensor([shading.diffuse for shading in drawn])
    assert diffuse.min() < 0.05
    assert diffuse.max() > 0.95
    assert diffuse.mean().item() == pytest.approx(0.5, abs=0.07)
    assert (ShadingConfig().draw(5000, cameras(), generator).diffuse) == 0.9


@pytest.mark.parametrize("light", ["dreamfusion", "magic3d"])
def test_lights_stand_in_the_range_of_distances(light):
    lights = ShadingConfig(light=light).draw_lights(cameras(500), seeded())
    distances = lights.norm(dim=-1)
    assert 0.8 <= distances.min() < 0.82
    assert 1.48 < distances.max() <= 1.5


def test_magic3d_lights_fill_the_60_degrees_around_the_eye():
    views = cameras(2000)
    lights = ShadingConfig(light="magic3d").draw_lights(views, seeded())
    cosine = (F.normalize(lights, dim=-1) * F.normalize(views.eyes, dim=-1)).sum(dim=-1)
    angles = torch.rad2deg(torch.acos(cosine.clamp(max=1.0)))
    assert angles.max() < 60.01
    assert angles.mean().item() == pytest.approx(30.0, abs=1.5)
    sideways = lights - (lights * F.normalize(views.eyes, dim=-1)).sum(-1, keepdim=True) * F.normalize(views.eyes)
    assert (F.normalize(sideways, dim=-1).mean(dim=0)).abs().max() < 0.1, "on every side of the eye alike"


def test_dreamfusion_lights_are_the_eyes_direction_plus_a_unit_normal():
    views = cameras(1)
    many = Cameras.orbit(elevation=[float(views.elevation)] * 4000, azimuth=0.0, radius=1.5, fov_y=49.1, size=8)
    found = F.normalize(ShadingConfig().draw_lights(many, seeded()), dim=-1).mean(dim=0)
    drawn = F.normalize(many.eyes + torch.randn(4000, 3, generator=seeded(5)), dim=-1).mean(dim=0)
    torch.testing.assert_close(found, drawn, atol=0.04, rtol=0)  # deviations of a mean of 4000: 0.01


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"shaded_share": 1.1}, "shaded_share at least 0 and at most 1, but got 1.1"),
        ({"textureless_share": -0.1}, "textureless_share at least 0 and at most 1, but got -0.1"),
        ({"ambient": -1.0}, "ambient at least 0, but got -1.0"),
        ({"light_distance": (2.0, 1.0)}, "a rising light_distance range above 0, but got (2.0, 1.0)"),
    ],
)
def test_impossible_configurations_are_refused(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ShadingConfig(**wrong)
