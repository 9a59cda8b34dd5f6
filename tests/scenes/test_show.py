"""What anybody sees of a model."""

import dataclasses

import pytest
import torch

from hash3d.cameras import Cameras
from hash3d.representations.background import WHITE_AND_BLACK
from hash3d.representations.occupancy import OccupancyGridConfig
from hash3d.scenes.build import build_model, build_scene, show_model
from hash3d.scenes.show import colors, white_and_black
from tests.tiny_models import tiny_stable_diffusion

CAMERAS = Cameras.orbit(elevation=10.0, azimuth=[0.0, 120.0], radius=1.5, fov_y=49.1, size=24)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def built(recipe):
    """The model of a recipe's last stage at its start."""
    first = build_model(recipe, 0, None, seeded())
    return first if recipe.refinement is None else build_model(recipe, 1, first, seeded(1))


@pytest.fixture(scope="module")
def prior():
    return tiny_stable_diffusion()


def shown_and_drawn(stage, model):
    """The view of the reference picture as everybody sees it, and as the stage's scene draws it."""
    generators = {"initialisation": seeded(2), "rendering": seeded(3)}
    white = torch.tensor(WHITE_AND_BLACK)
    scene = build_scene(stage, model, device=torch.device("cpu"), generators=generators, colors=white)
    for step in range(0, 64, 16):  # as many looks at the cells of a field
        scene.before_step(step)
    with torch.no_grad():
        drawn = scene.render_reference(CAMERAS[1], 0)
    shown = show_model(model, stage)(CAMERAS[1])
    assert 0.01 < float(shown.alpha.mean()) < 0.99
    return [(getattr(shown, name), getattr(drawn, name)) for name in ("color", "alpha", "depth")]


@pytest.mark.parametrize("name", ["zero123_gs", "magic3d", "dreamgaussian"])
def test_a_model_is_shown_as_its_scene_draws_the_reference_view(tiny, name):
    recipe = tiny(name)
    for shown, drawn in shown_and_drawn(recipe.stages[-1], built(recipe)):
        assert torch.equal(shown, drawn)


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


def test_light_and_backgrounds_of_training_are_not_shown(tiny):
    recipe = tiny("magic3d")
    model, stage = built(recipe), tiny("dreamfusion").stage
    assert stage.shading is None
    plain = dataclasses.replace(recipe.refinement, shading=None)
    first, second = (show_model(model, each)(CAMERAS).color for each in (plain, recipe.refinement))
    assert torch.equal(first, second)


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


def test_white_and_black_are_themselves_in_rgb_and_means_of_their_latents_else(prior):
    assert torch.equal(white_and_black(3, prior), torch.tensor(WHITE_AND_BLACK))
    latents = white_and_black(4, prior)
    with torch.no_grad():
        for row, value in zip(latents, (1.0, -1.0), strict=True):
            whole = prior.encode(torch.full((1, 3, prior.image_size, prior.image_size), value))
            torch.testing.assert_close(row, whole.mean(dim=(0, 2, 3)))
    assert not torch.equal(latents[0], latents[1])
    assert not latents.requires_grad
