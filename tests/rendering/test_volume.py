"""Images of a field: closed forms of light through fog, one geometry with the splats, light and normals."""

import dataclasses
import math
import re

import pytest
import torch
import torch.nn.functional as F

from hash3d.cameras import Cameras
from hash3d.rendering.shading import Shading
from hash3d.rendering.splat import SplatRendererConfig, render_gaussians
from hash3d.rendering.volume import VolumeRendererConfig
from hash3d.representations.encodings import HashGridConfig
from hash3d.representations.gaussians import GaussianTensors
from hash3d.representations.nerf import LatentNerfConfig
from tests.fields import DTYPE, Scene, ball, fog, hash_grid_scene, render, view


def chords_of_cube(cameras: Cameras, radius: float) -> torch.Tensor:
    """Length of each pixel's ray in the cube, "B H W", by the plainest loop over the faces."""
    origins, directions = (rays.double() for rays in cameras.rays())
    near, far = torch.zeros(origins.shape[:-1]).double(), torch.full(origins.shape[:-1], 1e9).double()
    for axis in range(3):
        first = (-radius - origins[..., axis]) / directions[..., axis]
        second = (radius - origins[..., axis]) / directions[..., axis]
        near, far = torch.maximum(near, torch.minimum(first, second)), torch.minimum(far, torch.maximum(first, second))
    return (far - near).clamp(min=0)


@pytest.mark.parametrize("samples", [1, 7, 100])
@pytest.mark.parametrize("radius", [1.5, 0.4])  # outside and inside the cube
def test_even_fog_has_the_closed_form_of_its_depth_for_any_number_of_steps(samples, radius):
    cameras = view([0.0, 33.0], [10.0, -40.0], radius=radius)
    expected = 1 - torch.exp(-2.5 * chords_of_cube(cameras, 0.6))
    for generator in (None, torch.Generator().manual_seed(0)):
        image = render(fog(2.5), cameras, samples, generator=generator)
        torch.testing.assert_close(image.alpha[..., 0], expected, atol=1e-6, rtol=0)  # float32 cameras
        torch.testing.assert_close(image.color[..., 0], expected, atol=1e-6, rtol=0)
        assert image.color[..., 1:].abs().max() == 0


def test_a_ball_of_fog_has_the_closed_form_of_its_chords():
    cameras, samples = view(40.0, 25.0), 400
    origins, directions = (rays.double() for rays in cameras.rays())
    closest = torch.linalg.cross(origins, directions).norm(dim=-1)
    chords = 2 * (0.4**2 - closest**2).clamp(min=0).sqrt()
    image = render(ball(3.0), cameras, samples)
    # A step at each of the two edges is counted whole or not at all.
    step = 2 * math.sqrt(3) * 0.6 / samples
    torch.testing.assert_close(image.alpha[..., 0], 1 - torch.exp(-3 * chords), atol=3 * step, rtol=0)


def test_shifted_samples_are_right_on_average():
    width, samples, repeats = 0.05, 11, 2000
    field = Scene(lambda points: 4 * torch.exp(-points.square().sum(dim=-1) / (2 * width**2)))

    def thickness(cameras, generator=None):
        return -torch.log1p(-render(field, cameras, samples, generator=generator).alpha).mean().item()

    exact = 4 * width * math.sqrt(2 * math.pi)
    mean = thickness(view([0.0] * repeats, size=1), torch.Generator().manual_seed(0))
    # A step is 0.19 long: wider than the blob, so that middles are far off. Shifted, one sample gives at most
    # 4 * 0.19 = 0.76, and the mean of 2000 deviates by less than 0.76 / 2 / 44.
    assert mean == pytest.approx(exact, abs=0.03)
    assert abs(thickness(view(size=1)) - exact) > 0.1


def test_the_near_slab_covers_the_far_one():
    def two(points):
        return 2.0 * (points[:, 2] > 0.2).to(points) + 5.0 * (points[:, 2] < -0.2).to(points)

    def color(points):
        return torch.stack([points[:, 2] > 0, points[:, 2] < 0, points[:, 2] < -9], dim=-1).to(points)

    blue, samples = torch.tensor([[0.0, 0.0, 1.0]], dtype=DTYPE), 1000
    pixel = render(Scene(two, color=color), view(size=1), samples, back=blue).color[0, 0, 0]
    through_near, through_far = math.exp(-2.0 * 0.4), math.exp(-5.0 * 0.4)
    expected = [1 - through_near, through_near * (1 - through_far), through_near * through_far]
    # A slab's face falls within a step, which counts whole or not at all.
    assert pixel.tolist() == pytest.approx(expected, abs=5 * 2 * math.sqrt(3) * 0.6 / samples)


def test_the_depth_of_an_opaque_ball_is_that_of_its_front():
    cameras, samples = view(70.0, 20.0, size=33), 1000
    origins, directions = (rays.double() for rays in cameras.rays())
    middle = -(origins * directions).sum(dim=-1)
    closest = torch.linalg.cross(origins, directions).norm(dim=-1)
    hit = closest < 0.38
    distance = middle - (0.4**2 - closest**2).clamp(min=0).sqrt()
    forward = cameras.c2w[0, :3, 2].double()
    image = render(ball(1e5), cameras, samples)
    step = 2 * math.sqrt(3) * 0.6 / samples
    torch.testing.assert_close(image.depth[..., 0][hit], (distance * (directions @ forward))[hit], atol=step, rtol=0)
    assert image.depth[..., 0][closest > 0.401].abs().max() == 0


@pytest.mark.parametrize("place", [(0.2, 0.1, 0.15), (-0.25, 0.0, 0.1), (0.0, -0.2, -0.3)])
def test_a_tiny_ball_is_where_the_splat_renderer_shows_it(place):
    centre, size = torch.tensor(place, dtype=DTYPE), 0.03
    cameras = dataclasses.replace(
        Cameras.orbit(
            elevation=[0.0, 30.0, -45.0, 90.0], azimuth=[0.0, 70.0, 200.0, -90.0], radius=1.5, fov_y=49.1, size=48
        ),
        width=56,
    )
    field = Scene(lambda points: 400 * torch.exp(-(points - centre).square().sum(dim=-1) / (2 * size**2)))
    splat = GaussianTensors(
        means=centre[None],
        quats=torch.tensor([[1.0, 0, 0, 0]], dtype=DTYPE),
        scales=torch.full((1, 3), size, dtype=DTYPE),
        opacities=torch.tensor([0.99], dtype=DTYPE),
        colors=torch.tensor([[1.0, 0, 0]], dtype=DTYPE),
    )
    black = torch.zeros(4, 3, dtype=DTYPE)
    ours = render(field, cameras, 200)
    theirs = render_gaussians(splat, cameras, black, config=SplatRendererConfig(backend="torch"))
    rows, columns = torch.meshgrid(torch.arange(48) + 0.5, torch.arange(56) + 0.5, indexing="ij")
    for image, other, color in zip(ours.alpha, theirs.alpha, ours.color, strict=True):
        for axis in (rows, columns):
            place_here, place_there = ((each[..., 0] * axis).sum() / each.sum() for each in (image, other))
            assert place_here.item() == pytest.approx(place_there.item(), abs=0.1)  # perspective bends the blob a bit
        assert color[..., 0].max() > 0.99
    mean_depth = [(each.depth.sum(dim=(1, 2, 3)) / each.alpha.sum(dim=(1, 2, 3))) for each in (ours, theirs)]
    torch.testing.assert_close(*mean_depth, atol=2 * size, rtol=0)  # the eye sees the blob's front


def test_what_light_is_left_shows_the_background_of_a_view_or_of_a_pixel():
    cameras = view([0.0, 90.0])
    each_view = torch.tensor([[0.2, 0.4, 1.0], [0.9, 0.1, 0.3]], dtype=DTYPE)
    black = render(ball(3.0), cameras)
    per_view = render(ball(3.0), cameras, back=each_view)
    expected = black.color + (1 - black.alpha) * each_view[:, None, None]
    torch.testing.assert_close(per_view.color, expected)
    image = each_view[:, None, None].expand(2, 17, 17, 3).contiguous()
    torch.testing.assert_close(render(ball(3.0), cameras, back=image).color, expected)


def test_gradients_agree_with_finite_differences():
    centre = torch.tensor([0.05, -0.02, 0.1], dtype=DTYPE, requires_grad=True)
    strength, tint, back = (
        torch.tensor(values, dtype=DTYPE, requires_grad=True) for values in (6.0, [0.3, 0.8, 0.5], [[0.9, 0.2, 0.6]])
    )

    def image(centre, strength, tint, back):
        field = Scene(
            lambda points: strength * torch.exp(-20 * (points - centre).square().sum(dim=-1)),
            color=lambda points: tint * torch.sigmoid(points),
            normal=lambda points: F.normalize(points - centre, dim=-1),
        )
        found = render(field, view(20.0, 10.0, size=2), 12, back=back, normals=True)
        return found.color, found.alpha, found.depth, found.normal, found.samples.weights

    assert torch.autograd.gradcheck(image, (centre, strength, tint, back))


def test_the_samples_weights_make_the_alpha_of_each_view():
    cameras = view([0.0, 120.0, 250.0], [0.0, 50.0, -20.0])
    image = render(ball(8.0), cameras)
    samples = image.samples
    sums = torch.zeros(3, dtype=DTYPE).index_add(0, samples.views, samples.weights)
    torch.testing.assert_close(sums, image.alpha.sum(dim=(1, 2, 3)))
    eyes = cameras.eyes.double()[samples.views]
    torch.testing.assert_close(F.normalize(samples.points - eyes, dim=-1), samples.directions, atol=1e-6, rtol=0)
    assert samples.normals is None
    assert image.normal is None


def test_the_normals_of_a_ball_face_the_eye():
    field, cameras = hash_grid_scene(blob_scale=100.0), view([0.0, 60.0], [0.0, 40.0], size=17)
    with torch.no_grad():
        image = render(field, cameras, 200, back=torch.zeros(2, 3), normals=True)
    outward = F.normalize(cameras.eyes, dim=-1)
    torch.testing.assert_close(image.normal[:, 8, 8], outward, atol=0.05, rtol=0)
    lengths = image.normal.norm(dim=-1)
    assert lengths[:, 0, 0].abs().max() == 0
    torch.testing.assert_close(lengths[:, 8, 8], torch.ones(2))


def test_light_from_the_right_shows_on_the_right():
    field, cameras = hash_grid_scene(blob_scale=100.0), view(size=33)
    lamp = Shading(kind="textureless", lights=torch.tensor([[3.0, 0.0, 0.0]]), ambient=0.2, diffuse=0.8)
    with torch.no_grad():
        image = render(field, cameras, back=torch.zeros(1, 3), shading=lamp)
    grey = image.color[0, 16] / image.alpha[0, 16].clamp(min=1e-9)
    torch.testing.assert_close(grey[:, 0], grey[:, 2])
    # The ball's edge is 7.5 pixels from the middle, column 16.
    assert grey[22, 0] > 0.75
    assert grey[10, 0].item() == pytest.approx(0.2, abs=0.02)
    assert image.normal is None, "normals were used, but not asked for"


def test_latents_have_four_channels():
    encoding = HashGridConfig(levels=2, log2_entries=8, base_resolution=4, finest_resolution=8)
    field = LatentNerfConfig(encoding=encoding, radius=0.6).build(torch.Generator().manual_seed(0))
    image = render(field, view(size=8), back=torch.tensor([[0.5, -2.0, 1.0, 3.0]]))
    assert image.color.shape == (1, 8, 8, 4)
    assert image.color[0, 0, 0].tolist() == pytest.approx([0.5, -2.0, 1.0, 3.0], rel=0.9)
    image.color.square().sum().backward()
    assert field.encoding.table.grad.abs().sum() > 0


def test_one_seed_gives_one_image():
    first, again, other = (
        render(ball(8.0), view(), 20, generator=torch.Generator().manual_seed(seed)).alpha for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_background_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="Expected a background of shape"):
        render(ball(1.0), view([0.0, 1.0]), back=torch.zeros(1, 3))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"samples_per_ray": 0}, "samples_per_ray at least 1, but got 0"),
        ({"min_alpha": 1.0}, "min_alpha at least 0 and below 1, but got 1.0"),
        ({"min_transmittance": -0.1}, "min_transmittance at least 0 and below 1, but got -0.1"),
    ],
)
def test_impossible_constants_are_refused(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        VolumeRendererConfig(**wrong)
