"""What lies behind a scene: harmonics that are orthonormal, shares that hold, weights that learn."""

import math

import numpy as np
import pytest
import torch

from hash3d.cameras import Cameras
from hash3d.representations.background import (
    WHITE_AND_BLACK,
    EnvironmentConfig,
    SolidBackgroundConfig,
    spherical_harmonics,
)
from hash3d.representations.optimizer import build_adam

RGB = torch.tensor(WHITE_AND_BLACK)
LATENTS = torch.tensor([[1.5, -0.5, 0.25, 2.0], [-2.0, 0.0, 3.0, -1.0]])
"""White and black of a made-up autoencoder."""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def views(count: int = 2, size: int = 5, **place: float) -> Cameras:
    azimuth = [360.0 * view / count for view in range(count)]
    where = {"elevation": 20.0, "radius": 2.0, "fov_y": 60.0, **place}
    return Cameras.orbit(azimuth=azimuth, size=size, **where)


def show(background, cameras, generator):
    """What the views of a training step are in front of."""
    solid = background.draw(len(cameras), generator)
    return background(cameras) if solid is None else solid


def test_the_harmonics_are_orthonormal_on_the_sphere():
    # Exact for polynomials of degree 4: Gauss-Legendre along the axis, equal steps around it.
    heights, weights = (torch.from_numpy(each) for each in np.polynomial.legendre.leggauss(3))
    angles = torch.arange(5, dtype=torch.float64) * 2 * math.pi / 5
    z, angle = torch.meshgrid(heights, angles, indexing="ij")
    wide = (1 - z * z).sqrt()
    values = spherical_harmonics(torch.stack([wide * angle.cos(), wide * angle.sin(), z], dim=-1))
    assert values.shape == (3, 5, 9)
    products = torch.einsum("h,hai,haj->ij", weights * 2 * math.pi / 5, values, values)
    torch.testing.assert_close(products, torch.eye(9, dtype=torch.float64), atol=1e-12, rtol=0)


def test_each_band_is_closed_under_rotation():
    # The sum of squares of a band is (2 l + 1) / (4 pi) in every direction (Unsoeld's theorem): no band is mixed.
    directions = torch.nn.functional.normalize(torch.randn(50, 3, dtype=torch.float64, generator=seeded()), dim=-1)
    first, second, third = spherical_harmonics(directions).square().split([1, 3, 5], dim=-1)
    for order, band in enumerate((first, second, third)):
        expected = torch.full((50,), (2 * order + 1) / (4 * math.pi), dtype=torch.float64)
        torch.testing.assert_close(band.sum(dim=-1), expected)


@pytest.mark.parametrize(("color", "value"), [("white", 1.0), ("black", 0.0)])
def test_a_solid_background_is_one_colour_and_learns_nothing(color, value):
    background = SolidBackgroundConfig(color=color).build(RGB, seeded())
    assert torch.equal(background(views(3)), torch.full((3, 3), value))
    assert torch.equal(show(background, views(3), seeded()), torch.full((3, 3), value))
    assert background.parameter_groups() == []
    assert background.state_dict() == {}


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("color", ["white", "black"])
def test_the_other_colour_has_its_share_of_the_steps(color, share):
    background, generator, count = (
        SolidBackgroundConfig(color=color, other_share=share).build(RGB, seeded()),
        seeded(),
        2000,
    )
    shown = torch.stack([show(background, views(2), generator) for _ in range(count)])
    assert torch.equal(shown, shown[:, :1, :1].expand_as(shown))  # one draw for all views and channels
    white = share if color == "black" else 1 - share
    # Four standard deviations of a mean of `count` coins.
    assert shown[:, 0, 0].mean().item() == pytest.approx(white, abs=4 * math.sqrt(share * (1 - share) / count))
    assert torch.equal(background(views(2)), torch.full((2, 3), float(color == "white")))


def test_an_environment_shows_black_and_white_on_their_shares_of_the_steps():
    background, generator, count = EnvironmentConfig(solid_share=0.8).build(RGB, seeded()), seeded(1), 1000
    shown = [show(background, views(2, 2), generator) for _ in range(count)]
    own = background(views(2, 2))
    solid = torch.stack([image for image in shown if image.ndim == 2])
    assert all(torch.equal(image, own) for image in shown if image.ndim == 4)
    assert torch.equal(solid, solid[:, :1, :1].expand_as(solid))
    # Four standard deviations of a mean of coins.
    assert len(solid) / count == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / count))
    assert set(solid.unique().tolist()) == {0.0, 1.0}
    assert solid.mean().item() == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / len(solid)))


@pytest.mark.parametrize(
    ("config", "numbers"),
    [
        (SolidBackgroundConfig(other_share=0.5), 1),
        (SolidBackgroundConfig(), 0),
        (EnvironmentConfig(solid_share=0.5), 2),
        (EnvironmentConfig(), 0),
    ],
)
def test_a_step_takes_as_many_random_numbers_whatever_comes_out(config, numbers):
    background, generator, reference = config.build(RGB, seeded()), seeded(), seeded()
    before = torch.get_rng_state()
    for _ in range(10):
        show(background, views(3), generator)
        torch.rand(numbers, generator=reference)
        assert torch.equal(generator.get_state(), reference.get_state())
    assert torch.equal(torch.get_rng_state(), before)


def test_an_environment_depends_on_the_direction_alone():
    background = EnvironmentConfig().build(RGB, seeded())
    near, far = background(views(radius=1.0)), background(views(radius=9.0))
    assert near.shape == (2, 5, 5, 3)
    torch.testing.assert_close(near, far, atol=1e-6, rtol=0)  # float32 cameras
    assert torch.equal(near, background(views(radius=1.0)))
    assert near.std(dim=(1, 2)).min() > 1e-4  # not one colour
    assert 0 < near.min() < near.max() < 1
    # The pixel in the middle looks at the origin: the same direction through any lens.
    narrow = background(views(radius=1.0, fov_y=10.0))
    torch.testing.assert_close(near[:, 2, 2], narrow[:, 2, 2], atol=1e-6, rtol=0)
    assert (near - narrow)[:, 0, 0].abs().max() > 1e-4


def test_latents_are_not_bounded():
    background = EnvironmentConfig(color_activation="none").build(LATENTS, seeded())
    background.network[-1].weight.data.mul_(1e3)
    latents = show(background, views(), seeded())
    assert latents.shape == (2, 5, 5, 4)
    assert latents.min() < 0
    assert latents.max() > 1


def test_solid_latents_are_those_of_white_and_black():
    for color, row in (("white", 0), ("black", 1)):
        assert torch.equal(SolidBackgroundConfig(color=color).build(LATENTS, seeded())(views(1))[0], LATENTS[row])
    background, generator = EnvironmentConfig(solid_share=1.0).build(LATENTS, seeded()), seeded()
    shown = torch.stack([show(background, views(1), generator)[0] for _ in range(50)])
    assert torch.equal(shown.unique(dim=0), LATENTS.flip(0))


def test_an_environment_learns_at_its_rate():
    background = EnvironmentConfig(lr=0.02).build(RGB, seeded())
    (group,) = background.parameter_groups()
    assert group["name"] == "background"
    assert group["lr"] == 0.02
    assert [tuple(weight.shape) for weight in group["params"]] == [(16, 9), (16, 16), (3, 16)]
    optimizer, target = build_adam([group]), torch.tensor([0.2, 0.5, 0.9])
    first = (background(views()) - target).square().mean().item()
    for _ in range(100):
        error = (background(views()) - target).square().mean()
        optimizer.zero_grad()
        error.backward()
        assert all(weight.grad.abs().max() > 0 for weight in group["params"])
        optimizer.step()
    assert error < 0.02 * first


def test_backgrounds_follow_the_module_to_another_device_and_dtype():
    for config in (SolidBackgroundConfig(), EnvironmentConfig(), EnvironmentConfig(solid_share=1.0)):
        background = config.build(RGB, seeded()).to(torch.float64)
        assert show(background, views(), seeded()).dtype == torch.float64
        assert show(background.to("meta"), views(), seeded()).device.type == "meta"


def test_the_same_seed_gives_the_same_environment():
    first, second, other = (EnvironmentConfig().build(RGB, seeded(seed))(views()) for seed in (3, 3, 4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (SolidBackgroundConfig, {"other_share": 1.5}, "Expected other_share at least 0 and at most 1, but got 1.5."),
        (EnvironmentConfig, {"solid_share": -0.1}, "Expected solid_share at least 0 and at most 1, but got -0.1."),
        (EnvironmentConfig, {"lr": 0.0}, "Expected lr above 0, but got 0.0."),
        (EnvironmentConfig, {"hidden_layers": 0}, "Expected hidden_layers at least 1, but got 0."),
    ],
)
def test_impossible_backgrounds_are_refused(config, options, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        config(**options)
    assert str(error.value) == message
