"""What a run leaves behind, for each kind of model."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from hash3d.cameras import Cameras
from hash3d.scenes import base
from hash3d.scenes.build import build_model, show_model
from hash3d.training import outputs
from hash3d.training.outputs import load_asset, write_outputs
from hash3d.training.run_folder import RunFolder
from tests.tiny_recipes import load_priors

CPU = torch.device("cpu")
CAMERA = Cameras.orbit(elevation=20.0, azimuth=[0.0, 100.0], radius=1.5, fov_y=49.1, size=24)
FILES = {
    "zero123_gs": ["model.ply"],
    "gaussiandreamer": ["model.ply"],
    "zero123_nerf": ["model.pt", "model.glb"],
    "latent_nerf": ["model.pt", "model.glb"],
    "magic3d": ["model.pt", "model.glb"],
    "dreamgaussian": ["model.pt", "model.glb"],
}


@pytest.fixture(autouse=True)
def small_textures(monkeypatch):
    """Textures of 64 texels: what is tested of them is that they are there."""
    bake = base.bake_asset
    monkeypatch.setattr(base, "bake_asset", lambda *given, **options: bake(*given, 64, **options))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", FILES)
def test_outputs_are_written_and_loaded_again(tiny, name, tmp_path):
    recipe = tiny(name)
    first = build_model(recipe, 0, None, seeded())
    model = build_model(recipe, 1, first, seeded(1)) if recipe.refinement else first
    (prior,) = load_priors(recipe, CPU).values()
    show = show_model(model, recipe.stages[-1], prior)
    RunFolder(tmp_path).create(recipe)
    told = []
    names = write_outputs(tmp_path, model, show, recipe, None, told.append)
    assert sorted(names) == sorted([*FILES[name], "preview.png", "preview_lit.png", "turntable.mp4"])
    assert told == ["model", "previews", "turntable", *(["mesh and texture"] * ("model.glb" in names))]
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {*names, "recipe.json"}
    assert Image.open(tmp_path / "preview.png").size == Image.open(tmp_path / "preview_lit.png").size == (8 * 32, 32)
    loaded, shown = load_asset(tmp_path, CPU)
    assert type(loaded) is type(model)
    assert torch.equal(shown(CAMERA).color, show(CAMERA).color)
    if "model.glb" in names:
        asset = trimesh.load_scene(tmp_path / "model.glb").to_geometry()
        assert len(asset.faces) > 10
        assert np.abs(asset.vertices).max() <= recipe.stages[-1].cameras.radius
        assert min(asset.visual.material.baseColorTexture.size) == 64


def by_angles(cameras):
    """Pictures that tell where the camera stands."""
    told = torch.stack([cameras.azimuth % 360 / 360, (cameras.elevation + 90) / 180, cameras.radius / 4], dim=-1)
    return told[:, None, None].expand(-1, cameras.height, cameras.width, 3)


def test_the_sheet_has_two_rows_of_eight_views_and_the_turntable_one_turn(tiny):
    recipe = tiny("sds_gs")
    sheet = outputs.contact_sheet(by_angles, recipe)
    assert sheet.shape == (2 * 32, 8 * 32, 3)
    for row, column in itertools.product(range(2), range(8)):
        expected = Cameras.orbit(elevation=30.0 * row, azimuth=45.0 * column, radius=1.5, fov_y=49.1, size=32)
        assert torch.equal(sheet[32 * row :, 32 * column :][:32, :32], by_angles(expected)[0])
    turn = torch.stack(outputs.turntable(by_angles, recipe))[:, 0, 0]
    torch.testing.assert_close(turn[:, 0], torch.tensor([0.0, 0.25, 0.5, 0.75]))
    assert (turn[:, 1] == (recipe.reference_elevation + 90) / 180).all()


def test_a_latent_field_is_painted_with_its_decoded_pictures(tiny, tmp_path):
    """The colours of its texture are colours that its pictures have."""
    recipe = tiny("latent_nerf")
    model = build_model(recipe, 0, None, seeded())
    purple = torch.tensor([0.6, 0.2, 0.8])

    own = show_model(model, recipe.stage, *load_priors(recipe, CPU).values())

    def show(cameras):
        render = own(cameras)
        return dataclasses.replace(render, color=purple.expand_as(render.color))

    asset = outputs.bake_model(model, recipe, show)
    texture = torch.as_tensor(asset.texture)
    assert (texture - purple).abs().amax(dim=-1).median() < 0.01


def test_a_run_folder_without_a_recipe_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"Expected a run in .*, but it has no recipe\.json"):
        load_asset(tmp_path, CPU)


@pytest.mark.parametrize(("rows", "told"), [(2, 0), (3, 1)])
def test_an_asset_of_a_run_that_has_gone_on_since_is_told(rows, told, tiny, tmp_path, recwarn):
    """As of a finished run that was resumed to more steps, and killed."""
    folder = RunFolder(tmp_path)
    folder.create(tiny("zero123_gs"))
    folder.write_summary({"stages": [{}], "steps": 2})
    folder.metrics.write_text(rows * "{}\n")
    outputs.read_reached(tmp_path)
    assert sum("is of 2 steps, but its run has gone on to 3" in str(each.message) for each in recwarn) == told
