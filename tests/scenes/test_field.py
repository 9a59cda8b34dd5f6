"""How a field is shown: as in training, and a field of latents decoded."""

import dataclasses

import pytest
import torch

from hash3d.cameras import Cameras
from hash3d.representations.occupancy import OccupancyGridConfig
from hash3d.scenes.build import show_model
from tests.scenes.shown import CAMERAS, built, shown_and_drawn
from tests.tiny_models import tiny_stable_diffusion


@pytest.fixture(scope="module")
def prior():
    return tiny_stable_diffusion()


@pytest.mark.parametrize("cells", [True, False])
def test_a_field_is_shown_as_its_scene_draws_it_up_to_where_a_ray_s_samples_lie(tiny, cells):
    """Training moves the samples of a ray at random by up to one step; with cells, faint samples count from a
    threshold on that other random looks have set, which shows at the rim of fog."""
    recipe = tiny("zero123_nerf")
    stage = dataclasses.replace(
        recipe.stage,
        renderer=dataclasses.replace(recipe.stage.renderer, samples_per_ray=256),
        occupancy=OccupancyGridConfig(resolution=16) if cells else None,
    )
    for shown, drawn in shown_and_drawn(stage, built(recipe)):
        assert cells or (shown - drawn).abs().max() < 0.03
        assert (shown - drawn).abs().mean() < (0.01 if cells else 0.003)


def test_a_latent_field_is_shown_decoded(tiny, prior):
    """At any size, in [0, 1]; where the field is empty, it is the picture that white latents decode to."""
    recipe = tiny("latent_nerf")
    field = built(recipe)
    show = show_model(field, recipe.stage, prior)
    render = show(CAMERAS)
    assert render.color.shape == (2, 24, 24, 3)
    assert render.alpha.shape == render.depth.shape == (2, 24, 24, 1)
    assert render.color.min() >= 0.0
    assert render.color.max() <= 1.0
    empty = built(dataclasses.replace(recipe, stage=empty_stage(recipe.stage)))
    shown = show_model(empty, recipe.stage, prior)(Cameras.orbit(elevation=0, azimuth=0, radius=1.5, fov_y=49, size=32))
    with torch.no_grad():
        white = prior.decode(prior.encode(torch.ones(1, 3, 32, 32))) * 0.5 + 0.5
    torch.testing.assert_close(shown.color, white.clamp(0.0, 1.0).permute(0, 2, 3, 1), atol=1e-3, rtol=0)
    assert (shown.alpha < 1e-3).all()


def empty_stage(stage):
    """With a density of nearly zero everywhere."""
    changes = {"density_activation": "softplus", "blob": "magic3d", "blob_scale": 1000.0, "blob_std": 1e-3}
    return dataclasses.replace(stage, representation=dataclasses.replace(stage.representation, **changes))


def test_a_latent_field_needs_a_prior(tiny):
    recipe = tiny("latent_nerf")
    with pytest.raises(ValueError, match=r"^Expected a prior to decode the images of a latent field, but got none\."):
        show_model(built(recipe), recipe.stage)(CAMERAS)
