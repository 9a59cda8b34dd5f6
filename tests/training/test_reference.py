"""The reference image at any size, and the losses of a view of it."""

import pytest
import torch

from hash3d.cameras import CameraSamplerConfig, Lattice
from hash3d.pictures import FramedPicture
from hash3d.rendering.base import Render
from hash3d.training.reference import Reference


@pytest.fixture
def reference():
    rows = torch.arange(4.0).view(4, 1, 1)
    picture = FramedPicture(
        color_on_white=(rows / 4).expand(4, 4, 3),
        alpha=(rows >= 2).float().expand(4, 4, 1),
        scale=1.0,
        shift=(0.0, 0.0),
    )
    cameras = CameraSamplerConfig(radius=2.5, fov_y=40.0)
    return Reference(picture, elevation=12.0, cameras=cameras, device=torch.device("cpu"))


def test_a_smaller_view_is_the_mean_of_its_pixels(reference):
    assert reference.on_white(2)[0, :, :, 0].tolist() == [[0.125, 0.625]] * 3


def test_the_camera_is_that_of_the_image(reference):
    camera = reference.camera(2)
    assert (float(camera.elevation), float(camera.azimuth), float(camera.radius)) == (12.0, 0.0, reference.radius)
    assert (camera.width, camera.height, reference.radius, float(camera.fov_y)) == (2, 2, 2.5, 40.0)


def test_the_losses_are_mean_squared_errors_at_the_view_s_size(reference):
    color, alpha = (
        reference.on_white(2).permute(0, 2, 3, 1),
        torch.tensor([0.0, 1.0]).view(1, 2, 1, 1).expand(1, 2, 2, 1),
    )
    losses = reference.losses(Render(color=color + 0.5, alpha=(alpha - 0.25).abs(), depth=alpha))
    assert float(losses["color"]()) == 0.25
    assert float(losses["mask"]()) == 0.0625
    same = reference.losses(Render(color=color, alpha=alpha, depth=alpha))
    assert float(same["color"]()) == float(same["mask"]()) == 0.0


def test_the_losses_of_some_pixels_average_over_the_lattices_to_those_of_all(reference):
    color, alpha = torch.rand(1, 4, 4, 3), torch.rand(1, 4, 4, 1)
    parts = []
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        pixels = Lattice(2, column, row)
        assert reference.camera(4, pixels).width == 2
        seen = (pixels.images(each) for each in (color, alpha, alpha))
        losses = reference.losses(Render(**dict(zip(("color", "alpha", "depth"), seen, strict=True))))
        parts.append(torch.stack([losses["color"](), losses["mask"]()]))
    assert reference.camera(4).width == 4
    losses = reference.losses(Render(color=color, alpha=alpha, depth=alpha))
    torch.testing.assert_close(torch.stack(parts).mean(dim=0), torch.stack([losses["color"](), losses["mask"]()]))
