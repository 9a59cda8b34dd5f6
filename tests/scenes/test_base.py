"""Scenes in training: which losses they have, what they see, and their state."""

import copy
import dataclasses
import itertools
import math

import pytest
import torch

from hash3d.cameras import Cameras
from hash3d.recipes.loss_weights import LossWeights
from hash3d.rendering.base import Render
from hash3d.rendering.raster import RasterRendererConfig
from hash3d.rendering.shading import ShadingConfig
from hash3d.rendering.splat import SplatRendererConfig
from hash3d.rendering.volume import VolumeRendererConfig
from hash3d.representations.background import WHITE_AND_BLACK, EnvironmentConfig, SolidBackgroundConfig
from hash3d.representations.dmtet import DmtetMeshConfig
from hash3d.representations.gaussians import GaussiansConfig
from hash3d.representations.nerf import HashGridNerfConfig, LatentNerfConfig, VanillaNerfConfig
from hash3d.representations.textured_mesh import TexturedMeshConfig
from hash3d.scenes.base import find_kind
from hash3d.scenes.build import build_model, build_scene
from hash3d.scenes.field import FieldScene
from hash3d.scenes.gaussians import GaussianScene
from hash3d.scenes.mesh import DmtetScene, TexturedScene
from hash3d.schedules import constant

COMMON = {"color", "mask", "mask_entropy", "opaque", "opaque_entropy", "sparsity", "total_variation"}
OWN = {
    "zero123_gs": {"scale", "scale_sum", "opacity", "position", "shape_variation"},
    "zero123_nerf": {"orientation", "normal_smoothness", "normal_smoothness_3d"},
    "magic3d": {"normal_consistency"},
    "dreamgaussian": {"normal_consistency"},
}
"""By a system whose last stage is of the kind: Gaussians, a field, and the two kinds of meshes."""
OFF = {name: constant(0.0) for name in LossWeights().schedules()}
GUIDANCES = {"any": constant(1.0)}
CAMERAS = Cameras.orbit(elevation=10.0, azimuth=[0.0, 120.0], radius=1.5, fov_y=49.1, size=24)
FAR = Cameras.orbit(elevation=10.0, azimuth=[0.0, 120.0], radius=4.0, fov_y=49.1, size=24)
"""From where there is something around every scene."""


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


BUILT = {}
"""Models as they start, by system: unwrapping a mesh takes its time."""


def make_scene(recipe, generators=None, **changes):
    """The scene of a recipe's last stage, as it starts, with other settings of the stage."""
    if recipe.system not in BUILT:
        first = build_model(recipe, 0, None, seeded())
        BUILT[recipe.system] = build_model(recipe, 1, first, seeded(1)) if recipe.refinement else first
    model = copy.deepcopy(BUILT[recipe.system])
    guidances = dict.fromkeys(GUIDANCES, recipe.stages[-1].guidance)
    losses = dataclasses.replace(recipe.stages[-1].losses, guidances=GUIDANCES)
    stage = dataclasses.replace(recipe.stages[-1], guidances=guidances, **{"losses": losses, **changes})
    generators = generators or {"initialisation": seeded(2), "rendering": seeded(3)}
    colors = torch.tensor(WHITE_AND_BLACK)
    return build_scene(stage, model, device=torch.device("cpu"), generators=generators, colors=colors)


def of_losses(*names):
    return LossWeights(guidances=GUIDANCES, **{**OFF, **{name: constant(2.0) for name in names}})


@pytest.mark.parametrize("name", OWN)
def test_a_scene_refuses_the_losses_of_others(tiny, name):
    recipe = tiny(name)
    assert make_scene(recipe, losses=of_losses(*COMMON, *OWN[name]))
    for other in set(OFF) - COMMON - OWN[name]:
        message = rf"^Expected losses that \w+ has, but got {other}\. Leave their weights at 0\.$"
        with pytest.raises(ValueError, match=message):
            make_scene(recipe, losses=of_losses(other))


def test_every_loss_belongs_to_a_scene():
    assert COMMON.union(*OWN.values()) == set(OFF)


@pytest.mark.parametrize("name", OWN)
def test_the_losses_with_weight_are_computed_and_no_others(tiny, name):
    """Unweighted, finite, and in the reach of the parameters."""
    own = {"opaque", "opaque_entropy", "sparsity", "total_variation"} | OWN[name]
    recipe = tiny(name)
    scene = make_scene(recipe, losses=of_losses(*own))
    scene.before_step(0)
    found = scene.losses(0, scene.draw_random(CAMERAS, 0), scene.render_reference(CAMERAS[0], 0))
    assert set(found) == own
    assert all(torch.isfinite(loss) for loss in found.values())
    torch.stack(list(found.values())).sum().backward()
    assert any(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in scene.model.parameters())
    one = make_scene(recipe, losses=of_losses("sparsity"))
    one.before_step(0)
    assert set(one.losses(0, one.draw_random(CAMERAS, 0), None)) == {"sparsity"}


@pytest.mark.parametrize("name", OWN)
def test_random_views_are_on_the_background_and_the_reference_on_white(tiny, name):
    scene = make_scene(tiny(name), background=SolidBackgroundConfig(color="black"), shading=None)
    scene.before_step(0)
    for render, value in ((scene.draw_random(FAR, 0), 0.0), (scene.render_reference(FAR[1], 0), 1.0)):
        around = render.alpha[..., 0] == 0.0
        assert 0.05 < around.float().mean() < 1.0
        assert torch.equal(render.color[around], torch.full_like(render.color[around], value))


@pytest.mark.parametrize("name", OWN)
def test_a_learned_background_learns_with_the_scene(tiny, name):
    scene = make_scene(tiny(name), background=EnvironmentConfig(lr=0.01), shading=None)
    assert [group["name"] for group in scene.optimizer.param_groups].count("background") == 1
    assert all(group["betas"] == scene.stage.adam_betas for group in scene.optimizer.param_groups)
    scene.before_step(0)
    before = [weight.detach().clone() for weight in scene.background.parameters()]
    scene.draw_random(CAMERAS, 0).color.square().mean().backward()
    scene.optimizer.step()
    assert all(not torch.equal(old, new) for old, new in zip(before, scene.background.parameters(), strict=True))


@pytest.mark.parametrize("name", OWN)
def test_light_falls_on_random_views_alone(tiny, name):
    """Lit white grows darker where the light does not reach; the reference view keeps its colours."""
    plain = make_scene(tiny(name), shading=None, background=SolidBackgroundConfig())
    lit = make_scene(tiny(name), shading=ShadingConfig(albedo_until=0), background=SolidBackgroundConfig())
    views = []
    for scene in (plain, lit):
        scene.generator.manual_seed(0)
        scene.before_step(0)
        views.append((scene.render_reference(CAMERAS[1], 0).color, scene.draw_random(CAMERAS, 0).color))
    assert torch.equal(views[0][0], views[1][0])
    assert (views[0][1] - views[1][1]).abs().max() > 0.01


def go_on(scene, steps):
    """The loss of the last step, and how large the scene is then."""
    for step in steps:
        scene.before_step(step)
        loss = scene.draw_random(CAMERAS, step).color.square().mean()
        loss.backward()
        scene.after_backward()
        scene.optimizer.step()
        scene.optimizer.zero_grad(set_to_none=True)
        scene.after_step(step + 1)
    return float(loss.detach()), scene.counts()


@pytest.mark.parametrize("name", OWN)
def test_state_round_trip_shows_the_same_scene(tiny, name, tmp_path):
    """With the densified number of Gaussians, the occupied cells, the learned background and Adam's averages."""
    recipe = tiny(name)
    changes = {"background": EnvironmentConfig(), "shading": None}
    ours, theirs = ({"initialisation": seeded(2), "rendering": seeded(3)} for _ in range(2))
    whole = make_scene(recipe, ours, **changes)
    go_on(whole, range(3))
    states = {name: generator.get_state() for name, generator in ours.items()}
    torch.save({"scene": whole.state_dict(), "generators": states}, tmp_path / "state.pt")
    expected = go_on(whole, range(3, 6))
    resumed = make_scene(recipe, theirs, **changes)
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed.load_state_dict(loaded["scene"])
    for name, generator in theirs.items():
        generator.set_state(loaded["generators"][name])
    assert go_on(resumed, range(3, 6)) == expected


def test_counts_name_what_grows(tiny):
    counts = {name: make_scene(tiny(name)).counts() for name in OWN}
    assert counts["zero123_gs"] == {"gaussians": 40.0}
    assert set(counts["zero123_nerf"]) == {"occupied"}
    assert counts["magic3d"]["faces"] > 100
    assert make_scene(tiny("zero123_nerf"), occupancy=None).counts() == {}


FIELDS = (HashGridNerfConfig(), VanillaNerfConfig(), LatentNerfConfig())
RENDERED_BY = {
    SplatRendererConfig(): (GaussiansConfig(),),
    VolumeRendererConfig(): FIELDS,
    RasterRendererConfig(): (DmtetMeshConfig(), TexturedMeshConfig()),
}


@pytest.mark.parametrize("renderer", RENDERED_BY, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("name", OWN)
def test_a_scene_has_its_renderer_and_no_other(tiny, name, renderer):
    recipe = tiny(name)
    representation = recipe.stages[-1].representation
    if type(representation) in map(type, RENDERED_BY[renderer]):
        built = make_scene(recipe, renderer=renderer).renderer
        assert (built.config if hasattr(built, "config") else built.keywords["config"]) == renderer
        return
    message = f"Expected a .* for a {type(representation).__name__}, but got a {type(renderer).__name__}."
    with pytest.raises(ValueError, match=f"^{message}$"):
        make_scene(recipe, renderer=renderer)


def test_every_representation_has_one_kind_of_scene():
    kinds = {type(each).__name__: find_kind(each) for each in itertools.chain(*RENDERED_BY.values())}
    assert kinds == {
        "GaussiansConfig": GaussianScene,
        "DmtetMeshConfig": DmtetScene,
        "TexturedMeshConfig": TexturedScene,
        **{type(field).__name__: FieldScene for field in FIELDS},
    }
    with pytest.raises(ValueError, match=r"^Expected a representation with a scene, but ShadingConfig has none\."):
        find_kind(ShadingConfig())


@pytest.mark.parametrize("name", OWN)
def test_an_image_of_one_colour_is_the_background_of_that_colour(tiny, name):
    scene, color = make_scene(tiny(name), background=SolidBackgroundConfig()), torch.tensor([[0.2, 0.5, 0.9]] * 2)
    scene.generator = None
    solid, image = (scene.render(FAR, each, step=0) for each in (color, color[:, None, None].expand(2, 24, 24, 3)))
    assert 0.01 < float(solid.alpha.detach().mean()) < 0.99
    torch.testing.assert_close(image.color, solid.color, atol=1e-6, rtol=0)


def test_the_entropy_of_alpha_is_summed_over_both_views(tiny):
    """ln 2 at alpha 1/2; of the view of the reference image too."""
    scene = make_scene(tiny("zero123_gs"), losses=of_losses("opaque_entropy"))
    half = Render(color=torch.zeros(1, 4, 4, 3), alpha=torch.full((1, 4, 4, 1), 0.5), depth=torch.zeros(1, 4, 4, 1))
    for views, expected in (((half, None), math.log(2)), ((half, half), 2 * math.log(2))):
        assert float(scene.losses(0, *views)["opaque_entropy"]) == pytest.approx(expected)


def test_the_variation_of_shape_counts_depth_where_nothing_has_a_normal(tiny):
    """Twice the mean squared step in columns and rows: of depths 0 and 3 side by side, 2 (0 + 9)."""
    scene = make_scene(tiny("sds_gs"), losses=of_losses("shape_variation"))
    scene.draw_random(CAMERAS[0], 0)
    depth = torch.tensor([0.0, 3.0]).repeat(12)[None, None, :, None].expand(1, 24, 24, 1)
    faint = Render(color=torch.zeros(1, 24, 24, 3), alpha=torch.zeros(1, 24, 24, 1), depth=depth)
    assert float(scene.losses(0, faint, None)["shape_variation"]) == pytest.approx(18.0)
