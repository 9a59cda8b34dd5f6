"""What anybody sees of a model."""

import dataclasses
import math

import pytest
import torch

from hash3d.cameras import Cameras
from hash3d.rendering.base import Render
from hash3d.representations.background import WHITE_AND_BLACK
from hash3d.scenes.build import show_model
from hash3d.scenes.show import colors, shape, white_and_black
from tests.scenes.shown import CAMERAS, built, shown_and_drawn
from tests.tiny_models import tiny_stable_diffusion


@pytest.fixture(scope="module")
def prior():
    return tiny_stable_diffusion()


@pytest.mark.parametrize("name", ["zero123_gs", "magic3d", "dreamgaussian"])
def test_a_model_is_shown_as_its_scene_draws_the_reference_view(tiny, name):
    recipe = tiny(name)
    for shown, drawn in shown_and_drawn(recipe.stages[-1], built(recipe)):
        assert torch.equal(shown, drawn)


@pytest.mark.parametrize("name", ["zero123_gs", "zero123_nerf", "magic3d", "dreamgaussian"])
def test_pictures_are_on_white_without_gradients_and_the_same_each_time(tiny, name):
    recipe = tiny(name)
    show = show_model(built(recipe), recipe.stages[-1])
    first, second = show(CAMERAS), show(CAMERAS)
    assert torch.equal(first.color, second.color)
    assert not first.color.requires_grad
    around = first.alpha[..., 0] == 0.0
    assert torch.equal(first.color[around], torch.ones_like(first.color[around]))
    assert torch.equal(colors(show)(CAMERAS), first.color)


def test_a_view_does_not_depend_on_the_others(tiny):
    for name in ("zero123_gs", "zero123_nerf", "magic3d"):
        recipe = tiny(name)
        show = show_model(built(recipe), recipe.stages[-1])
        torch.testing.assert_close(show(CAMERAS).color[1], show(CAMERAS[1]).color[0])


def test_a_mesh_is_made_once_for_all_views(tiny, monkeypatch):
    recipe, made = tiny("magic3d"), []
    model = built(recipe)
    mesh = model.mesh
    monkeypatch.setattr(model, "mesh", lambda: made.append("mesh") or mesh())
    show = show_model(model, recipe.stages[-1])
    show(CAMERAS), show(CAMERAS[1])
    assert made == ["mesh"]


def test_light_and_backgrounds_of_training_are_not_shown(tiny):
    recipe = tiny("magic3d")
    model, stage = built(recipe), tiny("dreamfusion").stage
    assert stage.shading is None
    plain = dataclasses.replace(recipe.refinement, shading=None)
    first, second = (show_model(model, each)(CAMERAS).color for each in (plain, recipe.refinement))
    assert torch.equal(first, second)


def test_white_and_black_are_themselves_in_rgb_and_means_of_their_latents_else(prior):
    assert torch.equal(white_and_black(3, prior), torch.tensor(WHITE_AND_BLACK))
    latents = white_and_black(4, prior)
    with torch.no_grad():
        for row, value in zip(latents, (1.0, -1.0), strict=True):
            whole = prior.encode(torch.full((1, 3, prior.image_size, prior.image_size), value))
            torch.testing.assert_close(row, whole.mean(dim=(0, 2, 3)))
    assert not torch.equal(latents[0], latents[1])
    assert not latents.requires_grad


@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_a_shape_is_lit_from_the_upper_left_by_its_normals(slope):
    """A wall z = 2 + slope x of a camera (x to the right, z along its axis) has the normal (slope, 0, -1)."""
    camera = Cameras.orbit(elevation=20.0, azimuth=50.0, radius=2.0, fov_y=10.0, size=32)
    across = (torch.arange(32) - 15.5) / 16 * math.tan(math.radians(5.0))
    depth = (2.0 / (1.0 - slope * across)).expand(1, 32, 32)[..., None]
    seen = Render(color=torch.zeros(1, 32, 32, 3), alpha=torch.full_like(depth, 0.5), depth=0.5 * depth)
    lit = shape(seen, camera)[:, 4:-4, 4:-4]
    cosine = (1.0 - 0.5 * slope) / math.sqrt(1.5 * (1.0 + slope**2))
    expected = 0.5 + 0.5 * (0.2 + 0.75 * cosine)
    torch.testing.assert_close(lit, torch.full_like(lit, expected), rtol=0, atol=2e-3)
