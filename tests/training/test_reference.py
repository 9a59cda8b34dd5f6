"""The reference image at any size, and the losses of a view of it."""

import pytest
import torch

from hash3d.cameras import CameraSamplerConfig
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
