"""A run's asset in the frame of its input image: what the run's camera sees, with framing undone."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hash3d.cameras import Cameras
from hash3d.evaluation.metrics import compare
from hash3d.evaluation.reference_frame import ReferenceFrame, ShiftedCameras, find_reference_frame
from hash3d.evaluation.truth import Truth
from hash3d.rendering.base import Render
from hash3d.rendering.splat import render_gaussians
from hash3d.representations.gaussians import GaussiansConfig
from hash3d.systems import SYSTEMS

SIZE = 96
PLACES = [(1.0, (0.0, 0.0)), (1.9, (0.0, 0.0)), (1.0, (0.3, -0.2)), (2.5, (-0.6, 0.4)), (0.6, (0.1, 0.2))]
FROM_IMAGE = [system for system in SYSTEMS if "image" in system.inputs]


def recipes():
    """Each system from an image, at full and at mini scale."""
    for system in FROM_IMAGE:
        for scale in ("supplement", "mini"):
            given = {"image": Path("x.png")} | ({"prompt": "a ball"} if "prompt" in system.inputs else {})
            yield system.recipe(prior=system.embedded, cache=None, scale=scale, **given)


RECIPES = {f"{recipe.system}, {recipe.stage.cameras.radius:g}": recipe for recipe in recipes()}


def truth_of(cameras, elevation, images=None, alpha=None):
    size = cameras.width
    return Truth(
        cameras=cameras,
        images=torch.ones(len(cameras), size, size, 3) if images is None else images,
        alpha=torch.zeros(len(cameras), size, size, 1) if alpha is None else alpha,
        has_alpha=(True,) * len(cameras),
        backgrounds=torch.ones(len(cameras), 3),
        reference_elevation=elevation,
    )


def half_images(pixels):
    return pixels / (SIZE / 2) - 1.0


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize(("zoom", "offset"), PLACES)
def test_the_reference_view_undoes_framing(recipe, zoom, offset):
    """A point that the run's camera sees at m of the framed image lies at (m - d) / k of the input image."""
    own = recipe.stages[-1].cameras
    frame = ReferenceFrame(radius=own.radius, fov_y=own.fov_y, zoom=zoom, offset=offset)
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    seen = Cameras.orbit(elevation=15.0, azimuth=0.0, radius=own.radius, fov_y=own.fov_y, size=SIZE)
    framed = half_images(seen.project(points)[0])
    reference = Cameras.orbit(elevation=15.0, azimuth=0.0, radius=1.5, fov_y=49.1, size=SIZE)
    found = half_images(frame.cameras(truth_of(reference, 15.0)).project(points)[0])
    torch.testing.assert_close(found, (framed - torch.tensor(offset)) / zoom, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("zoom", "offset"), PLACES)
def test_the_object_stays_where_it_is_in_space(zoom, offset):
    """The asset's middle lies at the same point of the true views' world, and near it the scale is the depth's."""
    frame = ReferenceFrame(radius=2.0, fov_y=30.0, zoom=zoom, offset=offset)
    views = Cameras.orbit(elevation=[15.0, 0.0, 40.0], azimuth=[0.0, 90.0, 200.0], radius=1.5, fov_y=49.1, size=SIZE)
    cameras = frame.cameras(truth_of(views, 15.0))
    half = 1.5 * math.tan(math.radians(49.1 / 2))
    x, y = (-half * value / zoom for value in offset)
    tilt = math.radians(15.0)
    # Right is +x at azimuth 0, and down leans by the elevation: (0, -cos, sin).
    middle = torch.tensor([[x, -y * math.cos(tilt), y * math.sin(tilt)]])
    pixels, depth = views.project(middle)
    torch.testing.assert_close(cameras.project(torch.zeros(1, 3))[0], pixels, atol=1e-4, rtol=1e-5)
    right = 1e-3 * cameras.c2w[:, :3, 0]
    step = torch.stack([cameras[n].project(right[n][None])[0][0, 0] - pixels[n, 0] for n in range(3)])[:, 0]
    seen = 1e-3 / (2.0 * math.tan(math.radians(15.0)))
    torch.testing.assert_close(step / (SIZE / 2), seen * 1.5 / (zoom * depth[:, 0]), atol=1e-6, rtol=2e-3)


def show_ball(radius):
    """A ball at the origin, coloured by its surface's position, traced along the cameras' rays."""

    def show(cameras):
        origins, directions = cameras.rays()
        middle = -(origins * directions).sum(-1)
        inside = radius**2 - (origins.square().sum(-1) - middle**2)
        hit = (inside > 0)[..., None].float()
        points = origins + directions * (middle - inside.clamp(min=0.0).sqrt())[..., None]
        color = 0.5 + 0.5 * points / radius
        return Render(color=color * hit + 1.0 - hit, alpha=hit, depth=torch.zeros_like(hit))

    return show


def write_moved(path, color, alpha, canvas, left, top):
    """An image on a larger canvas."""
    rgba = (torch.cat([color, alpha], dim=-1) * 255).round().byte().numpy()
    pixels = np.zeros((canvas, canvas, 4), dtype=np.uint8)
    pixels[top : top + len(rgba), left : left + len(rgba)] = rgba
    Image.fromarray(pixels).save(path)
    return torch.from_numpy(pixels).float() / 255


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_what_each_system_makes_of_a_moved_image_equals_it(recipe, tmp_path):
    """A ball that fills 0.70 of the framed image, as recentring has it, compares as equal in the input's frame."""
    own = recipe.stages[-1].cameras
    radius = own.radius * math.sin(math.atan(0.70 * math.tan(math.radians(own.fov_y / 2))))
    show = show_ball(radius)
    seen = show(Cameras.orbit(elevation=15.0, azimuth=0.0, radius=own.radius, fov_y=own.fov_y, size=128))
    image = write_moved(tmp_path / "input.png", seen.color[0], seen.alpha[0], 256, left=20, top=90)
    frame = find_reference_frame(replace(recipe, framing="recentre"), tmp_path / "input.png")
    camera = Cameras.orbit(elevation=15.0, azimuth=0.0, radius=1.5, fov_y=49.1, size=256)
    alpha = image[None, ..., 3:]
    truth = truth_of(camera, 15.0, image[None, ..., :3] * alpha + 1.0 - alpha, alpha)
    found = compare(show, truth, frame)["mean"]
    assert found["iou"] > 0.97  # A pixel of 128 in the framed image is the resolution of framing.
    assert found["psnr"] > 25.0
    kept = compare(show, truth, replace(frame, zoom=1.0, offset=(0.0, 0.0)))["mean"]
    assert kept["iou"] < 0.5


def test_a_kept_image_of_the_same_camera_changes_nothing(picture_file):
    recipe = replace(RECIPES["zero123_gs, 1.5"], framing="keep")
    frame = find_reference_frame(recipe, picture_file)
    assert (frame.zoom, frame.offset) == (1.0, (0.0, 0.0))
    views = Cameras.orbit(elevation=[0.0, 30.0], azimuth=[0.0, 90.0], radius=1.5, fov_y=49.1, size=SIZE)
    cameras = frame.cameras(truth_of(views, 15.0))
    torch.testing.assert_close(cameras.K, views.K)
    torch.testing.assert_close(cameras.viewmats, views.viewmats)


def test_an_oblong_image_is_padded(tmp_path):
    """Of 100 x 50 pixels the square of 100 around it."""
    pixels = np.zeros((50, 100, 4), dtype=np.uint8)
    pixels[20:40, 60:80] = 255
    Image.fromarray(pixels).save(tmp_path / "oblong.png")
    frame = find_reference_frame(replace(RECIPES["zero123_gs, 1.5"], framing="keep"), tmp_path / "oblong.png")
    assert (frame.zoom, frame.offset) == (pytest.approx(1.0), pytest.approx((0.0, 0.0)))
    frame = find_reference_frame(replace(RECIPES["zero123_gs, 1.5"], framing="recentre"), tmp_path / "oblong.png")
    # Its middle (70, 30) is at (0.4, 0.1) of half the square, which becomes 0: d = -k n.
    assert (-frame.offset[0] / frame.zoom, -frame.offset[1] / frame.zoom) == pytest.approx((0.4, 0.1))
    assert frame.zoom == pytest.approx(0.70 * 50 / math.hypot(9.5, 9.5))


def test_a_text_has_the_recipe_s_cameras():
    recipe = next(system for system in SYSTEMS if system.inputs == ("prompt",)).recipe(
        prior="mini-sd", cache=None, prompt="a mug", scale="mini"
    )
    cameras = recipe.stages[-1].cameras
    assert find_reference_frame(recipe, None) == ReferenceFrame(radius=cameras.radius, fov_y=cameras.fov_y)


@torch.no_grad()
def test_splats_follow_the_principal_point():
    """A shift of 8 and -4 pixels of 32 is a window of an image twice as large."""
    scene = GaussiansConfig(num_points=60, opacity=0.9).build(torch.Generator().manual_seed(0))
    common = {"elevation": torch.tensor([20.0]), "azimuth": torch.tensor([30.0]), "radius": torch.tensor([2.0])}
    tangent = math.tan(math.radians(20.0))
    wide = Cameras(**common, fov_y=torch.tensor([math.degrees(2 * math.atan(2 * tangent))]), width=64, height=64)
    shifted = ShiftedCameras(
        **common, fov_y=torch.tensor([40.0]), width=32, height=32, principal=torch.tensor([[0.5, -0.25]])
    )
    white = torch.ones(1, 3)
    whole, window = (render_gaussians(scene, cameras, white).color[0] for cameras in (wide, shifted))
    torch.testing.assert_close(window, whole[20:52, 8:40], atol=1e-4, rtol=1e-4)
    assert shifted[0].principal.tolist() == [[0.5, -0.25]]
